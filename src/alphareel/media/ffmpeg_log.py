"""FFmpeg's log. PyAV can pass it on to Python, which may hang the process."""

import av.logging

from alphareel.telemetry.logging import get_logger


def leave_log_to_ffmpeg() -> None:
    """Switch off what ``av.logging.set_level`` switched on, and warn; call before FFmpeg's threads start.

    With a level set, each of FFmpeg's threads waits for Python's interpreter lock to log a line. PyAV holds that lock
    while it waits for the same threads to end, so that closing a damaged file hangs for good.
    """
    if av.logging.get_level() is not None:
        av.logging.set_level(None)
        get_logger(__name__).warning(
            "PyAV's log is switched off, because it can hang a run",
            hint="Call av.logging.restore_default_callback() in place of set_level: FFmpeg then writes to stderr.",
        )
