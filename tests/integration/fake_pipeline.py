"""A pipeline whose source file says, in words, what it shall do; run in the child process by tests of the sandbox."""

import contextlib
import ctypes
import errno
import hashlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import threading
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
    return _with_others(BEHAVIORS[words[0]](outputs[0].path, outputs[0].options, *words[1:]), outputs)


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


def killed_at_first(target, options):
    if target.parent.name.endswith(".1"):  # the first attempt
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


def attack(target, options, *paths):
    """Try what a hostile file might; the result names what worked."""
    outside, others, source = paths[:3]
    attempts = {
        "socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
        "local socket": lambda: socket.socket(socket.AF_UNIX),
        "fork": _fork,
        "shell": lambda: os.execv("/bin/sh", ["/bin/sh", "-c", "exit 3"]),
        "subprocess": lambda: subprocess.run(["/bin/true"], check=True),
        "passwd": lambda: Path("/etc/passwd").read_text(),
        "environment of the parent": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes(),
        "memory of the parent": lambda: Path(f"/proc/{os.getppid()}/maps").read_bytes(),
        "another job's file": lambda: Path(others).read_bytes(),
        "list of jobs": lambda: list(target.parent.parent.iterdir()),
        "write outside": lambda: Path(outside).write_text("x"),
        "change of an input": lambda: os.close(os.open(source, os.O_WRONLY | os.O_APPEND)),
        "mode of an input": lambda: Path(source).chmod(0o777),
        "link to an input": lambda: (target.parent / "link").symlink_to(source),
        "signal to the parent": lambda: os.kill(os.getppid(), 0),
        "trace of the parent": lambda: _call("ptrace", 2, os.getppid(), 0, 0),
        "mount": lambda: _call("umount2", b"/no such mount", 0),
        "limits of the parent": lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE),
    }
    for name in paths[3:]:
        del attempts[name]
    worked = []

    def try_all():
        for name, attempt in attempts.items():
            with contextlib.suppress(OSError):
                attempt()
                worked.append(name)

    for where in (threading.Thread(target=try_all), None):  # a thread is confined as well
        if where is None:
            try_all()
        else:
            where.start()
            where.join()
    yield _progress(1.0, _result(target, "\n".join(worked).encode()))


def _fork():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _call(name, *arguments):
    """A call that fails anyway: EPERM says that it was refused, everything else that it was looked at."""
    if getattr(ctypes.CDLL(None, use_errno=True), name)(*arguments) != 0 and ctypes.get_errno() == errno.EPERM:
        raise PermissionError(name)


def leave_traces(target, options):
    """What a job may leave for the next one, and what it finds of the one before."""
    found = [name for name in ("TRACE", "TMPDIR") if "trace" in os.environ.get(name, "")]
    found += [name for name in map(str, Path(tempfile.gettempdir()).iterdir()) if "/trace" in name]
    found += ["module"] if hasattr(os, "trace") else []
    found += [f"descriptor {n}" for n in range(5, 64) if Path(f"/proc/self/fd/{n}").exists()]
    os.environ["TRACE"] = "trace"
    setattr(os, "trace", bytearray(b"frame" * 1000))  # noqa: B010
    (target.parent / "trace").write_text("a frame")
    yield _progress(1.0, _result(target, "\n".join([str(os.getpid()), *found]).encode()))


BEHAVIORS = {name: value for name, value in globals().items() if callable(value)}
