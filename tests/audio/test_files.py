"""Sound from files and arrays: one channel, one rate, one clock; trouble is one clear error."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinipot import AudioError, FrameError, SettingError, open_audio
from infinipot.audio import RATE
from support.video_files import encode as encode_video
from support.video_files import gray


def tone(seconds: float, rate: int, pitch: float = 440.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def encode(path: Path, sound: np.ndarray, rate: int, codec: str = "pcm_s16le", channels: int = 1, late=()) -> Path:
    """Writes a sound; `late` are pairs: from which second on, how many seconds later its time stamps are."""
    with av.open(str(path), "w") as container:
        layout = {1: "mono", 2: "stereo", 8: "7.1"}[channels]
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        for start in range(0, len(sound), 1024):
            part = np.repeat(sound[start : start + 1024], channels)[None]
            block = av.AudioFrame.from_ndarray(part, format="flt", layout=layout)
            delay = sum(seconds for since, seconds in late if start >= since * rate)
            block.sample_rate, block.time_base = rate, Fraction(1, rate)
            block.pts = start + round(delay * rate)
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path


def joined(pieces) -> tuple[np.ndarray, list[float]]:
    """All samples, and the time of each piece."""
    pieces = list(pieces)
    return np.concatenate([piece.samples for piece in pieces]), [piece.time for piece in pieces]


@pytest.mark.parametrize(
    ("name", "codec", "rate", "channels"),
    [
        ("a.wav", "pcm_s16le", 16_000, 1),
        ("b.wav", "pcm_s16le", 44_100, 2),
        ("c.flac", "flac", 8000, 1),
        ("d.wav", "pcm_s16le", 48_000, 8),
    ],
)
def test_files_of_any_rate_become_one_channel_of_one_rate(tmp_path, name, codec, rate, channels):
    path = encode(tmp_path / name, tone(2.25, rate), rate, codec, channels)
    with open_audio(path) as audio:
        assert audio.duration == pytest.approx(2.25, abs=0.01)
        samples, times = joined(audio)
        assert not audio.incomplete
    assert times == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert len(samples) == pytest.approx(2.25 * RATE, abs=20)
    middle = slice(2000, 30_000)
    np.testing.assert_allclose(samples[middle], tone(2.25, RATE)[middle], atol=2e-3)


def test_the_sound_of_a_video_file_and_files_without_any(tmp_path):
    path = encode(tmp_path / "a.m4a", tone(3, 44_100), 44_100, "aac", 2)
    samples, _ = joined(open_audio(path))
    assert len(samples) == pytest.approx(3 * RATE, abs=2048)
    spectrum = np.abs(np.fft.rfft(samples[8000 : 8000 + RATE]))
    assert spectrum.argmax() == 440
    silent = encode_video(tmp_path / "silent.mp4", [gray(index) for index in range(5)])
    with pytest.raises(AudioError, match="holds no audio, only video"):
        open_audio(silent)


def test_where_nothing_was_recorded_times_go_on_and_samples_do_not(tmp_path):
    path = encode(tmp_path / "a.mkv", tone(2, RATE), RATE, late=[(1.0, 60.0)])
    pieces = list(open_audio(path))
    pause = next(number for number, piece in enumerate(pieces) if piece.time > 30)
    assert sum(len(piece.samples) for piece in pieces) == 2 * RATE
    assert pieces[pause].time == pytest.approx(pieces[pause - 1].end + 60, abs=2e-3)
    for before, after in zip(pieces[pause:], pieces[pause + 1 :], strict=False):
        assert after.time == pytest.approx(before.end)


@pytest.mark.parametrize("later", [10_000.0, 0.0])
def test_a_clock_that_jumps_for_good_makes_no_pause_and_those_behind_it_are_heard(tmp_path, caplog, later):
    """Broadcasts that are cut together: the clock of the second leaps far ahead, or begins anew."""
    one = encode(tmp_path / "one.ts", tone(2, RATE), RATE, "mp2")
    other = encode(tmp_path / "other.ts", tone(4, RATE), RATE, "mp2", late=[(0.0, later), (2.0, 3.0)])
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    pieces = list(open_audio(both))
    assert sum(len(piece.samples) for piece in pieces) == pytest.approx(6 * RATE, abs=0.2 * RATE)
    pauses = [(before.end, after.time - before.end) for before, after in pairwise(pieces) if after.time > before.end]
    ((since, long),) = pauses
    assert (since, long) == (pytest.approx(4, abs=0.2), pytest.approx(3, abs=0.1))
    assert "the clock goes on from where it was" in caplog.text


def test_time_stamps_that_are_a_little_off_make_no_pause(tmp_path):
    """Matroska rounds them to milliseconds, and 1024 samples at 44,100 a second are no whole number of those."""
    path = encode(tmp_path / "a.mkv", tone(3, 44_100), 44_100)
    assert joined(open_audio(path))[1] == [0.0, 0.5, 1.0, 1.5, 2.0, 2.5]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 20_000), min_size=1, max_size=8), st.floats(0, 2), st.floats(0.01, 3))
def test_pieces_of_any_length_are_cut_anew_and_none_is_lost(lengths, start, length):
    sound = np.random.default_rng(0).uniform(-1, 1, sum(lengths)).astype(np.float32)
    parts = np.split(sound, np.cumsum(lengths)[:-1])
    kept = sound[round(start * RATE) : round((start + length) * RATE)]
    audio = open_audio(iter(parts), start=start, end=start + length)
    if not len(kept):
        with pytest.raises(AudioError, match="no sound"):
            list(audio)
        return
    pieces = list(audio)
    samples, times = joined(pieces)
    assert np.array_equal(samples, kept)
    assert times == pytest.approx([round(start * RATE) / RATE + 0.5 * number for number in range(len(times))])
    assert all(len(piece.samples) == RATE // 2 for piece in pieces[:-1])


def test_arrays_of_another_rate_are_resampled_without_seams():
    for like in (tone(3, 44_100), torch.from_numpy(tone(3, 44_100)), iter(np.split(tone(3, 44_100), 9))):
        samples, _ = joined(open_audio(like, rate=44_100))
        np.testing.assert_allclose(samples[1000:47_000], tone(3, RATE)[1000:47_000], atol=1e-3)


def test_an_endless_source_is_read_as_it_is_asked_for():
    read = 0

    def microphone() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += 1
            yield np.zeros(4000, np.float32)

    audio = open_audio(microphone())
    assert [next(audio).time for _ in range(3)] == [0.0, 0.5, 1.0]
    assert read <= 7
    audio.close()
    with pytest.raises(AudioError, match="closed"):
        next(audio)


@pytest.mark.parametrize(
    ("source", "options", "error", "why"),
    [
        ("missing.wav", {}, AudioError, "no such file"),
        (".", {}, AudioError, "give an audio file"),
        ("", {}, AudioError, "empty; give an audio file"),
        (3, {}, AudioError, "is not a sound"),
        (np.zeros((100, 2), np.float32), {}, AudioError, "one channel"),
        (np.zeros(0, np.float32), {}, AudioError, "holds no sound"),
        ([np.zeros(10, np.int64)], {}, FrameError, "int16"),
        (["a.wav"], {}, FrameError, "not a str"),
        (np.zeros(10, np.float32), {"start": -1}, SettingError, "start"),
        (np.zeros(10, np.float32), {"start": "a"}, SettingError, "start"),
        (np.zeros(10, np.float32), {"start": 2, "end": 1}, SettingError, "not after"),
        (np.zeros(10, np.float32), {"start": 10**400}, SettingError, "start"),
        (np.zeros(10, np.float32), {"end": float("-inf")}, SettingError, "end"),
        (np.zeros(10, np.float32), {"rate": 0}, SettingError, "rate"),
        (np.zeros(10, np.float32), {"rate": True}, SettingError, "rate"),
        (np.zeros(10, np.float32), {"rate": 44.1}, SettingError, "rate"),
    ],
    ids=str,
)
def test_what_cannot_be_heard_says_why(tmp_path, monkeypatch, source, options, error, why):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=why):
        list(open_audio(source, **options))


@pytest.mark.parametrize(("name", "codec"), [("a.mka", "flac"), ("a.aiff", "pcm_s16be")])
def test_a_sound_that_ends_before_the_length_that_it_declares_is_told(tmp_path, caplog, name, codec):
    path = encode(tmp_path / name, tone(10, RATE), RATE, codec)
    whole = open_audio(path)
    assert len(list(whole)) >= 20
    assert not whole.incomplete
    assert not caplog.records
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    cut = open_audio(path)
    assert 8 <= len(list(cut)) <= 12
    assert cut.incomplete
    assert "of the 10.0 s that it declares" in caplog.text


def test_a_file_that_is_cut_short_or_damaged_gives_what_there_is(tmp_path):
    whole = encode(tmp_path / "a.flac", tone(20, RATE) * np.float32(0.9), RATE, "flac").read_bytes()
    cut = tmp_path / "cut.flac"
    cut.write_bytes(whole[: len(whole) // 2])
    samples, _ = joined(open_audio(cut))
    assert 5 * RATE < len(samples) < 15 * RATE
    (tmp_path / "text.wav").write_text("no sound at all\n" * 20)
    with pytest.raises(AudioError, match=r"text\.wav"):
        open_audio(tmp_path / "text.wav")
    with pytest.raises(SettingError, match="rate is for arrays"):
        open_audio(cut, rate=8000)
