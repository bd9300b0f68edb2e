"""What a file does is told: frames come out or a `VideoError`, an `AudioError`, and never another exception."""

import logging
import random
from typing import Any

import av
import numpy as np
import pytest

from infinipot.audio import open_audio
from infinipot.errors import AudioError, VideoError
from infinipot.video import open_video
from support.video_files import FILES, encode, gray, indices, times, with_sound


def noise(count, seed=0):
    """Pictures that fill their packets, so that damage meets them."""
    return list(np.random.default_rng(seed).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8))


def moving(count):
    """Pictures of which each needs the one before."""
    wide = np.random.default_rng(0).integers(0, 256, (48, 64 + count, 3), dtype=np.uint8)
    return [np.ascontiguousarray(wide[:, index : index + 64]) for index in range(count)]


def overwrite(path, place, count, value=0xFF):
    data = bytearray(path.read_bytes())
    data[place : place + count] = bytes([value]) * count
    path.write_bytes(data)


# --- damage that the decoder conceals


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264"])
def test_lost_packets_of_a_transport_stream_are_told(tmp_path, caplog, codec):
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg without {codec}")
    path = encode(tmp_path / "a.ts", moving(60), codec, 25)
    data = path.read_bytes()
    middle = len(data) // 2 // 188 * 188
    path.write_bytes(data[:middle] + data[middle + 2 * 188 :])
    video = open_video(path, fps=None)
    frames = list(video)
    assert 40 <= len(frames) <= 60
    assert video.incomplete
    assert "damaged" in caplog.text


@pytest.mark.parametrize("codec", ["mpeg4", "mpeg2video", "libx264"])
def test_each_lost_packet_of_a_transport_stream_is_told(tmp_path, codec):
    """Some decoders say nothing: that the stream's counter misses a number is all there is to see."""
    if codec not in av.codecs_available:
        pytest.skip(f"FFmpeg without {codec}")
    path = encode(tmp_path / "a.ts", moving(60), codec, 25)
    data = path.read_bytes()
    packets = [data[place : place + 188] for place in range(0, len(data), 188)]
    of_video = [number for number, packet in enumerate(packets) if packet[1] & 0x1F == 1 and packet[2] == 0]
    for number in of_video[20:-20:31]:
        path.write_bytes(b"".join(packets[:number] + packets[number + 1 :]))
        video = open_video(path)
        assert len(list(video)) >= 4
        assert video.incomplete


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the project says; an older torchvision lets FFmpeg speak, too."""
    return [record.getMessage() for record in caplog.records if record.name.partition(".")[0] == "infinipot"]


@pytest.mark.parametrize("ending", ["avi", "mkv", "mp4"])
def test_pictures_that_are_patched_up_are_told(tmp_path, caplog, ending):
    """The decoder says of pictures whose blocks it made up that they are corrupt, and gives them."""
    path = encode(tmp_path / f"a.{ending}", moving(60), ps="400")  # slices, so that a part of a picture is lost
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][30]
    assert packet.pos is not None
    overwrite(path, packet.pos + packet.size // 2, 60)
    video = open_video(path, fps=None)
    assert len(list(video)) >= 55
    assert video.incomplete
    assert " ".join(told(caplog)).count("damaged") == 1


def test_damage_before_the_start_does_not_count(tmp_path, caplog):
    path = encode(tmp_path / "a.avi", moving(60), g="10", ps="400")
    with av.open(str(path)) as container:
        packet = [packet for packet in container.demux(video=0) if packet.size][5]
    assert packet.pos is not None
    overwrite(path, packet.pos + packet.size // 2, 60)
    for start in (0.9, 3):  # behind the damage in one group of pictures, and in another
        video = open_video(path, fps=None, start=start)
        assert len(list(video)) == 60 - 10 * start
        assert not video.incomplete
        assert not told(caplog)
    video = open_video(path, fps=None, start=0.3)
    assert len(list(video)) == 57
    assert video.incomplete


# --- what only looks like damage


def test_empty_packets_show_the_last_picture_again(caplog):
    """Theora writes them where nothing changes: of these 40 pictures in 4 s only each twelfth has any data."""
    with av.open(str(FILES / "still.ogv")) as container:
        if sum(packet.size == 0 for packet in container.demux(video=0)) < 30:
            pytest.skip("this FFmpeg keeps them to itself")
    video = open_video(FILES / "still.ogv", fps=None)
    assert times(video) == [number / 10 for number in range(40)]
    assert not video.incomplete
    assert times(open_video(FILES / "still.ogv", start=1.3)) == [1.3, 1.8, 2.3, 2.8, 3.3, 3.8]
    assert not caplog.records


# --- whatever a file does


def small_files(folder):
    """One small file of each of several kinds, with pictures, or sound, or both."""
    pictures = [gray(index) for index in range(12)]
    for name, codec in {
        "a.mp4": "mpeg4",
        "a.mkv": "mpeg4",
        "a.avi": "mpeg4",
        "a.ts": "mpeg2video",
        "a.mpg": "mpeg1video",
        "a.webm": "libvpx",
        "a.flv": "flv",
        "a.h264": "libx264",
        "a.mov": "mjpeg",
        "a.gif": "gif",
    }.items():
        if codec in av.codecs_available:
            options = {"rate": 25} if codec.startswith("mpeg1") else {}
            pixel_format = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
            yield encode(folder / name, pictures, codec, pixel_format=pixel_format, **options)
    if "aac" in av.codecs_available:
        yield with_sound(folder / "sound.mp4", pictures, "mpeg4", "aac", 1)
    yield with_sound(folder / "sound.mkv", pictures, "mpeg4", "flac", 1)
    yield from (FILES / name for name in ("still.ogv", "grid.avif", "subs.mkv", "m1.m1v"))


def damaged(data, chance):
    """A copy with some bytes overwritten, cut out or doubled, or the end cut away."""
    data = bytearray(data)
    for _ in range(chance.choice((1, 3, 10, 40))):
        place = chance.randrange(min(len(data), chance.choice((64, len(data), len(data)))))
        match chance.randrange(5):
            case 0 | 1:
                data[place] = chance.randrange(256)
            case 2:
                length = chance.randrange(1, 16)
                data[place : place + length] = chance.choice((b"\xff", b"\0")) * length
            case 3:
                data[place : place + chance.randrange(1, 32)] = b""
            case 4:
                data[place:place] = data[place : place + chance.randrange(1, 32)]
        if len(data) < 2:
            break
    return bytes(data[: chance.randrange(1, len(data))] if chance.random() < 0.1 and len(data) > 1 else data)


def read(path, chance):
    """Reads a file in one of the ways there are; how many frames or pieces came, and None for an error of ours."""
    if path.suffix != ".gif" and chance.random() < 0.25:
        opened: Any = open_audio
        options: dict[str, Any] = {}
    else:
        opened = open_video
        options = chance.choice(({}, {"fps": None}, {"frames": 4}, {"start": 0.5}, {"fps": None, "frames": 3}))
    try:
        with opened(path, **options) as source:
            assert source.duration is None or source.duration >= 0
            count = 0
            for _ in zip(range(3000), source, strict=False):
                count += 1
            return count
    except (VideoError, AudioError) as error:
        text = str(error)
        assert text
        assert "\n" not in text
        return None


def fuzz(folder, rounds, seed):
    """Reads damaged copies of small files; how many of them gave something."""
    chance = random.Random(seed)
    files = [(path, path.read_bytes()) for path in small_files(folder)]
    given = 0
    for _ in range(rounds):
        path, data = chance.choice(files)
        copy = folder / f"damaged{path.suffix}"
        copy.write_bytes(damaged(data, chance))
        given += bool(read(copy, chance))
    return given


def test_damaged_files_give_frames_or_an_error_of_ours(tmp_path, caplog):
    caplog.set_level(logging.CRITICAL)
    assert fuzz(tmp_path, 300, seed=0) > 60


def test_a_picture_too_large_for_the_memory_is_an_error_of_ours(tmp_path):
    """A PNG file says of itself that it has 65,535 x 65,535 pixels."""
    path = encode(tmp_path / "a.png", [gray(1)], "png", pixel_format="rgb24", options={"update": "1"})
    data = bytearray(path.read_bytes())
    place = data.index(b"IHDR") + 4
    data[place : place + 8] = b"\0\0\xff\xff" * 2
    path.write_bytes(data)
    with pytest.raises(VideoError, match=r"a\.png"):
        list(open_video(path))


def test_faults_of_pyav_itself_are_errors_of_ours(tmp_path, monkeypatch):
    path = encode(tmp_path / "a.mkv", [gray(index) for index in range(10)])

    def fault(*arguments, **options):
        raise ValueError("31 is not\na valid Type")

    video = open_video(path)
    monkeypatch.setattr("infinipot.video.file.orientation_of", fault)
    with pytest.raises(VideoError, match=r"a\.mkv cannot be read \(ValueError: 31 is not a valid Type\)"):
        next(video)
    monkeypatch.undo()
    monkeypatch.setattr("av.open", fault)
    with pytest.raises(VideoError, match=r"a\.mkv cannot be opened \(ValueError: 31 is not a valid Type\)"):
        open_video(path)


def test_side_data_that_pyav_does_not_know_are_passed_over(tmp_path, monkeypatch):
    """PyAV raises at such a kind in the middle of reading; the orientation before it counts."""
    from av.sidedata import sidedata

    path = encode(tmp_path / "a.mkv", [gray(index) for index in range(10)])
    with monkeypatch.context() as patched:
        patched.setattr(sidedata, "Type", lambda number: (_ for _ in ()).throw(ValueError(f"{number}")))
        assert indices(open_video(path, fps=None)) == list(range(10))
