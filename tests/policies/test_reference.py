"""The published InfiniPot-V code as an outside oracle: kept indices, cache, logits and tokens of recorded runs."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForImageTextToText

from infinipot import policies
from infinipot.memory import Memory
from infinipot.models import ADAPTERS, Adapter, Patch
from infinipot.policies import Policy
from infinipot.tokens import VideoTokens
from support.memories import slots
from support.places import reference_dir

TRACES = sorted((reference_dir() / "traces").glob("*.safetensors"))


@dataclass
class Trace:
    """One recorded run: its settings and tensors."""

    settings: dict[str, str]
    tensors: dict[str, torch.Tensor]

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.tensors[name]

    def number(self, name: str) -> int:
        return int(self.settings[name])

    def policy(self) -> Policy:
        if self.settings["method"] == "swa":
            return policies.make("sliding-window")
        if self.settings["method"] == "uniform":
            return policies.make("uniform")
        return policies.make(
            "infinipot-v-reference",
            tar_ratio=float(self.settings["tar_ratio"]),
            query_ratio=float(self.settings["query_ratio"]),
            adaptive_pooling=self.settings["adaptive_pooling"] == "True",
        )


def read(path: Path) -> Trace:
    with safe_open(path, "pt") as file:
        return Trace(file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118


class Observed:
    """A policy that keeps what another keeps, and remembers it: `[layers, kv_heads, kept]` a compression."""

    def __init__(self, policy: Policy, prompt: int) -> None:
        self.policy, self.prompt = policy, prompt
        self.kept: list[torch.Tensor] = []

    columns = ()
    reads_states, across_layers = False, True  # all layers at once
    attention: Mapping[str, object] = {}
    merges = hides = False

    def select(self, tokens: VideoTokens, budget: int) -> torch.Tensor:
        chosen = self.policy.select(tokens, budget)
        place = tokens.in_order().argsort(-1).gather(1, chosen).sort(-1).values
        before = torch.arange(self.prompt).expand(len(chosen), -1)
        self.kept.append(torch.cat([before, place + self.prompt], -1).unflatten(0, (tokens.layers, -1)))
        return chosen


def encode(adapter: Adapter, pixels: torch.Tensor, trace: Trace) -> torch.Tensor:
    """The vision encoder's tokens of the whole video, `[T · P, hidden]`."""
    patches, height, width = trace["video_grid_thw"][0].tolist()
    shaped = pixels.view(patches, height * width, -1)
    return adapter.encode([Patch(patch, height // 2, width // 2, (0.0,)) for patch in shaped])


def test_there_are_traces():
    assert TRACES, f"no traces in {reference_dir()}"


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem)
@torch.inference_mode()
def test_a_recorded_run_is_repeated_to_the_index(path):
    trace = read(path)
    model = AutoModelForImageTextToText.from_pretrained(
        reference_dir() / "weights" / trace.settings["weights"], dtype=torch.float32
    ).eval()
    adapter = next(known for known in ADAPTERS if trace.settings["kind"] in known.model_types)(model)
    ids, recorded = trace["input_ids"][0].tolist(), trace["position_ids"]
    patches, height, width = trace["video_grid_thw"][0].tolist()
    prompt, cells = trace.number("system_tokens"), height * width // 4
    video = read(reference_dir() / "videos" / f"{trace.settings['video']}.safetensors").tensors
    features = video["features"] if "features" in video else encode(adapter, video["pixel_values_videos"], trace)
    # The clock at which the recorded temporal positions advance.
    step = int(recorded[0, prompt + cells] - recorded[0, prompt])
    seconds = step / (adapter.position_rule().tokens_per_second or 1)

    memory = Memory(len(ids) + 8, adapter.layer_shapes(), adapter.rotary(), adapter.position_rule())
    grid = memory.use_grid(height // 2, width // 2)
    policy: Any = Observed(trace.policy(), prompt)
    block, keep = trace.number("block_frames"), trace.number("keep_frames")
    seen = 0
    while seen < patches:
        # The published code knows the length of its video and fills the last block to the brim.
        taken = range(seen, min(seen + (block if seen == 0 else block - keep), patches))
        seen, rest = taken.stop, patches - taken.stop
        keep = trace.number("keep_frames")
        keep = keep if keep + rest >= block else block - rest
        with memory.transaction() as transaction:
            parts = [] if memory.held else [adapter.embed(ids[:prompt])]
            if parts:
                transaction.text(prompt)
            parts.append(features[taken.start * cells : taken.stop * cells])
            transaction.video(grid, [index * seconds for index in taken])
            start = memory.held and prompt + taken.start * cells
            run = memory.step(transaction)
            assert torch.equal(run.positions, recorded[:, start : prompt + seen * cells])
            adapter.forward(torch.cat(parts), run)
            left = keep * cells

            def room(_: int, held: int, left: int = left, rest: int = rest) -> int | None:
                return left if rest and held > left else None

            memory.commit(transaction, policy=policy, budget_for=room)

    assert len(policy.kept) == trace.number("compressions")
    for index, kept in enumerate(policy.kept):
        assert torch.equal(kept, trace[f"kept_{index}"].long()), f"compression {index}"
    layers = [slots(memory, layer) for layer in range(memory.layers)]
    for name in ("keys", "values"):
        held = torch.stack([getattr(layer, name) for layer in layers])
        torch.testing.assert_close(held, trace[name], atol=1e-4, rtol=0)

    # The published code starts the question behind the question's own recorded positions.
    question = ids[prompt + patches * cells :]
    position = int(recorded[0, -1]) + 1
    logits: list[torch.Tensor] = []
    answer: list[int] = []
    with memory.transaction() as transaction:
        transaction.taken = replace(transaction.taken, cursor=replace(transaction.cursor, next=position))
        for number in range(8):
            tokens = question if number == 0 else answer[-1:]
            transaction.text(len(tokens))
            logits.append(adapter.forward(adapter.embed(tokens), memory.step(transaction))[0])
            answer.append(int(logits[-1].argmax()))
    torch.testing.assert_close(torch.stack(logits), trace["logits"], atol=1e-3, rtol=0)
    assert answer == trace["tokens"].tolist()
