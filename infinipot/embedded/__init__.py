"""The small model that ships with the package, and the synthetic world it knows."""

from pathlib import Path


def path() -> Path:
    """The folder of the packaged checkpoint; `from_pretrained` loads it as it does a hub checkpoint."""
    return Path(__file__).parent / "weights"
