"""Probes of uploads: bounded, in turns, and refusals whose pause is true."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from alphareel.domain.errors import QueueFull, TooManyUploads
from alphareel.service.settings import ProbeSettings
from alphareel.service.uploads.probe_queue import ProbeQueue, Uploader

RULES = ProbeSettings(processes=3, queue=6, queue_per_caller=4)
STRANGER, OTHER_STRANGER = Uploader(None, "192.0.2.1"), Uploader(None, "192.0.2.2")
KEY, OTHER_KEY = Uploader("a"), Uploader("b")


class Orientation:
    """Work that says when it began and goes on until it is let go."""

    def __init__(self, queue: ProbeQueue, uploader: Uploader) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        self.future: Future[Any] = queue.submit(uploader, self._work)

    def _work(self) -> str:
        self.begun.set()
        assert self.may_end.wait(200)
        return "done"

    @property
    def runs(self) -> bool:
        """Waits as long as it takes: ``waits`` asks for the opposite."""
        return self.begun.wait(100)

    @property
    def waits(self) -> bool:
        return not self.begun.wait(0.05)


Submit = Callable[..., Orientation]


@pytest.fixture
def queue() -> ProbeQueue:
    return ProbeQueue(RULES)


@pytest.fixture
def submit(queue: ProbeQueue) -> Iterator[Submit]:
    turns: list[Orientation] = []

    def make(uploader: Uploader) -> Orientation:
        turns.append(Orientation(queue, uploader))
        return turns[-1]

    yield make
    for turn in turns:
        turn.may_end.set()


def end(turn: Orientation) -> None:
    turn.may_end.set()
    assert turn.future.result(timeout=100) == "done"


def test_a_result_and_an_error_come_back_to_whoever_waits(queue: ProbeQueue) -> None:
    assert queue.submit(KEY, lambda: 7).result(timeout=100) == 7
    with pytest.raises(ZeroDivisionError):
        queue.submit(KEY, lambda: 1 // 0).result(timeout=100)


@pytest.mark.parametrize("first", [STRANGER, KEY])
def test_one_caller_leaves_a_slot_to_others(first: Uploader, submit: Submit) -> None:
    mine = [submit(first) for _ in range(4)]
    assert all(turn.runs for turn in mine[:2])
    assert all(turn.waits for turn in mine[2:])
    assert submit(OTHER_KEY).runs


def test_all_strangers_together_leave_a_slot_to_keys(submit: Submit) -> None:
    strangers = [submit(who) for who in (STRANGER, OTHER_STRANGER, STRANGER, OTHER_STRANGER)]
    assert all(turn.runs for turn in strangers[:2])
    assert all(turn.waits for turn in strangers[2:])
    assert submit(KEY).runs


def test_callers_take_turns(submit: Submit) -> None:
    running = [submit(KEY), submit(KEY), submit(OTHER_KEY)]
    waiting = [submit(who) for who in (KEY, KEY, KEY, OTHER_KEY)]
    assert all(turn.runs for turn in running)
    end(running[0])
    assert waiting[0].runs
    end(running[1])
    assert waiting[3].runs, "the other caller's, although two others came before"
    assert all(turn.waits for turn in waiting[1:3])


def test_a_caller_whose_place_in_the_queue_is_full_is_refused_and_others_are_not(
    queue: ProbeQueue, submit: Submit
) -> None:
    for _ in range(2 + 4):
        submit(STRANGER)
    for attempt in (lambda: submit(STRANGER), lambda: queue.check(STRANGER)):
        with pytest.raises(TooManyUploads, match="of this address"):
            attempt()
    queue.check(OTHER_STRANGER)
    assert submit(KEY).runs


def test_a_full_queue_refuses_everybody(queue: ProbeQueue, submit: Submit) -> None:
    for who in (KEY, KEY, OTHER_KEY, *[KEY] * 3, *[OTHER_KEY] * 3):
        submit(who)
    with pytest.raises(QueueFull) as refused:
        submit(Uploader("c"))
    assert refused.value.retry_after is not None
    assert refused.value.retry_after >= 1


def test_a_probe_that_is_cancelled_while_it_waits_gives_its_place_back(queue: ProbeQueue, submit: Submit) -> None:
    turns = [submit(STRANGER) for _ in range(2 + 4)]
    assert turns[-1].future.cancel()
    queue.check(STRANGER)
    again = submit(STRANGER)
    for turn in (*turns[:-1], again):
        end(turn)
    assert not turns[-1].begun.is_set()


def test_those_who_are_refused_together_are_told_to_come_back_one_after_the_other() -> None:
    """And there is a place then, when probes take as long as they did so far."""
    clock = [0.0]
    queue = ProbeQueue(RULES, now=lambda: clock[0])
    turns = [Orientation(queue, STRANGER) for _ in range(2 + 4)]
    pauses = []
    for _ in range(5):
        with pytest.raises(TooManyUploads) as refused:
            queue.check(STRANGER)
        pauses.append(refused.value.retry_after)
    assert pauses == sorted(pauses)
    assert pauses[-1] > pauses[0]
    for turn in turns:
        assert turn.begun.wait(100)
        clock[0] += 0.5  # two at a time, a second each
        end(turn)
    clock[0] = pauses[0]
    queue.check(STRANGER)


def test_pauses_follow_what_probes_really_take() -> None:
    clock = [0.0]
    queue = ProbeQueue(ProbeSettings(processes=1, queue=6, queue_per_caller=1), now=lambda: clock[0])

    def slow() -> None:
        clock[0] += 5

    for _ in range(30):
        queue.submit(KEY, slow).result(timeout=100)
    blocked, waiting = Orientation(queue, KEY), Orientation(queue, KEY)
    with pytest.raises(TooManyUploads) as refused:
        queue.check(KEY)
    assert 5 <= refused.value.retry_after <= 10
    end(blocked)
    end(waiting)


def test_no_more_are_called_back_at_once_than_may_wait() -> None:
    """However fast probes are: pauses are whole seconds."""
    clock = [0.0]
    queue = ProbeQueue(RULES, now=lambda: clock[0])
    for _ in range(60):
        queue.submit(KEY, lambda: None).result(timeout=100)  # takes no time by this clock
    turns = [Orientation(queue, KEY) for _ in range(2 + 4)]
    pauses: list[float] = []
    for _ in range(30):
        with pytest.raises(TooManyUploads) as refused:
            queue.check(KEY)
        assert refused.value.retry_after is not None
        pauses.append(refused.value.retry_after)
    assert pauses == sorted(pauses)
    assert max(Counter(pauses).values()) <= RULES.queue_per_caller
    for turn in turns:
        end(turn)
