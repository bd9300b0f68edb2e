"""Scripts in perf/ that reach into the engine: what they measure is there, so a change of the engine breaks no script.

Figures are not looked at; a script that times nothing raises.
"""

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

PERF = Path(__file__).parent.parent / "perf"


def printed(
    script: str, *args: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> list[dict[str, Any]]:
    """The objects that a script prints, run as a command in this process."""
    monkeypatch.syspath_prepend(str(PERF))
    monkeypatch.setattr(sys, "argv", [script, *args])
    threads = torch.get_num_threads()
    try:
        runpy.run_path(str(PERF / script), run_name="__main__")
    finally:
        torch.set_num_threads(threads)
    out = capsys.readouterr().out
    assert "failed" not in out
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


def test_the_gate_is_timed_and_leaves_out_what_stands_still(monkeypatch, capsys) -> None:
    run = ("--only", "speed", "--model", "tiny", "--frames", "16", "--memory", "1024")
    rows = {row["camera"]: row for row in printed("gate.py", *run, monkeypatch=monkeypatch, capsys=capsys)}
    assert rows.keys() == {"still", "passing", "panning"}
    assert all(row["gate_seconds_a_patch"] > 0 for row in rows.values())
    assert rows["still"]["gated_share"] > rows["panning"]["gated_share"]


def test_each_phase_of_watching_is_timed(monkeypatch, capsys) -> None:
    run = ("--model", "tiny", "--device", "cpu", "--frames", "24", "--caps", "768", "--only", "phases", "--json")
    rows = printed("gpu.py", *run, monkeypatch=monkeypatch, capsys=capsys)
    shares = next(row["shares"] for row in rows if row["measurement"] == "phases")
    assert all(shares[phase] > 0 for phase in ("processor", "vision", "prefill", "compress"))
