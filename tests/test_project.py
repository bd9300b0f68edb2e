"""The project's own files agree: targets, workflow, changelog and metadata speak of the same things."""

import re
import tomllib
from collections.abc import Iterator

import pytest
import yaml

import infinipot
from support.places import ROOT

CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", (ROOT / "Makefile").read_text(), re.M))


def test_the_workflow_runs_targets_that_there_are_on_the_versions_that_are_promised() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    matrices = [job["strategy"]["matrix"] for job in workflow["jobs"].values()]
    assert {target for matrix in matrices for target in matrix["target"]} <= TARGETS
    for job in workflow["jobs"].values():
        assert [step["run"] for step in job["steps"] if "run" in step] == ["make ${{ matrix.target }}"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = {each.rpartition(" :: ")[2] for each in project["classifiers"] if "Python :: 3." in each}
    assert set(matrices[0]["python"]) == promised
    assert project["requires-python"] == f">={min(promised, key=lambda each: int(each[2:]))}"


def test_contributing_and_the_makefile_name_every_target() -> None:
    told = set(re.findall(r"`make ([\w-]+)`", CONTRIBUTING))
    phony = set((ROOT / "Makefile").read_text().partition(".PHONY:")[2].partition("\n")[0].split())
    assert told == phony - {"clean"}
    assert phony <= TARGETS


def test_contributing_names_classes_and_tables_that_there_are() -> None:
    sources = [*(ROOT / "infinipot").rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
    defined = set(re.findall(r"^(?:class )?([A-Z]\w*)\b *[(:=]", "\n".join(each.read_text() for each in sources), re.M))
    assert set(re.findall(r"`([A-Z]\w*)`", CONTRIBUTING)) <= defined


@pytest.mark.parametrize("package", ["engine", "evaluate/needle", "memory", "policies/scoring"])
def test_the_map_of_a_package_names_all_of_its_files(package: str) -> None:
    """In the package itself, as a line each, and in CONTRIBUTING, as a table."""
    folder = ROOT / "infinipot" / package
    files = {each.name for each in folder.glob("*.py")} - {"__init__.py"}
    own = set(re.findall(r"\b\w+\.py\b", (folder / "__init__.py").read_text()))
    table = set(re.findall(r"`(\w+\.py)`", CONTRIBUTING.partition(f"\n`{package}/`")[2].partition("\n\n`")[0]))
    assert own | table
    for named in (own, table):
        assert not named or named == files


def test_a_file_of_policies_is_one_policy_or_is_in_the_map() -> None:
    """So that a reader tells the two apart; what scores are computed with knows no policy."""
    files = {each.name for each in (ROOT / "infinipot/policies").glob("*.py")} - {"__init__.py"}
    helpers = set(re.findall(r"^    (\w+\.py) ", infinipot.policies.__doc__ or "", re.M))
    own = {f"{kind.__module__.rpartition('.')[2]}.py" for kind in infinipot.policies.available()}
    assert helpers | own == files
    assert not helpers & own
    listed = CONTRIBUTING.partition("\n`policies/`, beside")[2].partition("\n\n`")[0]
    assert set(re.findall(r"`(\w+\.py)`", listed)) == helpers
    inside = ("infinipot.policies.scoring.", "infinipot.tokens")
    assert not [each for each in imported("policies/scoring") if not each[1].startswith(inside)]


def test_the_changelog_has_the_version() -> None:
    versions = re.findall(r"^## \[([\d.]+)\] - \d{4}-\d\d-\d\d$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == infinipot.__version__


def test_the_citation_names_the_paper_and_no_version_of_its_own() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["preferred-citation"]["url"].endswith("2506.15745")
    assert "version" not in citation  # which stands in one place


def name_of(requirement: str) -> str:
    """The package of a requirement such as `torch>=2.6`."""
    return re.split(r"[\[>]", requirement)[0]


def test_every_dependency_has_a_lower_bound_and_a_version_that_was_tested() -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    apart = extras.pop("lmms-eval")  # has constraints of its own
    assert "lmms-eval" in apart[0]
    assert set(extras) == set(re.findall(r"^EXTRAS := (.*)$", (ROOT / "Makefile").read_text(), re.M)[0].split(","))
    beside = [*pyproject["project"]["dependencies"], *(each for own in extras.values() for each in own)]
    tools = [each for group in pyproject["dependency-groups"].values() for each in group if isinstance(each, str)]
    assert not {name_of(each) for each in tools} & {name_of(each) for each in beside}, "a bound stands in two places"
    listed = [*beside, *tools]
    tested = {line.split("==")[0] for line in (ROOT / "constraints.txt").read_text().splitlines()}
    for requirement in listed:
        found = re.fullmatch(r"([\w.-]+)(?:\[\w+\])?(>=[\w.]+)(.*)", requirement)
        assert found, requirement
        name, bound, _ = found.groups()
        assert bound
        assert name in tested, f"{name} is not in constraints.txt"


# From the left to the right of the architecture: a part imports those to its right, and never one to its left.
LAYERS = ("engine", "models", "memory", "policies", "tokens")
OUTSIDE = ("cli", "serve", "evaluate", "lmms_eval")


def imported(part: str) -> Iterator[tuple[str, str]]:
    """Each file of a part of the package, with each module of the package that it imports, wherever in the file."""
    package = ROOT / "infinipot"
    for path in (*package.glob(f"{part}.py"), *(package / part).rglob("*.py")):
        for module, names in re.findall(r"^\s*from (infinipot[\w.]*) import (\w+|\([^)]*\))", path.read_text(), re.M):
            whole = [f"infinipot.{name}" for name in re.findall(r"\w+", names)] if module == "infinipot" else [module]
            yield from ((str(path.relative_to(ROOT)), each) for each in whole)


def test_imports_go_one_way() -> None:
    for place, part in enumerate(LAYERS):
        behind = {f"infinipot.{each}" for each in (*OUTSIDE, "playing", "snapshot", "model", "stream", *LAYERS[:place])}
        back = [(file, module) for file, module in imported(part) if ".".join(module.split(".")[:2]) in behind]
        assert not back, part
    assert not [each for each in imported("config") if each[1].startswith("infinipot.engine")]
    assert not [each for each in imported("models") if each[1].startswith("infinipot.policies")]


def test_commands_servers_and_measurements_use_the_public_names() -> None:
    inside = re.compile(r"infinipot\.(?:(?:models|policies)\.|(?:engine|memory|tokens)\b)")
    reaching = {each for part in OUTSIDE for each in imported(part) if inside.match(each[1])}
    assert not reaching
