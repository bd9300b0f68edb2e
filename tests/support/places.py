"""Where tests find what lies beside them: the repository, its data, recorded runs, and the checker of accessibility."""

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DATA = ROOT / "tests" / "data"
AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"


def reference_dir() -> Path:
    """The folder of reference traces: the one asked for, the one beside the project, or the subset in tests/data."""
    beside = ROOT.parent / "shared" / "reference"
    asked = os.environ.get("INFINIPOT_REFERENCE_DIR")
    return Path(asked) if asked else beside if beside.is_dir() else DATA / "reference"
