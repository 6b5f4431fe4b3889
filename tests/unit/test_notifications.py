"""Notifications are only hints: one that cannot be sent fails no transaction."""

import errno
import os
from pathlib import Path

import pytest
import sqlalchemy as sa

from alphareel.db.database import open_database
from alphareel.db.notifications import QUEUE, LocalNotifications, notify


def test_a_process_without_free_descriptors_sends_no_notification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def listdir(_: int) -> list[str]:
        raise OSError(errno.EMFILE, "too many open files")

    notifications = LocalNotifications(tmp_path / "sockets")
    monkeypatch.setattr(os, "listdir", listdir)
    notifications.send(QUEUE)
    notifications._sender.close()


def test_a_notification_that_fails_leaves_its_transaction_committed(tmp_path: Path) -> None:
    def fail(_: str) -> None:
        raise RuntimeError

    database = open_database(f"sqlite:///{tmp_path / 'a.db'}")
    database.send_notification = fail
    with database.write() as c:
        c.execute(sa.text("CREATE TABLE kept (x)"))
        notify(c, QUEUE)
    with database.read() as c:
        assert sa.inspect(c).get_table_names() == ["kept"]
    database.close()
