"""Watch a video of any length with a multimodal language model, in a fixed amount of memory."""

from infinipot.audio import Sound, open_audio
from infinipot.errors import (
    AudioError,
    BenchmarkError,
    CapError,
    FrameError,
    InfinipotError,
    JudgeError,
    ModelError,
    PolicyError,
    QuestionError,
    ResultsError,
    VideoError,
)
from infinipot.model import Model, load
from infinipot.stats import Stats
from infinipot.stream import Stream
from infinipot.video import Frame, open_video

__version__ = "0.1.0"

__all__ = [
    "AudioError",
    "BenchmarkError",
    "CapError",
    "Frame",
    "FrameError",
    "InfinipotError",
    "JudgeError",
    "Model",
    "ModelError",
    "PolicyError",
    "QuestionError",
    "ResultsError",
    "Sound",
    "Stats",
    "Stream",
    "VideoError",
    "load",
    "open_audio",
    "open_video",
]
