"""The command `infinipot`, and `python -m infinipot`."""

import sys


def main() -> None:
    """Runs the command line; Ctrl-C is told in one line while it is still being imported, too."""
    try:
        from infinipot.cli import main as command

        command(prog_name="infinipot")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        sys.exit(130)


if __name__ == "__main__":  # a process that the benchmark starts reads this file, too
    main()
