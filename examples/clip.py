"""Writes a video of the synthetic world that the embedded model knows: something to watch where no video is at hand.

python examples/clip.py street.mp4 --seconds 60
"""

import argparse
from fractions import Fraction
from pathlib import Path

import av

from infinipot.embedded.world import Clip


def write(path: Path, clip: Clip) -> None:
    """Encodes a clip, a picture for each of its frames; the ending of the name says in which container."""
    rate = Fraction(clip.fps).limit_denominator(1000)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = clip.size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for index, frame in enumerate(clip):
            picture = av.VideoFrame.from_ndarray(frame.image, format="rgb24")
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Write a video of the synthetic world.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=10_001, help="which shapes come, and when")
    parser.add_argument("--events", type=int, default=6, help="how many shapes come and go")
    args = parser.parse_args()
    write(args.path, Clip(args.seed, args.seconds, fps=2.0, events=args.events))


if __name__ == "__main__":
    main()
