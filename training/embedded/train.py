"""Trains the embedded model.

    python -m training.embedded.train --out runs/embedded

Every training clip is seen once. A run that was stopped resumes from its folder, which holds `log.jsonl`,
`state.pt` (to resume) and `export/` (the checkpoint, as `from_pretrained` loads it). What a step learns depends on its
number and the seed alone.
"""

import argparse
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import DataLoader, Dataset
from transformers import Qwen2_5_VLForConditionalGeneration

from infinipot.embedded.checkpoint import build_model, build_processor, build_tokenizer, token_id
from infinipot.embedded.facts import FIRST_TRAINING_SEED
from infinipot.embedded.words import COLOURS, SHAPES
from training.embedded.batch import Batch, collate
from training.embedded.forward import Counts, add, answer, attend_in_chunks, look, tally
from training.embedded.lessons import glimpses, lesson
from training.embedded.pixels import IGNORE, Pixels, join
from training.embedded.probes import Probes, look_loss

VISION_STEPS = 3000  # at first the vision tower is trained alone, then everything
CALM_STEPS = 1000  # at the very first on shapes before still backgrounds
VISION_CLIPS, VISION_PATCHES = 4, 8  # clips a step, temporal patches each
CLIPS_A_STEP = {4: 8, 8: 6, 16: 4, 32: 2, 64: 1}  # then, by their temporal patches
# Up to which share of that training clips of each of these lengths are how frequent.
CURRICULUM = (
    (0.25, (0.4, 0.5, 0.1, 0.0, 0.0)),
    (0.5, (0.1, 0.35, 0.4, 0.15, 0.0)),
    (0.75, (0.0, 0.2, 0.35, 0.3, 0.15)),
    (1.0, (0.0, 0.1, 0.25, 0.35, 0.3)),
)
PEAK_RATE, LAST_RATE, WARM_UP = 1.5e-3, 2e-5, 100
REPORT_EVERY = 25  # steps


def progress_of(step: int, steps: int) -> float:
    """How much of the training of everything is done, 0 to 1."""
    return max(0, step - VISION_STEPS) / (steps - VISION_STEPS)


def clip_length(rng: np.random.Generator, progress: float) -> int:
    """Temporal patches of the clips of a step: short ones until looking up is learned, up to 64 later."""
    shares = next(shares for until, shares in CURRICULUM if progress <= until)
    return int(rng.choice(list(CLIPS_A_STEP), p=shares))


def learning_rate(step: int, progress: float) -> float:
    """Warm-up, PEAK_RATE for half of the training of everything, then a cosine down to LAST_RATE."""
    warm = min(1.0, (step + 1) / WARM_UP)
    decay = min(1.0, max(0.0, (progress - 0.5) / 0.5))
    return warm * (LAST_RATE + (PEAK_RATE - LAST_RATE) * (1 + math.cos(math.pi * decay)) / 2)


def optimizers(model: Qwen2_5_VLForConditionalGeneration, probes: nn.Module) -> list[torch.optim.Optimizer]:
    """Muon for the weights of the model's linear layers, AdamW for embeddings, norms, biases and probes.

    Muon's updates have the root mean square of AdamW's, so one learning rate serves both (Liu et al., 2025,
    arXiv 2502.16982).
    """
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not model.lm_head]
    own = {id(layer.weight) for layer in layers}
    others = [weight for weight in (*model.parameters(), *probes.parameters()) if id(weight) not in own]
    return [
        torch.optim.Muon([layer.weight for layer in layers], weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, betas=(0.9, 0.98), weight_decay=0.02, fused=True),
    ]


def answer_loss(logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross-entropy of the answer tokens; answers count alike, however many tokens they have."""
    owners = batch.answers[:, 1:][batch.answers[:, 1:] != IGNORE]
    lengths = torch.bincount(owners)
    return (F.cross_entropy(logits, targets, reduction="none") / lengths[owners]).sum() / len(lengths)


class Lessons(Dataset[tuple[Pixels, Batch | None]]):
    """What the steps that are due learn from, in a training of `steps` steps; made when it is asked for."""

    def __init__(self, seed: int, due: range, steps: int) -> None:
        self._seed, self._due, self._steps = seed, due, steps
        self._tokenizer = build_tokenizer()

    def __len__(self) -> int:
        return len(self._due)

    def __getitem__(self, index: int) -> tuple[Pixels, Batch | None]:
        """What there is to see and, once the vision tower is not alone any more, the sequences about it."""
        step = self._due[index]
        rng = np.random.default_rng((self._seed, step))
        first = FIRST_TRAINING_SEED + 100 * step
        if step < VISION_STEPS:
            calm = step < CALM_STEPS
            return join(glimpses(first + i, VISION_PATCHES, calm=calm) for i in range(VISION_CLIPS)), None
        patches = clip_length(rng, progress_of(step, self._steps))
        cases = [lesson(self._tokenizer, first + i, patches) for i in range(CLIPS_A_STEP[patches])]
        batch = collate([sequence for sequence, _ in cases], [pixels for _, pixels in cases])
        return batch.pixels, batch


class Run:
    """A training run in its folder: the model, its optimizer, and where it stands."""

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        out.mkdir(parents=True, exist_ok=True)
        self.processor = build_processor()
        tokenizer = self.processor.tokenizer
        self.colours, self.shapes = (
            [token_id(tokenizer, f"Ġ{word}") for word in (*words, "none")] for words in (COLOURS, SHAPES)
        )
        self.model = build_model(tokenizer, seed)
        attend_in_chunks(self.model)
        self.probes = Probes()
        self.optimizers = optimizers(self.model, self.probes)
        self.step, self.seconds = 0, 0.0
        if (state := out / "state.pt").exists():
            saved = torch.load(state)
            self.model.load_state_dict(saved["model"])
            self.probes.load_state_dict(saved["probes"])
            for optimizer, state_of in zip(self.optimizers, saved["optimizers"], strict=True):
                optimizer.load_state_dict(state_of)
            self.step, self.seconds = saved["step"], saved["seconds"]

    def train(
        self, steps: int, save_every: float, report: Callable[[dict[str, float]], None], stop: int | None = None
    ) -> None:
        """Train to `steps` steps over all resumptions, or only to step `stop` for now."""
        started = time.monotonic() - self.seconds
        saved = self.seconds
        answers: list[Counts] = []
        lessons = Lessons(self.seed, range(self.step, stop or steps), steps)
        for pixels, batch in DataLoader(lessons, batch_size=None, num_workers=1, prefetch_factor=8):
            losses, right = self.learn(pixels, batch, progress_of(self.step, steps))
            self.step += 1
            self.seconds = time.monotonic() - started
            answers.append(right)
            if self.step % REPORT_EVERY == 0:
                accuracy = {kind: round(right / asked, 3) for kind, (right, asked) in add(answers).items()}
                loss = {f"{name}_loss": round(value, 4) for name, value in losses.items()}
                report({"step": self.step, "minutes": round(self.seconds / 60, 2), **loss, **accuracy})
                answers.clear()
            if self.seconds - saved > 60 * save_every:
                self.save()
                saved = self.seconds
        self.save()

    def learn(self, pixels: Pixels, batch: Batch | None, progress: float) -> tuple[dict[str, float], Counts]:
        """One step on clips never seen before; the answers are counted before the weights change."""
        for group in (group for optimizer in self.optimizers for group in optimizer.param_groups):
            group["lr"] = learning_rate(self.step, progress)
        visual = look(self.model, pixels)
        losses = {"vision": self.vision_loss(visual, pixels)}
        counts: Counts = {"cells": self.recognised(visual, pixels)}
        if batch:
            logits, targets, hidden = answer(self.model, batch, visual)
            losses["answers"] = answer_loss(logits, targets, batch)
            losses |= self.probes.decoder_loss(hidden, batch, batch.ids == self.model.config.video_token_id)
            losses |= look_loss(self.model.model.language_model, hidden, batch)
            counts |= tally(logits, targets, batch)
        self.model.zero_grad()
        self.probes.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.optimizers:
            optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}, counts

    def vision_loss(self, visual: torch.Tensor, pixels: Pixels) -> torch.Tensor:
        """How badly visual tokens say, in word embeddings, the colour and shape in their cells, and what probes ask."""
        terms = []
        for logits, labels in self._readings(visual, pixels):
            weight = visual.new_ones(logits.shape[1])
            weight[-1] = 0.2  # most cells are empty
            terms.append(F.cross_entropy(logits, labels, weight=weight, ignore_index=IGNORE))
        return torch.stack([*terms, self.probes.vision_loss(visual, pixels)]).sum()

    def recognised(self, visual: torch.Tensor, pixels: Pixels) -> tuple[int, int]:
        """Of the cells that show a shape: how many say both colour and shape right, and how many there are."""
        (colours, colour), (shapes, shape) = self._readings(visual, pixels)
        shown = (colour != IGNORE) & (colour < len(COLOURS))
        right = (colours.argmax(-1) == colour) & (shapes.argmax(-1) == shape)
        return int((right & shown).sum()), int(shown.sum())

    def _readings(self, visual: torch.Tensor, pixels: Pixels) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For colours and for shapes: logits `[cells, words]` and labels `[cells]`."""
        embeddings = self.model.model.language_model.embed_tokens.weight
        return [
            (visual @ embeddings[self.colours].T, pixels.colours),
            (visual @ embeddings[self.shapes].T, pixels.shapes),
        ]

    def save(self) -> None:
        """Write `state.pt` and `export/`; an interruption leaves the earlier ones whole."""
        state = {
            "model": self.model.state_dict(),
            "probes": self.probes.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, self.out / "state.part")
        os.replace(self.out / "state.part", self.out / "state.pt")
        fresh = self.out / "export.part"
        self.model.save_pretrained(fresh)
        self.processor.save_pretrained(fresh)
        shutil.rmtree(self.out / "export", ignore_errors=True)
        fresh.rename(self.out / "export")


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train the embedded model.")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an earlier one is resumed")
    parser.add_argument("--steps", type=int, default=9_000)
    parser.add_argument("--save-every", type=float, default=3, help="minutes between saves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = Run(args.out, args.seed)
    with (args.out / "log.jsonl").open("a", buffering=1) as log:

        def report(line: dict[str, float]) -> None:
            print(json.dumps(line), file=log)
            print(*(f"{name} {value}" for name, value in line.items()), file=sys.stderr, flush=True)

        run.train(args.steps, args.save_every, report)


if __name__ == "__main__":
    main()
