"""The decode loop. Knows logits and a way to get the next ones, not caches or videos."""

from collections.abc import Callable, Collection, Iterator

from torch import Tensor


def greedy(
    logits: Tensor,
    step: Callable[[int], Tensor],
    stop: Collection[int],
    limit: int,
    *,
    feed_last: bool = False,
) -> Iterator[int]:
    """The likeliest token again and again.

    Args:
        logits: `[vocab]`, behind the prompt.
        step: runs the model over one token and returns the next logits.
        stop: tokens that end the answer; they are not yielded.
        limit: tokens at the most.
        feed_last: whether the model also runs over the last token of an answer that `limit` ended.
    """
    for remaining in range(limit - 1, -1, -1):
        token = int(logits.argmax())
        if token in stop:
            return
        yield token
        if remaining or feed_last:
            logits = step(token)
