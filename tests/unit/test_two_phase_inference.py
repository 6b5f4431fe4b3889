"""Steps in two halves: the next frame is looked at while the last one is finished, and nothing else changes."""

import threading
from contextlib import closing

import numpy as np
import pytest

from alphareel.domain.clip import Limits
from alphareel.domain.errors import OutOfMemory
from alphareel.domain.options import Options
from alphareel.imaging.frame import Frame, Matte
from alphareel.matting.engine import TwoPhaseSession
from alphareel.matting.models import builtin
from alphareel.matting.runtime import Runtime
from alphareel.media.reader import open_reader
from alphareel.pipeline.run import begin_matting, mattes
from alphareel.testing.clips import make_clip

WAIT = 20  # seconds after which a test that should go on has failed


def frame(index: int) -> Frame:
    plane = np.full((16, 16), index, np.uint8)
    return Frame(plane, plane[::2, ::2], plane[::2, ::2], pts=index, index=index)


class Halves:
    """A memory whose mattes hold the number of their frame; ``first``, ``rest`` are called in each half."""

    thumbnail = None

    def __init__(self, first=lambda _: None, rest=lambda _: None):
        self.finished = False
        self._first, self._rest = first, rest

    def look(self, frame):
        self._first(frame.index)

        def finish():
            self._rest(frame.index)
            return Matte(frame, frame.y)

        return finish

    def step(self, frames):
        return [self.look(frame)() for frame in frames]

    def finish(self):
        self.finished = True


def test_the_next_frame_is_looked_at_before_the_last_one_is_finished():
    looked_at_second = threading.Event()
    memory = Halves(
        first=lambda n: looked_at_second.set() if n == 1 else None,
        rest=lambda n: n == 0 and (looked_at_second.wait(WAIT) or pytest.fail("the halves follow each other")),
    )
    made = list(mattes(memory, map(frame, range(3)), Options()))
    assert [matte.frame.index for matte in made] == [0, 1, 2]
    assert memory.finished


@pytest.mark.parametrize("half", ["first", "rest"])
def test_an_error_in_either_half_comes_in_its_place(half):
    def fail(n):
        if n == 2:
            raise OutOfMemory("Too much.")

    memory = Halves(**{half: fail})
    made = []
    with pytest.raises(OutOfMemory, match="Too much"):
        made.extend(m.frame.index for m in mattes(memory, map(frame, range(9)), Options()))
    assert not memory.finished
    assert "look" not in {thread.name for thread in threading.enumerate()}


def test_a_run_that_is_closed_leaves_no_half_behind():
    with closing(mattes(Halves(), map(frame, range(1000)), Options())) as made:
        next(made)
    assert "look" not in {thread.name for thread in threading.enumerate()}


def test_the_builtin_network_answers_the_same_in_halves(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=4, width=320, height=180, background="texture")
    options = Options(engine="builtin")
    engine = builtin.load(Runtime(threads=1))
    alphas = []
    for looks in (True, False):
        with open_reader(truth.path, Limits()) as reader:
            memory = begin_matting(engine, truth.path, reader.clip, options, Limits())
            assert isinstance(memory, TwoPhaseSession)
            frames = reader.frames(thumbnail=memory.thumbnail)
            made = mattes(memory, frames, options) if looks else (m for f in frames for m in memory.step([f]))
            alphas.append([matte.alpha for matte in made])
    np.testing.assert_array_equal(*alphas)
    assert len(alphas[0]) == 4
