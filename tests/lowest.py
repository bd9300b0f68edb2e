"""Prints constraints with the lowest version that `pyproject.toml` allows of each package: `make test-lowest`.

python tests/lowest.py > constraints-lowest.txt

Tools that only the tests need stay at the versions of `constraints.txt`; what none of these name is pip's choice.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
APART = {"lmms-eval"}  # has an environment of its own


def main() -> None:
    """Prints the constraints, sorted."""
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    project = pyproject["project"]
    extras = [each for name, own in project["optional-dependencies"].items() if name not in APART for each in own]
    lowest = dict(map(least, [*project["dependencies"], *extras]))
    groups = pyproject["dependency-groups"].values()
    development = [each for group in groups for each in group if isinstance(each, str)]
    tools = dict(map(least, development)).keys() - lowest.keys()
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    for name, version in sorted(lowest.items() | {(tool, pinned[tool]) for tool in tools}):
        print(f"{name}=={version}")


def least(requirement: str) -> tuple[str, str]:
    """The name and the lower bound of a requirement such as `torch>=2.6`."""
    found = re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", requirement)
    if found is None:
        raise ValueError(f"{requirement}: a requirement needs a lower bound")
    return found[1], found[2]


if __name__ == "__main__":
    main()
