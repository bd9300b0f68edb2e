"""Questions to the inside of the model while it learns. Thrown away with the training; no part of a checkpoint."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel, apply_rotary_pos_emb

from infinipot.embedded.batch import Batch
from infinipot.embedded.checkpoint import HIDDEN, MAX_POSITION
from infinipot.embedded.pixels import IGNORE, Pixels
from infinipot.embedded.sequence import NAMED, TOLD
from infinipot.embedded.world import COLOURS, LONGEST_LIST, PLACES, SHAPES

ELAPSED = 20  # steps of time since the first patch, each half an octave
ARRIVED, COUNTED = (1, 2), (2, 3, 4)  # how many decoder layers arrivals and ordinals are told behind
_NAMES = [len(COLOURS)] * 2 + [len(SHAPES)] * 2  # classes of two colours and two shapes
_FOUND = [*_NAMES, *[len(PLACES)] * 2]  # and of two places
_RARE = (0.2, 1.0)  # weights of the common and the rare case


class Probes(nn.Module):
    """What is asked of the model's inside while it learns; no part of the checkpoint.

    Answers come easily to a model whose visual tokens already say what they are of: where and when, whether a shape
    arrives, the how-manieth it is, what a question names, and what was found where it looked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Linear(HIDDEN, 4)  # of a visual token: is a centre here, does the second frame show it
        self.placed = nn.Linear(HIDDEN, len(PLACES) + ELAPSED)  # of a cell, behind the first decoder layer
        self.arrived = nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in ARRIVED)
        self.counted = nn.ModuleList(nn.Linear(HIDDEN, len(PLACES) + LONGEST_LIST + 1) for _ in COUNTED)
        self.asked = nn.Linear(HIDDEN, sum(_NAMES))  # of a question's last token, before it looks
        # Of a token behind a layer that looks: what two of its heads were to look at, and where that was.
        self.found = nn.ModuleDict({str(layer): nn.Linear(HIDDEN, sum(_FOUND)) for layer in (NAMED, TOLD)})

    def vision_loss(self, visual: torch.Tensor, pixels: Pixels) -> torch.Tensor:
        """For visual tokens `[cells, hidden]` as the vision tower gives them."""
        centre, lasting = self.seen(visual).split(2, -1)
        return 0.5 * _mean_loss(centre, pixels.centres, _RARE) + 0.5 * _mean_loss(lasting, pixels.lasting)

    def decoder_loss(
        self, hidden: Sequence[torch.Tensor], batch: Batch, is_cell: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """For hidden states `[B, n, hidden]` before the first decoder layer and behind each; `is_cell` says where."""
        pixels = batch.pixels
        time = batch.positions[0] - batch.positions[0].masked_fill(~is_cell, MAX_POSITION).amin(1, keepdim=True)
        octave = ((time[is_cell] + 1).log2() * ELAPSED / math.log2(MAX_POSITION)).long()
        ordinals = pixels.events.clamp(max=LONGEST_LIST)
        shown = ordinals != IGNORE
        corner, elapsed = self.placed(hidden[1][is_cell]).split([len(PLACES), ELAPSED], -1)
        losses = {
            "elapsed": 0.3 * F.cross_entropy(elapsed, octave),
            "corner1": 0.3 * F.cross_entropy(corner, pixels.corners),
        }
        for layer, probe in zip(ARRIVED, self.arrived, strict=True):
            losses[f"arrival{layer}"] = 0.5 * _mean_loss(probe(hidden[layer][is_cell]), pixels.arrivals, _RARE)
        for layer, probe in zip(COUNTED, self.counted, strict=True):
            corner, ordinal = probe(hidden[layer][is_cell]).split([len(PLACES), LONGEST_LIST + 1], -1)
            losses[f"corner{layer}"] = 0.3 * _mean_loss(corner, pixels.corners.where(shown, IGNORE))
            losses[f"ordinal{layer}"] = 0.3 * _mean_loss(ordinal, ordinals)
        sequence, token, *named = batch.asked.T
        asked = self.asked(hidden[NAMED][sequence, token]).split(_NAMES, -1)
        losses["asked"] = torch.stack([_mean_loss(*pair) for pair in zip(asked, named, strict=True)]).mean()
        return losses | {
            f"found{layer}": self._found_loss(layer, hidden[layer + 1], batch, is_cell) for layer in (NAMED, TOLD)
        }

    def _found_loss(self, layer: int, hidden: torch.Tensor, batch: Batch, is_cell: torch.Tensor) -> torch.Tensor:
        """For the hidden states `[B, n, hidden]` behind a layer that looks."""
        own = batch.looks[:, 2] == layer
        sequence, token, _, head = batch.looks[own].T
        looked_at = batch.looked_at[own]

        def of_cells(labels: torch.Tensor) -> torch.Tensor:
            return torch.full_like(batch.ids, IGNORE).masked_scatter(is_cell, labels)[sequence]

        cell = looked_at.int().argmax(1, keepdim=True)
        colour, shape, corner = (
            of_cells(labels).gather(1, cell)[:, 0]
            for labels in (batch.pixels.colours, batch.pixels.shapes, batch.pixels.corners)
        )
        events = of_cells(batch.pixels.events)
        several = (looked_at & (events != events.gather(1, cell))).any(1)
        corner = corner.masked_fill(several, IGNORE)
        found = self.found[str(layer)](hidden[sequence, token]).split(_FOUND, -1)
        terms = []
        for place, labels in enumerate((colour, colour, shape, shape, corner, corner)):
            terms.append(_mean_loss(found[place], labels.where((head > 0) == place % 2, IGNORE)))
        return 0.5 * torch.stack(terms).mean()


def look_loss(decoder: Qwen2_5_VLTextModel, hidden: Sequence[torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
    """Minus the log of the attention that looks (see `Look`) give to what they should, by layer and head.

    Looking something up is two steps, where to look and what to read there, of which neither pays without the other:
    answers alone teach them late and at once. This teaches the first by itself.
    """
    rotary = decoder.rotary_emb(hidden[0], batch.positions)
    losses: dict[str, torch.Tensor] = {}
    for number in batch.looks[:, 2].unique().tolist():
        layer: Any = decoder.layers[number]
        attention, states = layer.self_attn, layer.input_layernorm(hidden[number])
        queries, keys = (
            project(states).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj)
        )
        queries, keys = apply_rotary_pos_emb(queries, keys, *rotary)
        for head in batch.looks[batch.looks[:, 2] == number, 3].unique().tolist():
            terms = []
            for clip in range(len(batch.ids)):
                own = (batch.looks == batch.looks.new_tensor([clip, 0, number, head]))[:, [0, 2, 3]].all(1)
                token = batch.looks[own, 1]
                scores = queries[clip, head, token] @ keys[clip, head // attention.num_key_value_groups].T
                scores = (scores * attention.scaling).masked_fill(~batch.mask[clip, 0, token], -torch.inf)
                there = scores.masked_fill(~batch.looked_at[own], -torch.inf)
                terms.append(scores.logsumexp(-1) - there.logsumexp(-1))
            losses[f"look{number}{head}"] = torch.cat(terms).mean() / 4
    return losses


def _mean_loss(logits: torch.Tensor, labels: torch.Tensor, weight: tuple[float, ...] | None = None) -> torch.Tensor:
    """Cross-entropy over the tokens that have a label; 0 where none has."""
    if not (labels != IGNORE).any():
        return logits.sum() * 0
    return F.cross_entropy(logits, labels, None if weight is None else logits.new_tensor(weight), ignore_index=IGNORE)
