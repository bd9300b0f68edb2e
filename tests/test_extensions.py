"""Policies and families of other packages: an installed package with entry points, good ones and broken ones."""

import importlib
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import infinipot
from infinipot import extensions, models, policies
from infinipot.checkpoint import Checkpoint
from infinipot.config import LoadConfig
from infinipot.embedded.world import Clip
from infinipot.errors import PolicyError, ResultsError
from infinipot.evaluate import FrameSampling
from infinipot.evaluate.core.journal import require_same
from infinipot.evaluate.core.plugins import code_of_adapter, code_of_policy
from infinipot.evaluate.engines.base import RunConfig, origin_settings
from infinipot.versions import digest_of_plugin
from support.models import build

POLICY = """
from dataclasses import dataclass
from typing import Optional
from infinipot.policies import Count, ScoredPolicy
from infinipot.models.qwen2_vl import Qwen25VL
from transformers import AutoConfig, Qwen2_5_VLConfig

class StreetConfig(Qwen2_5_VLConfig):
    model_type = "street_vl"

AutoConfig.register("street_vl", StreetConfig, exist_ok=True)

@dataclass(frozen=True)
class Newest(ScoredPolicy):
    "Keeps the newest."
    name = "newest"
    sharply: float = 1.0
    def score(self, tokens):
        return tokens.patch.float()

class Half(ScoredPolicy):
    name = "half"

@dataclass(frozen=True)
class Listed(Newest):
    name = "broken"
    windows: tuple = ()

class Street(Qwen25VL):
    title, model_types, checked = "Street", ("street_vl", "qwen3_vl"), "not at all"
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Installs a package `street` as pip lays one out, with these entry points of policies and of families."""

    def lay_out(*names: str, adapters: tuple[str, ...] = (), module: str = POLICY) -> None:
        (tmp_path / "street.py").write_text(module)
        metadata = tmp_path / "street-1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: street\nVersion: 1.0\n")
        lines = ["[infinipot.policies]", *names, "[infinipot.models]", *adapters]
        (metadata / "entry_points.txt").write_text("\n".join(lines) + "\n")
        monkeypatch.syspath_prepend(tmp_path)
        extensions.found.cache_clear()

    yield lay_out
    sys.modules.pop("street", None)
    monkeypatch.undo()
    extensions.found.cache_clear()


def test_a_policy_of_another_package_goes_by_its_name(install: Install) -> None:
    install("newest = street:Newest")
    assert policies.make("newest:sharply=0.5").spec == "newest:sharply=0.5"
    assert "newest" in [kind.name for kind in policies.available()]
    with infinipot.load("embedded").stream(memory=300, policy="newest") as stream:
        for frame in Clip(1, 30, 2.0):
            stream.watch(frame)
        held = [patch.time for patch in stream.contents().patches]
    assert len(held) < 30
    assert held == [29.0 - second for second in range(len(held))][::-1]


def test_a_family_of_another_package_takes_no_modality_from_ours(install: Install) -> None:
    hears = """
from infinipot.models.qwen2_5_omni import Qwen25OmniSound

class Street(Qwen25OmniSound):
    title, checked = "Street", "not at all"
"""
    install(adapters=("street = street:Street",), module=hears)
    model = build("qwen2_5_omni_thinker")
    assert "Street" in [kind.title for kind in models.adapters()]
    with model.stream(memory=700, modality="audio") as stream:
        assert stream._setup.adapter.title != "Street"


def test_nothing_of_another_package_is_imported_before_it_is_asked_for(install: Install) -> None:
    install("newest = street:Newest", adapters=("street = street:Street",))
    policies.make("uniform")
    with pytest.raises(PolicyError, match=r'did you mean "newest"\?'):
        policies.make("newst")
    assert "street" not in sys.modules


@pytest.mark.parametrize(
    ("entry", "module", "why"),
    [
        ("broken = street:Newest", "import nothing_like_it", "ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("broken = street:Newest", "raise RuntimeError('one\\n  two')", "RuntimeError: one two"),
        ("broken = street:Gone", POLICY, "has no attribute 'Gone'"),
        ("broken = street:dataclass", POLICY, "it is not a subclass of Policy"),
        ("broken = street:Half", POLICY, "it has no score"),
        ("broken = street:Newest", POLICY, "own name is 'newest'"),
        (
            "broken = street:Listed",
            POLICY,
            "broken: its option windows is of a type that cannot be written as text, tuple: make it",
        ),
    ],
)
def test_a_broken_one_is_one_line_and_the_others_stay(
    install: Install, caplog: pytest.LogCaptureFixture, entry: str, module: str, why: str
) -> None:
    install(entry, module=module)
    with pytest.raises(PolicyError) as caught:
        policies.make("broken")
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)
    with caplog.at_level(logging.WARNING, "infinipot"):
        names = [kind.name for kind in policies.available()]
    assert "infinipot-v" in names
    assert "broken" not in names
    assert [record.getMessage() for record in caplog.records] == [str(caught.value)]


def test_a_name_that_another_package_has_taken_as_well_is_refused_and_listed_with_a_warning(
    install: Install, caplog: pytest.LogCaptureFixture
) -> None:
    install("uniform = street:Newest", "newest = street:Newest")
    with pytest.raises(
        PolicyError, match=r'the package street brings a policy "uniform" \(street:Newest\), a name that'
    ):
        policies.make("uniform")
    assert policies.make("sliding-window").name == "sliding-window"
    assert "street" not in sys.modules
    assert {"newest", "uniform"} < {kind.name for kind in policies.available()}
    assert [message[:29] for message in caplog.messages] == ["the package street brings a p"]


def test_an_option_that_may_be_none_is_read_and_written_as_any_other(install: Install) -> None:
    install("newest = street:Newest", module=POLICY.replace("sharply: float = 1.0", "window: Optional[Count] = 4"))
    for spec, window in (("newest", 4), ("newest:window=8", 8), ("newest:window=none", None)):
        policy = policies.make(spec)
        assert (policy.window, policy.spec) == (window, spec)  # type: ignore[attr-defined]
    with pytest.raises(PolicyError, match="window='many' is not possible: it is a whole number 0 or more, or none"):
        policies.make("newest:window=many")


def test_families_of_other_packages_run_what_the_own_ones_do_not(
    install: Install, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    install(adapters=("street = street:Street", "broken = street:Gone"))
    for model_type, title in (("street_vl", "Street"), ("qwen3_vl", "Qwen3-VL")):
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
        assert Checkpoint(str(tmp_path)).adapter().title == title
    assert [line.partition(" cannot")[0] for line in caplog.messages] == [
        "infinipot.models: broken = street:Gone of the package street"
    ]
    assert models.adapters()[:-1] == models.ADAPTERS


def test_the_code_of_a_policy_of_another_package_is_another_once_it_does_something_else(
    install: Install, tmp_path: Path
) -> None:
    install("newest = street:Newest", adapters=("street = street:Street",))

    def code(module: str) -> tuple[str, str, str]:
        (tmp_path / "street.py").write_text(module)
        sys.modules.pop("street", None)
        (family,) = set(models.adapters()) - set(models.ADAPTERS)
        return (
            code_of_policy(policies.make("newest")),
            code_of_policy(policies.make("merged:of=newest")),
            (code_of_adapter(family)),
        )

    before = code(POLICY)
    assert re.fullmatch("newest=[0-9a-f]{12}", before[0])
    assert before[1:] == (before[0], before[0].replace("newest", "Street"))
    assert code(POLICY.replace("Keeps the newest.", "Keeps whatever comes last.") + "# a note\n") == before
    assert not {*before} & {*code(POLICY.replace("patch.float()", "cell.float()"))}
    assert (
        code_of_policy(policies.make("merged:of=[tar:reference=recent]")) == code_of_adapter(models.ADAPTERS[0]) == ""
    )


def test_all_code_of_the_package_that_a_policy_is_in_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "avenue" / "policies").mkdir(parents=True)
    for name, text in (("__init__", ""), ("policies/__init__", POLICY), ("policies/form", "{{ a template }} is none")):
        (tmp_path / "avenue" / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    newest = importlib.import_module("avenue.policies").Newest
    before = digest_of_plugin(newest)
    for name in ("avenue/beside.py", "avenue/table.toml"):
        (tmp_path / name).write_text("x = 1")
        digest_of_plugin.cache_clear()
        assert digest_of_plugin(newest) != before
        before = digest_of_plugin(newest)
    assert digest_of_plugin(policies.Uniform) is None


def test_a_run_of_a_policy_that_was_edited_does_not_go_on(install: Install, tmp_path: Path) -> None:
    install("newest = street:Newest")

    def header(policy: str) -> dict:
        setup = RunConfig("mlvu", "paper", FrameSampling("uniform", 6), policy)
        return {"type": "run", "settings": origin_settings(LoadConfig("embedded"), setup)}

    before = header("newest")
    assert "policy_code" not in header("uniform")["settings"]
    (tmp_path / "street.py").write_text(POLICY.replace("patch.float()", "cell.float()"))
    sys.modules.pop("street")
    with pytest.raises(ResultsError, match=r'policy_code: "newest=[^"]*" there, "newest=[^"]*" now'):
        require_same(tmp_path / "run.jsonl", before, header("newest"))
