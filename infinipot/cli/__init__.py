"""The command `infinipot`: parsing and printing only, on top of the public names.

Exit codes: 0 all went well; 1 an `InfinipotError`, told in one line; 2 wrong usage; 130 Ctrl-C.
"""

import errno
import io
import logging
import os
import sys
from typing import Any

import click

from infinipot import InfinipotError, __version__
from infinipot.cli.bench import bench
from infinipot.cli.demo import demo
from infinipot.cli.eval import eval_group
from infinipot.cli.lists import models, policies
from infinipot.cli.output import WarningNotes, note, printing_once
from infinipot.cli.serve import serve
from infinipot.cli.watch import watch

_FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk, or what a user may take of it


class Program(click.Group):
    """Reports errors in one line on stderr and by the exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        _reopen_what_is_closed()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # what a model says may not fit the terminal's encoding
        if isinstance(sys.stdin, io.TextIOWrapper):
            sys.stdin.reconfigure(
                errors="surrogateescape"
            )  # as on the command line: who reads a line says what is wrong
        if os.environ.get("NO_COLOR"):  # no-color.org; rich, which draws the rest, heeds it by itself
            ctx.color = False
        handler = WarningNotes(logging.WARNING)
        logger = logging.getLogger("infinipot")
        logger.addHandler(handler)
        try:
            with printing_once():
                return super().invoke(ctx)
        except InfinipotError as error:
            note(f"error: {' '.join(str(error).split())}", "red")
            ctx.exit(1)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            note(f"error: the output could not be written: {error.strerror}", "red")
            ctx.exit(1)
        except KeyboardInterrupt:
            note("interrupted")
            ctx.exit(130)
        finally:
            logger.removeHandler(handler)


def _reopen_what_is_closed() -> None:
    """Opens /dev/null for each standard stream that the parent process closed.

    Otherwise the next file opened would get its descriptor, and with it our output.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115  # for as long as this runs


@click.group(cls=Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="infinipot %(version)s")
def main() -> None:
    """Watch a video of any length with a multimodal language model, in a fixed amount of memory.

    \b
    infinipot demo                     see it work in seconds; downloads nothing
    infinipot watch street.mp4 --model Qwen/Qwen2.5-VL-7B-Instruct --ask "What happened?"
    """


for command in (watch, serve, demo, policies, models, eval_group, bench):
    main.add_command(command)
