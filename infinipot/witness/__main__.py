"""Puts the witness together and prints its folder.

python -m infinipot.witness                      # fetches the decoder with pip, once
python -m infinipot.witness --from FILE_OR_FOLDER
"""

import argparse
import sys
from pathlib import Path

from infinipot.errors import InfinipotError
from infinipot.witness import assemble


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(prog="python -m infinipot.witness", description="Put the witness together.")
    parser.add_argument("name", nargs="?", default="witness", choices=("witness", "witness-hidden"))
    parser.add_argument("--from", dest="source", type=Path, help="the decoder: a .gguf file, a wheel, or their folder")
    parser.add_argument("--trained", type=Path, default=assemble.TRAINED, help="folder of what was trained")
    args = parser.parse_args()
    try:
        print(assemble.path(args.name, args.source, args.trained))
    except InfinipotError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
