"""Re-basing without looking: what is certain of the gaps, by numbers alone."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infinipot.memory import ALONE
from infinipot.memory import rebase as rebasing
from support.bookkeeper import FLAT, SIZES, Bookkeeper
from support.memories import parts, same

KINDS: tuple[dict[str, Any], ...] = (
    {"tokens_per_second": None},
    {"tokens_per_second": 2.0},
    {"caption": (3, 1)},
    {"flat": True, "rotary": FLAT},
)
watching = st.tuples(
    st.integers(1, 4),
    st.sampled_from(SIZES),
    st.sampled_from([0.0, 0.5, 30.0]),
    st.sampled_from([None, 0.2, 0.6]),
)
moments = st.lists(
    st.one_of(watching, watching, watching, st.integers(2, 9), st.tuples(st.floats(0, 1), st.booleans())),
    min_size=2,
    max_size=14,
)


@settings(max_examples=100)
@given(moments, st.sampled_from(KINDS))
def test_no_row_can_give_less_than_what_is_certain(moments: list[Any], kind: dict[str, Any]) -> None:
    """Whatever was watched, said and re-based before, rows evicting at random, each as it likes."""
    book = Bookkeeper(policy="random", cap=600, **kind)
    for moment in moments:
        memory = book.memory
        match moment:
            case (patches, size, pause, keep):
                book.watch(patches, size, pause, keep)
            case (share, slow):
                end = memory.cursor.next
                memory.rebase(target=int(share * end), limit=end, slow=slow)
            case tokens:
                book.turn(tokens)
        for step in (1, 2, max(memory.cursor.step, 1)):
            given = memory.state, memory.grids, memory.rule, step
            gaps = [rebasing._gaps_of(group, *given, keep_extent=True) for group in memory.groups]
            room = rebasing.least_room(gaps, memory.cursor, memory.grids, memory.rule, ALONE)
            certain = rebasing.certain_room(*given)
            assert 0 <= certain[0] <= room[0]
            assert 0 <= certain[1] <= room[1]


@pytest.mark.parametrize("turn", [False, True])
def test_what_is_certain_suffices_where_positions_are_many_and_comes_to_the_same(
    turn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[int] = []
    look = rebasing.least_room

    def looking(*given: Any) -> tuple[int, int]:
        looked.append(1)
        return look(*given)

    monkeypatch.setattr(rebasing, "least_room", looking)

    def played() -> Bookkeeper:
        book = Bookkeeper(policy="random", cap=400, tokens_per_second=2.0)
        for number in range(40):
            book.watch(2, (4, 4), pause=30.0, keep=0.75)
            if turn and number == 10:
                book.turn(5)
            if book.memory.cursor.next > 2000:
                book.memory.rebase(target=1700, limit=2000, slow=True)
        assert book.memory.state.rebases > 1
        return book

    sure = played()
    assert not looked
    monkeypatch.setattr(rebasing, "certain_room", lambda *given: (0, 0))
    other = played()
    assert looked
    assert same(parts(sure.memory), parts(other.memory))
    assert sure.memory.cursor == other.memory.cursor
