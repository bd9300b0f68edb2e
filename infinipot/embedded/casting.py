"""Who appears in a clip of the synthetic world: the colours and shapes of its events, in order."""

import numpy as np

from infinipot.embedded.words import COLOURS, SHAPES


def likely(events: int) -> tuple[float, float, float]:
    """The weights with which each of CASTS is drawn for so many events."""
    if events < 3:
        return (1.0, 0.0, 0.0)
    return (0.45, 0.2, 0.35) if events <= len(COLOURS) else (0.0, 0.7, 0.3)


def names_of(rng: np.random.Generator, cast: str, count: int) -> list[tuple[str, str]]:
    """The colours and shapes of `count` events, in order."""
    if cast == "varied":
        return list(zip(_deal(rng, list(COLOURS), count), _deal(rng, list(SHAPES), count), strict=True))
    colours, shapes = rng.permutation(list(COLOURS)).tolist(), rng.permutation(list(SHAPES)).tolist()
    regulars = 1 if cast == "odd" else int(rng.integers(1, 3))
    guests = 1 if cast == "odd" else int(rng.integers(1, 5))
    guests = min(guests, max(1, count - regulars - 1))
    order = [*range(regulars, regulars + guests), *(i % regulars for i in range(count - guests))]
    return [(colours[i], shapes[i]) for i in rng.permutation(order[:count])]


def _deal(rng: np.random.Generator, deck: list[str], count: int) -> list[str]:
    """`count` cards from decks shuffled one after the other."""
    return [card for _ in range(-(-count // len(deck))) for card in rng.permutation(deck).tolist()][:count]
