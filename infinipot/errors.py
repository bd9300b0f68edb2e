"""What can go wrong, said to the person who meets it: what was given, what is possible, the number that would work.

Every error that the package raises on purpose derives from `InfinipotError`, so that one `except` is enough.
"""


class InfinipotError(Exception):
    """Base of all errors that infinipot raises on purpose."""


class SettingError(InfinipotError, ValueError):
    """A setting that is wrong in itself, such as a share above 1, or that this model, policy or machine cannot take."""


class VideoError(InfinipotError):
    """A video source that is missing, empty, broken or holds no pictures."""


class CameraError(VideoError):
    """An address at which no video lies: a camera sends pictures there, one after the other. `open_camera` opens it."""


class AudioError(InfinipotError):
    """An audio source that is missing, empty, broken or holds no sound."""


class FrameError(InfinipotError, ValueError):
    """A frame, or a piece of sound, of the wrong shape, dtype, size or time."""


class ModelError(InfinipotError):
    """A checkpoint that cannot be loaded, or of a family that is not supported."""


class PolicyError(InfinipotError, ValueError):
    """An unknown policy or option, or a policy that breaks its contract."""


class CapError(InfinipotError):
    """Something that does not fit the memory cap; the message names the number that would work.

    Attributes:
        reserve: the tokens that a question and its answer need, where those set aside for them are too few.
    """

    def __init__(self, message: str, reserve: int | None = None) -> None:
        super().__init__(message)
        self.reserve = reserve


class QuestionError(InfinipotError, ValueError):
    """A question that cannot be asked now, such as one before the first frame."""


class SnapshotError(InfinipotError):
    """A stream that cannot be saved, or a saved one that cannot be restored: by this model, or from this file."""


class NumericalError(InfinipotError):
    """A model whose numbers overflow: what it computes is infinite, or not a number at all."""


class BenchmarkError(InfinipotError):
    """A benchmark or protocol that is not known, or data that do not lie as the benchmark lays them out."""


class ResultsError(InfinipotError):
    """A file of results that cannot be written, read, resumed or compared with others."""


class JudgeError(InfinipotError):
    """A judge that cannot be reached, or does not answer as one."""
