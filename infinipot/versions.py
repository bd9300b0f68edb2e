"""What produced a result: the versions that an answer may depend on."""

import platform

from infinipot import __version__


def versions() -> dict[str, str]:
    """Of the package, and of what it computes with, by name."""
    import torch  # here, since the command line imports this file to say what it can do
    import transformers

    return {
        "infinipot": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }
