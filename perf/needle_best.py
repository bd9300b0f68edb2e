"""In how many cells of a needle run a policy is the best, or within its own interval of the best.

python perf/needle_best.py runs/all --policy unusual

Reads the `summary.json` of a run's folder. A cell is a section, a background (all of them together are left out), a
share of the tokens, and what else tells the section's rows apart, such as the time since the event. Cells in which the
policy is behind are printed with the policy that leads there.
"""

import argparse
import json
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from infinipot.config import POLICY
from infinipot.evaluate.needle.rows import EVERYWHERE

AXES = ("background", "share", "delay", "kind", "light", "part")
Cells = dict[tuple[str, ...], dict[str, dict[str, Any]]]  # the rows of a section's cells, by policy


def cells_of(rows: list[dict[str, Any]]) -> Cells:
    """The rows of policies that evict, cell by cell."""
    cells: Cells = defaultdict(dict)
    for row in rows:
        if row.get("share", 1) > 1 and row.get("background") != EVERYWHERE:
            place = tuple(f"{axis} {row[axis]}" for axis in AXES if axis in row)
            cells[place][row["policy"]] = row
    return cells


def leader(cell: dict[str, dict[str, Any]], policy: str) -> str | None:
    """The policy that a cell's best is, where it lies above the interval of `policy`; else None.

    Where all clips are alike, or there is one, there is no interval, and the share itself stands for it.
    """
    ours = cell[policy]["right"]
    high = ours["value"] if ours["high"] is None or ours["unseen"] is not None else ours["high"]
    best = max(cell, key=lambda name: cell[name]["right"]["value"])
    return best if cell[best]["right"]["value"] > max(high, ours["value"]) else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="a folder that --out of infinipot bench needle named")
    parser.add_argument("--policy", default=POLICY)
    given = parser.parse_args()
    sections = json.loads((given.run / "summary.json").read_text())["sections"]
    counted, behind = Counter[str](), Counter[str]()
    for section, rows in sections.items():
        for place, cell in cells_of(rows).items():
            if given.policy not in cell:
                continue
            counted[section] += 1
            if best := leader(cell, given.policy):
                behind[section] += 1
                ours, theirs = (cell[name]["right"] for name in (given.policy, best))
                shares = f"{ours['value']:.1%} of {ours['questions']} answers, {best} {theirs['value']:.1%}"
                print(f"{section}, {', '.join(place)}: {shares} ({ours['videos']} clips)")
    for section, count in counted.items():
        print(f"{section}: the best, or within its interval of the best, in {count - behind[section]} of {count} cells")


if __name__ == "__main__":
    main()
