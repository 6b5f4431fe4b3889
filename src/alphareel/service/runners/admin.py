"""Operators create and revoke runners. Every change is recorded in the audit log."""

from __future__ import annotations

import secrets
import string
import uuid
from typing import TYPE_CHECKING

from alphareel.domain.errors import NotFound
from alphareel.service.api_keys.admin import Operator, check_text
from alphareel.service.api_keys.service import digest
from alphareel.service.ports import Clock
from alphareel.service.runners.models import NewRunner, Runner, RunnerStatus

if TYPE_CHECKING:
    from alphareel.db.runners import RunnerStore

MAX_NAME_LENGTH = 200
_LETTERS = string.ascii_letters + string.digits
_SECRET_LETTERS = 43  # 62 ** 43 > 2 ** 256


class RunnerAdmin:
    def __init__(self, store: RunnerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    def create(self, operator: Operator, *, name: str) -> NewRunner:
        """Create a runner; its token is in the answer alone. Raises InvalidRequest."""
        runner_id = uuid.uuid4().hex[:12]
        token = f"ar_runner_{runner_id}_" + "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LETTERS))
        runner = Runner(runner_id, check_text("name", name, longest=MAX_NAME_LENGTH), self._clock.now())
        made = self._store.add_runner(runner, secret_sha256=digest(token), act=operator.act("runners.create"))
        return NewRunner(made, token)

    def list_runners(self) -> tuple[RunnerStatus, ...]:
        """Every runner, revoked ones included, oldest first."""
        now, leased = self._clock.now(), self._store.leased_tasks()
        return tuple(
            RunnerStatus.at(now, runner, tuple(task for task in leased if task.runner_id == runner.id))
            for runner in self._store.runners()
        )

    def revoke(self, operator: Operator, runner_id: str) -> RunnerStatus:
        """End a runner's token and its leases at once: its tasks run elsewhere. Raises NotFound."""
        runner = self._store.revoke(runner_id, act=operator.act("runners.revoke"))
        if runner is None:
            raise NotFound("There is no runner with this ID.", hint="List the runners.")
        return RunnerStatus.at(self._clock.now(), runner)
