"""Sources of frames: files, network addresses and arrays, sampled by time. Knows nothing of models.

Names are imported when they are first used: a process that only decodes needs no tensor library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infinipot.video.frame import Frame
    from infinipot.video.images import ImageLike, as_frame
    from infinipot.video.source import Video, open_video

_HOME = {"Frame": "frame", "ImageLike": "images", "as_frame": "images", "Video": "source", "open_video": "source"}

__all__ = ["Frame", "ImageLike", "Video", "as_frame", "open_video"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports a name from where it lives, once (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'infinipot.video' has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"infinipot.video.{_HOME[name]}"), name)
        return value
