"""The protocols: one file each, and its line in `PROTOCOLS`."""

from infinipot.errors import BenchmarkError
from infinipot.evaluate.protocols.base import Protocol
from infinipot.evaluate.protocols.lmms_eval import LMMS_EVAL
from infinipot.evaluate.protocols.official import OFFICIAL
from infinipot.evaluate.protocols.paper import PAPER

PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (PAPER, LMMS_EVAL, OFFICIAL)}


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        BenchmarkError: there is none.
    """
    if name not in PROTOCOLS:
        raise BenchmarkError(f'unknown protocol: "{name}"; possible: {", ".join(PROTOCOLS)}')
    return PROTOCOLS[name]


__all__ = ["PROTOCOLS", "Protocol", "find_protocol"]
