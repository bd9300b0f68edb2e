"""Which frames are watched, by lmms-eval's two settings. Knows nothing of lmms-eval itself."""

import math

from infinipot import VideoError
from infinipot.evaluate.records import FrameSampling
from infinipot.numbers import is_real, is_whole

_DEFAULT_FPS = 2.0


def frames_of(fps: float | None = None, max_num_frames: int | None = None) -> FrameSampling:
    """Which frames of a video are watched; with neither setting, 2 frames per second, however long it is.

    Args:
        fps: frames per second of video.
        max_num_frames: the most frames of a video. Where it has more (or where `fps` would give more, if that is set
            too), so many are spread evenly from its first picture to its last.

    Raises:
        VideoError: a rate or a number that cannot be.
    """
    if fps is not None and not (is_real(fps) and 0 < fps < math.inf):
        raise VideoError(f"fps={fps!r}: give a number of frames per second above 0")
    if max_num_frames is not None and not (is_whole(max_num_frames) and max_num_frames > 0):
        raise VideoError(f"max_num_frames={max_num_frames!r}: give a whole number of frames, 1 or more")
    if max_num_frames is None:
        return FrameSampling("fps", fps=_DEFAULT_FPS if fps is None else fps)
    return FrameSampling("uniform", max_num_frames, fps)
