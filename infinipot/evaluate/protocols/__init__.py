"""The protocols, which `rules.toml` describes."""

from infinipot.errors import BenchmarkError
from infinipot.evaluate.protocols.base import Protocol, read_protocols

PROTOCOLS: dict[str, Protocol] = read_protocols()


def find_protocol(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        BenchmarkError: there is none.
    """
    if name not in PROTOCOLS:
        raise BenchmarkError(f'unknown protocol: "{name}"; possible: {", ".join(PROTOCOLS)}')
    return PROTOCOLS[name]


__all__ = ["PROTOCOLS", "Protocol", "find_protocol"]
