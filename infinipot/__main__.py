"""`python -m infinipot` is the command `infinipot`."""

from infinipot.cli import main

if __name__ == "__main__":  # a process that the benchmark starts reads this file, too
    main(prog_name="infinipot")
