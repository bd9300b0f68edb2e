"""The embedded model: its world, its sequences, and what the packaged checkpoint can do."""

from collections import Counter, defaultdict
from itertools import pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2Tokenizer,
    Qwen2VLVideoProcessor,
)

from infinipot import embedded
from infinipot.embedded.checkpoint import CELLS, MAX_POSITION, build_model, build_processor
from infinipot.embedded.facts import BACKGROUNDS, FIRST_TRAINING_SEED, HELD_OUT_SEEDS, SIZE
from infinipot.embedded.scenery import Footage
from infinipot.embedded.words import CASTS, COLOURS, KINDS, NUMBERS, PLACES, SHAPES, THIRDS
from infinipot.embedded.world import Clip, Event, Question
from support.video_files import encode
from training.embedded import train
from training.embedded.batch import collate
from training.embedded.examine import LENGTHS, _scores, examine
from training.embedded.forward import answer, look
from training.embedded.lessons import exam, lesson
from training.embedded.pixels import IGNORE, patchify
from training.embedded.probes import FIRST_WEIGHT, look_loss
from training.embedded.sequence import AGAIN, BEFORE, CHANGE, HERE, TALLY, Look, Sequence

_TOKENIZER = build_processor().tokenizer
SEEDS = st.integers(0, HELD_OUT_SEEDS.stop - 1)
TEST_SEEDS = HELD_OUT_SEEDS[-10_000:]


@pytest.fixture(scope="module")
def model() -> Qwen2_5_VLForConditionalGeneration:
    return AutoModelForImageTextToText.from_pretrained(embedded.path()).eval()


@pytest.fixture(scope="module")
def processor() -> Qwen2_5_VLProcessor:
    return AutoProcessor.from_pretrained(embedded.path())


# The world


@given(SEEDS, st.integers(5, 200), st.sampled_from([0.25, 1.0, 2.0, 30.0]), st.sampled_from(BACKGROUNDS))
def test_a_seed_always_gives_the_same_clip(seed: int, frames: int, fps: float, background: str) -> None:
    one, other = (Clip(seed, frames / fps, fps, background=background) for _ in range(2))
    assert one.events == other.events
    time = (frames // 2) / fps
    other.draw([0.0, frames / fps])  # what was drawn before does not matter
    assert np.array_equal(one.draw([time])[0], other.draw([time])[0])


@pytest.mark.parametrize("background", BACKGROUNDS)
def test_the_same_events_come_before_every_background(background: str) -> None:
    assert Clip(5, 60, events=6, background=background).events == Clip(5, 60, events=6).events


def test_backgrounds_stand_still_move_and_are_cut() -> None:
    def steps(background: str) -> np.ndarray:
        """Mean change of a pixel from a frame to the next, over two minutes without events."""
        images = (
            Clip(1, 120, events=0, background=background, crowd=0)
            .draw([number / 2 for number in range(240)])[0]
            .astype(float)
        )
        return np.abs(np.diff(images, axis=0)).mean((1, 2, 3))

    still, moving, cuts = map(steps, ("still", "moving", "cuts"))
    assert np.median(still) < np.median(moving)
    assert (still > 4 * np.median(still)).sum() <= 120 / 20  # a lamp
    assert (cuts > 4 * np.median(cuts)).sum() >= 120 / 8 - 1


def test_a_crowd_is_always_moving() -> None:
    alone, crowded = (Clip(1, 60, events=0, crowd=crowd).draw([0.0, 10.0, 20.0])[0].astype(int) for crowd in (0, 3))
    changed = np.abs(alone - crowded).max(-1) > 60
    assert all(changed.any((1, 2)))
    assert not (changed[0] == changed[1]).all()


def test_footage_is_a_videos_frames_forwards_and_backwards(tmp_path: Path) -> None:
    shades = np.repeat(np.arange(40, 240, 10, dtype=np.uint8), 64 * 96 * 3).reshape(-1, 64, 96, 3)
    encode(tmp_path / "shades.mp4", list(shades), rate=4)
    footage = Footage(tmp_path / "shades.mp4")
    there = [footage.at(k / 4).mean() for k in range(20)]
    assert np.abs(np.array(there) - shades.mean((1, 2, 3))).max() < 4
    assert [footage.at((19 + k) / 4).mean() for k in range(20)] == there[::-1]
    assert footage.beginning_at(1.0).at(0.25).mean() == footage.at(1.25).mean()
    assert Clip(1, 10, events=1, background=footage).draw([0.0, 1.0])[0].shape == (2, SIZE, SIZE, 3)


@given(SEEDS, st.integers(7, 40))
def test_guests_share_nothing_with_regulars_and_the_odd_one_out_is_alone(seed: int, events: int) -> None:
    for cast in CASTS[1:]:
        clip = Clip(seed, 400, events=events, cast=cast)
        names = Counter(event.name for event in clip.events)
        guests = [event for event in clip.events if names[event.name] == 1]
        for guest in guests:
            others = [event for event in clip.events if event is not guest]
            assert all(guest.colour != other.colour and guest.shape != other.shape for other in others)
        assert len(guests) == 1 or cast == "regulars"


@given(SEEDS, st.integers(0, 300), st.sampled_from([0.25, 1.0, 2.0, 30.0]))
def test_events_come_one_at_a_time_and_inside_the_frame(seed: int, frames: int, fps: float) -> None:
    clip = Clip(seed, frames / fps, fps)
    assert all(earlier.end < later.start for earlier, later in pairwise(clip.events))
    for event in clip.events:
        assert 0 <= event.start < event.end <= frames / fps
        for time in (event.start, event.end):
            x, y = (event.x + event.dx * (time - event.start), event.y + event.dy * (time - event.start))
            assert event.radius < min(x, y)
            assert max(x, y) < 64 - event.radius


@given(SEEDS)
def test_the_first_six_events_share_no_colour_and_no_shape(seed: int) -> None:
    events = Clip(seed, 120, events=6, cast="varied").events
    assert {event.colour for event in events} == set(COLOURS)
    assert {event.shape for event in events} == set(SHAPES)


def test_an_hour_is_drawn_frame_by_frame() -> None:
    clip = Clip(1, 3600, fps=2, events=6)
    frames = iter(clip)
    first = next(frames)
    assert len(clip) == 7200
    assert (first.image.shape, first.image.dtype, first.time) == ((64, 64, 3), np.uint8, 0.0)
    assert next(frames).time == 0.5


def test_an_event_changes_what_is_drawn_and_leaves() -> None:
    clip = Clip(2, 60, events=3)
    event = clip.events[1]
    images, covered = clip.draw([event.start, event.end])
    assert covered[0].max() == 1
    assert covered[1].max() == 0
    inside = images[0][covered[0] == 1].mean(0)
    assert np.abs(inside - np.clip(event.rgb, 0, 255)).max() < 12


def test_more_events_than_fit_are_refused_with_the_length_that_would_do() -> None:
    with pytest.raises(ValueError, match="seconds=15 or more"):
        Clip(0, seconds=4, fps=2, events=6)


def right_answers(question: Question, clip: Clip, at: float) -> set[str]:
    """All answers that the events allow, found by trying the words of the question."""
    words = set(question.text.strip("?").replace(",", "").split())
    seen = [event for event in clip.events if event.start <= at]
    named = [event for event in seen if {event.colour, event.shape} <= words]
    match question.kind:
        case "colour":
            return {event.colour for event in seen if event.shape in words}
        case "shape":
            return {event.shape for event in seen if event.colour in words}
        case "where":
            return {corner for event in named for corner in corners(clip, event)}
        case "when":
            times = [time / 2 for time in range(int(2 * at) + 1) if named[0].start <= time / 2 < named[0].end]
            return {THIRDS[min(2, int(3 * time / at))] for time in times}
        case "first":
            named = [event for event in seen if event.name in question.text]
            return {named[0].name} if len(named) == 2 else set()
        case "count":
            return {str(len(seen)) if len(seen) > 5 else NUMBERS[len(seen)]} if len(seen) < 6 else {"many"}
        case "odd":
            names = Counter(event.name for event in seen)
            return {name for name, times in names.items() if times == 1}
        case _:
            return {"yes" if any(event.start <= at < event.end for event in clip.events) else "no"}


def corners(clip: Clip, event: Event) -> set[str]:
    """The corners of the frame that most of a shape's pixels lie in, over its frames."""
    frames = np.arange(round(event.start * clip.fps), round(event.end * clip.fps)) / clip.fps
    quarters = clip.draw(list(frames))[1].reshape(-1, 2, SIZE // 2, 2, SIZE // 2).sum((2, 4)).reshape(-1, 4)
    return {PLACES[quarter] for quarter in quarters.argmax(1)}


@settings(max_examples=60)
@given(SEEDS, st.integers(1, 120), st.booleans())
def test_every_question_has_exactly_one_right_answer(seed: int, frames: int, plain: bool) -> None:
    clip = Clip(seed, 60, events=int(seed % 13))
    at = (frames - 1) / clip.fps
    questions = clip.questions(at, np.random.default_rng(seed), plain)
    assert "now" in {question.kind for question in questions}
    for question in questions:
        assert {question.answer} == right_answers(question, clip, at)
        assert question.answer in question.choices
        assert set(question.about) <= set(clip.seen(at))


def test_no_answer_dominates_its_kind() -> None:
    answers: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for seed in range(400):
        clip = Clip(seed, 40)
        for question in clip.questions(39.5 * (seed % 20 + 1) / 20, np.random.default_rng(seed)):
            place = str(question.choices.index(question.answer))
            answers[question.kind][place if question.kind == "first" else question.answer] += 1
    limits = {"colour": 0.25, "shape": 0.25, "where": 0.35, "first": 0.6, "count": 0.35, "when": 0.5, "now": 0.75}
    for kind, counter in answers.items():
        assert counter.most_common(1)[0][1] / counter.total() < limits.get(kind, 0.2), (kind, counter)


# Sequences


def test_patches_are_those_of_the_processor(processor: Qwen2_5_VLProcessor) -> None:
    images = Clip(3, 4).draw([0, 0.5, 1, 1.5])[0]
    theirs = processor.video_processor(videos=[images], return_tensors="pt")
    assert theirs["video_grid_thw"].tolist() == [[2, 8, 8]]
    torch.testing.assert_close(patchify(images), theirs["pixel_values_videos"], atol=1e-5, rtol=0)


def test_positions_follow_the_familys_rule(processor: Qwen2_5_VLProcessor) -> None:
    sequence = Sequence(processor.tokenizer)
    sequence.open_video()
    base = sequence.positions[-1][0] + 1
    for seconds in (0, 1.3, 20):
        sequence.patch(seconds)
    expected = [(base + t, base + r, base + c) for t, r, c in product((0, 2, 40), range(4), range(4))]
    assert sequence.positions[-48:] == expected
    sequence.turn("count", "How many?", "two", behind_video=True)
    text = sequence.positions[base + 48 :]
    assert text == [(base + 41 + i,) * 3 for i in range(len(text))]


def test_a_lesson_renders_as_the_chat_template(processor: Qwen2_5_VLProcessor) -> None:
    sequence = Sequence(processor.tokenizer)
    sequence.open_video()
    sequence.patch(0)
    sequence.turn("count", "How many?", "two", behind_video=True)
    user = [{"type": "video"}, {"type": "text", "text": "How many?"}]
    messages: Any = [{"role": "user", "content": user}, {"role": "assistant", "content": "two"}]
    rendered = processor.apply_chat_template(messages)
    assert processor.tokenizer.decode(sequence.ids) == rendered.replace("<|video_pad|>", "<|video_pad|>" * 16)


@settings(max_examples=20)
@given(st.integers(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 10**6), st.sampled_from([4, 16, 64]))
def test_lessons_stay_inside_the_trained_positions(seed: int, patches: int) -> None:
    sequence, pixels = lesson(_TOKENIZER, seed, patches)
    assert max(max(position) for position in sequence.positions) < MAX_POSITION
    shown = sequence.ids.count(_TOKENIZER.convert_tokens_to_ids("<|video_pad|>")) // CELLS**2
    still = (pixels.centres.view(-1, CELLS**2) == 0).all(1)
    assert shown == patches or (shown > patches and not still[1:-1].any()), "what is still is left out first"
    assert len(pixels.patches) == 64 * shown
    assert len(pixels.colours) == len(pixels.lasting) == 16 * shown
    assert pixels.arrivals.sum() <= pixels.centres.sum() <= shown


def test_short_lessons_are_as_busy_as_short_clips_of_the_exam() -> None:
    patches, fps = LENGTHS[0]
    busiest = max(len(Clip(seed, 2 * (patches + 2) / fps, fps).events) for seed in TEST_SEEDS[:50])
    lessons = (lesson(_TOKENIZER, FIRST_TRAINING_SEED + seed, patches) for seed in range(50))
    assert max(pixels.events.max() for _, pixels in lessons) >= busiest - 1 == 3


@settings(max_examples=20)
@given(st.integers(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 10**6), st.sampled_from([8, 32]))
def test_lessons_hide_tokens_from_later_patches_but_not_that_something_came(seed: int, patches: int) -> None:
    sequence, pixels = lesson(_TOKENIZER, seed, patches)
    batch = collate([sequence], [pixels])
    rows, trunk = torch.arange(len(sequence.ids)), torch.tensor(sequence.branches) == 0
    cells = sequence.cells()
    patch_of = {token: number for number, patch in enumerate(cells) for token in patch}
    arrivals = pixels.arrivals.view(-1, CELLS**2)
    for token, last in sequence.forgotten.items():
        assert cells[patch_of[last]][-1] == last
        assert patch_of[token] < patch_of[last], "seen by all of its own patch, and of the next"
        sees = batch.mask[0, 0, :, token]
        assert sees[trunk].tolist() == ((rows >= token) & (rows <= last))[trunk].tolist()
        assert not sees[last + 1 :].any()
        arrived = arrivals[patch_of[token]]
        cell = cells[patch_of[token]].index(token)
        assert not arrived[cell]
        assert not (arrived.any() and cell == CELLS**2 - 1)


def test_some_lessons_forget_more_at_one_time_than_at_another() -> None:
    forgotten = []
    for seed in range(20):
        sequence, _ = lesson(_TOKENIZER, FIRST_TRAINING_SEED + seed, 32)
        half = sequence.cells()[16][0]
        forgotten.append([sum(token < half for token in sequence.forgotten), len(sequence.forgotten)])
    assert 4 < sum(total == 0 for _, total in forgotten) < 16
    assert sum(total > 250 for _, total in forgotten) >= 2
    assert any(total > 100 and early > 2 * (total - early) for early, total in forgotten)


def test_an_answer_in_parts_has_the_tokens_of_the_whole(processor: Qwen2_5_VLProcessor) -> None:
    sequence = Sequence(processor.tokenizer)
    text = "circle red top left, square blue, none"
    looks = [Look(1, 0, (2,), 2), Look(1, 0, (1,), 1, throughout=True)]
    sequence.turn("list", "List.", text, behind_video=False, looks=looks)
    ids = processor.tokenizer(text)["input_ids"]
    start = sequence.answers.index(0)
    assert sequence.ids[start : start + len(ids)] == ids
    told = [processor.tokenizer.decode(sequence.ids[start : token + 1]) for token, _ in sequence.looks]
    first = "circle red top left,"
    assert told == [f"{first} square blue,", first, f"{first} square"]


@settings(max_examples=20)
@given(st.integers(FIRST_TRAINING_SEED, FIRST_TRAINING_SEED + 10**6))
def test_looks_go_back_to_cells_that_show_the_events_asked_for(seed: int) -> None:
    lessons = [lesson(_TOKENIZER, number, 8) for number in (seed, seed + 1)]
    batch = collate([sequence for sequence, _ in lessons], [pixels for _, pixels in lessons])
    is_cell = batch.ids == _TOKENIZER.convert_tokens_to_ids("<|video_pad|>")
    shown = torch.full_like(batch.ids, IGNORE)
    shown[is_cell] = torch.cat([pixels.events for _, pixels in lessons])
    named = torch.full_like(batch.ids, IGNORE)
    named[is_cell] = torch.cat([pixels.colours for _, pixels in lessons])
    assert (shown[is_cell] != IGNORE).sum() == ((named[is_cell] != IGNORE) & (named[is_cell] < len(COLOURS))).sum()
    new = torch.zeros_like(batch.ids)
    new[is_cell] = torch.cat([pixels.arrivals for _, pixels in lessons])
    for (clip, token, layer, head), targets in zip(batch.looks.tolist(), batch.looked_at, strict=True):
        there = targets.nonzero()[:, 0]
        assert len(there)
        assert there.max() <= token
        assert batch.mask[clip, 0, token, there].all()
        if (layer, head) == TALLY:  # one cell of each event so far, and the first token
            assert there[0] == 0
            assert len(there) - 1 == new[clip, : token + 1].sum()
            continue
        if (layer, head) in HERE:
            patch = batch.positions[0, clip] == batch.positions[0, clip, token]
            here = (patch & is_cell[clip] & (shown[clip] != IGNORE)).nonzero()[:, 0]
            assert there.tolist() == (here.tolist() or [0])
            continue
        if layer == BEFORE:  # from the first cell of a patch at the last cell of the patch before
            earlier = is_cell[clip, :token].nonzero()[:, 0]
            assert len(earlier) % CELLS**2 == 0
            assert there.tolist() == (earlier[-1:].tolist() or [0])
            continue
        if (layer, head) == CHANGE:  # from the last cell at the first of the same patch
            assert there.tolist() == [token - CELLS**2 + 1]
            assert is_cell[clip, : token + 1].sum() % CELLS**2 == 0
            continue
        assert there.max() < token
        if layer != AGAIN:
            assert (shown[clip, there] != IGNORE).all()
            continue
        times, event = batch.positions[0, clip], shown[clip, token]
        before = (shown[clip] == event) & (times < times[token]) & batch.mask[clip, 0, token]
        assert there.tolist() == (before.nonzero()[:, 0].tolist() or [0])


@torch.no_grad()
def test_where_heads_look_is_read_off_their_attention() -> None:
    model = build_model(_TOKENIZER, 0)
    lessons = [lesson(_TOKENIZER, FIRST_TRAINING_SEED + number, 8) for number in range(2)]
    batch = collate([sequence for sequence, _ in lessons], [pixels for _, pixels in lessons])
    visual = look(model, batch.pixels)
    decoder = model.model.language_model
    _, _, hidden = answer(model, batch, visual)
    losses = look_loss(decoder, hidden, batch)
    decoder.set_attn_implementation("eager")
    output = decoder(
        inputs_embeds=hidden[0],
        position_ids=batch.positions,
        attention_mask=torch.where(batch.mask, 0.0, -torch.inf),
        output_attentions=True,
    )
    decoder.set_attn_implementation("sdpa")
    shares = defaultdict(list)
    for (clip, token, layer, head), targets in zip(batch.looks.tolist(), batch.looked_at, strict=True):
        attention = output.attentions[layer][clip, head, token]
        if (layer, head) == TALLY:  # FIRST_WEIGHT and n parts, one for each of n arrivals
            wanted = targets.float() * torch.where(torch.arange(len(targets)) > 0, 1, FIRST_WEIGHT)
            wanted = wanted[targets] / wanted.sum()
            shares[f"look{layer}{head}"].append((wanted * (wanted / attention[targets]).log()).sum())
        else:
            shares[f"look{layer}{head}"].append(-(attention * targets).sum().log() / 4)
    assert losses.keys() == shares.keys()
    for name, each in shares.items():
        torch.testing.assert_close(losses[name], torch.stack(each).mean())


@torch.no_grad()
def test_a_branch_is_answered_as_if_it_were_alone(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor
) -> None:
    together, seen, questions = exam(processor.tokenizer, Clip(TEST_SEEDS[0], 20), 8, np.random.default_rng(0))
    batch = collate([together], [seen])
    visual = look(model, seen)
    logits, _, _ = answer(model, batch, visual)
    owners = batch.answers[batch.answers != IGNORE]
    for number, question in enumerate(questions):
        alone = Sequence(processor.tokenizer)
        alone.open_video()
        for second in range(8):
            alone.patch(second)
        alone.turn(question.kind, question.text, question.answer, behind_video=True)
        own, _, _ = answer(model, collate([alone], [seen]), visual)
        torch.testing.assert_close(own, logits[owners == number], atol=1e-3, rtol=0)


# The packaged checkpoint


def test_it_loads_as_a_hub_checkpoint_does(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor
) -> None:
    assert type(model) is Qwen2_5_VLForConditionalGeneration
    assert type(processor) is Qwen2_5_VLProcessor
    assert type(processor.tokenizer) is Qwen2Tokenizer
    assert type(processor.video_processor) is Qwen2VLVideoProcessor
    end_of_turn = processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert model.generation_config.eos_token_id == end_of_turn
    assert model.config.get_text_config().max_position_embeddings == MAX_POSITION
    assert sum(file.stat().st_size for file in embedded.path().iterdir()) < 8_000_000


@given(st.text())
def test_any_text_can_be_said(text: str) -> None:
    tokenizer = _TOKENIZER
    normal = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
    assert tokenizer.decode(tokenizer(normal)["input_ids"], clean_up_tokenization_spaces=False) == normal


def test_each_word_of_the_world_is_one_token(processor: Qwen2_5_VLProcessor) -> None:
    for word in (*COLOURS, *SHAPES, *NUMBERS, *THIRDS, "yes", "no"):
        assert len(processor.tokenizer(word)["input_ids"]) == 1


def test_large_frames_shrink_to_a_few_cells(processor: Qwen2_5_VLProcessor) -> None:
    large = np.zeros((2, 480, 640, 3), np.uint8)
    grid = processor.video_processor(videos=[large], return_tensors="pt")["video_grid_thw"]
    assert grid.prod().item() * 8 * 8 <= 4 * 64 * 64


@pytest.mark.slow
def test_it_beats_guessing_by_far_on_clips_it_was_not_trained_on() -> None:
    scores = examine(embedded.path(), 1, {name: name for name in BACKGROUNDS}, TEST_SEEDS)
    assert set(scores) == set(BACKGROUNDS)
    for background, kinds in scores.items():
        assert list(kinds) == [*KINDS, "all"]
        assert kinds["all"].right > 0.9, background
    for kind in KINDS:
        asked, right, guess = np.array(
            [
                (each.asked, each.asked * each.right, each.asked * each.guess)
                for each in (of[kind] for of in scores.values())
            ]
        ).sum(0)
        assert right > (asked + guess) / 2, kind


def test_a_kind_that_few_clips_ask_nothing_of_has_no_score() -> None:
    asked = defaultdict(list, {KINDS[0]: Clip(TEST_SEEDS[0], 16, events=3).questions(16, np.random.default_rng(0))[:1]})
    scores = _scores({KINDS[0]: (1, 1)}, asked)
    assert list(scores) == [KINDS[0], "all"]


@torch.no_grad()
def test_it_answers_what_the_processor_gives_it(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor
) -> None:
    right = 0
    for seed in TEST_SEEDS[:8]:
        clip = Clip(seed, 16, events=3, cast="varied")
        frames = np.stack([frame.image for frame in clip])
        user = [{"type": "video"}, {"type": "text", "text": f"What colour was the {clip.events[1].shape}?"}]
        messages: Any = [{"role": "user", "content": user}]
        prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
        given_to = processor(text=[prompt], videos=[frames], return_tensors="pt")
        right += greedy(model, processor, given_to) == clip.events[1].colour
    assert right >= 6


def greedy(
    model: Qwen2_5_VLForConditionalGeneration, processor: Qwen2_5_VLProcessor, prompt: dict[str, torch.Tensor]
) -> str:
    """Greedy decoding by whole forward passes at 2 fps, positions by the family's rule."""
    ids: list[int] = prompt["input_ids"][0].tolist()
    answer: list[int] = []
    while len(answer) < 8:
        positions: list[tuple[int, ...]] = []
        next_position = base = cell = 0
        for token in ids + answer:
            if token == model.config.video_token_id:
                base = next_position if not cell else base
                t, r, c = np.unravel_index(cell, (16, 4, 4))
                positions.append((int(base + 2 * t), int(base + r), int(base + c)))
                cell += 1
            else:
                next_position = max((max(p) for p in positions), default=-1) + 1
                positions.append((next_position,) * 3)
                next_position += 1
        logits = model(
            input_ids=torch.tensor([ids + answer]),
            pixel_values_videos=prompt["pixel_values_videos"],
            video_grid_thw=prompt["video_grid_thw"],
            position_ids=torch.tensor(positions).T[:, None],
            use_cache=False,
        ).logits
        answer.append(int(logits[0, -1].argmax()))
        if answer[-1] == model.generation_config.eos_token_id:
            break
    return processor.tokenizer.decode(answer, skip_special_tokens=True)


# Training


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="training, which is not in the package, needs torch 2.9")
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train, "VISION_STEPS", 1)
    monkeypatch.setattr(train, "VISION_CLIPS", 2)
    monkeypatch.setattr(train, "CLIPS_A_STEP", {4: 2, 8: 2})
    monkeypatch.setattr(train, "CURRICULUM", ((1.0, (0.5, 0.5)),))

    def weights(folder: str, *steps: int) -> dict[str, torch.Tensor]:
        for step in steps:
            run = train.Run(tmp_path / folder, seed=0)
            run.train(2, save_every=60, report=lambda line: None, stop=step)
        return run.model.state_dict()

    whole, resumed = weights("whole", 2), weights("resumed", 1, 2)
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight, msg=name)
    AutoModelForImageTextToText.from_pretrained(tmp_path / "whole" / "export")
