"""Sequences of several clips in one batch, with masks and with what their tokens should look at."""

from dataclasses import dataclass

import torch

from training.embedded.pixels import IGNORE, Pixels, join
from training.embedded.sequence import AGAIN, BEFORE, CHANGE, HERE, TALLY, Sequence


@dataclass(slots=True)
class Batch:
    """Sequences padded on the right to one length n.

    Attributes:
        ids: `[B, n]`.
        positions: `[3, B, n]`.
        mask: `[B, 1, n, n]`, true where a query (row) sees a key (column).
        answers: `[B, n]`, the number of the answer in `kinds` that a token belongs to, or IGNORE.
        kinds: the kind of each answer in the batch.
        looks: `[looks, 4]`: sequence, token, layer and head of each (see `Look`).
        looked_at: `[looks, n]`, true for the tokens to look at.
        asked: `[turns, 6]`: sequence, the last token before the answer, the colours and the shapes that the question
            names, two at the most of each (places in `COLOURS` and `SHAPES`), else IGNORE.
        pixels: of all clips, one behind the other.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    mask: torch.Tensor
    answers: torch.Tensor
    kinds: list[str]
    looks: torch.Tensor
    looked_at: torch.Tensor
    asked: torch.Tensor
    pixels: Pixels


def collate(sequences: list[Sequence], pixels: list[Pixels]) -> Batch:
    """Pad sequences into a batch. Padding stands last, so that nothing sees it."""
    n = max(len(sequence.ids) for sequence in sequences)
    ids, answers = torch.zeros(len(sequences), n, dtype=torch.long), torch.full((len(sequences), n), IGNORE)
    positions, branches = torch.zeros(3, len(sequences), n, dtype=torch.long), torch.zeros(len(sequences), n)
    until = torch.full((len(sequences), n), n)  # the last token that sees each
    kinds: list[str] = []
    looks: list[tuple[int, int, int, int]] = []
    looked_at: list[torch.Tensor] = []
    for i, sequence in enumerate(sequences):
        length = len(sequence.ids)
        ids[i, :length] = torch.tensor(sequence.ids)
        positions[:, i, :length] = torch.tensor(sequence.positions).T
        branches[i, :length] = torch.tensor(sequence.branches)
        own = torch.tensor(sequence.answers)
        answers[i, :length] = torch.where(own == IGNORE, own, own + len(kinds))
        kinds += sequence.kinds
        until[i, list(sequence.forgotten)] = torch.tensor(list(sequence.forgotten.values()), dtype=torch.long)
        cells = torch.tensor(sequence.cells(), dtype=torch.long).view(-1, sequence.side**2)  # [T, cells]
        shown = torch.full((n,), IGNORE)
        shown[cells.flatten()] = pixels[i].events
        for token, look in sequence.looks:
            target = torch.isin(shown, torch.tensor(look.events))
            target[token:] = False
            looks.append((i, token, look.layer, look.head))
            looked_at.append(target)
        arrived = cells[pixels[i].arrivals.view(cells.shape).any(1), -1]
        asking = torch.tensor([token for token, *_ in sequence.asked], dtype=torch.long)
        for layer, head, (tokens, targets) in (
            (AGAIN, 0, _again(shown, positions[0, i])),
            *((*head, _here(shown, cells)) for head in HERE),
            (BEFORE, 0, _at(cells[:, 0], torch.cat([cells.new_zeros(1), cells[:-1, -1]]), n)),
            (*CHANGE, _at(cells[:, -1], cells[:, 0], n)),
            (*TALLY, _tally(arrived, torch.cat([cells[:, -1], asking]), n)),
        ):
            looks.extend((i, token, layer, head) for token in tokens.tolist())
            looked_at.extend(targets)
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    mask = seen & torch.ones(n, n, dtype=torch.bool).tril() & (torch.arange(n)[:, None] <= until[:, None, :])
    all_looks = torch.tensor(looks, dtype=torch.long).view(-1, 4)
    targets = torch.stack(looked_at) if looked_at else torch.zeros(0, n, dtype=torch.bool)
    targets &= mask[all_looks[:, 0], all_looks[:, 1]]
    visible = targets.any(1)
    asked = torch.tensor([(i, *about) for i, sequence in enumerate(sequences) for about in sequence.asked]).view(-1, 6)
    return Batch(
        ids,
        positions,
        mask[:, None],
        answers,
        kinds,
        all_looks[visible],
        targets[visible],
        asked,
        join(pixels),
    )


def _again(shown: torch.Tensor, times: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where cells that show an event should look to know whether it is new.

    Args:
        shown: `[n]`, the event that each token shows, or IGNORE.
        times: `[n]`, temporal positions.

    Returns:
        the tokens that show one; for each, `[tokens, n]`, the cells of earlier patches that show the same, or else the
        very first token.
    """
    tokens = (shown != IGNORE).nonzero()[:, 0]
    before = (shown == shown[tokens, None]) & (times < times[tokens, None])
    before[:, 0] = ~before.any(1)
    return tokens, before


def _here(shown: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the last cell of a patch, which sees all of it, should look to know what it shows.

    Args:
        shown: `[n]`, the event that each token shows, or IGNORE.
        cells: `[T, cells]`, the tokens of each patch.

    Returns:
        the last cell of each patch; for each, `[T, n]`, the cells of the patch that show an event, or else the
        very first token.
    """
    targets = torch.zeros(len(cells), len(shown), dtype=torch.bool).scatter(1, cells, shown[cells] != IGNORE)
    targets[:, 0] = ~targets.any(1)
    return cells[:, -1], targets


def _at(tokens: torch.Tensor, targets: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """`tokens` `[T]` that look at one token each, of `targets` `[T]`, as `[T, n]`."""
    return tokens, torch.zeros(len(tokens), n, dtype=torch.bool).scatter(1, targets[:, None], True)


def _tally(arrived: torch.Tensor, tokens: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Where tokens should look to know how many events there were.

    Args:
        arrived: the last cell of each patch in which an event arrives.
        tokens: those that should know.

    Returns:
        `tokens`; for each, `[tokens, n]`, the arrivals so far and the very first token.
    """
    targets = torch.zeros(len(tokens), n, dtype=torch.bool)
    targets[:, arrived] = arrived <= tokens[:, None]
    targets[:, 0] = True
    return tokens, targets
