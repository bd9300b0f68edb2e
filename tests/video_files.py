"""Small videos whose pictures carry their index, for the tests of `infinipot.video`."""

from fractions import Fraction

import av
import numpy as np

MS = Fraction(1, 1000)


def gray(index):
    """A picture that carries its index as brightness."""
    return np.full((48, 64, 3), 8 * index, np.uint8)


def indices(frames):
    """The indices that the pictures of `frames` carry."""
    return [round(float(frame.image.mean()) / 8) for frame in frames]


def times(frames):
    return [round(frame.time, 6) for frame in frames]


def encode(path, pictures, codec="mpeg4", rate=10, stamps=None, time_base=MS, options=None, **codec_options):
    """Writes `pictures` (`[h, w, 3]` uint8) at `stamps` (ticks of `time_base`; by `rate` if not given)."""
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = 4_000_000
        if stamps is not None:
            stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = Fraction(1, rate) if stamps is None else time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
