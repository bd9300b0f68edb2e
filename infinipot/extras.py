"""Packages that only some commands need and an extra installs, and the message when they are missing."""

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
    "eval": ("pyarrow",),
    "ray": ("ray",),
    "witness": ("gguf",),
}


def missing(extra: str) -> list[str]:
    """Returns the modules of an extra that are not installed. Imports nothing."""
    return [module for module in NEEDS[extra] if find_spec(module) is None]


def how_to_install(extra: str) -> str:
    """Returns the command that installs what is missing of an extra.

    It names the packages, since the extra itself can only be named where the project's checkout is.
    """
    packages = (module.replace("_", "-") for module in missing(extra) or NEEDS[extra])
    return f"pip install {' '.join(packages)} (the extra `{extra}`)"


def require(extra: str, what: str) -> None:
    """Makes sure that an extra is installed before work begins that would end without it.

    Args:
        extra: its name, a key of NEEDS.
        what: what needs it, as the error's subject, such as "--picture".

    Raises:
        InfinipotError: something of it is not installed; the message says how to install it.
    """
    if absent := missing(extra):
        verb = "is" if len(absent) == 1 else "are"
        raise InfinipotError(f"{what} needs {', '.join(absent)}, which {verb} not installed: {how_to_install(extra)}")
