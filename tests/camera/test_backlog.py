"""What a camera has sent and is not decoded yet: how late its pictures are, and how a slow decoder catches up."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from infinipot.camera import decoding
from infinipot.camera.backlog import Backlog
from support.video_files import encode

RATE, PICTURES, KEYS = 25, 500, 50  # a second, in all, and from one key picture to the next


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty seconds of a camera."""
    noise = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
    pictures = [np.roll(noise, number, 1) for number in range(PICTURES)]
    return encode(tmp_path_factory.mktemp("sent") / "sent.mp4", pictures, rate=RATE, g=str(KEYS))


class Watched:
    """A camera that sends what a file holds, on a clock of its own, to a decoder that takes so long for each picture.

    Args:
        container: the file.
        pace: seconds in which the camera sends a second of its stamps.
        cost: seconds that decoding a picture takes.
    """

    format = SimpleNamespace(name="rtsp", flags=0)

    def __init__(self, container: Any, pace: float, cost: float) -> None:
        self._container, self._pace, self._cost = container, pace, cost
        self._video = container.streams.video[0]
        self.now = 1000.0
        self.decoded: list[float] = []  # when each picture was sent that was decoded
        self.told, self.real = list[float](), list[float]()

    def demux(self, stream: object) -> Iterator[Any]:
        for packet in self._container.demux(self._video):
            if packet.pts is not None:
                self.now = max(self.now + 0.0005, 1000.0 + float(packet.pts * packet.time_base) * self._pace)
                yield packet

    def decode(self, packet: Any) -> list[Any]:
        self.now += self._cost
        pictures = self._video.decode(packet)
        self.decoded += [1000.0 + picture.time * self._pace for picture in pictures]
        return pictures

    def picture(self, image: np.ndarray, late: float) -> None:
        self.told.append(late)
        self.real.append(self.now - self._cost - self.decoded[len(self.told) - 1])


@pytest.mark.parametrize(
    ("pace", "cost", "shown", "latest"),
    [
        (1.0, 0.02, PICTURES, 0.0),
        (1.0, 0.06, PICTURES * 0.7, 3.1),  # half a second more behind with each second
        (1.0, 0.4, PICTURES * 0.05, 3.5),
        (2.0, 0.02, PICTURES, 0.0),  # a camera that stamps by the picture, and sends half as many in the dark
        (0.99, 0.02, PICTURES, 0.0),
    ],
)
def test_pictures_are_told_to_be_late_by_what_they_wait_and_a_slow_decoder_catches_up(
    sent: Path, monkeypatch: pytest.MonkeyPatch, pace: float, cost: float, shown: float, latest: float
) -> None:
    settings = decoding.Settings("", None, {}, [10, 20], fps=None, pixels=10_000, paced=False, loop=False)
    with av.open(str(sent)) as container:
        camera: Any = Watched(container, pace, cost)
        monkeypatch.setattr(decoding, "time", SimpleNamespace(monotonic=lambda: camera.now))
        decoding._play(camera, camera, settings, camera, None)
    assert len(camera.told) >= shown - 2
    assert max(camera.real) <= latest + 0.1
    assert camera.told == pytest.approx(camera.real, abs=0.25)


def test_a_camera_whose_clock_is_set_is_neither_late_nor_early() -> None:
    backlog, late = Backlog(), list[float]()
    for number in range(400):
        set_to = (0.0, -3600.0, 86_400.0, 0.0)[number // 100]
        stall = 2.0 if number == 350 else 0.0  # of the decoder
        backlog.note(number / RATE + set_to, 1000.0 + number / RATE + stall, 0.001)
        assert not backlog.leaves_out(key=False)
        late.append(backlog.late)
    assert late.pop(350) == pytest.approx(2.0)
    assert max(late) < 0.1


def test_after_a_long_wait_pictures_go_on_with_a_key_picture() -> None:
    backlog = Backlog()
    backlog.note(0.0, 1000.0, 0.03)
    backlog.note(0.04, 1005.0, 5.0)
    assert [backlog.leaves_out(key=key) for key in (False, True, False)] == [True, True, True]
    backlog.note(4.9, 1005.0, 0.001)
    assert [backlog.leaves_out(key=key) for key in (False, True, False)] == [True, False, False]
