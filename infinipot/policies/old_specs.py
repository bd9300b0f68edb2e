"""Specs of the version before, read as what they are called now. To be removed with the next version."""

import logging
from collections.abc import Mapping
from typing import Any

from infinipot.policies.options import split

_logger = logging.getLogger("infinipot")
_PRODUCT = {"combine", "power", "newest", "scored"}
_ABLATIONS = {"scored", "keys", "coordinates"}


def renamed(name: str, text: str, options: Mapping[str, Any]) -> tuple[str, str, dict[str, Any]]:
    """The name, options as text and options as values that those of the version before are now; told in a warning.

    `infinipot-v` was the product as well, which is `novelty` now, and had options that `infinipot-v-ablations` has.
    """
    parts = [part.partition("=") for part in split(text)]
    given = {option.strip(): value.strip() for option, _, value in parts} | dict(options)
    product = given.get("combine") == "product" or bool({"power", "newest"} & given.keys())
    if name != "infinipot-v" or not (product or _ABLATIONS & given.keys()):
        return name, text, dict(options)
    plain = given.keys() <= _PRODUCT and given.get("combine", "product") == "product"
    if plain and given.get("scored", "once") == "once":
        now, gone = "novelty", {"combine", "scored"}
    else:
        now, gone = "infinipot-v-ablations", set()
    text = ",".join(f"{option}{equals}{value}" for option, equals, value in parts if option.strip() not in gone)
    options = {option: value for option, value in options.items() if option not in gone}
    told = ",".join([text, *(f"{option}={value}" for option, value in options.items())]).strip(",")
    _logger.warning(f"infinipot-v with these options is now {now}{':' if told else ''}{told}: give it by that name")
    return now, text, options
