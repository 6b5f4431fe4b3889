"""The limit on how much of a video is processed for the credits that are reserved for it."""

from alphareel.domain.errors import InsufficientCredits

# The header and the timestamps of the frames may differ by a frame or by rounding. That much is processed for free.
_FREE_SECONDS = 0.25
_FREE_SHARE = 0.01


def check_paid(seconds: float, paid: float | None) -> None:
    """Raise InsufficientCredits when ``seconds`` of video exceed the ``paid`` seconds. None means no limit."""
    if paid is not None and seconds > paid * (1 + _FREE_SHARE) + _FREE_SECONDS:
        raise InsufficientCredits(
            f"Not enough credits to process this video: credits for {paid:.1f} s are reserved, and it is longer.",
            hint="Nothing was charged. If the file header gives a wrong length, rewrite the file "
            "(ffmpeg -i IN -c copy OUT) and create a new job; or process less of it with preview_duration.",
        )
