"""Translates specs of the previous version. To be removed with the next version."""

import logging
from collections.abc import Mapping
from typing import Any

from infinipot.policies.options import split

_logger = logging.getLogger("infinipot")
_PRODUCT = {"combine", "power", "newest", "scored"}
_ABLATIONS = {"scored", "keys", "coordinates"}


def renamed(name: str, text: str, options: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """The present name, options as text and options as values of a spec of the previous version. A warning says so.

    `infinipot-v` used to include the product, which is now `novelty`, and options that `infinipot-v-ablations` has now.
    """
    parts = [part.partition("=") for part in split(text)]
    values = {option.strip(): value.strip() for option, _, value in parts} | dict(options)
    product = values.get("combine") == "product" or bool({"power", "newest"} & values.keys())
    if name != "infinipot-v" or not (product or _ABLATIONS & values.keys()):
        return name, text, dict(options)
    plain = values.keys() <= _PRODUCT and values.get("combine", "product") == "product"
    if plain and values.get("scored", "once") == "once":
        now, dropped = "novelty", {"combine", "scored"}
    else:
        now, dropped = "infinipot-v-ablations", set()
    text = ",".join(f"{option}{equals}{value}" for option, equals, value in parts if option.strip() not in dropped)
    options = {option: value for option, value in options.items() if option not in dropped}
    shown = ",".join([text, *(f"{option}={value}" for option, value in options.items())]).strip(",")
    _logger.warning(f"infinipot-v with these options is now {now}{':' if shown else ''}{shown}: give it by that name")
    return now, text, options
