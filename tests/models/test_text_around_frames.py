"""Families that say in words which frame comes: InternVL its number, SmolVLM its time. What only they have."""

import contextlib
import re
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers.video_utils import VideoMetadata

import infinipot
from infinipot import CapError, Frame, Model, ModelError, SettingError
from infinipot.memory.transaction import NOWHERE
from support.memories import held, same, slots
from support.models import build, pictures
from support.one_forward import QUESTION, about, close, first_logits, inputs_of, one_forward, rendered
from support.video_files import encode

SIZES = [(180, 320), (240, 136), (62, 210)]  # height, width: wide, upright, a strip


@pytest.fixture(scope="module")
def internvl() -> Model:
    return build("internvl")


@pytest.fixture(scope="module")
def smolvlm() -> Model:
    return build("smolvlm")


@pytest.fixture(scope="module", params=["internvl", "smolvlm"])
def captioned(request: pytest.FixtureRequest) -> Model:
    return build(request.param)


# Models of other shapes


@pytest.mark.parametrize("shape", [{"text_type": "qwen2"}, {"text_type": "qwen3"}, {"text_type": "llama"}], ids=str)
@pytest.mark.parametrize("rope", ["default", "dynamic", "linear"])
def test_internvl_with_any_of_its_decoders(shape, rope):
    model, clip = build("internvl", rope_type=rope, **shape), (0, pictures(3))
    close(first_logits(model, clip, block=2), one_forward(model, rendered(model, about(model, QUESTION)), [clip]))


@pytest.mark.parametrize(
    ("model_type", "shape", "edge"),
    [
        ("internvl", {"edge": 448, "patch": 14}, 16),
        ("smolvlm", {"edge": 512, "patch": 16, "shuffle": 4}, 8),
        ("smolvlm", {"edge": 384, "patch": 14, "shuffle": 3}, 9),  # 27 patches and 6 pixels that no patch has
    ],
)
def test_frames_of_the_size_of_published_checkpoints(model_type, shape, edge):
    model, clip = build(model_type, **shape), (0, pictures(2, size=(90, 160)))
    patch = model.adapter.patch_of(clip[1][:1])
    assert (patch.rows, patch.columns) == (edge, edge)
    close(first_logits(model, clip, block=1), one_forward(model, rendered(model, about(model, QUESTION)), [clip]))


# Frames


@pytest.mark.parametrize("size", SIZES)
def test_decoded_frames_of_any_shape_become_the_tensors_that_the_processor_makes(captioned, tmp_path, size):
    path = encode(tmp_path / "clip.mp4", pictures(12, size=size), rate=4)
    frames = list(infinipot.open_video(path, fps=2))
    assert len(frames) == 6
    assert frames[0].image.shape[:2] == size
    clip = torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2)
    text = rendered(captioned, about(captioned, QUESTION))
    metadata = VideoMetadata(total_num_frames=12, fps=2.0, frames_indices=list(range(6)))
    made = captioned.adapter.processor(
        text=[text], videos=[clip], video_metadata=[metadata], do_sample_frames=False, return_tensors="pt"
    )
    mine = torch.cat([patch.pixels for patch in captioned.adapter.prepare([(frame,) for frame in frames])])
    assert torch.equal(mine, made["pixel_values"].flatten(0, -4))


def test_a_budget_of_pixels_that_leaves_out_the_one_size_is_refused(captioned):
    with captioned.stream(memory=512, pixels=(1024, 4096)) as stream:
        stream.watch(pictures(1)[0])
    with pytest.raises(SettingError, match="makes every frame 4096 pixels large: leave pixels out"):
        captioned.stream(memory=512, pixels=(1024, 4095))


# Words


@pytest.mark.parametrize("first", [0, 59, 3599, 100 * 60 - 1])
def test_a_time_reads_as_the_processor_writes_it(smolvlm, first):
    processor, period = smolvlm.adapter.processor, 0.4
    numbers = list(range(int(first / period), int(first / period) + 6))
    metadata = VideoMetadata(total_num_frames=numbers[-1] + 1, fps=1 / period, frames_indices=numbers)
    made = {"pixel_values": torch.zeros(1, 6, 3, 64, 64), "video_metadata": [metadata]}
    written = processor.replace_video_token(made, 0)
    captions = [smolvlm.adapter.caption([time], 0, opens=False) for time in metadata.timestamps]
    assert written.endswith("".join(before + 16 * "<image>" + after for before, after in captions) + "\n\n")


def test_a_time_that_is_a_sum_of_periods_does_not_fall_a_second_behind(smolvlm):
    time = sum([0.1] * 10)
    assert time < 1.0
    assert smolvlm.adapter.caption([time], 10, opens=False)[0].startswith("\nFrame from 00:01:")


def test_numbers_read_as_the_processor_writes_them(internvl):
    processor = internvl.adapter.processor
    written = processor.replace_video_token({"pixel_values_videos": torch.zeros(1, 12, 3, 64, 64)}, 0)
    captions = [internvl.adapter.caption([0.0], number, opens=number == 0) for number in range(12)]
    assert written == "".join(before + 16 * "<IMG_CONTEXT>" + after for before, after in captions)


def test_smolvlm_differs_from_its_processor_by_the_numbers_of_the_intro_alone(smolvlm):
    video = torch.zeros(5, 3, 48, 64, dtype=torch.uint8)
    metadata = VideoMetadata(total_num_frames=5, fps=1.0, frames_indices=list(range(5)))
    own = smolvlm.adapter.processor(
        text=[rendered(smolvlm, about(smolvlm, QUESTION))],
        videos=[video],
        video_metadata=[metadata],
        return_tensors="pt",
    )
    ours = inputs_of(smolvlm, rendered(smolvlm, about(smolvlm, QUESTION)), [(0, pictures(5))], 1.0)
    theirs, mine = (smolvlm.adapter.processor.tokenizer.decode(made["input_ids"][0]) for made in (own, ours))
    assert "series of five frames from a 0:00:04 [H:MM:SS] video" in theirs
    assert mine == re.sub(r"series of \w+ frames from a \S+ \[H:MM:SS\] video", "series of frames from a video", theirs)


def test_a_question_is_tokenized_with_the_text_that_touches_it(smolvlm):
    """Two line breaks are one token, but not ahead of a word."""
    adapter = smolvlm.adapter
    together = adapter.tokenize(f"\n\n{QUESTION}")
    assert together != [*adapter.tokenize("\n\n"), *adapter.tokenize(QUESTION)]
    chat = adapter.chat()
    ids = adapter.prompt(chat.before_question, QUESTION, chat.after_question, behind=adapter.placeholder)
    assert ids == adapter.tokenize(f"\n\n{QUESTION}<end_of_utterance>\nAssistant:")


def test_what_looks_like_a_special_token_in_a_question_is_text(captioned):
    adapter, chat = captioned.adapter, captioned.adapter.chat()
    special = {token for token, added in adapter.processor.tokenizer.added_tokens_decoder.items() if added.special}
    words = "".join(map(str, adapter.processor.tokenizer.added_tokens_decoder.values()))
    forged, honest = (
        adapter.prompt(chat.before_question, text, chat.after_question, behind=adapter.placeholder)
        for text in (words, QUESTION)
    )
    assert [token for token in forged if token in special] == [token for token in honest if token in special]


def test_a_second_look_reads_as_a_video_that_begins_or_goes_on(internvl, monkeypatch):
    """After a remembered turn the video is opened again: its first frame has no line break before it, others have."""
    adapter, said = internvl.adapter, []
    caption = type(adapter).caption_ids
    with internvl.stream(memory=700, reserve=300, dialogue=100, look_again=3, block=1) as stream:
        for image in pictures(3):
            stream.watch(image)
        monkeypatch.setattr(
            type(adapter), "caption_ids", lambda *given, opens: [said.append(opens), caption(*given, opens=opens)][1]
        )
        stream.ask(QUESTION, max_new_tokens=1, look_again=3, remember=True)
        stream.ask(QUESTION, max_new_tokens=1, look_again=3)
    assert said == [False, False, False, True, False, False]


# Long streams


def test_words_count_against_the_cap_and_leave_with_their_frame(captioned, monkeypatch):
    """Over a stream long enough for longer numbers and times, in few trained positions."""
    adapter = captioned.adapter
    monkeypatch.setattr(type(adapter), "position_range", 440)
    with captioned.stream(memory=300, policy="infinipot-v", reserve=56, dialogue=60) as stream:
        for number, image in enumerate(pictures(140)):
            stream.watch(Frame(image, 30.0 * number))
            if number % 60 == 31:
                stream.ask(QUESTION, max_new_tokens=2, remember=number % 120 == 31)
            assert stream.stats().peak_tokens <= 300
        memory = stream._state.memory
        assert stream.stats().compressions > 10
        assert stream.stats().rebases > 3
        layers = [slots(memory, layer) for layer in range(memory.layers)]
        patch, cell = (
            torch.stack([getattr(own, name) for own in layers])[..., memory.state.text :] for name in ("patch", "cell")
        )
        cells = cell != NOWHERE  # [layers, kv_heads, tokens]
        frames, words = set(patch[cells].tolist()), Counter(patch[0, 0][~cells[0, 0]].tolist())
        assert words.keys() == frames
        assert max(frames) == memory.cursor.patch - 1 == 139
        for frame, count in words.items():
            ids = [adapter.caption_ids([30.0 * frame], frame, opens=opens) for opens in (False, True)]
            assert count in [len(before) + len(after) for before, after in ids]
        assert sum(words.values()) + int(cells[0, 0].sum()) + memory.state.text == memory.held
        assert memory.cursor.next <= 440


# Frequencies that depend on the length of a prompt


@pytest.mark.parametrize("rope", ["default", "dynamic"])
def test_internvl_leaves_the_trained_positions_only_where_frequencies_stay(rope, monkeypatch):
    """An answer's positions are counted in ahead: it never ends half-way."""
    model = build("internvl", rope_type=rope)
    monkeypatch.setattr(type(model.adapter), "position_range", 400)
    with model.stream(memory=2048, policy="full", positions="native", block=1) as stream:
        images = iter(pictures(40))
        if rope == "default":
            for image in images:
                stream.watch(image)
            assert stream._state.memory.cursor.next > 400
            return
        with pytest.raises(CapError, match="400 positions"):
            for image in images:
                before = held(stream)
                stream.watch(image)
        assert same(before, held(stream))
        for _ in range(20):
            with contextlib.suppress(CapError):
                stream.ask(QUESTION, remember=True)
            assert stream._state.memory.cursor.next <= 400


def test_internvl_stays_one_position_short_of_where_frequencies_change():
    ranges = [build("internvl", rope_type=rope).adapter.position_range for rope in ("default", "dynamic")]
    assert ranges[1] == ranges[0] - 1


def test_a_long_prompt_of_someone_else_changes_nothing(internvl):
    """transformers changes the frequencies on the shared model, and changes them back by itself."""
    network, clip = internvl.adapter.model, (0, pictures(5))
    expected = first_logits(internvl, clip, block=2)
    rotary = network.model.language_model.rotary_emb
    rotary(torch.zeros(1), torch.arange(5000).unsqueeze(0))
    assert not torch.equal(rotary.inv_freq, rotary.original_inv_freq)
    assert torch.equal(internvl.adapter.rotary().inv_freq, rotary.original_inv_freq)
    close(first_logits(internvl, clip, block=2), expected)


def test_other_frequencies_that_change_are_refused(internvl, monkeypatch):
    config = SimpleNamespace(rope_parameters={"rope_type": "longrope"})
    monkeypatch.setattr(type(internvl.adapter), "_text_config", config)
    with pytest.raises(ModelError, match="longrope"):
        internvl.adapter.require_static_rope()
