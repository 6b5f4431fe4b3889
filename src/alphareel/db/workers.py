"""Worker processes that are alive."""

import sqlalchemy as sa

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.tables import executors
from alphareel.service.ports import Clock
from alphareel.service.worker.models import Executor


class ExecutorStore:
    """Executors (worker processes): a row each, with a heartbeat counter that its process increments.

    No clocks are compared. An executor is dead when its counter stops.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_executor(self, executor_id: str, *, home: str) -> None:
        """Register a process. ``home``: id of the installation whose data folder it has locked."""
        values = {"id": executor_id, "home": home, "beat": 0, "started_at": self._clock.now()}
        with self._database.write() as c:
            c.execute(sa.insert(executors).values(values))

    def beat(self, executor_id: str) -> bool:
        """Increment the heartbeat counter; False if another process evicted this executor."""
        change = sa.update(executors).where(executors.c.id == executor_id).values(beat=executors.c.beat + 1)
        with self._database.write() as c:
            return c.execute(change).rowcount == 1

    def executors(self) -> tuple[Executor, ...]:
        with self._database.read() as c:
            return tuple(map(mapping.executor_from_row, c.execute(sa.select(executors))))

    def remove_executor(self, executor_id: str, *, beat: int | None = None) -> bool:
        """Evict an executor; with ``beat`` only if its counter still has that value.

        Returns True to exactly one of concurrent callers.
        """
        where = [executors.c.id == executor_id]
        if beat is not None:
            where.append(executors.c.beat == beat)
        with self._database.write() as c:
            return c.execute(sa.delete(executors).where(*where)).rowcount == 1

    def remove_home(self, home: str) -> int:
        """Evict every executor of an installation and return how many; the caller holds that installation's lock."""
        with self._database.write() as c:
            return c.execute(sa.delete(executors).where(executors.c.home == home)).rowcount
