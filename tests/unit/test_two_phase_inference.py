"""Two-phase sessions: inference of a frame overlaps with finishing the matte before it; results do not change."""

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
from alphareel.pipeline.run import mattes, start_session
from alphareel.testing.clips import make_clip

WAIT = 20  # seconds after which a test that should go on has failed


def frame(index: int) -> Frame:
    plane = np.full((16, 16), index, np.uint8)
    return Frame(plane, plane[::2, ::2], plane[::2, ::2], pts=index, index=index)


class FakeSession:
    """Its mattes contain the index of their frame. ``infer_hook`` and ``finish_hook`` are called in the two phases."""

    model_input_size = None

    def __init__(self, infer_hook=lambda _: None, finish_hook=lambda _: None):
        self.finished = False
        self._infer_hook, self._finish_hook = infer_hook, finish_hook

    def infer(self, frame):
        self._infer_hook(frame.index)

        def finish():
            self._finish_hook(frame.index)
            return Matte(frame, frame.y)

        return finish

    def step(self, frames):
        return [self.infer(frame)() for frame in frames]

    def finish(self):
        self.finished = True


def test_the_next_frame_is_inferred_before_the_last_matte_is_finished():
    second_inferred = threading.Event()
    session = FakeSession(
        infer_hook=lambda n: second_inferred.set() if n == 1 else None,
        finish_hook=lambda n: n == 0 and (second_inferred.wait(WAIT) or pytest.fail("the phases do not overlap")),
    )
    results = list(mattes(session, map(frame, range(3)), Options()))
    assert [matte.frame.index for matte in results] == [0, 1, 2]
    assert session.finished


@pytest.mark.parametrize("hook", ["infer_hook", "finish_hook"])
def test_an_error_in_either_phase_is_raised(hook):
    def fail(n):
        if n == 2:
            raise OutOfMemory("Too much.")

    session = FakeSession(**{hook: fail})
    results = []
    with pytest.raises(OutOfMemory, match="Too much"):
        results.extend(m.frame.index for m in mattes(session, map(frame, range(9)), Options()))
    assert not session.finished
    assert "infer" not in {thread.name for thread in threading.enumerate()}


def test_closing_the_mattes_stops_the_inference_thread():
    with closing(mattes(FakeSession(), map(frame, range(1000)), Options())) as results:
        next(results)
    assert "infer" not in {thread.name for thread in threading.enumerate()}


def test_the_builtin_network_gives_the_same_mattes_in_two_phases(tmp_path):
    truth = make_clip(tmp_path / "in.mp4", frames=4, width=320, height=180, background="texture")
    options = Options(engine="builtin")
    engine = builtin.load(Runtime(threads=1))
    alphas = []
    for two_phase in (True, False):
        with open_reader(truth.path, Limits()) as reader:
            session = start_session(engine, truth.path, reader.clip, options, Limits())
            assert isinstance(session, TwoPhaseSession)
            frames = reader.frames(thumbnail=session.model_input_size)
            results = mattes(session, frames, options) if two_phase else (m for f in frames for m in session.step([f]))
            alphas.append([matte.alpha for matte in results])
    np.testing.assert_array_equal(*alphas)  # type: ignore[arg-type]
    assert len(alphas[0]) == 4
