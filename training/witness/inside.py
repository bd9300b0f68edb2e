"""What keys, values and attention look like, layer by layer, in models that know the synthetic world.

    python -m training.witness.inside embedded witness --clips 6 --plot inside.png

For each layer: how well scores of a visual token tell cells that show an event from those that do not (the area under
the curve: 1 always, 0.5 as by chance, below that the other way round), how much attention goes to the very first token,
and how large its value is beside the others'. No policy is run.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import apply_rotary_pos_emb

from infinipot import shipped
from infinipot.embedded.facts import BACKGROUNDS
from infinipot.embedded.world import Clip
from training.embedded.batch import Batch, collate
from training.embedded.examine import system_message
from training.embedded.forward import look
from training.embedded.lessons import exam
from training.embedded.pixels import IGNORE

SCORES = ("‖v‖", "‖v − v̄‖", "1 − TaR", "1 − cos(k, k̄)")
PATCHES, FPS, EVENTS = 32, 2.0, 6
LATEST = 64  # queries whose attention is looked at: the last ones
FIRST_SEED = 9_000  # for development: what is seen here chooses settings


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer, means over clips and KV heads.

    Attributes:
        areas: under the curve, of each of SCORES.
        sink: share of the latest queries' attention that the very first token gets.
        first_value: norm of the first token's value over the mean norm of the visual tokens' values.
    """

    areas: tuple[float, ...]
    sink: float
    first_value: float


@torch.no_grad()
def inside(folder: Path, clips: int) -> list[Layer]:
    """The layers of a checkpoint, from first to last, on `clips` clips of all backgrounds in turn."""
    model: Any = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    size, system = shipped.frame_size(folder), system_message(processor)
    found: list[list[list[float]]] = []
    for number in range(clips):
        background = BACKGROUNDS[number % len(BACKGROUNDS)]
        clip = Clip(FIRST_SEED + number, 2 * PATCHES / FPS, FPS, EVENTS, background, "varied", size=size)
        sequence, pixels, _ = exam(processor.tokenizer, clip, PATCHES, np.random.default_rng(number), system)
        batch = collate([sequence], [pixels])
        found.append([list(each) for each in _layers(model, batch, look(model, batch.pixels, size), sequence.side**2)])
    means = np.mean(found, 0)
    return [Layer(tuple(row[: len(SCORES)]), *row[len(SCORES) :]) for row in means.tolist()]


def _layers(model: Any, batch: Batch, visual: Tensor, cells: int) -> Iterator[tuple[float, ...]]:
    """Numbers of each layer for one clip: areas, the sink's share, the first value's norm."""
    decoder = model.model.language_model
    is_cell = batch.ids[0] == model.config.video_token_id
    x = decoder.embed_tokens(batch.ids)
    x = x.masked_scatter((is_cell[None, :, None]).expand_as(x), visual)
    rotary = decoder.rotary_emb(x, batch.positions)
    bias = torch.zeros(batch.mask.shape).masked_fill(~batch.mask, -torch.inf)
    shows = (batch.pixels.events != IGNORE).numpy()
    # Cells at the rim of a shape show too little of it to say.
    clear = (batch.pixels.colours != IGNORE).numpy()
    for layer in decoder.layers:
        attention, states = layer.self_attn, layer.input_layernorm(x)
        queries, keys, values = (
            project(states).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
            for project in (attention.q_proj, attention.k_proj, attention.v_proj)
        )
        areas = _areas(keys[0, :, is_cell], values[0, :, is_cell], cells, shows, clear)
        queries, rotated = apply_rotary_pos_emb(queries, keys, *rotary)
        grouped = queries[0, :, -LATEST:].unflatten(0, (rotated.shape[1], -1))
        weights = (grouped @ rotated[0, :, None].mT * attention.scaling + bias[0, :, None, -LATEST:]).softmax(-1)
        norms = values[0].norm(dim=-1)
        yield (*areas, float(weights[..., 0].mean()), float((norms[:, 0] / norms[:, is_cell].mean(1)).mean()))
        x = layer(x, attention_mask=bias, position_embeddings=rotary)


def _areas(keys: Tensor, values: Tensor, cells: int, shows: np.ndarray, clear: np.ndarray) -> list[float]:
    """The area under the curve of each of SCORES, means over heads; keys and values `[heads, tokens, dim]`."""
    unit = keys / keys.norm(dim=-1, keepdim=True)
    previous = torch.cat([unit[:, :cells], unit[:, :-cells]], 1)
    middle = keys.mean(1, keepdim=True)
    scores = (
        values.norm(dim=-1),
        (values - values.mean(1, keepdim=True)).norm(dim=-1),
        1 - (unit * previous).sum(-1),
        1 - (unit * middle / middle.norm(dim=-1, keepdim=True)).sum(-1),
    )
    return [float(np.mean([area(head[clear], shows[clear]) for head in score.numpy()])) for score in scores]


def area(score: np.ndarray, positive: np.ndarray) -> float:
    """Area under the receiver's operating curve: the chance that a positive has the higher score than a negative."""
    order = np.unique(score, return_inverse=True, return_counts=True)
    tp_group = (np.cumsum(order[2]) - (order[2] - 1) / 2)[order[1]]
    count = int(positive.sum())
    return float((tp_group[positive].sum() - count * (count + 1) / 2) / (count * (len(score) - count)))


def draw(found: dict[str, list[Layer]], file: Path) -> None:
    """A row of panels for each model: areas, the sink's share, and the first value's norm, by layer."""
    figure = Figure(figsize=(13, 3.2 * len(found)), layout="constrained")
    panels = figure.subplots(len(found), 3, squeeze=False)
    for row, (name, layers) in zip(panels, found.items(), strict=True):
        places = range(1, len(layers) + 1)
        for number, score in enumerate(SCORES):
            row[0].plot(places, [layer.areas[number] for layer in layers], marker=".", label=score)
        row[0].axhline(0.5, color="0.6", lw=0.8)
        row[0].set(title=f"{name}: telling events from background", ylim=(0, 1), ylabel="area under the curve")
        row[0].legend(fontsize=8, loc="lower left")
        row[1].plot(places, [layer.sink for layer in layers], marker=".", color="tab:red")
        row[1].set(title="attention that the first token gets", ylim=(0, 1))
        row[2].plot(places, [layer.first_value for layer in layers], marker=".", color="tab:purple")
        row[2].set(title="its value's norm over a visual token's", ylim=(0, None))
        for panel in row:
            panel.set_xlabel("layer")
    figure.savefig(file, dpi=110)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Look at keys, values and attention by layer.")
    parser.add_argument("models", nargs="*", default=["embedded", "witness"], help="names, or folders")
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--plot", type=Path, help="where a picture goes")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    found = {name: inside(Path(shipped.folder_of(name)), args.clips) for name in args.models}
    if args.plot:
        draw(found, args.plot)
    for name, layers in found.items():
        if args.json:
            print(
                json.dumps(
                    {"model": name, "layers": [[*layer.areas, layer.sink, layer.first_value] for layer in layers]}
                )
            )
            continue
        print(f"{name}\n  layer  " + "".join(f"{score:>15}" for score in SCORES) + "           sink    first value")
        rows = [(*layer.areas, layer.sink, layer.first_value) for layer in layers]
        for number, row in enumerate(rows, 1):
            print(f"  {number:5}  " + "".join(f"{value:15.2f}" for value in row))
        print("   mean  " + "".join(f"{value:15.2f}" for value in np.mean(rows, 0)))


if __name__ == "__main__":
    main()
