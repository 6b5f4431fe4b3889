"""The living worker processes behind the Executors port: a row each, with a counter that its owner moves."""

import sqlalchemy as sa

from alphareel.db import mapping
from alphareel.db.database import Database
from alphareel.db.tables import executors
from alphareel.service.ports import Clock
from alphareel.service.worker.models import Executor


class ExecutorStore:
    """Executors on our tables. Nobody compares clocks: a counter that stands still is the only sign of death."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    def add_executor(self, executor_id: str, *, home: str) -> None:
        values = {"id": executor_id, "home": home, "beat": 0, "started_at": self._clock.now()}
        with self._database.write() as c:
            c.execute(sa.insert(executors).values(values))

    def beat(self, executor_id: str) -> bool:
        change = sa.update(executors).where(executors.c.id == executor_id).values(beat=executors.c.beat + 1)
        with self._database.write() as c:
            return c.execute(change).rowcount == 1

    def executors(self) -> tuple[Executor, ...]:
        with self._database.read() as c:
            return tuple(map(mapping.executor_from_row, c.execute(sa.select(executors))))

    def remove_executor(self, executor_id: str, *, beat: int | None = None) -> bool:
        where = [executors.c.id == executor_id]
        if beat is not None:
            where.append(executors.c.beat == beat)
        with self._database.write() as c:
            return c.execute(sa.delete(executors).where(*where)).rowcount == 1

    def remove_home(self, home: str) -> int:
        with self._database.write() as c:
            return c.execute(sa.delete(executors).where(executors.c.home == home)).rowcount
