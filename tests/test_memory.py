"""The bounded memory against a bookkeeper that remembers every token it was ever given."""

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from infinipot import policies
from infinipot.errors import CapError, PolicyError
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary, StateShape
from infinipot.memory.positions import Cursor
from infinipot.memory.rebase import close_gaps, find_gaps
from infinipot.policies import Policy
from infinipot.policies.base import Grid, VideoTokens

LAYERS, HEADS, DIM = 2, 2, 16
ROTARY = Rotary(1.0 / 100.0 ** (torch.arange(8) / 8), axes=[0, 0, 1, 1, 1, 2, 2, 2])
FLAT = Rotary(ROTARY.inv_freq, axes=[0] * 8)
PARTIAL = Rotary(ROTARY.inv_freq[:4], axes=[0, 1, 2, 0])  # half of the head, axes interleaved
SIZES = ((2, 3), (3, 2), (4, 4))


class Bookkeeper:
    """Writes tokens whose value is their number, so that each can be recognised wherever the memory moves it."""

    def __init__(
        self,
        cap: int = 400,
        policy: Policy | str = "random",
        dialogue: int = 24,
        caption: tuple[int, int] = (0, 0),
        rotary: Rotary = ROTARY,
        **rule: float,
    ) -> None:
        shape = LayerShape(HEADS, DIM, torch.device("cpu"), torch.float32)
        self.memory = Memory(cap, [shape] * LAYERS, rotary, PositionRule(**rule), dialogue)
        self.caption = caption
        self.rotary = rotary
        self.policy = policies.make(policy)
        self.records: list[tuple[int, int, int, float]] = []  # patch, row, column, time; patch -1 for text
        self.time = 0.0

    def key(self, number: torch.Tensor) -> torch.Tensor:
        """The unrotated key of tokens, `[..., DIM]`."""
        return torch.sin(number.unsqueeze(-1) * (1.0 + torch.arange(DIM)))

    def write(self, positions: torch.Tensor) -> None:
        """What a model's forward does: appends rotated keys, and values, to every layer."""
        count = positions.shape[1]
        number = torch.arange(len(self.records) - count, len(self.records)).float()
        rotated = self.rotated(self.key(number), positions.T)
        keys = rotated.expand(1, HEADS, count, DIM)
        values = number.view(1, 1, -1, 1).expand(1, HEADS, count, DIM)
        for layer in range(LAYERS):
            self.memory.cache.update(keys, values, layer)

    def rotated(self, raw: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Keys `[..., DIM]` turned to positions `[..., 3]`, of a head of which only a part may turn."""
        half = len(self.rotary.axes)
        angle = positions[..., list(self.rotary.axes)].float() * self.rotary.inv_freq
        first, second, rest = raw[..., :half], raw[..., half : 2 * half], raw[..., 2 * half :]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)

    def watch(self, patches: int, size: tuple[int, int], pause: float, keep: float | None) -> None:
        grid = self.memory.use_grid(*size)
        patch = self.memory.cursor.patch
        times = [self.time + index * (1.0 + pause) for index in range(patches)]
        self.time = times[-1] + 1.0
        with self.memory.draft() as draft:
            if self.memory.cursor.base is None:
                self.records += [(-1, -1, -1, self.time)] * 3
                self.write(draft.text(3, self.time))
            for number, time in enumerate(times, patch):
                rows, columns = size
                before, after = self.caption
                self.records += [(number, -1, -1, time)] * before
                self.records += [(number, row, column, time) for row in range(rows) for column in range(columns)]
                self.records += [(number, -1, -1, time)] * after
                self.write(draft.patch(grid, time, before, after))
            self.memory.commit(
                draft, policy=self.policy, keep=lambda _, held: max(1, int(held * keep)) if keep else None
            )

    def turn(self, tokens: int) -> None:
        with self.memory.draft() as draft:
            self.records += [(-1, -1, -1, self.time)] * tokens
            self.write(draft.text(tokens, self.time))
            self.memory.commit(draft, turn=True)

    def check(self) -> None:
        """Every held token is where, when and how it was recorded, and its key is rotated for its position."""
        memory = self.memory
        for layer in memory.cache.bounded:
            slab, held = layer.slab, slice(0, memory.held)
            numbers = slab.values[held, :, 0]
            assert torch.equal(slab.values[held], numbers.unsqueeze(-1).expand(-1, -1, DIM))
            expected = np.array(self.records).reshape(-1, 4)[numbers.long().numpy()]  # [held, heads, 4]
            origin = slab.origin[held].numpy()
            np.testing.assert_array_equal(origin[..., 0], expected[..., 0])
            np.testing.assert_allclose(slab.time[held].numpy(), expected[..., 3], rtol=1e-6)
            assert (origin[: memory.text, :, 0] == -1).all(), "text comes first"
            assert (origin[memory.text :, :, 0] >= 0).all(), "video comes behind it"
            rows, columns = self.row_and_column(origin[..., 1])
            np.testing.assert_array_equal(rows, expected[..., 1])
            np.testing.assert_array_equal(columns, expected[..., 2])

            text = origin[..., 1] < 0
            temporal, base = origin[..., 2], origin[..., 3]
            across = np.zeros_like(base) if memory.rule.flat else base
            row = torch.from_numpy(np.where(memory.rule.flat | text, temporal, across + rows))
            column = torch.from_numpy(np.where(memory.rule.flat | text, temporal, across + columns))
            position = torch.stack([torch.from_numpy(temporal), row, column], -1)
            torch.testing.assert_close(slab.keys[held], self.rotated(self.key(numbers), position), atol=1e-3, rtol=0)
            assert (position < memory.cursor.next).all(), "the next position lies behind all that are held"
            # Text stands behind every row and column before it: tokens are numbered in order of arrival.
            reach = position.amax(-1).numpy()
            for head in range(HEADS):
                arrived = np.argsort(numbers[:, head].numpy())
                behind = np.maximum.accumulate(reach[arrived, head])
                later = text[arrived, head][1:]
                assert (position[arrived, head].numpy()[1:, 0][later] > behind[:-1][later]).all(), "text comes after"
                assert (np.diff(temporal[arrived, head]) >= 0).all(), "time runs forward"
                for of_text in (True, False):
                    mine = numbers[memory.text :, head][torch.from_numpy(text[memory.text :, head] == of_text)]
                    assert (np.diff(mine) > 0).all(), "no token twice, and in order"
        self.check_captions()

    def check_captions(self) -> None:
        """Captions are those of the patches of which cells are held, whole, and the same for all."""
        patches, expected = set(), []
        for layer in self.memory.cache.bounded:
            origin = layer.slab.origin[self.memory.text : self.memory.held]
            cells, words = origin[..., 1] >= 0, origin[..., 1] < 0
            patches |= set(origin[..., 0][cells].tolist())
            expected += [origin[words[:, head], head, 0].tolist() for head in range(HEADS)]
        assert all(held == list(self.memory.captions) for held in expected)
        size = sum(self.caption)
        assert not size or Counter(self.memory.captions) == dict.fromkeys(patches, size)

    def row_and_column(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.full_like(cell, -1), np.full_like(cell, -1)
        for grid in self.memory.grids:
            inside = (cell >= grid.first_cell) & (cell < grid.first_cell + grid.cells)
            rows[inside], columns[inside] = np.divmod(cell[inside] - grid.first_cell, grid.columns)
        return rows, columns


watching = st.tuples(
    st.just("watch"),
    st.integers(1, 3),
    st.sampled_from(SIZES),
    st.sampled_from([0.0, 0.5, 30.0]),
    st.sampled_from([None, 0.3, 0.6, 0.9]),
)
asking = st.tuples(st.just("turn"), st.integers(2, 9))
rebasing = st.tuples(st.just("rebase"), st.integers(0, 300), st.booleans())


# The kinds of families: how positions count, whether patches have captions, and how much of a head is rotated.
KINDS = (
    {"tokens_per_second": None},
    {"tokens_per_second": 2.0},
    {"caption": (3, 1)},
    {"flat": True, "rotary": FLAT},
    {"flat": True, "rotary": FLAT, "caption": (2, 1)},
    {"caption": (3, 1), "rotary": PARTIAL},
)


@settings(max_examples=150)
@given(
    st.lists(st.one_of(watching, watching, asking, rebasing), min_size=1, max_size=12),
    st.sampled_from(KINDS),
    st.sampled_from(["random", "sliding-window", "uniform", "infinipot-v"]),
)
def test_every_token_knows_where_it_came_from_whatever_happens(operations, kind, policy):
    book = Bookkeeper(policy=policy, cap=600, **kind)
    for name, *arguments in operations:
        if name == "watch":
            book.watch(*arguments)
        elif name == "turn":
            book.turn(*arguments)
        else:
            book.memory.rebase(target=arguments[0], limit=1 << 30, slow=arguments[1])
        book.check()
        assert book.memory.dialogue <= max(book.memory.dialogue_limit, *book.memory.turns, 0)


def test_text_behind_a_span_of_two_grids_stays_behind_the_larger():
    book = Bookkeeper(tokens_per_second=None)
    book.watch(1, (4, 4), pause=0.0, keep=None)
    book.watch(1, (2, 3), pause=0.0, keep=None)
    book.turn(3)
    book.watch(1, (2, 3), pause=0.0, keep=None)
    book.memory.rebase(target=0, limit=book.memory.cursor.next)
    book.check()


def test_moved_keys_are_those_that_a_model_makes_at_long_positions():
    """At 100,000 positions float32 angles are a hundredth of a radian off: the same error is in the model's keys."""
    rotary = Rotary(1e6 ** (-torch.arange(64) / 64), axes=[0] * 16 + [1] * 24 + [2] * 24)
    raw, base = torch.randn(500, 128), torch.full((500,), 15)

    def made(temporal: torch.Tensor) -> torch.Tensor:
        positions = torch.stack([temporal, base, base], -1)[:, list(rotary.axes)]
        angle = positions.float() * rotary.inv_freq
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        return raw * cos + torch.cat([-raw[:, 64:], raw[:, :64]], -1) * sin

    here = torch.randint(90_000, 128_000, (500,))
    keys = made(here)
    for _ in range(50):
        there = torch.randint(40_000, 128_000, (500,))
        keys, here = rotary.move_(keys, (here, base), (there, base)), there
    torch.testing.assert_close(keys, made(here), atol=1e-3, rtol=0)


def test_positions_do_not_drift_over_many_rebasings():
    """Keys that were moved a thousand times are those rotated once: `check` compares them within 1e-3."""
    book = Bookkeeper(policy="random:seed=3", tokens_per_second=2.0)
    for _ in range(1000):
        book.watch(2, (4, 4), pause=3.0, keep=0.75)
        book.memory.rebase(target=200, limit=1 << 30)
    assert book.memory.rebases > 900
    book.check()


@given(
    st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0.0, 0.1, 1.0, 7.5, 3600.0])), min_size=2, max_size=12),
    st.floats(0, 1),
)
def test_what_stays_of_gaps_is_in_proportion_to_their_time_and_none_grows(gaps, share):
    room, waits = torch.tensor([gap for gap, _ in gaps]), torch.tensor([0.0, *(wait for _, wait in gaps[1:])]).double()
    *_, end = places = (room + 1).cumsum(0) - 1
    temporal, time = places[None, :-1], waits.cumsum(0)[None, :-1]
    nothing = torch.zeros_like(temporal)
    now, split = float(waits.sum()), int(end)
    found = find_gaps(temporal, temporal, nothing, nothing > 0, time, end=split, now=now, split=split, step=1)
    assert found.before[0].tolist() == room.tolist()
    amount = round(share * int(room.sum()))
    moved, _ = close_gaps(found, amount, 0)
    apart = torch.cat([torch.tensor([-1]), moved[0], (end - amount)[None]]).diff()
    assert apart.sum() == (room + 1).sum() - amount
    assert (apart >= 1).all()
    assert (apart <= room + 1).all()
    for gave in ((apart <= room) & (waits > 0)).nonzero()[:, 0]:  # none that could give has more positions a second
        most = (apart[gave] + 1) / waits[gave] * waits.clamp_min(1e-3)
        assert (apart <= most.clamp_min(1) + 1).all()


@pytest.mark.parametrize("turn", [False, True])
@pytest.mark.parametrize("pause", [0.0, 3.0])
def test_positions_tell_time_however_often_they_were_rebased(pause, turn):
    book = Bookkeeper(cap=4000, policy="random", tokens_per_second=2.0)
    deviations = []
    while len(deviations) < 20:
        book.watch(4, (4, 4), pause=pause, keep=0.8)
        if turn and len(deviations) == 8:
            book.turn(3)
            turn = False
        if book.memory.cursor.next > 1000:
            book.memory.rebase(target=850, limit=1000, slow=True)
            slab, cursor = book.memory.cache.bounded[0].slab, book.memory.cursor
            video = slice(book.memory.text, book.memory.held)
            start = 3  # behind the first text
            place = (slab.origin[video, :, 2] - start) / (cursor.newest - start)
            deviations.append((place - slab.time[video] / cursor.latest).abs().max().item())
    assert max(deviations) < 0.1
    assert book.memory.cursor.pace < 0.5 or pause == 0
    book.check()


@pytest.mark.parametrize("fps", [0.5, 2.0, 3.0, 5.0, 8.0, 30.0])
def test_a_slowed_video_counts_no_slower_than_two_frames_a_second(fps):
    rule, grid, rng = PositionRule(tokens_per_second=2.0), Grid(2, 2, 0), np.random.default_rng(0)
    cursor = replace(Cursor(next=10).after_patch(grid, 0.0, rule), pace=1e-3, started=0.0)
    times = 2 / fps * (np.arange(1, 400) + rng.uniform(-0.1, 0.1, 399))
    for time in times:
        cursor = cursor.after_patch(grid, time, rule)
    own, slowed = 2.0 * times[-1], cursor.newest - 10
    assert 0.8 * min(own, 2.0 * len(times)) <= slowed <= own + 1


@pytest.mark.parametrize("rule", [PositionRule(), PositionRule(tokens_per_second=2.0), PositionRule(flat=True)])
def test_rebasing_that_slows_nothing_leaves_the_count_as_it_was(rule):
    grid, one, other = Grid(2, 2, 0), Cursor(), Cursor()
    taken = 0
    for index in range(100):
        one, other = (cursor.after_patch(grid, 0.4 * index, rule) for cursor in (one, other))
        if index:
            other, taken = other.after_rebase(0, 1, rule), taken + 1
        assert other.next >= one.next - taken
        assert other.newest == one.newest - taken
        assert other.latest == one.latest == 0.4 * index


def test_only_the_limit_brings_neighbouring_patches_closer_than_they_were():
    book = Bookkeeper(cap=4000, policy="uniform", tokens_per_second=2.0)
    book.watch(40, (2, 3), pause=1.0, keep=None)  # every patch held, four positions apart: there is no gap
    end = book.memory.cursor.next
    assert book.memory.rebase(target=0, limit=end) == 0
    assert book.memory.rebase(target=0, limit=end // 2) > 0
    assert book.memory.cursor.next <= end // 2
    book.check()


def test_captions_take_a_bounded_share_of_an_endless_video_and_the_newest_stays():
    book = Bookkeeper(cap=700, policy="random", caption=(9, 1))
    for _ in range(60):
        book.watch(2, (4, 4), pause=0.0, keep=None)
        before = book.memory.compressions
        with book.memory.draft() as draft:
            book.memory.commit(draft, policy=book.policy, keep=lambda _, held: 400 if held > 500 else None)
        words = Counter(book.memory.captions)
        assert book.memory.cursor.patch - 1 in words
        if book.memory.compressions > before:
            cells = book.memory.video - words.total()
            assert words.total() <= max(0.25 * 400, cells), "beyond a share, no more words than cells"
            assert book.memory.video > 0.9 * 400
    assert book.memory.compressions > 10
    book.check()


def test_the_patches_that_a_policy_wants_most_keep_their_captions():
    book = Bookkeeper(cap=4000, policy="sliding-window", caption=(3, 1))
    book.watch(40, (4, 4), pause=0.0, keep=None)
    with book.memory.draft() as draft:
        book.memory.commit(draft, policy=book.policy, keep=lambda text, held: 16 * 10 + 4 * 10)
    assert sorted(set(book.memory.captions)) == list(range(30, 40))
    assert book.memory.video == 16 * 10 + 4 * 10
    book.check()

    oldest = Bookkeeper(cap=4000, policy="streaming-llm:sinks=1000", caption=(3, 1))
    oldest.watch(40, (4, 4), pause=0.0, keep=None)
    with oldest.memory.draft() as draft:
        oldest.memory.commit(draft, policy=oldest.policy, keep=lambda text, held: 16 * 10 + 4 * 10)
    assert sorted(set(oldest.memory.captions)) == list(range(10))
    oldest.check()


def test_flat_patches_move_as_a_whole_and_only_the_limit_pushes_their_cells_together():
    book = Bookkeeper(cap=4000, policy="random", flat=True, rotary=FLAT)
    for _ in range(30):
        book.watch(2, (4, 4), pause=0.0, keep=0.5)
    slab, held = book.memory.cache.bounded[0].slab, slice(book.memory.text, book.memory.held)

    def layout() -> torch.Tensor:
        return slab.origin[held, :, 2] - slab.origin[held, :, 3] - slab.origin[held, :, 1]

    end = book.memory.cursor.next
    assert book.memory.rebase(target=0, limit=end) > end // 4
    assert not layout().any(), "each cell stands where the first of its patch says"
    for head in range(HEADS):
        bases = slab.origin[held, head, 3].unique()
        assert (bases.diff() >= 16).all(), "patches leave each other room"
    book.check()
    tight = book.memory.held + 20
    assert book.memory.cursor.next > tight
    book.memory.rebase(target=0, limit=tight)
    assert book.memory.cursor.next <= tight
    assert layout().any()
    book.check()
    book.watch(2, (4, 4), pause=0.0, keep=None)
    book.memory.rebase(target=0, limit=1 << 30)
    book.check()


def test_a_recurrent_state_goes_back_to_what_was_committed():
    device = torch.device("cpu")
    slots = LayerShape(HEADS, DIM, device, torch.float32)
    state = StateShape((1, 6, 4), (1, 2, 3, 3), device, torch.float32)
    memory = Memory(100, [state, slots, state], ROTARY, PositionRule())
    assert memory.bytes == sum(
        part.nbytes
        for slab in [layer.slab for layer in memory.cache.bounded] + list(memory.cache._spare.values())
        for part in slab.parts()
    ) + 2 * sum(part.nbytes for layer in memory.cache.recurrent for part in layer.states())

    def run(value: float, tokens: int) -> None:
        for layer in (0, 2):
            memory.cache.update_conv_state(torch.full((1, 6, tokens), value), layer)
            memory.cache.update_recurrent_state(torch.full((1, 2, 3, 3), value), layer)
        memory.cache.update(torch.zeros(1, HEADS, tokens, DIM), torch.zeros(1, HEADS, tokens, DIM), 1)

    with memory.draft() as draft:
        draft.text(5)
        run(1.0, 5)
    assert not memory.cache.has_previous_state(0), "nothing was committed"
    with memory.draft() as draft:
        draft.text(5)
        run(2.0, 5)
        memory.commit(draft)
    with memory.draft() as draft:
        draft.text(1)
        run(3.0, 1)
    for layer in memory.cache.recurrent:
        assert layer.has_previous_state[0]
        assert all((part == 2.0).all() for part in layer.states())


@dataclass(frozen=True)
class Noting(policies.Random):
    """Notes of tokens how often it has been asked for notes, and checks what it is shown at every choice."""

    name: ClassVar[str] = "noting"
    asked: Counter[int] = field(default_factory=Counter)  # by layer
    first: dict[tuple[int, ...], float] = field(default_factory=dict)  # (layer, head, patch, cell): note
    failing: set[int] = field(default_factory=set)  # how often notes are asked for when the choice fails

    def note(self, tokens: VideoTokens) -> torch.Tensor:
        self.asked[tokens.layer] += 1
        return torch.full(tokens.cell.shape, float(self.asked[tokens.layer]))

    def select(self, tokens: VideoTokens, budget: int) -> torch.Tensor:
        if self.asked[tokens.layer] in self.failing:
            raise ZeroDivisionError
        assert tokens.noted is not None
        at = zip(tokens.patch.tolist(), tokens.cell.tolist(), tokens.noted.tolist(), strict=True)
        for head, (patches, cells, notes) in enumerate(at, tokens.first_head):
            for patch, cell, note in zip(patches, cells, notes, strict=True):
                assert self.first.setdefault((tokens.layer, head, patch, cell), note) == note
                assert not self.failing & {int(note)}
        return super().select(tokens, budget)


@pytest.mark.parametrize(
    "notes", [lambda cell: torch.zeros(cell.shape[1]), lambda cell: torch.zeros(cell.shape, dtype=torch.float64)]
)
def test_notes_that_are_not_one_float_a_token_are_an_error(notes, monkeypatch):
    monkeypatch.setattr(policies.Random, "note", lambda self, tokens: notes(tokens.cell))
    with pytest.raises(PolicyError, match=r"noted .* was asked for"):
        Bookkeeper().watch(6, (2, 3), pause=0.0, keep=0.5)


def test_a_policy_that_begins_to_note_is_asked_about_all_that_is_held():
    book = Bookkeeper()
    book.watch(6, (2, 3), pause=0.0, keep=0.5)
    book.policy = Noting()
    book.watch(2, (2, 3), pause=0.0, keep=0.9)
    assert set(book.policy.first.values()) == {1.0}


@pytest.mark.parametrize("caption", [(0, 0), (2, 1)])
def test_the_first_note_of_a_token_is_the_one_that_counts(caption):
    """Also where text stands between the tokens, sizes change, heads hold other tokens, or a compression fails."""
    policy = Noting(failing={3, 7})
    book = Bookkeeper(1000, policy, caption=caption)
    for round_, size in enumerate([SIZES[0], SIZES[0], SIZES[2], SIZES[1], SIZES[0], SIZES[2], SIZES[1], SIZES[0]]):
        book.watch(2, size, pause=0.5, keep=None)
        if round_ % 3 == 1:
            book.turn(5)
        if round_ in (2, 5):
            recorded, shown = len(book.records), held_parts(book.memory)
            with pytest.raises(ZeroDivisionError):
                book.watch(1, size, pause=0.0, keep=0.7)
            assert all(torch.equal(*pair) for pair in zip(shown, held_parts(book.memory), strict=True))
            del book.records[recorded:]
        book.watch(1, size, pause=0.0, keep=0.7)
        book.check()
    assert len(set(policy.first.values())) >= 8
    assert {policy.first[layer, 0, book.memory.cursor.patch - 1, 0] for layer in range(LAYERS)} == {10.0}


def held_parts(memory: Memory) -> list[torch.Tensor]:
    """All that the held slots store, copied."""
    return [part[: memory.held].clone() for layer in memory.cache.bounded for part in layer.slab.parts()]


def test_a_draft_that_is_not_committed_leaves_no_trace():
    book = Bookkeeper()
    book.watch(3, (2, 3), pause=0.0, keep=None)
    memory = book.memory
    before = held_parts(memory)
    cursor = memory.cursor
    with pytest.raises(ZeroDivisionError), memory.draft() as draft:
        book.records += [(-1, -1, -1, 0.0)] * 5
        book.write(draft.text(5))
        raise ZeroDivisionError
    assert all(torch.equal(one, other) for one, other in zip(before, held_parts(memory), strict=True))
    assert (memory.cursor, memory.held, memory.filled) == (cursor, 21, 21)
    assert memory.peak == 26


def test_the_cache_refuses_what_does_not_fit_and_keeps_what_it_has():
    book = Bookkeeper(cap=30)
    book.watch(4, (2, 3), pause=0.0, keep=None)
    with pytest.raises(CapError, match="27 of 30"), book.memory.draft() as draft:
        book.records += [(-1, -1, -1, 0.0)] * 4
        book.write(draft.text(4))
    book.records = book.records[:-4]
    book.check()


def test_a_policy_that_breaks_its_contract_changes_nothing():
    class Short(type(policies.make("uniform"))):
        def select(self, tokens, budget):
            return super().select(tokens, budget)[:, 1:]

    book = Bookkeeper(policy="uniform")
    book.watch(3, (2, 3), pause=0.0, keep=None)
    book.policy = Short()
    with pytest.raises(PolicyError, match=r"\(2, 17\)"):
        book.watch(3, (2, 3), pause=0.0, keep=0.5)
    book.records = book.records[:21]
    book.check()


def test_unrotated_keys_of_a_still_scene_are_equal_whatever_the_time():
    """Two tokens of one cell with one content: as cached they differ, with the rotation undone they do not."""
    book = Bookkeeper(tokens_per_second=2.0)
    book.key = lambda number: torch.ones(*number.shape, DIM)
    book.watch(6, (2, 3), pause=7.0, keep=None)
    tokens = book.memory.video_tokens(layer=0)
    by_patch = tokens.unrotate().view(HEADS, 6, 6, DIM)
    torch.testing.assert_close(by_patch[:, 1:], by_patch[:, :1].expand(-1, 5, -1, -1), atol=1e-4, rtol=0)
    assert not torch.allclose(tokens.keys.reshape(HEADS, 6, 6, DIM)[:, 1], by_patch[:, 0], atol=0.1)


def test_unrotating_spans_of_a_dialogue_undoes_their_spatial_shift_too():
    book = Bookkeeper(tokens_per_second=2.0)
    book.key = lambda number: torch.ones(*number.shape, DIM)
    book.watch(2, (2, 3), pause=0.0, keep=None)
    book.turn(7)
    book.watch(2, (2, 3), pause=0.0, keep=None)
    by_patch = book.memory.video_tokens(layer=0).unrotate().view(HEADS, 4, 6, DIM)
    torch.testing.assert_close(by_patch[:, 1:], by_patch[:, :1].expand(-1, 3, -1, -1), atol=1e-4, rtol=0)


def test_rotary_layouts_that_are_not_chunked_turn_every_temporal_frequency():
    interleaved = Rotary(ROTARY.inv_freq, axes=[0, 1, 2, 0, 1, 2, 0, 0])
    keys, shift = torch.randn(5, DIM), torch.arange(5)
    expected = interleaved.unrotate_(keys.clone(), shift, torch.zeros(5, dtype=torch.int64))
    torch.testing.assert_close(interleaved.unrotate_(keys.clone(), shift), expected)
    assert not torch.allclose(expected, keys)


def test_old_turns_leave_and_the_newest_stays():
    book = Bookkeeper(dialogue=10)
    book.watch(1, (2, 3), pause=0.0, keep=None)
    for tokens in (4, 5, 6, 40):
        book.turn(tokens)
        book.check()
    assert list(book.memory.turns) == [40]
    assert book.memory.text == 3 + 40


def test_the_storage_never_moves_or_grows():
    """All storage is allocated when the memory opens; compressions exchange slabs and allocate none."""
    book = Bookkeeper()

    def places() -> set[int]:
        slabs = [layer.slab for layer in book.memory.cache.bounded] + list(book.memory.cache._spare.values())
        return {part.data_ptr() for slab in slabs for part in slab.parts()}

    before = places()
    for _ in range(20):
        book.watch(3, (4, 4), pause=0.0, keep=0.5)
    book.memory.rebase(target=0, limit=1 << 30)
    assert places() == before
