"""How another Python process is started that runs a module of this package. Knows nothing of what it is for."""

import os
import sys
from pathlib import Path

_ROOT = str(Path(__file__).parent.parent)


def command(module: str, *arguments: str) -> list[str]:
    """The command that runs a module, without the folder that it is started in on its module search path: a file there
    that is called as a package is would be imported in its place.
    """
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """This process's environment, in which the other one finds this package where this one did, and numerical libraries
    start no threads."""
    path = os.pathsep.join([_ROOT, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": path}
