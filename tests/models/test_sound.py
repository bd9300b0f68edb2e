"""A stream that listens: spectra, chunks, pauses, bad sound. What all families hold: test_families.py."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infinipot import (
    CapError,
    Frame,
    FrameError,
    InfinipotError,
    Model,
    ModelError,
    QuestionError,
    SettingError,
    Sound,
    Stream,
)
from infinipot.audio import RATE
from infinipot.models.patch import Patch
from infinipot.models.sound import Spectrum
from support.memories import held, same, slots
from support.models import build, noises, pictures

QUESTION = "What colour was the circle?"
CHUNK = 2 * RATE


@pytest.fixture(scope="module")
def hearing() -> Model:
    return build("qwen2_5_omni", "audio")


@pytest.fixture(scope="module")
def both() -> Model:
    """As it is loaded: for video, unless one asks for sound."""
    return build("qwen2_5_omni")


def noise(seconds: float, seed: int = 0, loudness: float = 0.1) -> np.ndarray:
    samples = np.random.default_rng(seed).normal(0, loudness, round(seconds * RATE))
    return samples.astype(np.float32)


def heard(hearing: Model, sound: np.ndarray, pieces: list[int]) -> list[Patch]:
    """The chunks that a stream makes of a clip cut into pieces of so many samples, in turn; the last is not full."""
    made: list[Any] = []
    gatherer, start, turn = hearing.adapter.gatherer(), 0, 0
    waiting = gatherer.empty
    while start < len(sound):
        piece = sound[start : start + pieces[turn % len(pieces)]]
        full, waiting = gatherer.split(gatherer.after(waiting, Sound(piece, start / RATE)))
        start, turn = start + len(piece), turn + 1
        made += [full] if full else []
    made += [last] if (last := gatherer.whole(waiting)) else []
    return made


def whole(hearing: Model, sound: np.ndarray) -> torch.Tensor:
    """The spectrum that transformers' own extractor makes of the whole clip, `[mel, windows]`."""
    made = hearing.adapter.processor.feature_extractor(
        sound, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt"
    )
    return made["input_features"][0][:, made["attention_mask"][0].bool()]


# Spectra


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.integers(500, 3 * CHUNK + 500),
    st.lists(st.integers(1, CHUNK), min_size=1, max_size=4).filter(lambda pieces: sum(pieces) > 2000),
    st.sampled_from([1.0, 1e-3, 1e-5]),
)
def test_chunks_have_the_spectrum_of_the_whole_clip(hearing, samples, pieces, later):
    """However it is cut up, also where what is quiet is lifted: to as far below the loudest that was heard."""
    sound = noise(samples / RATE)
    sound[CHUNK // 2 :] *= later
    patches, expected = heard(hearing, sound, pieces), whole(hearing, sound)
    windows = sum(patch.pixels.shape[1] for patch in patches)
    assert expected.shape[1] - windows < 3, "what is left over is no token"
    made = torch.cat([patch.pixels for patch in patches], 1)
    torch.testing.assert_close(made, expected[:, :windows], atol=1e-4, rtol=0)
    assert sum(patch.steps for patch in patches) == (expected.shape[1] + 1) // 4


def test_what_comes_before_the_loudest_sound_is_lifted_by_what_was_heard_alone(hearing):
    """The clip's own spectrum knows how loud it will become; from there on the two are the same."""
    sound = np.concatenate([noise(2, loudness=2e-5), noise(4, loudness=0.5)])
    patches, expected = heard(hearing, sound, [8000]), whole(hearing, sound)
    assert not torch.allclose(patches[0].pixels, expected[:, :200], atol=1e-2)
    assert patches[0].pixels.std() > expected[:, :200].std()
    torch.testing.assert_close(patches[1].pixels, expected[:, 200:400], atol=1e-4, rtol=0)


def test_how_loud_it_was_is_forgotten_once_no_clip_would_be_so_long(hearing):
    """The tests' extractor takes clips of 30 s, i.e. 15 chunks. The second chunk still hears the end of the first."""
    sound = np.concatenate([noise(2, loudness=0.5), *[noise(2, loudness=2e-5)] * 17])
    patches = heard(hearing, sound, [CHUNK])
    lifted = [patch.pixels[:, 2:].std().item() < 1e-3 for patch in patches[1:]]  # the first windows reach back
    assert lifted == [True] * 15 + [False] * 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_default_dtype_of_a_process_changes_no_spectrum(hearing, dtype):
    sound, before = noise(2), torch.get_default_dtype()
    expected = Spectrum.of(hearing.adapter.processor.feature_extractor, 200).log_mel(sound[:0], sound)
    torch.set_default_dtype(dtype)
    try:
        made = Spectrum.of(hearing.adapter.processor.feature_extractor, 200).log_mel(sound[:0], sound)
    finally:
        torch.set_default_dtype(before)
    assert torch.equal(made, expected)


# Listening


def test_answers_depend_on_what_is_heard_and_when_it_is_asked(hearing):
    logits = []
    for seed, seconds in ((1, 5), (2, 5), (1, 3)):
        with hearing.stream(memory=512) as stream, pytest.MonkeyPatch.context() as patch:
            for piece in noises(2 * seconds, seed, 0.5):
                stream.listen(piece)
            forward = hearing.adapter.forward
            patch.setattr(hearing.adapter, "forward", lambda *args: logits.append(forward(*args)) or logits[-1])  # noqa: B023
            stream.ask(QUESTION, max_new_tokens=1)
    assert (logits[0] - logits[1]).abs().max() > 1e-2
    assert (logits[0] - logits[2]).abs().max() > 1e-2


def origins(stream: Stream) -> tuple[list[int], list[float]]:
    """Patches and times of the tokens that the first layer holds of the sound."""
    own, text = slots(stream._state.memory), stream._state.memory.state.text
    return own.patch[0, text:].tolist(), own.time[0, text:].tolist()


def test_every_token_is_a_patch_of_its_own_and_has_its_time(hearing):
    with hearing.stream(memory=1024, policy="full", positions="native", block=1) as stream:
        for piece in noises(13, seconds=0.5):
            stream.listen(piece)
        patches, times = origins(stream)
    assert patches == list(range(150)), "three chunks; the fourth is not full"
    assert times == pytest.approx([0.04 * token for token in range(150)])


def test_a_pause_ends_a_chunk_and_is_not_held_as_silence(hearing):
    with hearing.stream(memory=1024, policy="full", positions="native", block=1) as stream:
        for start in (0.0, 0.5, 3600.0, 3600.5, 3601.0, 3601.5, 3602.0):
            stream.listen(Sound(noise(0.5), start))
        patches, times = origins(stream)
        assert patches == list(range(25 + 50))
        assert times == pytest.approx([0.04 * token + (3599 if token > 24 else 0) for token in range(75)])
        assert stream.stats().time == 3602.5
        assert isinstance(stream.ask(QUESTION, max_new_tokens=2), str)


def test_clocks_that_run_apart_make_no_pause(hearing):
    """Pieces that come 4 ms late each, and 4 ms early each: chunks are full all the same."""
    for drift in (0.004, -0.004):
        with hearing.stream(memory=1024, policy="full", positions="native", block=1) as stream:
            for number, piece in enumerate(noises(19, seconds=0.3)):
                stream.listen(Sound(piece, number * (0.3 + drift)))
            assert len(origins(stream)[0]) == 100, "two chunks; a pause would have made three"


@pytest.mark.parametrize(("samples", "period"), [(320, 0.0), (240, 0.01)], ids=["times that stand", "24,000 a second"])
def test_sound_that_is_longer_than_its_times_is_refused(hearing, samples, period):
    """In pieces so short that each alone could be early: tokens would be given times that lie before older ones."""
    with hearing.stream(memory=512) as stream:
        with pytest.raises(FrameError, match="16000 samples a second"):
            for number in range(50):
                stream.listen(Sound(noise(samples / RATE), 1 + number * period))
        time, pieces = stream.stats().time, stream.stats().frames
        stream.listen(Sound(noise(0.3), time))
        assert stream.stats().frames == pieces + 1
        assert stream._state.pending.starts(stream._setup)[0] >= 1 - 0.04


def test_what_is_too_short_for_a_token_cannot_be_asked_about_and_is_not_lost(hearing):
    with hearing.stream(memory=512) as stream, hearing.stream(memory=512) as other:
        sound = noise(1)
        stream.listen(sound[:300])
        with pytest.raises(QuestionError, match="listen"):
            stream.ask(QUESTION)
        stream.listen(sound[300:])
        other.listen(sound)
        assert stream.ask(QUESTION, max_new_tokens=6) == other.ask(QUESTION, max_new_tokens=6)


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (np.zeros(CHUNK + 1, np.float32), "at most 2 s"),
        (np.zeros(0, np.float32), "no samples"),
        (np.zeros((100, 2), np.float32), "one channel"),
        (np.full(100, np.nan, np.float32), "lie in"),
        (np.full(100, 9000.0, np.float32), "lie in"),
        (np.zeros(100, np.int64), "int16"),
        ("a sound", "not a str"),
        (torch.zeros(100, device="meta"), "sound cannot be read from this tensor"),
        (Sound(np.zeros(100, np.float32), 0.1), "in order of time"),
        (Sound(np.zeros(100, np.float32), float("inf")), "from 0 to 1e.15"),
    ],
)
def test_bad_sound_is_refused_and_changes_nothing(hearing, bad, why):
    with hearing.stream(memory=512) as fresh, hearing.stream(memory=512) as stream:
        for piece in noises(3):
            stream.listen(piece)
        before, pieces = held(stream), stream.stats().frames
        with pytest.raises(FrameError, match=why):
            stream.listen(bad)
        assert same(before, held(stream))
        assert stream.stats().frames == pieces
        if why != "in order of time":
            with pytest.raises(FrameError, match=why):
                fresh.listen(bad)
            assert fresh._state.pending.grid.cells == fresh.stats().frames == 0


def test_samples_are_int16_or_floating_point_of_numpy_or_torch(hearing):
    sound = np.round(noise(1) * 32768).astype(np.int16)
    single = sound.astype(np.float32) / 32768
    answers = []
    swapped = sound.astype(">i2")
    for like in (sound, swapped, single, single.astype(np.float64), torch.from_numpy(sound), torch.from_numpy(single)):
        with hearing.stream(memory=512) as stream:
            stream.listen(like)
            answers.append(stream._setup.gatherer.whole(stream._state.pending.partial).pixels)
    assert all(torch.allclose(answer, answers[0]) for answer in answers)


def test_a_stream_owns_its_samples(hearing):
    sound = noise(1)
    with hearing.stream(memory=512) as stream:
        stream.listen(sound)
        before = stream._setup.gatherer.whole(stream._state.pending.partial).pixels
        sound[:] = 0
        assert torch.equal(stream._setup.gatherer.whole(stream._state.pending.partial).pixels, before)


def test_a_memory_that_is_too_small_for_a_chunk_names_the_smallest_that_works(hearing):
    with pytest.raises(CapError, match="chunks of sound of 50 tokens") as caught:
        hearing.stream(memory=160)
    smallest = int(str(caught.value).split()[-1])
    with pytest.raises(CapError):
        hearing.stream(memory=smallest - 1)
    with hearing.stream(memory=smallest) as stream:
        for piece in noises(40):
            stream.listen(piece)
            stream.ask(QUESTION, max_new_tokens=2)
        assert stream.stats().compressions > 3
        assert stream.stats().peak_tokens <= smallest


# Modalities


def test_one_model_watches_and_listens_in_streams_of_their_own(both, hearing):
    def answers(*modalities: str) -> list[str]:
        streams = {modality: both.stream(memory=512, modality=modality) for modality in modalities}
        for image, sound in zip(pictures(12), noises(12), strict=True):
            for modality, stream in streams.items():
                if modality == "audio":
                    stream.listen(sound)
                else:
                    stream.watch(image)
        return [stream.ask(QUESTION, max_new_tokens=6) for stream in streams.values()]

    assert answers("audio", "video") == [*answers("audio"), *answers("video")]
    with hearing.stream(memory=512) as stream:
        for sound in noises(12):
            stream.listen(sound)
        assert [stream.ask(QUESTION, max_new_tokens=6)] == answers("audio")


def test_what_a_stream_is_not_of_is_refused(both, qwen):
    with both.stream(memory=512) as watching, both.stream(memory=512, modality="audio") as listening:
        with pytest.raises(InfinipotError, match="modality='audio'"):
            watching.listen(noise(1))
        with pytest.raises(InfinipotError, match="modality='video'"):
            listening.watch(pictures(1)[0])
        frame, sound = Frame(pictures(1)[0], 0.0), Sound(noise(1), 0.0)
        for stream, own, other in ((watching, frame, sound), (listening, sound, frame)):
            stream.feed(own)
            with pytest.raises(InfinipotError, match="the stream takes"):
                stream.feed(other)
            assert stream.stats().frames == 1
        assert (watching.stats().modality, listening.stats().modality) == ("video", "audio")
    with pytest.raises(ModelError, match=r"Qwen2\.5-VL takes 'video'"):
        qwen.stream(modality="audio")
    with pytest.raises(ModelError, match="takes 'audio' or 'video'"):
        both.stream(modality="smell")
    for opened in (both.stream, both.stream_bytes):
        with pytest.raises(SettingError, match="pixels"):
            opened(modality="audio", pixels=(1024, 4096))


def test_a_checkpoint_that_hears_another_rate_is_refused(hearing, monkeypatch):
    monkeypatch.setattr(hearing.adapter.processor.feature_extractor, "sampling_rate", 8000)
    monkeypatch.delitem(vars(hearing.adapter), "spectrum", raising=False)
    with pytest.raises(ModelError, match="8000"):
        hearing.stream()
