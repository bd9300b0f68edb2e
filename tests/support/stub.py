"""A family without a network, for tests of what a stream does around one."""

from types import SimpleNamespace

import torch

from infinipot.memory import ALONE, LayerShape, PositionRule, Rotary, Steps
from infinipot.models import Adapter, Patch
from infinipot.models.chat import ChatFormat


class Stub(Adapter):
    """A token's key and value are its number, in every layer, and positions are put on record."""

    model_types = ("stub",)
    title = "Stub"
    patch_frames = 1
    layers, heads = 1, 1
    rope = Rotary(1.0 / 100.0 ** (torch.arange(4) / 4), axes=[0, 0, 1, 2])

    def __init__(
        self, per_second: float | None = 2.0, positions: int = 2000, *, flat: bool = False, captioned: bool = False
    ) -> None:
        super().__init__(SimpleNamespace(generation_config=SimpleNamespace(eos_token_id=None)))
        self.flat, self.captioned = flat, captioned
        self.per_second, self.positions = per_second, positions
        self.tokens = 0
        self.highest = 0

    position_range = property(lambda self: self.positions)
    language_model = None
    tp_group = ALONE
    placeholder = "video"
    cell_id = 0

    def require_static_rope(self):
        pass

    def scores(self, asked, ids, limit, device):
        return lambda before, logits: logits, False

    def patchify(self, clips, pixels=None):
        return [Patch(torch.zeros(1), 1, 2, tuple(frame.time for frame in clip)) for clip in clips]

    def encode(self, patches):
        return self._numbers(2 * len(patches))

    def embed(self, ids):
        return self._numbers(len(ids))

    def _numbers(self, count):
        self.tokens += count
        return torch.arange(self.tokens - count, self.tokens, dtype=torch.float64).unsqueeze(-1)

    def forward(self, embeddings, *steps):
        (step,) = steps
        self.highest = max(self.highest, int(step.positions.max()))
        keys, values = self.key(embeddings[None, :, 0]), embeddings.float().expand(1, -1, 8)
        keys = self.rope.to_stored(keys)
        for layer in range(self.layers):
            step.store(layer, keys.expand(self.heads, -1, -1), values.expand(self.heads, -1, -1))
            if step.observers:
                raw = self.key(embeddings[:, 0] + 0.5).expand(2 * self.heads, -1, -1)
                step.observe(layer, raw, Steps((step,)).turned(self.rope.to_stored(raw)), step.read(layer)[0], 0.3)
        return torch.zeros(1, 3)

    def rotated(self, raw, positions):
        angle = positions[:, list(self.rope.axes)].float() * self.rope.inv_freq
        cos, sin = angle.cos().repeat(1, 2), angle.sin().repeat(1, 2)
        return raw * cos + torch.cat([-raw[:, 4:], raw[:, :4]], -1) * sin

    def key(self, number):
        return torch.sin(number.unsqueeze(-1) * (1.0 + torch.arange(8))).float()

    def position_rule(self):
        return PositionRule(self.per_second, flat=self.flat)

    def caption(self, times, number, *, opens):
        return (f"{number}", "s") if self.captioned else ("", "")

    def rotary(self):
        return self.rope

    def layer_shapes(self):
        return [LayerShape(self.heads, 8, torch.device("cpu"), torch.float32)] * self.layers

    def chat(self, system=None):
        return ChatFormat("open", "?", "!", "again", "more")

    def tokenize(self, text, **context):
        return list(range(len(text)))

    def detokenize(self, ids):
        return " ".join(map(str, ids))
