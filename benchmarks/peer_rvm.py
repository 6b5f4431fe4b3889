"""RobustVideoMatting as its authors run it with ONNX Runtime: decode, infer, encode, one frame after the other.

python -m benchmarks.peer_rvm NETWORK SOURCE TARGET
"""

import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import onnxruntime

_LONG_SIDE = 512  # as the authors recommend
_OPTIONS = {"deadline": "realtime", "cpu-used": "8", "row-mt": "1", "tile-columns": "2", "crf": "30", "b": "0",
            "auto-alt-ref": "0"}  # fmt: skip


def main() -> None:
    network, source, target = sys.argv[1:]
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    with av.open(source) as opened, av.open(target, "w") as container:
        frames = opened.streams.video[0]
        frames.thread_type = "AUTO"
        stream = container.add_stream("libvpx-vp9", frames.average_rate, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = frames.width, frames.height, "yuva420p"
        stream.codec_context.time_base = Fraction(frames.time_base or 1)
        ratio = np.array([min(_LONG_SIDE / max(frames.width, frames.height), 1)], np.float32)
        state: list[Any] = [np.zeros((1, 1, 1, 1), np.float32)] * 4
        for frame in opened.decode(frames):
            picture = frame.to_ndarray(format="rgb24").astype(np.float32).transpose(2, 0, 1)[None] / 255
            feeds = {"src": picture, "downsample_ratio": ratio, **{f"r{n}i": m for n, m in enumerate(state, 1)}}
            colors, alpha, *state = session.run(["fgr", "pha", "r1o", "r2o", "r3o", "r4o"], feeds)
            rgba = np.concatenate([colors, alpha], axis=1)[0].transpose(1, 2, 0)
            cut = av.VideoFrame.from_ndarray((rgba * 255).astype(np.uint8), format="rgba")
            cut.pts, cut.time_base = frame.pts, frame.time_base
            container.mux(stream.encode(cut))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()
