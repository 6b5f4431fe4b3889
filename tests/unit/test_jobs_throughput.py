"""Estimates of how long a job takes, against histories of a worker whose true pace is known."""

import random

import pytest

from alphareel.domain.options import Options
from alphareel.service.billing.credits import parse_prices
from alphareel.service.jobs.estimates import SourceFacts, estimate, speed
from alphareel.service.jobs.throughput import FULL_HD, CompletedRun, Work, fit

PRICES = parse_prices("original=60,light=45,pro=180,human=45", "1")
SIZES = {"small": (320, 240), "hd": (1280, 720), "full": (1920, 1080)}
TYPICAL = FULL_HD / 15e6


class Machine:
    """A worker that starts in so many seconds and has a price for each frame and for each pixel; it is noisy."""

    def __init__(self, *, start=2.5, frame=0.05, full_hd=0.15, noise=0.2, held_up=0.05, seed=1):
        self._start, self._frame, self._pixel = start, frame, (full_hd - frame) / FULL_HD
        self._noise, self._held_up = noise, held_up
        self._random = random.Random(seed)

    def seconds(self, size, frames):
        width, height = SIZES[size]
        return self._start + frames * (self._frame + self._pixel * width * height)

    def run(self, size, frames, output_format="webm"):
        width, height = SIZES[size]
        times = self._random.uniform(1 - self._noise, 1 + self._noise)
        times *= 4 if self._random.random() < self._held_up else 1
        work = Work(frames, width * height)
        return CompletedRun(
            "light", output_format, work, self.seconds(size, frames) * times, 9, work.frames * work.pixels
        )


def ask(runs, size, frames):
    width, height = SIZES[size]
    facts = SourceFacts(frames / 25, width, height, 25)
    return estimate(Options(model="light"), facts, prices=PRICES, runs=runs)


QUESTIONS = [("small", 25), ("small", 1500), ("hd", 250), ("full", 25), ("full", 250), ("full", 3000)]
MIXES = {
    "one short one": [("small", 25)],
    "many short ones": [("small", 25)] * 100,
    "short ones of all sizes": [("small", 25), ("hd", 10), ("full", 5)] * 10,
    "one long one": [("full", 1500)],
    "a long one after many short ones": [("small", 25)] * 100 + [("full", 1500)],
    "a short one after many long ones": [("full", 1500)] * 50 + [("small", 25)],
    "long ones of small frames": [("small", 3000)] * 10,
    "everything": [("small", 25), ("small", 1500), ("hd", 300), ("full", 50), ("full", 2000)] * 8,
}


@pytest.mark.parametrize("mix", MIXES.values(), ids=MIXES)
@pytest.mark.parametrize("seed", range(3))
def test_an_estimate_is_right_within_a_factor_of_two_after_any_mix_of_jobs(mix, seed):
    single = len(mix) < 3  # a single run that was held up is all that is known
    machine = Machine(seed=seed, held_up=0 if single else 0.05)
    runs = [machine.run(*job) for job in mix]
    for question in QUESTIONS:
        found, true = ask(runs, *question).work_seconds, machine.seconds(*question)
        assert true / 2 < found < true * 2, (question, found, true)


@pytest.mark.parametrize("factor", [0.1, 0.3, 4, 10])
@pytest.mark.parametrize("mix", ["a long one after many short ones", "a short one after many long ones", "everything"])
def test_a_machine_unlike_the_usual_one_is_learned_from_long_jobs(mix, factor):
    machine = Machine(start=2.5, frame=0.05 * factor, full_hd=0.15 * factor, held_up=0)
    runs = [machine.run(*job) for job in MIXES[mix]]
    for question in QUESTIONS:
        found, true = ask(runs, *question).work_seconds, machine.seconds(*question)
        assert true / 2 < found < true * 2, (question, found, true)


@pytest.mark.parametrize("start", [1, 8, 20])
def test_a_start_that_takes_long_is_not_taken_for_a_slow_pace(start):
    machine = Machine(start=start, held_up=0)
    runs = [machine.run("small", 25)]
    for question in QUESTIONS:
        found, true = ask(runs, *question).work_seconds, machine.seconds(*question)
        assert true / 2 < found < true * 2, (question, found, true)


def test_one_short_job_changes_neither_the_speed_of_a_model_nor_where_it_comes_from():
    before = speed("light", [])
    after = speed("light", [Machine(noise=0, held_up=0).run("small", 25)])
    assert after.pixels_per_second == pytest.approx(before.pixels_per_second, rel=0.2)
    assert (before.basis, after.basis) == ("typical", "typical")


def test_long_jobs_are_what_the_speed_of_a_model_is_measured_by():
    machine = Machine(full_hd=0.6, noise=0, held_up=0)
    found = speed("light", [machine.run("small", 25), machine.run("full", 500)])
    assert found.basis == "measured"
    assert found.pixels_per_second == pytest.approx(FULL_HD / 0.6, rel=0.1)


def test_a_run_of_which_nothing_is_known_is_passed_over():
    runs = [CompletedRun("light", "poster", None, 50.0, 9, 9), CompletedRun("light", "webm", Work(0, 9), 50.0, 9, 9)]
    assert fit(runs, TYPICAL, near=None).start == 2.0


def test_a_poster_weighs_what_posters_weigh_however_long_the_video_is():
    run = CompletedRun("light", "poster", Work(250, FULL_HD), 40.0, 2 * FULL_HD, FULL_HD)
    facts = SourceFacts(60, 1920, 1080, 25)
    found = estimate(Options(model="light", output_format="poster"), facts, prices=PRICES, runs=[run])
    assert found.output_bytes == 2 * FULL_HD
