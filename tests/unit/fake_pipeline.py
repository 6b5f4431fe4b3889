"""A pipeline whose source file says, in words, what it shall do; run in the child process by tests of the sandbox."""

import contextlib
import ctypes
import hashlib
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from alphareel.domain.clip import EngineFacts, Progress, Result
from alphareel.domain.errors import BadVideo, StorageFailed


def run(
    source, outputs, *, limits, models_dir, engine_priority, threads, previews, overwrite, paid_seconds, frames_ahead=4
):
    words = source.read_text().split()
    if words[0] == "greedy":
        words = ["ok", "small"] if (threads, frames_ahead) == (1, 1) else ["native_hoard"]
    if words[0] == "picture":
        return _with_others(picture(outputs[0].path, previews, *words[1:]), outputs)
    return _with_others(BEHAVIOURS[words[0]](outputs[0].path, outputs[0].options, *words[1:]), outputs)


def _with_others(steps, outputs):
    """The behavior makes the first output; every other one is made like it."""
    for step in steps:
        others = [_result(output.path, b"other", name=output.options.output_format) for output in outputs[1:]]
        yield replace(step, results=(*step.results, *others)) if step.results else step


def _progress(share, result=None):
    results = () if result is None else (result,)
    return Progress(
        done=int(share * 100),
        total=100,
        share=share,
        seconds=1.0,
        fps=1.0,
        remaining_seconds=None,
        results=results,
        stages={"read": 0.1, "matte": 0.3, "write": 0.2},
    )


def _result(target, data, warnings=(), name="webm"):
    target.write_bytes(data)
    return Result(
        path=str(target), format=name, mime="video/webm", bytes=len(data), sha256=hashlib.sha256(data).hexdigest(),
        frames=10, seconds=0.4, width=64, height=48, has_alpha=True, has_audio=False,
        engine=EngineFacts("fake", "1"), warnings=warnings,
    )  # fmt: skip


def ok(target, options, *words):
    print("a library talks on standard output")
    os.write(1, b"and another one at a lower level\n")
    yield _progress(0.5)
    yield _progress(1.0, _result(target, " ".join(("made", *words)).encode(), ("a warning",)))


def slow(target, options, seconds):
    for step in range(100):
        yield _progress(step / 100)
        time.sleep(float(seconds) / 100)
    yield _progress(1.0, _result(target, b"made slowly"))


def picture(target, previews, *names):
    for name in names:
        (previews / name).write_bytes(f"picture {name}".encode())
        for _ in range(150):
            yield replace(_progress(0.1), preview=str(previews / name))
            time.sleep(0.01)
    yield _progress(1.0, _result(target, b"made with pictures"))


def background(target, options):
    behind = options.background.image_url or options.background.video_url
    yield _progress(1.0, _result(target, Path(behind).read_bytes()))


def environment(target, options):
    yield _progress(1.0, _result(target, "\n".join(os.environ).encode()))


def refuse(target, options):
    yield _progress(0.1)
    raise BadVideo("The bytes are no video.", hint="Send another.")


def stumble(target, options):
    raise StorageFailed("The disk is full.")
    yield


def fault(target, options):
    raise RuntimeError("a fault with /secret/path in it")
    yield


def hoard(target, options):
    kept = []
    while True:
        kept.append(bytearray(50_000_000))
        yield _progress(0.1)


def native_hoard(target, options):
    raise RuntimeError("onnx: std::bad_alloc")
    yield


def hang(target, options):
    yield _progress(0.1)
    time.sleep(600)


def spin(target, options):
    yield _progress(0.1)
    while True:
        pass


def repeat(target, options):
    while True:
        yield _progress(0.1)
        time.sleep(0.02)


def segfault(target, options):
    yield _progress(0.1)
    ctypes.string_at(0)


def leave(target, options):
    yield _progress(0.1)
    os._exit(3)


def killed(target, options):
    yield _progress(0.1)
    os.kill(os.getpid(), 9)
    time.sleep(60)


def killed_at_first(target, options, marker):
    if not Path(marker).exists():
        Path(marker).touch()
        yield from killed(target, options)
    yield _progress(1.0, _result(target, b"made at last"))


def babble(target, options):
    for descriptor in range(3, 20):
        with contextlib.suppress(OSError):
            os.write(descriptor, b"{nonsense\n")
    yield _progress(0.1)


def noise(target, options):
    sys.stderr.write("x" * 10_000_000)
    yield _progress(1.0, _result(target, b"made noisily"))


BEHAVIOURS = {name: value for name, value in globals().items() if callable(value)}
