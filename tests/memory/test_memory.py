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
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary, StateShape, Transaction, stored_columns
from infinipot.memory.positions import Cursor
from infinipot.memory.rebase import close_gaps, find_gaps
from infinipot.policies.uniform import Uniform
from infinipot.tokens import Grid, NewTokens, VideoTokens
from support.bookkeeper import DIM, FLAT, HEADS, LAYERS, PARTIAL, ROTARY, SIZES, Bookkeeper
from support.memories import parts, slots, to_model, view

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


@pytest.mark.slow
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
        assert book.memory.state.dialogue <= max(book.memory.dialogue_limit, *book.memory.state.turns, 0)


def test_text_behind_a_span_of_two_grids_stays_behind_the_larger():
    book = Bookkeeper(tokens_per_second=None)
    book.watch(1, (4, 4), pause=0.0, keep=None)
    book.watch(1, (2, 3), pause=0.0, keep=None)
    book.turn(3)
    book.watch(1, (2, 3), pause=0.0, keep=None)
    book.memory.rebase(target=0, limit=book.memory.cursor.next)
    book.check()


def test_turned_keys_are_those_that_a_model_makes_at_long_positions():
    """At 100,000 positions float32 angles are a hundredth of a radian off: the same error is in the model's keys."""
    rotary = Rotary(1e6 ** (-torch.arange(64) / 64), axes=[0] * 16 + [1] * 24 + [2] * 24)
    raw, place = torch.randn(500, 128), torch.randint(0, 128_000, (3, 500))
    angle = place.T[:, list(rotary.axes)].float() * rotary.inv_freq
    cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
    made = raw * cos + torch.cat([-raw[:, 64:], raw[:, :64]], -1) * sin
    turned = rotary.rotate_(rotary.to_stored(raw), rotary.angles([*place], 128_000))
    torch.testing.assert_close(to_model(rotary, turned), made, atol=1e-5, rtol=0)
    assert torch.equal(to_model(rotary, rotary.to_stored(raw)), raw)


@pytest.mark.slow
def test_positions_do_not_drift_over_many_rebasings():
    """Keys that were moved a thousand times are those rotated once: `check` compares them within 1e-5."""
    book = Bookkeeper(policy="random:seed=3", tokens_per_second=2.0)
    for _ in range(1000):
        book.watch(2, (4, 4), pause=3.0, keep=0.75)
        book.memory.rebase(target=200, limit=1 << 30)
    assert book.memory.state.rebases > 900
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
    deviations: list[float] = []
    while len(deviations) < 20:
        book.watch(4, (4, 4), pause=pause, keep=0.8)
        if turn and len(deviations) == 8:
            book.turn(3)
            turn = False
        if book.memory.cursor.next > 1000:
            book.memory.rebase(target=850, limit=1000, slow=True)
            own, cursor = slots(book.memory), book.memory.cursor
            start = 3  # behind the first text
            place = (own.temporal - start) / (cursor.newest - start)
            deviations.append((place - own.time / cursor.latest)[:, book.memory.state.text :].abs().max().item())
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
        before = book.memory.state.compressions
        with book.memory.transaction() as transaction:
            book.memory.commit(transaction, policy=book.policy, budget_for=lambda _, held: 400 if held > 500 else None)
        words = Counter(book.memory.state.captions)
        assert book.memory.cursor.patch - 1 in words
        if book.memory.state.compressions > before:
            cells = book.memory.state.video - words.total()
            assert words.total() <= max(0.25 * 400, cells), "beyond a share, no more words than cells"
            assert book.memory.state.video > 0.9 * 400
    assert book.memory.state.compressions > 10
    book.check()


def test_the_patches_that_a_policy_wants_most_keep_their_captions():
    book = Bookkeeper(cap=4000, policy="sliding-window", caption=(3, 1))
    book.watch(40, (4, 4), pause=0.0, keep=None)
    with book.memory.transaction() as transaction:
        book.memory.commit(transaction, policy=book.policy, budget_for=lambda text, held: 16 * 10 + 4 * 10)
    assert sorted(set(book.memory.state.captions)) == list(range(30, 40))
    assert book.memory.state.video == 16 * 10 + 4 * 10
    book.check()

    oldest = Bookkeeper(cap=4000, policy="streaming-llm:sinks=1000", caption=(3, 1))
    oldest.watch(40, (4, 4), pause=0.0, keep=None)
    with oldest.memory.transaction() as transaction:
        oldest.memory.commit(transaction, policy=oldest.policy, budget_for=lambda text, held: 16 * 10 + 4 * 10)
    assert sorted(set(oldest.memory.state.captions)) == list(range(10))
    oldest.check()


def test_flat_patches_move_as_a_whole_and_only_the_limit_pushes_their_cells_together():
    book = Bookkeeper(cap=4000, policy="random", flat=True, rotary=FLAT)
    for _ in range(30):
        book.watch(2, (4, 4), pause=0.0, keep=0.5)
    video = slice(book.memory.state.text, book.memory.held)

    def layout() -> torch.Tensor:
        own = slots(book.memory)
        return (own.temporal - own.base - own.cell)[:, video]

    end = book.memory.cursor.next
    assert book.memory.rebase(target=0, limit=end) > end // 4
    assert not layout().any(), "each cell stands where the first of its patch says"
    for head in range(HEADS):
        bases = slots(book.memory).base[head, video].unique()
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
    shape = LayerShape(HEADS, DIM, device, torch.float32)
    state = StateShape((1, 6, 4), (1, 2, 3, 3), device, torch.float32)
    memory = Memory(100, [state, shape, state], ROTARY, PositionRule())
    states = sum(part.nbytes for layer in memory.states.recurrent for part in layer.states())
    assert memory.bytes == sum(group.bytes for group in memory.groups) + 2 * states

    def run(transaction: Transaction, value: float, tokens: int) -> None:
        transaction.text(tokens)
        for layer in (0, 2):
            memory.states.update_conv_state(torch.full((1, 6, tokens), value), layer)
            memory.states.update_recurrent_state(torch.full((1, 2, 3, 3), value), layer)
        memory.step(transaction).store(1, torch.zeros(HEADS, tokens, DIM), torch.zeros(HEADS, tokens, DIM))

    with memory.transaction() as transaction:
        run(transaction, 1.0, 5)
    assert not memory.states.has_previous_state(0), "nothing was committed"
    with memory.transaction() as transaction:
        run(transaction, 2.0, 5)
        memory.commit(transaction)
    with memory.transaction() as transaction:
        run(transaction, 3.0, 1)
    for layer in memory.states.recurrent:
        assert layer.has_previous_state[0]
        assert all((part == 2.0).all() for part in layer.states())


@dataclass(frozen=True)
class Recording(policies.Random):
    """Stores of each token how often it has been asked to measure, and checks what it is shown at every choice."""

    name: ClassVar[str] = "recording"
    asked: list[int] = field(default_factory=lambda: [0])
    first: dict[tuple[int, ...], float] = field(default_factory=dict)  # (layer, head, patch, cell): what was stored
    failing: set[int] = field(default_factory=set)  # how often it has measured when the choice fails
    columns: ClassVar[tuple[str, ...]] = ("asked",)

    def measure(self, new: NewTokens) -> dict[str, torch.Tensor]:
        self.asked[0] += 1
        return {"asked": torch.full(new.shape, float(self.asked[0]))}

    def select(self, tokens: VideoTokens, budget: int) -> torch.Tensor:
        if self.asked[0] in self.failing:
            raise ZeroDivisionError
        shown = (part.tolist() for part in (tokens.patch, tokens.cell, tokens.columns["asked"]))
        for layer, head, *row in zip(tokens.layer, tokens.head, *shown, strict=True):
            for patch, cell, stored in zip(*row, strict=True):
                assert self.first.setdefault((layer, head, patch, cell), stored) == stored
                assert not self.failing & {int(stored)}
        return super().select(tokens, budget)


@pytest.mark.parametrize(
    "measured",
    [
        lambda shape: {},
        lambda shape: {"asked": torch.zeros(shape[1])},
        lambda shape: {"asked": torch.zeros(shape, dtype=torch.float64)},
    ],
)
def test_a_column_that_is_not_one_float_a_token_is_an_error(measured, monkeypatch):
    monkeypatch.setattr(Recording, "measure", lambda self, new: measured(new.shape))
    book = Bookkeeper(policy=Recording())
    with pytest.raises(PolicyError, match=r"'asked'.* was asked for"):
        book.watch(6, (2, 3), pause=0.0, keep=0.5)
    book.records.clear()
    book.check()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda kept, length: kept.int(), "int32 indices"),
        (lambda kept, length: kept[:, 1:], "int64 of shape"),
        (lambda kept, length: kept + length - 5, "tokens are numbered from 0 to"),
        (lambda kept, length: kept - 1, "returned indices from -1 to"),
        (lambda kept, length: kept.index_copy(1, torch.tensor([3]), kept[:, 5:6]), "an index more than once"),
        (lambda kept, length: torch.full_like(kept, length - 1), "an index more than once"),
    ],
)
def test_a_choice_that_is_not_what_was_asked_for_is_an_error_that_changes_nothing(wrong, told, monkeypatch):
    book = Bookkeeper(policy="uniform")
    book.watch(2, (2, 3), pause=0.0, keep=None)
    before, uniform = list(book.records), Uniform.select
    with monkeypatch.context() as patch:
        patch.setattr(Uniform, "select", lambda *given: wrong(uniform(*given), given[1].shape[1]))
        with pytest.raises(PolicyError, match=f"'uniform' .*{told}"):
            book.watch(4, (2, 3), pause=0.0, keep=0.5)
    book.records = before
    book.check()
    book.watch(4, (2, 3), pause=0.0, keep=0.5)
    book.check()


def test_a_column_does_not_take_the_name_of_one_of_the_memorys():
    with pytest.raises(PolicyError, match="'patch'"):
        stored_columns(PositionRule(), ["patch"])


@pytest.mark.parametrize("caption", [(0, 0), (2, 1)])
def test_a_token_is_measured_once_when_it_comes_in(caption):
    """Also where text stands between the tokens, sizes change, heads hold other tokens, or a compression fails."""
    policy = Recording(failing={6, 13})
    book = Bookkeeper(1000, policy, caption=caption)
    for round_, size in enumerate([SIZES[0], SIZES[0], SIZES[2], SIZES[1], SIZES[0], SIZES[2], SIZES[1], SIZES[0]]):
        book.watch(2, size, pause=0.5, keep=None)
        if round_ % 3 == 1:
            book.turn(5)
        if policy.asked[0] + 1 in policy.failing:
            recorded, shown = len(book.records), [part.clone() for part in parts(book.memory)]
            with pytest.raises(ZeroDivisionError):
                book.watch(1, size, pause=0.0, keep=0.7)
            assert all(torch.equal(*pair) for pair in zip(shown, parts(book.memory), strict=True))
            del book.records[recorded:]
        book.watch(1, size, pause=0.0, keep=0.7)
        book.check()
    assert len(set(policy.first.values())) >= 8
    assert policy.asked[0] == 18


class Previous(Recording):
    """Stores the value of each token's previous one, as its key tells it."""

    name: ClassVar[str] = "previous"

    def measure(self, new: NewTokens) -> dict[str, torch.Tensor]:
        return {"asked": torch.where(new.has_previous, new.previous[..., 0], -7.0)}

    def select(self, tokens: VideoTokens, budget: int) -> torch.Tensor:
        return policies.Random.select(self, tokens, budget)


@pytest.mark.parametrize("caption", [(0, 0), (2, 1)])
def test_a_new_token_is_shown_its_cells_latest_one_that_its_row_holds(caption):
    """Against a search through all that the row held when the token came."""
    book = Bookkeeper(1000, Previous(), caption=caption)
    for round_, size in enumerate([SIZES[0], SIZES[2], SIZES[0], SIZES[1], SIZES[0], SIZES[2]] * 2):
        kept = [slots(book.memory, layer) for layer in range(LAYERS)]
        known = book.memory.cursor.patch
        book.watch(3, size, pause=0.0, keep=None)
        for layer, before in enumerate(kept):
            own, group = slots(book.memory, layer), book.memory.groups[0]
            for head, row in enumerate(range(*group.rows_of(layer).indices(group.count))):
                numbers, asked = (
                    part[row, : book.memory.held].tolist() for part in (group.values[..., 0], group.columns["asked"])
                )
                stored = dict(zip(numbers, asked, strict=True))
                latest = dict(zip(before.cell[head].tolist(), before.values[head, :, 0], strict=True))
                for patch, cell, number in zip(
                    own.patch[head], own.cell[head].tolist(), own.values[head, :, 0], strict=True
                ):
                    if cell >= 0 and patch >= known:
                        expected = book.key(latest[cell])[0] if cell in latest else torch.tensor(-7.0)
                        assert abs(stored[float(number)] - float(expected)) < 1e-5
                        latest[cell] = number
        if round_ % 3 == 1:
            book.turn(5)
        with book.memory.transaction() as transaction:
            book.memory.commit(transaction, policy=book.policy, budget_for=lambda _, video: int(0.6 * video))
        book.check()


def test_a_draft_that_is_not_committed_leaves_no_trace():
    book = Bookkeeper()
    book.watch(3, (2, 3), pause=0.0, keep=None)
    memory = book.memory
    before = [part.clone() for part in parts(memory)]
    cursor = memory.cursor
    with pytest.raises(ZeroDivisionError), memory.transaction() as transaction:
        book.records += [(-1, -1, -1, 0.0)] * 5
        transaction.text(5)
        book.write(transaction)
        raise ZeroDivisionError
    assert all(torch.equal(one, other) for one, other in zip(before, parts(memory), strict=True))
    assert (memory.cursor, memory.held, memory.filled) == (cursor, 21, 21)
    assert memory.peak == 26


def test_the_cache_refuses_what_does_not_fit_and_keeps_what_it_has():
    book = Bookkeeper(cap=30)
    book.watch(4, (2, 3), pause=0.0, keep=None)
    with pytest.raises(CapError, match="27 of 30"), book.memory.transaction() as transaction:
        book.records += [(-1, -1, -1, 0.0)] * 4
        transaction.text(4)
        book.write(transaction)
    book.records = book.records[:-4]
    book.check()


def test_a_policy_that_breaks_its_contract_changes_nothing():
    class Short(Uniform):
        def select(self, tokens, budget):
            return super().select(tokens, budget)[:, 1:]

    book = Bookkeeper(policy="uniform")
    book.watch(3, (2, 3), pause=0.0, keep=None)
    book.policy = Short()
    with pytest.raises(PolicyError, match=r"\(4, 17\)"):
        book.watch(3, (2, 3), pause=0.0, keep=0.5)
    book.records = book.records[:21]
    book.check()


def test_keys_of_a_still_scene_are_equal_whatever_the_time():
    """Tokens of one cell with one content: turned to their positions they differ, as policies see them they do not."""
    book = Bookkeeper(tokens_per_second=2.0)
    book.key = lambda number: torch.ones(*number.shape, DIM)
    book.watch(2, (2, 3), pause=7.0, keep=None)
    book.turn(7)
    book.watch(4, (2, 3), pause=7.0, keep=None)
    tokens = view(book.memory)
    by_patch = tokens.keys.view(LAYERS * HEADS, 6, 6, DIM)
    assert torch.equal(by_patch, by_patch[:, :1].expand_as(by_patch))
    assert not torch.allclose(tokens.rotated.view(by_patch.shape)[:, 1], by_patch[:, 0], atol=0.1)


@given(st.permutations([0, 0, 0, 1, 1, 2, 2, 2]), st.integers(0, 3))
def test_any_layout_of_axes_turns_as_the_model_does(axes, unturned):
    rotary = Rotary(ROTARY.inv_freq, axes=axes)
    raw, place = torch.randn(5, DIM + 2 * unturned), torch.randint(0, 900, (3, 5))
    angle = place.T[:, axes].float() * rotary.inv_freq
    first, second, rest = raw[:, :8], raw[:, 8:16], raw[:, 16:]
    made = torch.cat([first * angle.cos() - second * angle.sin(), second * angle.cos() + first * angle.sin(), rest], -1)
    turned = rotary.rotate_(rotary.to_stored(raw), rotary.angles([*place], 900))
    torch.testing.assert_close(to_model(rotary, turned), made, atol=1e-5, rtol=0)


def test_old_turns_leave_and_the_newest_stays():
    book = Bookkeeper(dialogue=10)
    book.watch(1, (2, 3), pause=0.0, keep=None)
    for tokens in (4, 5, 6, 40):
        book.turn(tokens)
        book.check()
    assert book.memory.state.turns == (40,)
    assert book.memory.state.text == 3 + 40


def test_the_storage_never_moves_or_grows():
    """All storage is allocated when the memory opens; compressions move tokens in it."""
    book = Bookkeeper(policy="infinipot-v")

    def places() -> set[int]:
        stored = [part for group in book.memory.groups for part in (group.keys, group.values, *group.columns.values())]
        return {part.data_ptr() for part in stored}

    before = places()
    for _ in range(20):
        book.watch(3, (4, 4), pause=0.0, keep=0.5)
    book.memory.rebase(target=0, limit=1 << 30)
    assert places() == before
