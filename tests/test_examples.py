"""The scripts and the notebook of examples/ run and print what is right; those of the server have their own tests."""

import json
import re
from pathlib import Path

import pytest

from support.places import EXAMPLES
from support.scripts import run


def test_a_clip_is_written_and_watched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    street = tmp_path / "street.mp4"
    assert run(monkeypatch, "clip.py", street, "--seconds", 60, "--events", 4) == []
    middle, end, held = run(monkeypatch, "file.py", street)
    assert middle.startswith("[30 s] ")
    assert end == "[59.5 s] four"
    assert int(re.findall(r"\d+", held)[0]) <= 512


def test_a_camera_is_asked_every_so_often(monkeypatch: pytest.MonkeyPatch) -> None:
    *answers, watched = run(monkeypatch, "camera.py", "demo://still?speed=20", "--seconds", 2, "--every", 0.8)
    assert 1 <= len(answers) <= 2
    assert all(re.fullmatch(r"\[\d\.\d s\] (yes|no)", answer) for answer in answers), answers
    assert re.fullmatch(r"\d+ frames watched, \d+ missed", watched)


def test_a_policy_of_ones_own_answers_beside_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = run(monkeypatch, "policy.py")
    assert [line.split()[0] for line in lines] == ["loud", "infinipot-v", "sliding-window"]
    assert all(len(line.split()) == 2 for line in lines)


def test_the_notebook_runs_from_its_first_cell_to_its_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    notebook = json.loads((EXAMPLES / "held.ipynb").read_text())
    names: dict[str, object] = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "a notebook is stored without outputs"
            exec("".join(cell["source"]), names)
    printed = capsys.readouterr().out
    pairs = re.findall(r"\? +(.+?) +\(right: (.+)\)", printed)
    assert len(pairs) >= 6
    assert sum(answer == right for answer, right in pairs) >= len(pairs) - 1
    assert (tmp_path / "held.png").stat().st_size > 10_000
