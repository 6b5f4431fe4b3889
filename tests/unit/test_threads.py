"""Stages that run ahead or follow behind: order kept, errors delivered, queues bounded, everything released."""

import threading
import time

import pytest

from alphareel.pipeline.threads import BackgroundConsumer, Prefetcher


def counting(limit, closed, produced=None):
    try:
        for n in range(limit):
            if produced is not None:
                produced.append(n)
            yield n
    finally:
        closed.set()


def test_items_come_in_order_and_the_source_is_closed():
    closed = threading.Event()
    with Prefetcher(counting(100, closed), name="read") as stage:
        assert list(stage) == list(range(100))
    assert closed.is_set()


def test_an_error_in_the_source_reaches_the_consumer_after_the_items_before_it():
    def failing():
        yield 1
        raise ValueError("broken frame")

    got = []
    with Prefetcher(failing(), name="read") as stage, pytest.raises(ValueError, match="broken frame"):
        got.extend(stage)
    assert got in ([], [1])


def test_the_source_never_runs_further_ahead_than_the_queue_is_deep():
    closed, produced = threading.Event(), []
    with Prefetcher(counting(1000, closed, produced), name="read", depth=3) as stage:
        next(iter(stage))
        time.sleep(0.1)
        assert len(produced) <= 1 + 3 + 1  # taken, queued, in hand


def test_leaving_early_stops_the_thread_and_closes_the_source():
    closed = threading.Event()
    before = threading.active_count()
    with Prefetcher(counting(10**9, closed), name="read") as stage:
        next(iter(stage))
    assert closed.is_set()
    assert threading.active_count() == before


def test_stages_chain_and_release_from_the_outside_in():
    first, second = threading.Event(), threading.Event()

    def doubled(items):
        try:
            for item in items:
                yield item * 2
        finally:
            second.set()

    with (
        Prefetcher(counting(10**9, first), name="read") as numbers,
        Prefetcher(doubled(numbers), name="matte") as twice,
    ):
        taken = [item for item, _ in zip(twice, range(5), strict=False)]
    assert taken == [0, 2, 4, 6, 8]
    assert first.is_set()
    assert second.is_set()


def test_a_consumer_gets_everything_in_order_and_its_result_is_handed_back():
    with BackgroundConsumer(list, name="write") as stage:
        for n in range(100):
            stage.give(n)
        stage.end()
        assert stage.result() == list(range(100))
    assert stage.taken == 100


def test_an_error_in_the_consumer_reaches_whoever_gives_it_the_next_items():
    def failing(items):
        for _ in items:
            raise ValueError("full disk")

    with BackgroundConsumer(failing, name="write") as stage, pytest.raises(ValueError, match="full disk"):
        list(map(stage.give, range(10)))


def test_an_error_after_the_last_item_reaches_whoever_asks_for_the_result():
    def failing(items):
        list(items)
        raise ValueError("not what was meant")

    with BackgroundConsumer(failing, name="write") as stage:
        stage.give(1)
        stage.end()
        with pytest.raises(ValueError, match="not what was meant"):
            stage.result()


def test_no_more_items_wait_for_the_consumer_than_the_queue_is_deep():
    going, given = threading.Event(), []

    def slow(items):
        for _ in items:
            going.wait()

    def give():
        for n in range(10):
            stage.give(n)
            given.append(n)

    with BackgroundConsumer(slow, name="write", depth=2) as stage:
        giver = threading.Thread(target=give)
        giver.start()
        time.sleep(0.1)
        assert len(given) <= 1 + 2  # in hand, queued
        going.set()
        giver.join()


def test_a_consumer_that_is_left_never_gets_behind_its_loop():
    seen, finished = [], []

    def consume(items):
        seen.extend(items)
        finished.append(True)

    before = threading.active_count()
    with BackgroundConsumer(consume, name="write") as stage:
        stage.give(1)
    assert not finished
    assert threading.active_count() == before
