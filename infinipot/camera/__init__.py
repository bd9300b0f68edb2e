"""Cameras: pictures that come whether or not anybody looks, of which the newest is what counts.

Knows nothing of models. A camera is decoded by a process of its own, which can be ended when it hangs; names are
imported when they are first used, so that this process needs no tensor library.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from infinipot.camera.address import is_camera
    from infinipot.camera.camera import Camera, open_camera
    from infinipot.camera.health import Gap, Health

_HOME = {"Camera": "camera", "Gap": "health", "Health": "health", "is_camera": "address", "open_camera": "camera"}

__all__ = ["Camera", "Gap", "Health", "is_camera", "open_camera"]

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        """Imports a name from where it lives, once (PEP 562)."""
        if name not in _HOME:
            raise AttributeError(f"module 'infinipot.camera' has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(f"infinipot.camera.{_HOME[name]}"), name)
        return value
