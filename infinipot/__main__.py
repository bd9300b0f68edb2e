"""`python -m infinipot` is the command `infinipot`."""

from infinipot.cli import main

main(prog_name="infinipot")
