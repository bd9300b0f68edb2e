"""The code of other packages that answers depend on: of the policies and model families that entry points bring.

Each of them stands for itself by its name, and none of this package does: `versions.digest_of_code` stands for those.
Imports no tensor library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import infinipot
from infinipot.versions import digest_of_plugin

if TYPE_CHECKING:
    from infinipot.models import Adapter
    from infinipot.policies import Policy


def code_of_policy(policy: Policy) -> str:
    """The names of the policy and of those that its options name, each with twelve digits for its code, as in
    "newest=0123456789ab"; "" where all are of this package."""
    options = infinipot.policies.options
    named = (getattr(policy, name) for name, hint in options.hints(type(policy)).items() if hint == options.Inner)
    inner = (code_of_policy(infinipot.policies.make(spec)) for spec in named)
    return " ".join(filter(None, (_code(policy.name, type(policy)), *inner)))


def code_of_adapter(adapter: type[Adapter]) -> str:
    """The title of a model family with twelve digits for its code; "" for one of this package."""
    return _code(adapter.title, adapter)


def _code(name: str, kind: type) -> str:
    digest = digest_of_plugin(kind)
    return "" if digest is None else f"{name}={digest}"
