"""Runs a script of examples/ in this process."""

import contextlib
import io
import runpy
import sys

import pytest

from support.places import EXAMPLES


def run(monkeypatch: pytest.MonkeyPatch, name: str, *args: object) -> list[str]:
    """The lines that a script prints."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
    return said.getvalue().splitlines()
