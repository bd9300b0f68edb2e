"""The model families, one adapter each. A new family is a class in a file of its own and its line in `ADAPTERS`.

Other packages bring families of theirs as entry points, see `infinipot.extensions`.
"""

import logging

from infinipot import extensions
from infinipot.errors import ModelError
from infinipot.models.base import PARITY, Adapter
from infinipot.models.gathering import Gatherer
from infinipot.models.internvl import InternVL
from infinipot.models.llava_next_video import LlavaNextVideo
from infinipot.models.llava_onevision import LlavaOnevision
from infinipot.models.patch import Clip, Patch
from infinipot.models.qwen2_5_omni import Qwen25Omni, Qwen25OmniSound
from infinipot.models.qwen2_vl import Qwen2VL, Qwen25VL
from infinipot.models.qwen3_5 import Qwen35
from infinipot.models.qwen3_vl import Qwen3VL
from infinipot.models.smolvlm import SmolVLM
from infinipot.models.waiting import Waiting

ADAPTERS: tuple[type[Adapter], ...] = (
    Qwen2VL,
    Qwen25VL,
    Qwen3VL,
    Qwen35,
    Qwen25Omni,
    Qwen25OmniSound,
    LlavaOnevision,
    LlavaNextVideo,
    InternVL,
    SmolVLM,
)

__all__ = ["ADAPTERS", "PARITY", "Adapter", "Clip", "Gatherer", "Patch", "Waiting", "adapters"]

_logger = logging.getLogger(__name__)


def adapters() -> tuple[type[Adapter], ...]:
    """Returns the package's own adapters, then those of other packages; a warning says which cannot be used, and why.

    A model type that several run is run by the first.
    """
    own = list(ADAPTERS)
    for point in extensions.found(extensions.MODELS).values():
        try:
            own.append(extensions.load(point, Adapter, ModelError))
        except ModelError as error:
            _logger.warning("%s", error)
    return tuple(own)
