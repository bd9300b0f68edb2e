"""Which tokens stay. Each policy is a file of its own and a line here, an import under its public name: the registry.

The other files are:

    base.py       `Policy`, `ScoredPolicy`, and what a policy can ask the memory for: `Attention`, `Merge`
    wrapper.py    the base of policies that use another policy's scores
    question.py   the base of policies that know the question
    options.py    the types of options, and how options are written as text
    scoring/      what policies compute from tokens

Other packages add policies as entry points, see `infinipot.extensions`. All that such a policy needs can be imported
from here.
"""

import logging
from dataclasses import fields
from difflib import get_close_matches
from typing import Any

from infinipot import extensions as _extensions
from infinipot.errors import PolicyError
from infinipot.policies import options as _options
from infinipot.policies.base import Attention as Attention
from infinipot.policies.base import Merge as Merge
from infinipot.policies.base import Policy as Policy
from infinipot.policies.base import ScoredPolicy as ScoredPolicy
from infinipot.policies.budgets import AdaKV as AdaKV
from infinipot.policies.budgets import PyramidKV as PyramidKV
from infinipot.policies.cords import CoRDS as CoRDS
from infinipot.policies.deviation import Deviation as Deviation
from infinipot.policies.expected_attention import ExpectedAttention as ExpectedAttention
from infinipot.policies.fastv import FastV as FastV
from infinipot.policies.freevideollm import FreeVideoLLM as FreeVideoLLM
from infinipot.policies.full import Full as Full
from infinipot.policies.hermes import HERMES as HERMES
from infinipot.policies.infinipot_v import InfiniPotV as InfiniPotV
from infinipot.policies.infinipot_v_ablations import InfiniPotVAblations as InfiniPotVAblations
from infinipot.policies.infinipot_v_reference import InfiniPotVReference as InfiniPotVReference
from infinipot.policies.keydiff import KeyDiff as KeyDiff
from infinipot.policies.kvzip import KVzip as KVzip
from infinipot.policies.lagkv import LagKV as LagKV
from infinipot.policies.livevlm import LiveVLM as LiveVLM
from infinipot.policies.merged import Merged as Merged
from infinipot.policies.novelty import Novelty as Novelty
from infinipot.policies.options import Count as Count
from infinipot.policies.options import Exponent as Exponent
from infinipot.policies.options import Odd as Odd
from infinipot.policies.options import Positive as Positive
from infinipot.policies.options import Ratio as Ratio
from infinipot.policies.options import Share as Share
from infinipot.policies.options import Words as Words
from infinipot.policies.prototypes import Prototypes as Prototypes
from infinipot.policies.question import KnowsQuestion as KnowsQuestion
from infinipot.policies.random import Random as Random
from infinipot.policies.recent_frames import RecentFrames as RecentFrames
from infinipot.policies.scoring.attention import attended as attended
from infinipot.policies.scoring.ranking import highest as highest
from infinipot.policies.sliding_window import SlidingWindow as SlidingWindow
from infinipot.policies.snapkv import SnapKV as SnapKV
from infinipot.policies.streaming_llm import StreamingLLM as StreamingLLM
from infinipot.policies.streammem import StreamMem as StreamMem
from infinipot.policies.tar import TaR as TaR
from infinipot.policies.uniform import Uniform as Uniform
from infinipot.policies.unusual import Unusual as Unusual
from infinipot.policies.van import VaN as VaN
from infinipot.policies.wrapper import Wrapper as Wrapper

_POLICIES: dict[str, type[Policy]] = {
    public.name: public
    for public in list(globals().values())
    if isinstance(public, type) and issubclass(public, Policy) and hasattr(public, "name")
}


_logger = logging.getLogger(__name__)


def available() -> list[type[Policy]]:
    """Returns every policy, sorted by name, those of other packages included. A warning names one that cannot be used.

    `summary()`, `defaults()` and `paper` describe each.
    """
    known = dict(_POLICIES)
    for name in sorted(_extensions.found(_extensions.POLICIES)):
        try:
            known[name] = _find(name)
        except PolicyError as error:
            _logger.warning("%s", error)
    return [known[name] for name in sorted(known)]


def make(spec: str | Policy, **options: Any) -> Policy:
    """A policy from its name and options.

    Args:
        spec: a name, a name with options such as `"infinipot-v:combine=union,alpha=0.4"`, or a policy, which
            is returned as it is.
        options: further options, as Python values.

    Raises:
        PolicyError: the policy or an option is unknown, an option is given twice, or a value is not possible.
    """
    if isinstance(spec, Policy):
        if options:
            raise PolicyError(f"a policy ({spec.spec}) has its options already; got {', '.join(options)} besides")
        return spec
    if not isinstance(spec, str):
        raise PolicyError(f"a policy must be a name or a Policy, not {type(spec).__name__}: {spec!r}")
    name, _, text = spec.partition(":")
    policy = _find(name)
    parsed = _parse(policy, text)
    if twice := parsed.keys() & options.keys():
        raise PolicyError(f"{name}: option {min(twice)} is given twice, in {spec!r} and by keyword")
    _check_known(policy, options)
    return policy(**parsed, **options)


def _names() -> set[str]:
    """Names of all policies, without importing other packages."""
    return _POLICIES.keys() | _extensions.found(_extensions.POLICIES).keys()


def _find(name: str) -> type[Policy]:
    """Returns the policy of this name, from this package or another one. Two policies with one name are an error,
    since the user may mean either."""
    point = _extensions.found(_extensions.POLICIES).get(name)
    if name in _POLICIES:
        if point is not None:
            raise PolicyError(
                f'{_extensions.origin(point)} brings a policy "{name}" ({point.value}), a name that a policy of '
                "infinipot has: give it another name, or uninstall that package"
            )
        return _POLICIES[name]
    if point is None:
        raise PolicyError(_unknown("policy", name, sorted(_names())))
    policy: type[Policy] = _extensions.load(point, Policy, PolicyError)
    if getattr(policy, "name", None) != name:
        raise PolicyError(
            f'the entry point "{name}" ({point.value}) names a policy whose own name is '
            f"{getattr(policy, 'name', None)!r}: give both one name"
        )
    _options.require_known(policy)
    return policy


def _parse(policy: type[Policy], text: str) -> dict[str, Any]:
    """`"combine=union,alpha=0.4"` as the keyword arguments of a policy."""
    values: dict[str, Any] = {}
    for option, equals, value in (part.partition("=") for part in _options.split(text)):
        _check_known(policy, [option])
        if not equals:
            raise PolicyError(f"{policy.name}: option {option} has no value; write {option}=...")
        if option in values:
            raise PolicyError(f"{policy.name}: option {option} is given twice in {text!r}")
        values[option] = _options.from_text(_options.hints(policy)[option], value)
    return values


def _check_known(policy: type[Policy], given: Any) -> None:
    known = [field.name for field in fields(policy)]
    for option in given:
        if option not in known:
            raise PolicyError(_unknown(f"option of {policy.name}", option, known))


def _unknown(kind: str, given: str, known: list[str]) -> str:
    near = get_close_matches(given.lower().replace("_", "-"), known, 1) or get_close_matches(given, known, 1)
    hint = f'did you mean "{near[0]}"? ' if near else ""
    return f'unknown {kind}: "{given}"; {hint}Possible: {", ".join(known) or "none"}'
