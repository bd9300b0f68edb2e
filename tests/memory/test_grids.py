"""Sizes of frames that come and go: however many there were, cells of those that are held have numbers of their own."""

from itertools import pairwise, product
from pathlib import Path

import pytest
import torch

from infinipot import Frame, FrameError, Model, Stream
from infinipot.memory import grids
from infinipot.tokens import Grid, cell_limit
from support.bookkeeper import Bookkeeper
from support.models import pictures

FEW = 5
SIZES = list(product(range(1, 8), range(1, 8)))


def require_apart(known: tuple[Grid, ...]) -> None:
    """No two grids share a number or a size."""
    ordered = sorted(known, key=lambda grid: grid.first_cell)
    assert all(one.first_cell + one.cells <= other.first_cell for one, other in pairwise(ordered))
    assert len({(grid.rows, grid.columns) for grid in known}) == len(known)


@pytest.mark.parametrize("policy", ["sliding-window", "infinipot-v"])
def test_sizes_of_which_nothing_is_held_are_forgotten_and_their_numbers_used_again(
    policy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grids, "KNOWN_GRIDS", FEW)
    book = Bookkeeper(400, policy)
    for size in SIZES[:30]:
        book.watch(2, size, pause=0.5, keep=0.2)
        require_apart(book.memory.grids)
        assert (book.memory.grids[-1].rows, book.memory.grids[-1].columns) == size
        assert len(book.memory.grids) <= FEW
        assert cell_limit(book.memory.grids) <= 2 * FEW * 35
        book.memory.rebase(target=0, limit=1 << 30)
        book.check()


def test_more_sizes_than_can_be_told_apart_are_an_error_where_all_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grids, "KNOWN_GRIDS", FEW)
    monkeypatch.setattr(grids, "MOST_GRIDS", FEW + 1)
    book = Bookkeeper(400, "sliding-window")
    for size in SIZES[: FEW + 1]:
        book.watch(1, size, pause=0.0, keep=None)
    records, known = list(book.records), book.memory.grids
    with pytest.raises(FrameError, match=f"frames of {FEW + 1} sizes are held"):
        book.watch(1, SIZES[FEW + 1], pause=0.0, keep=None)
    assert (book.records, book.memory.grids) == (records, known)
    book.watch(1, SIZES[0], pause=0.0, keep=None)
    book.check()


def watched(stream: Stream, sizes: list[tuple[int, int]], start: float) -> Stream:
    for number, size in enumerate(sizes):
        for half, image in enumerate(pictures(2, seed=number, size=size)):
            stream.watch(Frame(image, start + number + half / 2))
    return stream


@pytest.mark.parametrize("more", ["reference=previous", "reference=recent,pooling=layerwise"])
def test_which_numbers_cells_have_means_nothing_and_is_saved(
    more: str, qwen: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same stream where all sizes are remembered, and where they are forgotten."""
    sizes = [(16 * rows, 16 * columns) for rows, columns in product(range(2, 5), range(3, 6))]
    sizes[6:6] = [(80, 80)] * 14
    told = []
    for most in (grids.KNOWN_GRIDS, FEW):
        monkeypatch.setattr(grids, "KNOWN_GRIDS", most)
        with qwen.stream(
            230, f"infinipot-v:recent=1,alpha=1,{more}", pixels=(256, 16384), reserve=70, dialogue=0, block=1
        ) as stream:
            watched(stream, sizes, 0.0).save(tmp_path / "saved")
            assert (len(stream._state.memory.grids) < len(set(sizes))) == (most == FEW)
            with qwen.restore(tmp_path / "saved") as restored:
                for each in (stream, restored):
                    answer = watched(each, sizes[3:6], 60.0).ask("What?", max_new_tokens=6)
                    memory = each._state.memory
                    keys = memory.groups[0].keys[:, : memory.held].sort(1).values
                    told.append((answer, each.contents().as_dict(), keys))
    for answer, contents, keys in told[1:]:
        assert (answer, contents) == told[0][:2]
        assert torch.equal(keys, told[0][2])
