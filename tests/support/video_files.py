"""Small videos whose pictures carry their index, for the tests of `infinipot.video`."""

from fractions import Fraction

import av
import numpy as np

from support.places import DATA

MS = Fraction(1, 1000)
FILES = DATA / "video"  # files that no few lines of code make


def gray(index):
    """A picture that carries its index as brightness."""
    return np.full((48, 64, 3), 8 * index, np.uint8)


def indices(frames):
    """The indices that the pictures of `frames` carry."""
    return [round(float(frame.image.mean()) / 8) for frame in frames]


def times(frames):
    return [round(frame.time, 6) for frame in frames]


def encode(
    path,
    pictures,
    codec="mpeg4",
    rate=10,
    stamps=None,
    time_base=MS,
    options=None,
    change=None,
    pixel_format="yuv420p",
    **codec_options,
):
    """Writes `pictures` (`[h, w, 3]` uint8) at `stamps` (ticks of `time_base`; by `rate` if not given).

    `change(packets, stream)` returns what is written instead of the packets that the encoder gave.
    """
    height, width = pictures[0].shape[:2]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=codec_options)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        stream.bit_rate = 4_000_000
        if stamps is not None:
            stream.codec_context.time_base = time_base
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = index if stamps is None else stamps[index]
            frame.time_base = Fraction(1, rate) if stamps is None else time_base
            packets = stream.encode(frame)
            container.mux(packets if change is None else change(packets, stream))
        packets = stream.encode(None)
        container.mux(packets if change is None else change(packets, stream))
    return path


def with_sound(path, pictures, codec, sound_codec, seconds, rate=10):
    """Writes `pictures` at `rate`, and sound of `seconds`."""
    with av.open(str(path), "w") as container:
        stream, sound = container.add_stream(codec, rate=rate), container.add_stream(sound_codec, rate=48_000)
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        sound.layout, sound.bit_rate = "mono", 64_000
        for index, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for start in range(0, seconds * 48_000, 960):
            block = av.AudioFrame.from_ndarray(np.zeros((1, 960), np.float32), format="flt", layout="mono")
            block.sample_rate, block.pts, block.time_base = 48_000, start, Fraction(1, 48_000)
            container.mux(sound.encode(block))
        container.mux(sound.encode(None))
    return path
