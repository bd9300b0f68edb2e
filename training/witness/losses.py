"""What the witness learns from: its answers, what its visual tokens say, and the language that it had."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from training.witness.decoder import Decoder
from training.witness.lessons import IGNORE

EMPTY_WEIGHT = 0.2  # of a cell that shows nothing: most do


def mask_of(branches: Tensor, until: Tensor, dtype: torch.dtype) -> Tensor:
    """What is added to attention scores, `[B, 1, n, n]`: 0 where a query (row) sees a key (column), else -inf.

    A token sees what came before it in the trunk and in its own branch, as long as that is not hidden.
    """
    n = branches.shape[1]
    order = torch.arange(n, device=branches.device)
    seen = (branches[:, None, :] == 0) | (branches[:, None, :] == branches[:, :, None])
    seen &= (order[None, :] <= order[:, None]) & (order[:, None] <= until[:, None, :])
    return torch.zeros(seen.shape, dtype=dtype, device=seen.device).masked_fill_(~seen, -torch.inf)[:, None]


def answer_loss(logits: Tensor, targets: Tensor, owners: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Cross-entropy of answer tokens, and which answers are right.

    A long answer weighs more than a short one, but not as many times as it has tokens: by the root of that.

    Args:
        logits: `[tokens, vocabulary]`; targets: `[tokens]`; owners: `[tokens]`, the answer that each belongs to.
        count: number of answers.

    Returns:
        the loss; `[count]` bool, true where every token of the answer, <|im_end|> too, is the likeliest one.
    """
    lengths = torch.bincount(owners, minlength=count).clamp(min=1)
    weights = lengths[owners].float() ** -0.5
    loss = (F.cross_entropy(logits.float(), targets, reduction="none") * weights).sum() / weights.sum()
    hits = (logits.argmax(-1) == targets).int()
    right = torch.ones(count, dtype=torch.int32, device=logits.device).scatter_reduce(0, owners, hits, "amin")
    return loss, right.bool()


class Grounding:
    """What visual tokens should say: the words for the colour and the shape that their cells show.

    Args:
        embeddings: of all words, `[vocabulary, hidden]`.
        words: ids of the words for colours and of those for shapes, each with the word for nothing behind.
    """

    def __init__(self, embeddings: Tensor, words: tuple[list[int], list[int]]) -> None:
        middle = embeddings.mean(0)
        self._words = [embeddings[torch.tensor(ids, device=embeddings.device)] - middle for ids in words]
        self._middle = middle

    def loss(self, visual: Tensor, colours: Tensor, shapes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, and of the cells that show something how many say both words right, and how many there are."""
        visual = visual.float() - self._middle
        terms, right, shown = [], None, None
        for words, labels in zip(self._words, (colours.long(), shapes.long()), strict=True):
            logits = visual @ words.T
            weight = logits.new_ones(len(words))
            weight[-1] = EMPTY_WEIGHT
            terms.append(F.cross_entropy(logits, labels, weight, ignore_index=IGNORE))
            hit = logits.argmax(-1) == labels
            right = hit if right is None else right & hit
            shown = (labels != IGNORE) & (labels < len(words) - 1)
        assert right is not None
        assert shown is not None
        return torch.stack(terms).sum(), (right & shown).sum(), shown.sum()


def language_loss(decoder: Decoder, ids: Tensor, layers: list[tuple[Tensor, ...]]) -> Tensor:
    """How far the decoder's predictions of text `[B, n]` are from those it gave before it learned (KL divergence)."""
    positions = torch.arange(ids.shape[1], device=ids.device).expand(3, *ids.shape)
    with torch.no_grad():
        x = decoder.embed(ids)
        before = decoder.logits(decoder(x, positions, None, decoder.merged(layers[0][0].dtype, base=True)))
        before = before[..., : len(decoder.table)].float().log_softmax(-1)
    now = decoder.logits(decoder(x, positions, None, layers))
    now = now.float().log_softmax(-1)[..., : len(decoder.table)]
    return (before.exp() * (before - now)).sum(-1).mean()
