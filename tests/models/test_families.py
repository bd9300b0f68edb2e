"""The contract of every family with every policy. A new family gets all of it by its registry line and its builder."""

from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Qwen3VLVideoProcessor

import infinipot
from infinipot import Frame, FrameError, Model, Stream
from infinipot.memory import LayerShape, Memory
from infinipot.memory.transaction import NOWHERE
from infinipot.models import ADAPTERS
from infinipot.models.qwen2_5_omni import Qwen25Omni
from infinipot.models.qwen3_vl import Qwen3VL
from infinipot.models.sound import Spectrum
from support.adapters import omni_processor
from support.faults import Boom, fail_at
from support.memories import held, same, slots, to_model
from support.models import ONE_OF_EACH, give, given, pictures
from support.plays import QUESTIONS, RANGE, played, small
from support.video_files import encode

# One policy of each kind of thing that a family could stand in the way of; all run in policies/test_policies.py,
# and with a memory and a snapshot of one family in test_snapshot.py. Those whose own work goes through the family, its
# attention and its probes, run with every family; the rest take turns: one that keeps other numbers of tokens in each
# head meets a family with captions and one without.
THROUGH = ("infinipot-v", "snapkv", "streammem")
TURNS = ("random", "recent-frames", "adakv", "infinipot-v-reference", "streaming-llm")
KINDS = (*THROUGH, *TURNS)
PAIRS = [
    pytest.param(kind, policy, id="-".join((*kind, policy)))
    for number, kind in enumerate(ONE_OF_EACH)
    for policy in (*THROUGH, TURNS[number % len(TURNS)])
]
# Where a token comes from, (head, patch, cell), and its key, value and time.
Tokens = dict[tuple[int, int, int], tuple[torch.Tensor, torch.Tensor, float]]
BAD = [np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4), np.int64), np.full((4, 4, 3), np.nan, np.float32), "a picture"]


@pytest.fixture
def _short_range(model: Model, whole: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    """Few positions, so that streams have to re-base soon; of those of `whole` none may."""
    monkeypatch.setattr(type(model.adapter), "position_range", RANGE[model.adapter.modality])


def by_coordinates(stream: Stream) -> Tokens:
    """Where each video token of the first layer comes from: (head, patch, cell), or the place in a patch's caption as
    a number below zero; and its key, ahead of any rotation, value and time."""
    memory, own = stream._state.memory, slots(stream._state.memory)
    tokens = {}
    words: dict[tuple[int, int], int] = {}
    patches, cells, times = own.patch.tolist(), own.cell.tolist(), own.time.tolist()
    for head in range(len(own.patch)):
        for slot in range(memory.state.text, memory.held):
            patch, cell = patches[head][slot], cells[head][slot]
            if cell == NOWHERE:
                words[head, patch] = cell = words.get((head, patch), 0) - 1
            assert (head, patch, cell) not in tokens, "no token is held twice"
            tokens[head, patch, cell] = own.raw[head, slot], own.values[head, slot], times[head][slot]
    return tokens


def check_coordinates(stream: Stream, theirs: Tokens) -> None:
    """Every token held is the one that a stream without eviction holds at its coordinates.

    The first layer's keys and values do not depend on what was evicted, where nothing that leaves goes into them.
    """
    ours = by_coordinates(stream)
    keys, values, times = zip(*ours.values(), strict=True)
    their_keys, their_values, their_times = zip(*(theirs[where] for where in ours), strict=True)
    if not stream.policy.merges:
        torch.testing.assert_close(torch.stack(values), torch.stack(their_values), atol=1e-4, rtol=0)
        torch.testing.assert_close(torch.stack(keys), torch.stack(their_keys), atol=1e-4, rtol=0)
    assert times == their_times


@pytest.fixture
def whole(model: Model) -> Tokens:
    return everything(model)


@cache
def everything(model: Model) -> Tokens:
    """What a stream holds that holds everything the others have seen."""
    with model.stream(memory=4096, policy="full", positions="native", reserve=56, dialogue=2000, block=1) as stream:
        list(played(model, stream, scripted=True))
        return by_coordinates(stream)


@pytest.mark.usefixtures("_short_range")
@pytest.mark.parametrize(("model", "policy"), PAIRS, indirect=["model"], scope="session")
def test_a_long_video_in_a_small_memory(model, policy, whole):
    """The cap, the coordinates, the trained positions; asking and bad frames change nothing."""
    with model.stream(policy=policy, **small(model)) as stream:
        for number, _ in enumerate(played(model, stream, scripted=True)):
            stats = stream.stats()
            assert stats.tokens <= stats.peak_tokens <= small(model)["memory"]
            if number % 3:  # to ask is what takes long
                continue
            before = held(stream)
            stream.ask(QUESTIONS[0], max_new_tokens=3)
            with pytest.raises(FrameError):
                give(stream, BAD[stats.frames // 3 % len(BAD)])
            assert same(before, held(stream))
            assert stream.stats().frames == stats.frames
        assert stream.ask(QUESTIONS[0], max_new_tokens=4) == stream.ask(QUESTIONS[0], max_new_tokens=4)
        assert stats.compressions > 2
        memory = stream._state.memory
        assert memory.cursor.next <= model.adapter.position_range
        check_coordinates(stream, whole)
        memory.rebase(target=0, limit=memory.cursor.next)
        check_coordinates(stream, whole)
        words = len(memory.state.captions)
        assert words - model.adapter.caption_limit <= memory.state.video - words, (
            "words do not crowd out what they are about"
        )


@torch.inference_mode()
@pytest.mark.parametrize(("temporal", "base"), [(5, 5), (90, 40), (90, 5)])
def test_keys_are_read_as_the_model_would_have_made_them(model, temporal, base):
    """One token at some place: its key is what the model's own forward, without a memory, writes there."""
    adapter, row = model.adapter, model.adapter.embed([5])
    rule, decoder = adapter.position_rule(), adapter.language_model
    where = [temporal] * 3 if rule.flat else [temporal, base + 1, base + 2]
    place = torch.tensor(where).view(3, 1)
    own = decoder(inputs_embeds=row[None], position_ids=place[:1] if rule.flat else place[:, None], use_cache=True)
    layer = next(number for number, shape in enumerate(adapter.layer_shapes()) if isinstance(shape, LayerShape))
    expected = own.past_key_values.layers[layer].keys[0]

    memory = Memory(4, adapter.layer_shapes(), adapter.rotary(), rule)
    with memory.transaction() as transaction:
        transaction.text(1)
        transaction.origins[0] = replace(transaction.origins[0], positions=place)
        transaction.cursor = replace(transaction.cursor, next=100)
        step = memory.step(transaction)
        adapter.forward(row, step)
        turned, _ = step.read(layer)
        torch.testing.assert_close(to_model(memory.rotary, turned), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_interleaved_streams_answer_as_each_does_alone(model):
    """Two streams of one policy, and one whose own work goes through the family: its attention or its probes, in turn.

    Of Qwen2-VL a stream of each policy: what policies could do to each other is no family's matter.
    """
    turn = THROUGH[1 + ADAPTERS.index(type(model.adapter)) % 2]
    through = KINDS if "qwen2_vl" in model.adapter.model_types else (THROUGH[0], turn)
    with ExitStack() as opened:
        streams = [opened.enter_context(model.stream(policy=kind, **small(model))) for kind in (*through, KINDS[0])]
        turns = zip(*(played(model, stream, seed, 24) for seed, stream in enumerate(streams)), strict=True)
        answers = list(zip(*turns, strict=True))
        for seed, stream in enumerate(streams):
            with model.stream(policy=stream.policy, **small(model)) as alone:
                assert list(answers[seed]) == list(played(model, alone, seed, 24))
                assert same(held(stream), held(alone))


def failing_part(model: Model, part: str) -> tuple[object, str]:
    return (Spectrum, "log_mel") if (model.adapter.modality, part) == ("audio", "patchify") else (model.adapter, part)


def end_of(model: Model, failing: str | None = None) -> tuple[list[torch.Tensor], str]:
    """What a stream holds and says in the end; calls may fail in a part of the model, and are repeated."""
    with model.stream(**small(model)) as stream:
        for number, content in enumerate(given(model, 22)):
            before = held(stream)
            with pytest.MonkeyPatch.context() as patch:
                if failing and number % 3 == 1:
                    fail_at(patch, *failing_part(model, failing), 1 + number % 2)
                try:
                    give(stream, content)
                    if number % 3 == 1:
                        stream.ask(QUESTIONS[0], max_new_tokens=2)
                except Boom:
                    if stream.stats().frames == number:
                        assert same(before, held(stream))
                        patch.undo()
                        give(stream, content)
        return held(stream), stream.ask(QUESTIONS[1], max_new_tokens=6)


@pytest.fixture(scope="module")
def undisturbed(model: Model) -> tuple[list[torch.Tensor], str]:
    return end_of(model)


@pytest.mark.parametrize("part", ["forward", "encode", "patchify"])
def test_a_failure_loses_nothing(model, undisturbed, part):
    """Calls that fail and are repeated end as if nothing had failed."""
    memory, answer = end_of(model, failing=part)
    assert same(undisturbed[0], memory)
    assert answer == undisturbed[1]


def test_another_resolution_starts_another_grid(seeing):
    pixels, sizes = (1024, 16384), ((64, 64), (96, 64), (64, 64), (32, 96))
    made = [seeing.adapter.patch_of(pictures(1, size=size), pixels=pixels) for size in sizes]
    grids = {(patch.rows, patch.columns) for patch in made}  # one where frames are always resized to one size
    assert len(grids) in (1, 3)
    with seeing.stream(memory=400, dialogue=0, pixels=pixels) as stream:
        for turn, size in enumerate(sizes):
            for number, image in enumerate(pictures(7, size=size)):
                stream.watch(Frame(image, turn * 10.0 + number))
            assert stream.ask(QUESTIONS[0], max_new_tokens=2) is not None
        assert {(grid.rows, grid.columns) for grid in stream._state.memory.grids} == grids
        assert len(stream._state.memory.grids) == len(grids)


def test_decoded_frames_become_the_tensors_that_the_processor_makes(seeing, tmp_path):
    """Frame by frame as they come from a file, against the processor on the whole clip."""
    adapter = seeing.adapter
    frames = list(infinipot.open_video(encode(tmp_path / "clip.mp4", pictures(20, size=(72, 100)), rate=5), fps=2))[:7]
    clip = torch.from_numpy(np.stack([frame.image for frame in frames])).permute(0, 3, 1, 2)
    processor = adapter.processor.video_processor
    uncapped = {"cap_pixels_per_frame": False} if hasattr(processor, "cap_pixels_per_frame") else {}
    output = processor(videos=[clip], do_sample_frames=False, return_tensors="pt", **uncapped)
    made = output["pixel_values_videos"] if "pixel_values_videos" in output else output["pixel_values"]
    step = adapter.patch_frames
    clips = [tuple(frames[start : start + step]) for start in range(0, len(frames), step)]
    patches = [adapter.patchify([clip])[0] for clip in clips]
    pixels = [patch.pixels for patch in patches]
    assert torch.equal(torch.cat(pixels), made.flatten(0, made.ndim - pixels[0].ndim))
    for together in (adapter.patchify(clips), adapter.prepare(clips)):
        assert all(torch.equal(one.pixels, other) for one, other in zip(together, pixels, strict=True))
        told = [(patch.rows, patch.columns, patch.times) for patch in together]
        assert told == [(patch.rows, patch.columns, patch.times) for patch in patches]
        assert all(patch.pixels.untyped_storage().nbytes() == patch.pixels.nbytes for patch in together), "kept alive"


def test_a_time_too_long_to_write_down_is_refused_and_changes_nothing(seeing):
    captions = [seeing.adapter.caption([time] * seeing.adapter.patch_frames, 0, opens=True) for time in (0.0, 9e14)]
    with seeing.stream(memory=400, dialogue=0) as stream:
        stream.watch(Frame(pictures(1)[0], 1.8e9))  # seconds since 1970
        if captions[0] != captions[1]:  # the time is in the caption
            with pytest.raises(FrameError, match="caption"):
                stream.watch(Frame(pictures(1)[0], 9e14))
        stream.watch(pictures(1)[0])
        assert stream.stats().frames == 2
        stream.ask(QUESTIONS[0], max_new_tokens=2)


def test_large_frames_meet_the_ceiling_that_the_processor_has_for_a_frame():
    """With the sizes of the hub's Qwen3-VL checkpoints, whose budget is a whole video's."""
    processor = Qwen3VLVideoProcessor(size={"shortest_edge": 4096, "longest_edge": 25_165_824})
    adapter = Qwen3VL(None, SimpleNamespace(video_processor=processor))
    frames = pictures(2, size=(1080, 1920))
    made = processor(
        videos=[torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)],
        do_sample_frames=False,
        cap_pixels_per_frame=True,
        return_tensors="pt",
    )
    patch = adapter.patch_of(frames, [0.0, 0.5])
    assert torch.equal(patch.pixels, made["pixel_values_videos"])
    assert 640 < patch.rows * patch.columns <= 768
    small = adapter.patch_of(frames[:1], pixels=(64 * 1024, 128 * 1024))
    assert 64 <= small.rows * small.columns <= 128


def test_the_budget_of_a_processor_goes_before_its_video_processors():
    processor = omni_processor()
    processor.video_processor.size = {"shortest_edge": 128 * 128, "longest_edge": 256 * 256}
    frames = pictures(2)
    video = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    options = {"do_sample_frames": False, "cap_pixels_per_frame": False, "return_tensors": "pt"}
    made = processor(text=[processor.video_token], videos=[video], **options)
    patch = Qwen25Omni(None, processor).patch_of(frames, [0.0, 0.5])
    assert torch.equal(patch.pixels, made["pixel_values_videos"])
    assert (patch.rows, patch.columns) == (4, 4), "not enlarged"
