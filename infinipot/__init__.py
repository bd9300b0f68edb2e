"""Watch a video of any length with a multimodal language model, in a fixed amount of memory.

    model = infinipot.load("embedded")  # or "Qwen/Qwen2.5-VL-7B-Instruct", or a folder
    with model.stream(memory=512) as stream:
        for frame in infinipot.open_video("street.mp4", fps=2):  # or a camera, arrays, tensors, images
            stream.watch(frame)
        print(stream.ask("What happened?"))

`load` gives a `Model`, which opens streams; `Stream` has the calls on one. Whatever is raised on purpose is an
`InfinipotError`. Names that need a tensor library are imported when they are first used, so that `import infinipot`,
and a command line that only parses, take no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from infinipot.errors import (
    AudioError,
    BenchmarkError,
    CameraError,
    CapError,
    FrameError,
    InfinipotError,
    JudgeError,
    ModelError,
    NumericalError,
    PolicyError,
    QuestionError,
    ResultsError,
    SettingError,
    SnapshotError,
    VideoError,
)

if TYPE_CHECKING:
    from infinipot import audio as audio
    from infinipot import camera as camera
    from infinipot import embedded as embedded
    from infinipot import memory as memory
    from infinipot import models as models
    from infinipot import policies as policies
    from infinipot import video as video
    from infinipot.audio import Audio, Sound, open_audio
    from infinipot.camera import Camera, open_camera
    from infinipot.config import StreamConfig
    from infinipot.engine.evidence import Answer, Span
    from infinipot.engine.question import AskOptions
    from infinipot.engine.task import Task
    from infinipot.loading import load
    from infinipot.memory import Contents, HeldPatch
    from infinipot.model import Model
    from infinipot.policies import Policy
    from infinipot.stats import Stats
    from infinipot.stream import Stream
    from infinipot.video import Frame, Video, open_video

__version__ = "0.1.0"

_HOME = {
    "Answer": "infinipot.engine.evidence",
    "AskOptions": "infinipot.engine.question",
    "Audio": "infinipot.audio",
    "Camera": "infinipot.camera",
    "Contents": "infinipot.memory",
    "Frame": "infinipot.video",
    "HeldPatch": "infinipot.memory",
    "Model": "infinipot.model",
    "Policy": "infinipot.policies",
    "Sound": "infinipot.audio",
    "Span": "infinipot.engine.evidence",
    "Stats": "infinipot.stats",
    "Stream": "infinipot.stream",
    "StreamConfig": "infinipot.config",
    "Task": "infinipot.engine.task",
    "Video": "infinipot.video",
    "load": "infinipot.loading",
    "open_audio": "infinipot.audio",
    "open_camera": "infinipot.camera",
    "open_video": "infinipot.video",
}
_PARTS = ("audio", "camera", "embedded", "memory", "models", "policies", "video")

__all__ = [
    "Answer",
    "AskOptions",
    "Audio",
    "AudioError",
    "BenchmarkError",
    "Camera",
    "CameraError",
    "CapError",
    "Contents",
    "Frame",
    "FrameError",
    "HeldPatch",
    "InfinipotError",
    "JudgeError",
    "Model",
    "ModelError",
    "NumericalError",
    "Policy",
    "PolicyError",
    "QuestionError",
    "ResultsError",
    "SettingError",
    "SnapshotError",
    "Sound",
    "Span",
    "Stats",
    "Stream",
    "StreamConfig",
    "Task",
    "Video",
    "VideoError",
    "load",
    "open_audio",
    "open_camera",
    "open_video",
]

if not TYPE_CHECKING:  # a type checker that saw it would take every name for one of the package's

    def __getattr__(name: str) -> Any:
        """Imports a name from where it lives, once: after that it is an attribute like any other (PEP 562)."""
        if name in _PARTS:
            return import_module(f"infinipot.{name}")
        if name not in _HOME:
            raise AttributeError(f"module 'infinipot' has no attribute {name!r}")
        globals()[name] = value = getattr(import_module(_HOME[name]), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_PARTS})
