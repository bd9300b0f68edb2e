"""Trains the embedded model.

    python -m infinipot.embedded.train --out runs/embedded

Every training clip is seen once. A run that was stopped resumes from its folder, which holds `log.jsonl`,
`state.pt` (to resume) and `export/` (the checkpoint, as `from_pretrained` loads it).
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
from torch.nn import functional as F  # noqa: N812

from infinipot.embedded.checkpoint import build_model, build_processor, token_id
from infinipot.embedded.examine import Case, Counts, add, answer, look, tally
from infinipot.embedded.lessons import lesson
from infinipot.embedded.sequence import IGNORE, collate
from infinipot.embedded.world import COLOURS, FIRST_TRAINING_SEED, SHAPES

VISION_STEPS = 800  # at first the vision tower is trained alone, then everything
VISION_CLIPS, VISION_PATCHES = 16, 8  # clips a step, temporal patches each
CLIPS_A_STEP = {4: 10, 8: 8, 16: 5, 32: 3, 64: 2}  # then, by their temporal patches
PEAK_RATE, LAST_RATE, WARM_UP = 1.2e-3, 5e-5, 100
REPORT_EVERY = 25  # steps


def clip_length(rng: np.random.Generator, progress: float) -> int:
    """Temporal patches of the clips of a step: short at first, up to 64 later, mostly long in the end."""
    lengths = list(CLIPS_A_STEP)
    if progress > 0.55:
        return int(rng.choice(lengths, p=[0.1, 0.1, 0.3, 0.3, 0.2]))
    return int(rng.choice(lengths[: 2 if progress < 0.25 else 3 if progress < 0.4 else 5]))


def learning_rate(step: int, progress: float) -> float:
    """Warm-up, PEAK_RATE for 60 % of the training, then a cosine down to LAST_RATE."""
    warm = min(1.0, (step + 1) / WARM_UP)
    decay = min(1.0, max(0.0, (progress - 0.6) / 0.4))
    return warm * (LAST_RATE + (PEAK_RATE - LAST_RATE) * (1 + math.cos(math.pi * decay)) / 2)


class Run:
    """A training run in its folder: the model, its optimizer, and where it stands."""

    def __init__(self, out: Path, seed: int) -> None:
        self.out, self.seed = out, seed
        out.mkdir(parents=True, exist_ok=True)
        self.processor = build_processor()
        self.tokenizer = self.processor.tokenizer
        self.colours, self.shapes = (
            [token_id(self.tokenizer, f"Ġ{word}") for word in (*words, "none")] for words in (COLOURS, SHAPES)
        )
        self.model = build_model(self.tokenizer, seed)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), betas=(0.9, 0.98), weight_decay=0.02)
        self.step, self.seconds = 0, 0.0
        if (state := out / "state.pt").exists():
            saved = torch.load(state)
            self.model.load_state_dict(saved["model"])
            self.optimizer.load_state_dict(saved["optimizer"])
            self.step, self.seconds = saved["step"], saved["seconds"]

    def train(self, steps: int, minutes: float, save_every: float, report: Callable[[dict], None]) -> None:
        """Train to `steps` steps or `minutes` minutes, whichever is first, over all resumptions."""
        started = time.monotonic() - self.seconds
        saved = self.seconds
        answers: list[Counts] = []
        while self.step < steps and self.seconds < 60 * minutes:
            losses, right = self.learn(max(self.step / steps, self.seconds / (60 * minutes)))
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

    def learn(self, progress: float) -> tuple[dict[str, float], Counts]:
        """One step on clips never seen before; the answers are counted before the weights change."""
        rng = np.random.default_rng((self.seed, self.step))
        vision_alone = self.step < VISION_STEPS
        patches = VISION_PATCHES if vision_alone else clip_length(rng, progress)
        clips = VISION_CLIPS if vision_alone else CLIPS_A_STEP[patches]
        first = FIRST_TRAINING_SEED + 100 * self.step
        cases = [lesson(self.tokenizer, first + i, patches) for i in range(clips)]
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.step, progress)
        visual = look(self.model, cases)
        losses = {"vision": self.vision_loss(visual, cases)}
        counts: Counts = {"cells": self.recognised(visual, cases)}
        if not vision_alone:
            batch = collate([sequence for sequence, _ in cases])
            logits, targets = answer(self.model, batch, visual)
            losses["answers"] = F.cross_entropy(logits, targets)
            counts |= tally(logits, targets, batch)
        self.optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}, counts

    def vision_loss(self, visual: torch.Tensor, cases: list[Case]) -> torch.Tensor:
        """How badly the visual tokens say, in word embeddings, what colour and shape their cells show."""
        terms = []
        for logits, labels in self._readings(visual, cases):
            weight = visual.new_ones(logits.shape[1])
            weight[-1] = 0.2  # most cells are empty
            terms.append(F.cross_entropy(logits, labels, weight=weight, ignore_index=IGNORE))
        return torch.stack(terms).sum()

    def recognised(self, visual: torch.Tensor, cases: list[Case]) -> tuple[int, int]:
        """Of the cells that show a shape: how many say both colour and shape right, and how many there are."""
        (colours, colour), (shapes, shape) = self._readings(visual, cases)
        shown = (colour != IGNORE) & (colour < len(COLOURS))
        right = (colours.argmax(-1) == colour) & (shapes.argmax(-1) == shape)
        return int((right & shown).sum()), int(shown.sum())

    def _readings(self, visual: torch.Tensor, cases: list[Case]) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """For colours and for shapes: logits `[cells, words]` and labels `[cells]`."""
        embeddings = self.model.model.language_model.embed_tokens.weight
        return [
            (visual @ embeddings[self.colours].T, torch.cat([pixels.colours for _, pixels in cases])),
            (visual @ embeddings[self.shapes].T, torch.cat([pixels.shapes for _, pixels in cases])),
        ]

    def save(self) -> None:
        """Write `state.pt` and `export/`; an interruption leaves the earlier ones whole."""
        state = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
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
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--minutes", type=float, default=60, help="stop after so many minutes of training")
    parser.add_argument("--save-every", type=float, default=3, help="minutes between saves")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    run = Run(args.out, args.seed)
    with (args.out / "log.jsonl").open("a", buffering=1) as log:

        def report(line: dict) -> None:
            print(json.dumps(line), file=log)
            print(*(f"{name} {value}" for name, value in line.items()), file=sys.stderr, flush=True)

        run.train(args.steps, args.minutes, args.save_every, report)


if __name__ == "__main__":
    main()
