"""HERMES: layers in bands, from recency to the attention of prompts. https://arxiv.org/abs/2601.14724"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infinipot.policies.base import MASS, Attention, Merge, ScoredPolicy
from infinipot.policies.options import Share
from infinipot.policies.scoring.attention import attended
from infinipot.tokens import VideoTokens

LOCAL = "What is happening right now?"
GLOBAL = "Summarise the story: characters, events, timeline."
SHALLOW, MIDDLE, DEEP = 0.1, 0.3, 0.4  # the weight of the layer above in a layer of each band


@dataclass(frozen=True)
class HERMES(ScoredPolicy):
    """Keeps what is recent in shallow layers, what guiding prompts attend to in deep ones, and both in between.

    The score is s = (1 - w) · minmax(attention) + w · minmax(e^(-k·d)), where d falls from 1 for the oldest held token
    to 0 for the newest. w is 1 in the first tenth of the layers, 0 in the last three tenths, and 0.75 - 0.6·p in
    between, where p rises from 0 to 1. Middle layers use the attention of both prompts, deep layers that of the
    second. Then, starting below the deepest layer, each layer mixes in 0.1, 0.3 or 0.4 (shallow, middle, deep) of the
    score of the layer above, matching the i-th oldest tokens. In deep layers everything evicted is merged into the
    oldest token that stays, which thus becomes the mean of all that was ever evicted.

    This follows the paper; the weights of smoothing and k = 20 - 19.5·p are from the published code, and the wording of
    the prompts is ours. There are three differences. The paper averages over all heads of a layer; here each KV head
    chooses for itself. Its summary token covers what was evicted last and comes after all others; here it covers all
    and keeps the place of the oldest token. Positions are the stream's. Smoothing ends where layers lie on another
    device.

    Options:
        shallow, deep: shares of the layers in the first and the last band.
        smoothing: whether layers mix in the scores of the layer above.
    """

    name: ClassVar[str] = "hermes"
    paper: ClassVar[str] = "HERMES, arXiv 2601.14724"
    merges: ClassVar[bool] = True

    shallow: Share = 0.1
    deep: Share = 0.3
    smoothing: bool = True

    @property
    def attention(self) -> Mapping[str, Attention]:
        return {"local": Attention(probe=LOCAL), "global": Attention(probe=GLOBAL)}

    @property
    def across_layers(self) -> bool:
        return self.smoothing

    def score(self, tokens: VideoTokens) -> Tensor:
        order = tokens.in_order()
        depth = [self._depth(layer, tokens.layers) for layer in tokens.layer]
        device = order.device
        weight, steep, local, _ = (
            torch.tensor(column, dtype=torch.float32).to(device, non_blocking=True).unsqueeze(1)
            for column in zip(*depth, strict=True)
        )
        both = [attended(tokens, name).gather(1, order) for name in ("local", "global")]
        unseen = both[0].isinf() | both[1].isinf()
        attention = torch.where(unseen, 0.0, local * both[0] + (1 - local) * both[1])
        age = torch.linspace(1, 0, tokens.shape[1], device=device, dtype=torch.float32)
        scores = (1 - weight) * _minmax(attention) + weight * _minmax((-steep * age).exp())
        if self.smoothing:
            scores = self._smoothed(scores, tokens.layer, [share for *_, share in depth])
        return torch.zeros_like(scores).scatter(1, order, scores.masked_fill(unseen, torch.inf))

    def merge(self, tokens: VideoTokens, kept: Tensor) -> Merge:
        oldest = kept.gather(1, tokens.arrival.gather(1, kept).argmin(1, keepdim=True))
        deep = [self._depth(layer, tokens.layers)[0] == 0 for layer in tokens.layer]
        shallow = ~torch.tensor(deep).to(kept.device, non_blocking=True).unsqueeze(1)
        return Merge.of(oldest.expand(tokens.shape), kept, tokens.columns[MASS], for_good=shallow)

    def _depth(self, layer: int, layers: int) -> tuple[float, float, float, float]:
        """For a layer: w, k, the weight of the local prompt, and the weight of the layer above."""
        first, last = round(self.shallow * layers), layers - round(self.deep * layers)
        if layer < first:
            return 1.0, 20.0, 0.0, SHALLOW
        if layer >= last:
            return 0.0, 0.5, 0.0, DEEP
        through = (layer - first) / max(last - first - 1, 1)
        return 0.75 - 0.6 * through, 20 - 19.5 * through, 0.5, MIDDLE

    def _smoothed(self, scores: Tensor, layer: Sequence[int], shares: list[float]) -> Tensor:
        """Scores in order of arrival, with those of the layer above mixed in."""
        by_layer = list(scores.split([layer.count(number) for number in dict.fromkeys(layer)]))
        numbers = list(dict.fromkeys(layer))
        for place in range(len(by_layer) - 2, -1, -1):
            share = shares[layer.index(numbers[place])]
            if numbers[place + 1] == numbers[place] + 1 and by_layer[place].shape == by_layer[place + 1].shape:
                by_layer[place] = (1 - share) * by_layer[place] + share * by_layer[place + 1]
        return torch.cat(by_layer)


def _minmax(scores: Tensor) -> Tensor:
    least, most = scores.amin(1, keepdim=True), scores.amax(1, keepdim=True)
    return (scores - least) / (most - least).clamp_min(1e-12)
