"""The lower bound: FFmpeg's decoder straight into one of its encoders, with the options of our formats.

python -m benchmarks.peer_ffmpeg CODEC SOURCE TARGET
"""

import sys
from fractions import Fraction
from typing import cast

import av
from av.video.stream import VideoStream

_OPTIONS = {
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "tile-columns": "2", "crf": "30", "b": "0"},
    "libx264": {"preset": "veryfast", "crf": "20"},
}


def main() -> None:
    codec, source, target = sys.argv[1:]
    with av.open(source) as opened, av.open(target, "w") as container:
        frames = opened.streams.video[0]
        frames.thread_type = "AUTO"
        stream = cast(VideoStream, container.add_stream(codec, frames.average_rate, options=dict(_OPTIONS[codec])))
        stream.width, stream.height, stream.pix_fmt = frames.width, frames.height, "yuv420p"
        stream.codec_context.thread_count = 2
        stream.codec_context.time_base = Fraction(frames.time_base or 1)
        for frame in opened.decode(frames):
            frame.pict_type = 0
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
