"""A policy of one's own: it keeps tokens whose values are large, newer ones first, beside two that are known.

python examples/policy.py
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

import infinipot
from infinipot.embedded.world import Clip
from infinipot.policies import ScoredPolicy
from infinipot.tokens import VideoTokens

QUESTION = "How many shapes have appeared so far?"


@dataclass(frozen=True)
class Loud(ScoredPolicy):
    """Keeps the tokens whose values are large, and more so the newer they are.

    Options:
        half_life: temporal patches after which a token counts half.
    """

    name: ClassVar[str] = "loud"

    half_life: float = 30.0

    def score(self, tokens: VideoTokens) -> Tensor:
        """Returns a score for each token, `[rows, N]`, a row being one KV head of one layer: the highest stay."""
        age = tokens.newest_patch - tokens.patch
        return tokens.by_rows("values", length) * 0.5 ** (age / self.half_life)


def length(values: Tensor) -> Tensor:
    """Returns how long the value of each token is, `[rows, N]`, of some rows at a time."""
    return values.float().norm(dim=-1)


def main() -> None:
    """Watches one clip with each policy, side by side, and asks at its end."""
    model = infinipot.load("embedded")
    clip = Clip(seed=10_000, seconds=40, fps=2.0, events=3)
    streams = [model.stream(memory=200, policy=policy) for policy in (Loud(), "infinipot-v", "sliding-window")]
    for frame in clip:
        model.watch([(stream, frame) for stream in streams])  # all in one packed step
    for stream, answer in zip(streams, model.ask([(stream, QUESTION) for stream in streams]), strict=True):
        print(f"{stream.policy.spec:16} {answer}")
        stream.close()


if __name__ == "__main__":
    main()
