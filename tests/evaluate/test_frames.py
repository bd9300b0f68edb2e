"""Which frames a run watches: so many a second, so many at even distances, of a video or a part of it."""

from typing import Any

import numpy as np
import pytest

from infinipot import SettingError, VideoError
from infinipot.evaluate import FrameSampling
from support.video_files import encode, gray, indices, times

RATE, PICTURES = 10, 30  # a second is 10 pictures, and the last one comes at 2.9 s


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(encode(tmp_path_factory.mktemp("videos") / "video.mp4", [gray(n) for n in range(PICTURES)], rate=RATE))


def taken(path: str, part: dict[str, Any], **settings: Any) -> list[int]:
    """The pictures taken, by their index, which their times have to agree with."""
    frames = list(FrameSampling.of(**settings).open(path, **part))
    assert times(frames) == sorted(set(times(frames)))
    return indices(frames)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"fps": 2}, [0, 5, 10, 15, 20, 25]),
        ({"fps": 1}, [0, 10, 20]),
        ({"fps": 2.5}, [0, 4, 8, 12, 16, 20, 24, 28]),
        ({"frames": 1}, [0]),
        ({"frames": 2}, [0, 29]),
        ({"frames": 4}, [0, 10, 19, 29]),
        ({"frames": 30}, list(range(30))),
        ({"frames": 768}, list(range(30))),
        ({"fps": 1, "frames": 3}, [0, 10, 20]),
        ({"fps": 1, "frames": 768}, [0, 10, 20]),
        ({"fps": 5, "frames": 3}, [0, 15, 29]),
    ],
)
def test_frames_of_a_whole_video(path: str, settings: dict[str, Any], expected: list[int]) -> None:
    assert taken(path, {}, **settings) == expected


@pytest.mark.parametrize("frames", range(2, PICTURES + 1))
def test_any_number_of_frames_goes_evenly_from_the_first_picture_to_the_last(path: str, frames: int) -> None:
    found = taken(path, {}, frames=frames)
    assert len(found) == frames
    for index, even in zip(found, np.linspace(0, PICTURES - 1, frames), strict=True):
        assert abs(index - even) <= 0.5 + 1e-6


@pytest.mark.parametrize(
    ("part", "settings", "expected"),
    [
        ({"start": 1.0}, {"fps": 1}, [10, 20]),
        ({"start": 1.0}, {"frames": 2}, [10, 29]),
        ({"start": 1.0, "end": 2.0}, {"frames": 2}, [10, 19]),
        ({"start": 1.0, "end": 2.0}, {"frames": 99}, list(range(10, 20))),
        ({"end": 99.0}, {"frames": 3}, [0, 15, 29]),
    ],
)
def test_frames_of_a_part(path: str, part: dict[str, Any], settings: dict[str, Any], expected: list[int]) -> None:
    assert taken(path, part, **settings) == expected


@pytest.mark.parametrize("settings", [{"frames": 3}, {"fps": 2.0}])
def test_a_part_behind_the_end_is_an_error(path: str, settings: dict[str, Any]) -> None:
    with pytest.raises(VideoError, match="holds no pictures from 5 s on"):
        taken(path, {"start": 5.0}, **settings)


def test_a_video_of_unknown_length_needs_a_rate(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infinipot.video.file.FileSource._declared_duration", lambda self: None)
    assert taken(path, {}, fps=1) == [0, 10, 20]
    for given, instead in (({}, "give fps$"), ({"fps": 2.0}, "give fps alone, without a number of frames$")):
        with pytest.raises(VideoError, match=r"does not say how long it is, so 3 frames .*: " + instead):
            taken(path, {}, frames=3, **given)


@pytest.mark.parametrize(
    "settings",
    [{"fps": 0}, {"fps": -1}, {"fps": float("nan")}, {"fps": "2"}, {"frames": 0}, {"frames": 1.5}],
)
def test_settings_that_cannot_be_are_errors(settings: dict[str, Any]) -> None:
    with pytest.raises(SettingError, match="give a"):
        FrameSampling.of(**settings)
