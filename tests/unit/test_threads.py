"""Pipeline stages in threads: order is kept, errors are raised, queues are bounded, resources are released."""

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


def test_a_prefetcher_keeps_the_order_and_closes_its_source():
    closed = threading.Event()
    with Prefetcher(counting(100, closed), name="read") as stage:
        assert list(stage) == list(range(100))
    assert closed.is_set()


def test_an_error_in_the_source_is_raised_after_the_items_before_it():
    def failing():
        yield 1
        raise ValueError("broken frame")

    got = []
    with Prefetcher(failing(), name="read") as stage, pytest.raises(ValueError, match="broken frame"):
        got.extend(stage)
    assert got in ([], [1])


def test_a_prefetcher_runs_at_most_its_depth_ahead():
    closed, produced = threading.Event(), []
    with Prefetcher(counting(1000, closed, produced), name="read", depth=3) as stage:
        next(iter(stage))
        time.sleep(0.1)
        assert len(produced) <= 1 + 3 + 1  # consumed, queued, pending


def test_leaving_a_prefetcher_early_stops_its_thread_and_closes_its_source():
    closed = threading.Event()
    before = threading.active_count()
    with Prefetcher(counting(10**9, closed), name="read") as stage:
        next(iter(stage))
    assert closed.is_set()
    assert threading.active_count() == before


def test_chained_prefetchers_close_all_their_sources():
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
        items = [item for item, _ in zip(twice, range(5), strict=False)]
    assert items == [0, 2, 4, 6, 8]
    assert first.is_set()
    assert second.is_set()


def test_a_background_consumer_gets_all_items_in_order_and_returns_its_result():
    with BackgroundConsumer(list, name="write") as stage:
        for n in range(100):
            stage.put(n)
        stage.end()
        assert stage.result() == list(range(100))
    assert stage.consumed == 100


def test_an_error_in_the_consumer_is_raised_by_a_later_put():
    def failing(items):
        for _ in items:
            raise ValueError("full disk")

    with BackgroundConsumer(failing, name="write") as stage, pytest.raises(ValueError, match="full disk"):
        list(map(stage.put, range(10)))


def test_an_error_after_the_last_item_is_raised_by_result():
    def failing(items):
        list(items)
        raise ValueError("not what was meant")

    with BackgroundConsumer(failing, name="write") as stage:
        stage.put(1)
        stage.end()
        with pytest.raises(ValueError, match="not what was meant"):
            stage.result()


def test_put_blocks_when_the_queue_is_full():
    going, put_items = threading.Event(), []

    def slow(items):
        for _ in items:
            going.wait()

    def put_all():
        for n in range(10):
            stage.put(n)
            put_items.append(n)

    with BackgroundConsumer(slow, name="write", depth=2) as stage:
        producer = threading.Thread(target=put_all)
        producer.start()
        time.sleep(0.1)
        assert len(put_items) <= 1 + 2  # pending, queued
        going.set()
        producer.join()


def test_a_consumer_that_is_left_early_does_not_run_the_code_after_its_loop():
    seen, finished = [], []

    def consume(items):
        seen.extend(items)
        finished.append(True)

    before = threading.active_count()
    with BackgroundConsumer(consume, name="write") as stage:
        stage.put(1)
    assert not finished
    assert threading.active_count() == before
