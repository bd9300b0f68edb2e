"""Questions to the inside of the model while it learns. Thrown away with the training; no part of a checkpoint."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VLTextModel, apply_rotary_pos_emb

from infinipot.embedded.checkpoint import CELLS, HIDDEN, MAX_POSITION
from infinipot.embedded.words import COLOURS, LONGEST_LIST, PLACES, SHAPES
from training.embedded.batch import Batch
from training.embedded.pixels import IGNORE, Pixels
from training.embedded.sequence import AGAIN, BEFORE, CHANGE, NAMED, TALLY, TOLD

ELAPSED = 40  # steps of time since the first patch, each a quarter of an octave
FIRST_WEIGHT = 4  # of the first token beside arrivals in a tally: it tells n of them as n / (n + 4)
ARRIVED, COUNTED = (1, 2), (2, 3, 4)  # how many decoder layers arrivals and ordinals are told behind
_NAMES = [len(COLOURS)] * 2 + [len(SHAPES)] * 2  # classes of two colours and two shapes
_FOUND = [*_NAMES, *[len(PLACES)] * 2, *[LONGEST_LIST + 1] * 2, *[ELAPSED] * 2]  # two places, ordinals and times, too
_RARE = (0.2, 1.0)  # weights of the common and the rare case


class Probes(nn.Module):
    """What is asked of the model's inside while it learns; no part of the checkpoint.

    Answers come easily to a model whose visual tokens already say what they are of: where and when, whether a shape
    arrives, the how-manieth it is, what a question names and how late it is, and what was found where it looked.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen = nn.Linear(HIDDEN, 4)  # of a visual token: is a centre here, does the second frame show it
        self.placed = nn.Linear(HIDDEN, len(PLACES) + ELAPSED)  # of a cell, behind the first decoder layer
        self.arrived = nn.ModuleList(nn.Linear(HIDDEN, 2) for _ in ARRIVED)
        self.counted = nn.ModuleList(nn.Linear(HIDDEN, len(PLACES) + LONGEST_LIST + 1) for _ in COUNTED)
        # Of a patch's last cell, whether its second frame shows an event; of its first, whether that of the one before
        # did; and of the last again, whether one arrives.
        self.lasted, self.had_lasted, self.begun = (nn.Linear(HIDDEN, 2) for _ in range(3))
        self.tallied = nn.Linear(HIDDEN, LONGEST_LIST + 1)  # how many events there were
        self.asked = nn.Linear(HIDDEN, sum(_NAMES) + ELAPSED)  # of a question's last token, before it looks
        # Of a token behind a layer that looks: what two of its heads were to look at, and where and when that was.
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
        times = ((time.clamp(min=0) + 1).log2() * ELAPSED / math.log2(MAX_POSITION)).long()
        ordinals = pixels.events.clamp(max=LONGEST_LIST)
        shown = ordinals != IGNORE
        corner, elapsed = self.placed(hidden[1][is_cell]).split([len(PLACES), ELAPSED], -1)
        losses = {
            "elapsed": 0.3 * F.cross_entropy(elapsed, times[is_cell]),
            "corner1": 0.3 * F.cross_entropy(corner, pixels.corners),
        }
        for layer, probe in zip(ARRIVED, self.arrived, strict=True):
            losses[f"arrival{layer}"] = 0.5 * _mean_loss(probe(hidden[layer][is_cell]), pixels.arrivals, _RARE)
        for layer, probe in zip(COUNTED, self.counted, strict=True):
            corner, ordinal = probe(hidden[layer][is_cell]).split([len(PLACES), LONGEST_LIST + 1], -1)
            losses[f"corner{layer}"] = 0.3 * _mean_loss(corner, pixels.corners.where(shown, IGNORE))
            losses[f"ordinal{layer}"] = 0.3 * _mean_loss(ordinal, ordinals)
        cells = (-1, CELLS**2)
        lasted, arrived = (pixels.lasting == 1).view(cells).any(1).long(), pixels.arrivals.view(cells).amax(1)
        had_lasted = lasted.roll(1)
        had_lasted[(is_cell.sum(1) // CELLS**2).cumsum(0).roll(1) % len(lasted)] = 0  # nothing was before a clip
        for name, probe, layer, cell, label in (
            ("lasted", self.lasted, AGAIN, -1, lasted),
            ("had_lasted", self.had_lasted, BEFORE, 0, had_lasted),
            ("begun", self.begun, CHANGE[0], -1, arrived),
        ):
            states = hidden[layer + 1][is_cell].view(*cells, HIDDEN)[:, cell]
            losses[name] = 0.5 * F.cross_entropy(probe(states), label)
        own = (batch.looks[:, 2:] == batch.looks.new_tensor(TALLY)).all(1)
        sequence, token = batch.looks[own, :2].T
        count = (batch.looked_at[own].sum(1) - 1).clamp(max=LONGEST_LIST)
        losses["tallied"] = 0.5 * _mean_loss(self.tallied(hidden[TALLY[0] + 1][sequence, token]), count)
        sequence, token, *named = batch.asked.T
        *asked, now = self.asked(hidden[NAMED][sequence, token]).split([*_NAMES, ELAPSED], -1)
        losses["asked"] = torch.stack([_mean_loss(*pair) for pair in zip(asked, named, strict=True)]).mean()
        losses["late"] = 0.3 * F.cross_entropy(now, times[sequence, token])
        return losses | {
            f"found{layer}": self._found_loss(layer, hidden[layer + 1], batch, is_cell, times)
            for layer in (NAMED, TOLD)
        }

    def _found_loss(
        self, layer: int, hidden: torch.Tensor, batch: Batch, is_cell: torch.Tensor, times: torch.Tensor
    ) -> torch.Tensor:
        """For the hidden states `[B, n, hidden]` behind a layer that looks, and the steps of time `[B, n]`."""
        own = batch.looks[:, 2] == layer
        for of_patches in (CHANGE, TALLY):
            own &= (batch.looks[:, 2:] != batch.looks.new_tensor(of_patches)).any(1)
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
        first = events.gather(1, cell)[:, 0].clamp(max=LONGEST_LIST)
        time = times[sequence].gather(1, cell)[:, 0]
        found = self.found[str(layer)](hidden[sequence, token]).split(_FOUND, -1)
        terms = []
        for number, labels in enumerate(
            (colour, shape, *(each.masked_fill(several, IGNORE) for each in (corner, first, time)))
        ):
            terms += [
                _mean_loss(found[2 * number + place], labels.where((head > 0) == place, IGNORE)) for place in range(2)
            ]
        return torch.stack(terms).sum() / 12


def look_loss(decoder: Qwen2_5_VLTextModel, hidden: Sequence[torch.Tensor], batch: Batch) -> dict[str, torch.Tensor]:
    """Minus the log of the attention that looks (see `Look`) give to what they should, by layer and head.

    A tally is to give each arrival the same attention, and the very first token FIRST_WEIGHT times that: its loss is
    how far it is from there (the Kullback-Leibler divergence).

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
                if (number, head) == TALLY:
                    terms.append(_divergence(scores.log_softmax(-1), batch.looked_at[own]))
                else:
                    there = scores.masked_fill(~batch.looked_at[own], -torch.inf)
                    terms.append((scores.logsumexp(-1) - there.logsumexp(-1)) / 4)
            losses[f"look{number}{head}"] = torch.cat(terms).mean()
    return losses


def _divergence(attention: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Of log attention `[tokens, n]` from what a tally of the tokens `counted` `[tokens, n]` is to give them."""
    weight = counted.float()
    weight[:, 0] *= FIRST_WEIGHT
    share = weight / weight.sum(1, keepdim=True)
    return torch.where(counted, share * (share.clamp(min=1e-9).log() - attention), 0.0).sum(1)


def _mean_loss(logits: torch.Tensor, labels: torch.Tensor, weight: tuple[float, ...] | None = None) -> torch.Tensor:
    """Cross-entropy over the tokens that have a label; 0 where none has."""
    if not (labels != IGNORE).any():
        return logits.sum() * 0
    return F.cross_entropy(logits, labels, None if weight is None else logits.new_tensor(weight), ignore_index=IGNORE)
