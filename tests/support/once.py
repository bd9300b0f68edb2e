"""What is made once for all processes of a test run, though each of xdist's has fixtures of its own."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that is filled by the process that comes first; the others wait, and find it filled.

    Where filling fails, so it does in each process that asks, and each begins with an empty folder.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = factory.mktemp(name)
        make(folder)
        return folder
    root = factory.getbasetemp().parent / name  # what the processes of a run have in common
    folder, number = root / "made", root / "tries"
    with FileLock(f"{root}.lock"):
        if not folder.exists():
            number.mkdir(parents=True, exist_ok=True)
            begun = number / str(len(list(number.iterdir())))
            begun.mkdir()
            make(begun)
            begun.rename(folder)
    return folder
