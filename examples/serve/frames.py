"""Writes frames of the synthetic world that the embedded model knows: 000.jpg, 001.jpg, ..., two for each second.

    python examples/serve/frames.py frames [--seconds 20] [--seed 1]

Any pictures do for a model of your own.
"""

import argparse
from pathlib import Path

from PIL import Image

from infinipot.embedded.world import Clip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    for number, frame in enumerate(Clip(given.seed, given.seconds)):
        Image.fromarray(frame.image).save(given.folder / f"{number:03d}.jpg", quality=95)
    print(f"{number + 1} frames in {given.folder}")


if __name__ == "__main__":
    main()
