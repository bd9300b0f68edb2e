"""The models that come with the project, by name. Knows folders, and of what is in them only the size of frames."""

import json
import math
from pathlib import Path

from infinipot import embedded
from infinipot.errors import ModelError

NAMES = ("embedded", "witness", "witness-hidden")


def folder_of(name: str) -> str:
    """The folder of a model that comes with the project; any other name as it is.

    Raises:
        ModelError: the model has to be put together first, and a part of it cannot be found or fetched.
    """
    if name == "embedded":
        return str(embedded.path())
    if name in NAMES:
        from infinipot.witness import assemble  # it needs an extra, and nothing else does

        return str(assemble.path(name))
    return name


def frame_size(folder: Path) -> int:
    """Pixels on each side of the frames that a checkpoint's video processor leaves as they are, the smallest ones.

    Raises:
        ModelError: the folder's processor does not say so.
    """
    try:
        settings = json.loads((folder / "processor_config.json").read_text())
        return math.isqrt(settings["video_processor"]["size"]["shortest_edge"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{folder}: not the folder of a model that knows the synthetic world; there are {', '.join(NAMES)}"
        ) from error
