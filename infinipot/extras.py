"""What only some commands need: packages that come with an extra, and what is said where they are not installed."""

from importlib.util import find_spec

from infinipot.errors import InfinipotError

NEEDS = {  # by extra: what is imported
    "plots": ("matplotlib",),
    "bench": ("matplotlib", "psutil"),
    "serve": (
        "fastapi",
        "jsonschema",
        "prometheus_client",
        "pydantic",
        "pydantic_settings",
        "python_multipart",  # fastapi asks for it when a form arrives
        "uvicorn",
        "websockets",  # uvicorn asks for it when it begins to listen
    ),
}


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that are not installed. Imports nothing."""
    return [module for module in NEEDS[extra] if find_spec(module) is None]


def require(extra: str, what: str) -> None:
    """Makes sure that an extra is installed before work begins that would end without it.

    Args:
        extra: its name, a key of NEEDS.
        what: what needs it, as the error's subject, such as "--picture".

    Raises:
        InfinipotError: something of it is not installed; the message says which extra to install.
    """
    if absent := missing(extra):
        verb = "is" if len(absent) == 1 else "are"
        raise InfinipotError(
            f"{what} needs {', '.join(absent)}, which {verb} not installed: pip install 'infinipot[{extra}]'"
        )
