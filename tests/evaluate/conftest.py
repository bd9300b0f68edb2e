"""What all tests of runs have in common."""

import os
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="module", autouse=True)
def nothing_waits_for_the_disk() -> Iterator[None]:
    """Processes are killed in these tests, and no machine: what was written is there without waiting for the disk."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield
