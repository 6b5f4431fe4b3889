"""Token buckets: a burst, then one token at a time. Redis and this process count alike."""

import subprocess
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from alphareel.http.token_bucket import BucketState, MemoryBuckets, RedisBuckets, SharedBuckets


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "shared", "redis"])
def buckets(request, tmp_path):
    if request.param == "memory":
        return MemoryBuckets()
    if request.param == "shared":
        return SharedBuckets(tmp_path / "buckets")
    return RedisBuckets(request.getfixturevalue("redis_url"))


def test_a_full_bucket_gives_its_limit_at_once_and_then_one_token_at_a_time(clock):
    buckets = MemoryBuckets(now=clock)
    assert [buckets.take("a", 60)[0] for _ in range(61)] == [True] * 60 + [False]
    for _ in range(100):
        clock.now += 1
        assert [buckets.take("a", 60)[0] for _ in range(2)] == [True, False]
    clock.now += 60
    assert [buckets.take("a", 60)[0] for _ in range(61)] == [True] * 60 + [False]


@pytest.mark.parametrize("limit", [1, 7, 60, 600, 7001])
def test_waiting_as_long_as_told_is_always_enough(clock, limit):
    buckets = MemoryBuckets(now=clock)
    for _ in range(limit):
        assert buckets.take("a", limit)[0]
    for _ in range(20):
        allowed, state = buckets.take("a", limit)
        assert (allowed, state.remaining) == (False, 0)
        clock.now += state.seconds_to_next
        assert buckets.take("a", limit)[0]


def test_a_bucket_reports_what_is_left_and_when_there_is_more(clock):
    buckets = MemoryBuckets(now=clock)
    assert (buckets.peek("a", 6).remaining, buckets.peek("a", 6).seconds_to_next) == (6, 0)
    _, state = buckets.take("a", 6)
    assert (state.remaining, state.seconds_to_next) == (5, pytest.approx(10))  # type: ignore[comparison-overlap]
    clock.now += 4
    assert buckets.peek("a", 6) == BucketState(6, pytest.approx(6))  # type: ignore[arg-type]


def test_a_lower_limit_applies_at_once(clock):
    buckets = MemoryBuckets(now=clock)
    for _ in range(30):
        buckets.take("a", 60)
    assert buckets.peek("a", 2).remaining == 1


def test_buckets_are_forgotten_when_they_are_full_again(clock):
    buckets = MemoryBuckets(now=clock)
    for number in range(1000):
        buckets.take(str(number), 60)
    clock.now += 61
    buckets.take("a", 60)
    assert len(buckets._full_at) == 1


def test_concurrent_requests_share_one_bucket(buckets):
    name = uuid.uuid4().hex
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        taken = list(pool.map(lambda _: buckets.take(name, 20)[0], range(50)))
    state = buckets.peek(name, 20)
    refilled = (time.monotonic() - began) / 3  # twenty a minute are one every three seconds
    assert 20 <= taken.count(True) <= 20 + refilled
    assert taken.count(True) + state.remaining <= 20 + refilled
    assert 0 < state.seconds_to_next <= 3
    assert buckets.peek("another", 20).remaining == 20


_TAKE_MANY = """
import sys
from pathlib import Path
from alphareel.http.token_bucket import SharedBuckets
buckets = SharedBuckets(Path(sys.argv[1]))
print(sum(buckets.take(f"bucket {number % 5}", 200)[0] for number in range(2000)))
"""


def test_processes_share_one_budget(tmp_path):
    command = [sys.executable, "-c", _TAKE_MANY, str(tmp_path / "buckets")]
    began = time.monotonic()
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    allowed = sum(int(process.communicate()[0]) for process in running)
    refilled = 5 * (time.monotonic() - began) * 200 / 60
    assert 5 * 200 <= allowed <= 5 * 200 + refilled + 5


def test_a_bucket_outlives_the_process_that_used_it(tmp_path):
    subprocess.run([sys.executable, "-c", _TAKE_MANY, str(tmp_path / "buckets")], check=True, capture_output=True)
    state = SharedBuckets(tmp_path / "buckets").peek("bucket 0", 200)
    assert state.remaining < 200


def test_more_names_than_slots_forget_only_what_is_full_soonest(tmp_path):
    buckets = SharedBuckets(tmp_path / "buckets")
    while buckets.take("kept", 10)[0]:
        pass
    for number in range(100_000):
        buckets.take(f"address {number}", 1000)
    assert buckets.peek("kept", 10).seconds_to_full > 30, "60, less what the test took"
    assert (tmp_path / "buckets").stat().st_size == 1024 * 1024
