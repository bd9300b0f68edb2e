"""What README and docs show is what happens: each block of code is run here, or says why it is not.

A comment stands ahead of each block: `<!-- run -->`, `<!-- run: with street.mp4 -->` for those that need a video,
`<!-- prints -->` for what the block before it printed, or `<!-- not run: why -->`. In what a command is shown to print,
a line of `...` stands for any lines, and `...` in a line for anything.
"""

import ast
import contextlib
import io
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from infinipot import policies
from infinipot.cli import main
from infinipot.models import ADAPTERS
from support.places import ROOT
from support.scripts import run as run_example

ELSEWHERE = {  # pages whose commands have tests of their own, or take hours
    "docs/guides/serving.md": "tests/serve/test_examples.py",
    **dict.fromkeys(
        ("docs/results/needle.md", "docs/results/needle-tables.md", "docs/results/unusual.md"),
        "hours; tests/evaluate/test_needle.py runs the command in its small form",
    ),
    "docs/results/witness.md": "a decoder of 93 MB is fetched; tests/witness/test_witness.py runs what it is made of",
}
PAGES = sorted(
    path
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *(ROOT / "docs").rglob("*.md")]
    if path.relative_to(ROOT).as_posix() not in ELSEWHERE
)
CODE = {"console", "python", "bash", "sh"}
FENCE = re.compile(r"(?:<!-- (?P<mark>.*?) -->\n)?^(?P<indent> *)```(?P<kind>\w*)\n(?P<body>.*?)^ *```$", re.M | re.S)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of a page, with what is said ahead of it."""

    line: int
    mark: str
    kind: str
    body: str


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        body = re.sub(f"^{found['indent']}", "", found["body"], flags=re.M)
        yield Block(text.count("\n", 0, found.start()) + 1, found["mark"] or "", found["kind"], body)


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The video that the pages call street.mp4."""
    path = tmp_path_factory.mktemp("street") / "street.mp4"
    with pytest.MonkeyPatch.context() as patch:
        run_example(patch, "clip.py", path)
    return path


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_code_is_run_or_says_why_not(page: Path) -> None:
    for block in blocks(page):
        if block.kind in CODE:
            marked = re.fullmatch(r"run(: with street\.mp4)?|not run: .{10,}", block.mark)
            assert marked, f"{name_of(page)}:{block.line}: say <!-- run --> or <!-- not run: why -->"
        if block.kind == "toml":
            tomllib.loads(block.body)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.mark.startswith("run") for block in blocks(page))], ids=name_of
)
def test_blocks_do_what_they_show(page: Path, street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    printed = ""
    for block in blocks(page):
        where = f"{name_of(page)}:{block.line}"
        if "street.mp4" in block.mark and not Path("street.mp4").exists():
            Path("street.mp4").symlink_to(street)
        if block.mark == "prints":
            assert matches(block.body, printed), f"{where}: it printed\n{printed}"
        elif block.mark.startswith("run") and block.kind == "python":
            monkeypatch.setitem(sys.modules, "page", type(sys)("page"))  # where dataclasses look their types up
            with contextlib.redirect_stdout(io.StringIO()) as said:
                exec(compile(block.body, where, "exec"), names)
            printed = said.getvalue()
        elif block.mark.startswith("run"):
            for command, shown in commands(block.body):
                printed = output(command, monkeypatch)
                assert matches(shown, printed), f"{where}: {command}\nprinted\n{printed}"


def commands(body: str) -> Iterator[tuple[str, str]]:
    """The commands of a console block, each with what is shown behind it."""
    for part in re.split(r"^\$ ", body, flags=re.M)[1:]:
        command, _, shown = re.sub(r" *\\\n *", " ", part).partition("\n")
        yield command, shown


def output(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command prints to stdout, run in this process."""
    program, *args = shlex.split(command, comments=True)
    if program == "python":
        assert args[0].startswith("examples/"), command
        return "\n".join(run_example(monkeypatch, args[0].removeprefix("examples/"), *args[1:]))
    assert program == "infinipot", command
    result = CliRunner().invoke(main, args)
    assert result.exit_code == 0, result.output
    return result.stdout


def matches(shown: str, printed: str) -> bool:
    """Whether `printed` is what is shown, spaces at the ends of lines aside."""
    lines = [line.rstrip() for line in shown.strip("\n").splitlines()]
    wanted = "\n".join(r"(?:.*\n)*?.*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") for line in lines)
    return re.fullmatch(wanted, "\n".join(line.rstrip() for line in printed.strip("\n").splitlines())) is not None


def test_what_does_not_match_is_told() -> None:
    assert matches("a\n...\nd", "a\nb\nc\nd")
    assert matches("a ... d\n", "a b c d  \n")
    assert not matches("a\n...\nd", "a\nb\nc")
    assert not matches("a", "a\nb")


def test_the_guides_name_every_policy_and_every_family() -> None:
    guides = {name: (ROOT / "docs" / "guides" / f"{name}.md").read_text() for name in ("policies", "models")}
    assert not [kind.name for kind in policies.available() if f"`{kind.name}`" not in guides["policies"]]
    types = [name for adapter in ADAPTERS for name in adapter.model_types]
    assert not [name for name in types if f"`{name}`" not in guides["models"]]


def options_of(script: Path) -> set[str]:
    """The options that a script adds to its parser."""
    calls = (node for node in ast.walk(ast.parse(script.read_text())) if isinstance(node, ast.Call))
    added = (call for call in calls if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument")
    return {str(argument.value) for call in added for argument in call.args if isinstance(argument, ast.Constant)}


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=name_of)
def test_measurements_have_the_options_that_pages_give_them(page: Path) -> None:
    """They take minutes to hours, so that they are not run here: what is checked is that they would begin."""
    for name, given in re.findall(r"(?:perf/)?(\w+)\.py((?: [^`\n|)]+)?)(?=`|$)", page.read_text(), re.M):
        script = ROOT / "perf" / f"{name}.py"
        if not script.exists():
            continue
        words = shlex.split(given, comments=True)
        takes = options_of(script)
        wrong = [word for word in words if word.startswith("--") and word.partition("=")[0] not in takes]
        loose = (
            [] if not words or words[0].startswith("--") or any(not one.startswith("-") for one in takes) else words[:1]
        )
        assert not wrong + loose, f"{script.name} has no {wrong + loose}; it takes {sorted(takes)}"


@pytest.mark.parametrize("page", [*PAGES, *filter(Path.exists, map(ROOT.joinpath, ELSEWHERE))], ids=name_of)
def test_links_lead_to_files_that_are_there(page: Path) -> None:
    made = {"docs/reference/cli.md"}  # by docs/hooks.py
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
        path = (page.parent / target).resolve()
        assert path.exists() or path.relative_to(ROOT).as_posix() in made, f"{name_of(page)} leads to {target}"
