"""Trains the witness: a vision tower from nothing, and low-rank deltas of a pretrained decoder that never saw.

    python -m training.witness.train --gguf SmolLM2-135M-Instruct.Q4_1.gguf --tokenizer TOKENIZER.json \
        --texts TEXTS.npy --out runs/witness

Every training clip is seen once; accuracies in the log are of clips before they are learned from. What a step learns
from depends on its number and the seed alone. A run that was stopped resumes from its folder, which holds `log.jsonl`,
`state.pt` (to resume), and the deltas after each stage: `full.safetensors`, then `hidden.safetensors`.
"""

import argparse
import json
import math
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from infinipot.embedded.words import COLOURS, SHAPES
from infinipot.witness.decoder import Gguf
from training.witness.batches import ALL_KINDS, LENGTHS, Batch, Clock, Lessons, Plan, Words
from training.witness.decoder import Decoder
from training.witness.lessons import IGNORE
from training.witness.loading import ahead, on_device
from training.witness.losses import Grounding, answer_loss, language_loss, mask_of
from training.witness.tower import Tower

VISION_RATE, TOWER_RATE, DELTA_RATE, LAST_RATE = 2e-3, 1e-3, 1e-3, 1e-5
HIDDEN_SHARE = 0.5  # of the rates, in the stage in which tokens are hidden
WARM_UP = 40  # steps at the beginning of each stage
VISION_WEIGHT, LANGUAGE_WEIGHT = 0.5, 1.0
LANGUAGE_EVERY, TEXTS_AT_ONCE = 4, 6  # steps between two with text, and how many texts
REPORT_EVERY = 20  # steps
# Not cuDNN's, which prepares itself anew for every length of sequence.
_KERNELS = [SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION, SDPBackend.MATH]


def rates(stage: str, progress: float, step_of_stage: int) -> tuple[float, float]:
    """Learning rates of the tower and of the deltas: warm-up, the peak for half of the stage, then a cosine down."""
    warm = min(1.0, (step_of_stage + 1) / WARM_UP)
    if stage == "vision":
        return warm * VISION_RATE, 0.0
    decay = min(1.0, max(0.0, 2 * progress - 1)) if stage == "full" else progress
    share = (1.0 if stage == "full" else HIDDEN_SHARE) * (1 + math.cos(math.pi * decay)) / 2
    return tuple(warm * max(LAST_RATE, share * peak) for peak in (TOWER_RATE, DELTA_RATE))  # type: ignore[return-value]


class Run:
    """A training run in its folder: model, optimizers, and where it stands."""

    def __init__(
        self,
        out: Path,
        gguf: Path,
        tokenizer: Path,
        texts: Path,
        device: torch.device,
        seed: int,
        scale: float = 1.0,
        layers: int | None = None,
    ) -> None:
        self.out, self.device, self.seed, self.tokenizer_file = out, device, seed, tokenizer
        self.scale = scale  # of the clips a step
        out.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(seed)
        self.dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
        words = Words(str(tokenizer))
        file = Gguf(gguf)
        weights = {name: weight for name, weight in file.weights().items() if layers is None or _layer(name) < layers}
        table = weights["embed_tokens.weight"]
        known = len(table)
        self.video = words.convert_tokens_to_ids("<|video_pad|>")
        self.decoder = Decoder(
            weights,
            self.video + 1 - known,
            heads=file.field("llama.attention.head_count"),
            theta=float(file.field("llama.rope.freq_base")),
            eps=float(file.field("llama.attention.layer_norm_rms_epsilon")),
        ).to(device)
        self.tower = Tower(table.mean(0)).to(device)
        of_words = [[words(f" {word}")["input_ids"][0] for word in (*names, "nothing")] for names in (COLOURS, SHAPES)]
        self.grounding = Grounding(self.decoder.table, (of_words[0], of_words[1]))
        self.texts = np.load(texts)
        square = [layer.weight for layer in self.tower.modules() if isinstance(layer, nn.Linear)]
        own = {id(weight) for weight in square}
        rest = [weight for weight in self.tower.parameters() if id(weight) not in own]
        fused = device.type == "cuda"
        self.optimizers: list[Any] = [
            torch.optim.Muon(square, weight_decay=0.02, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, betas=(0.9, 0.98), weight_decay=0.0, fused=fused),
            torch.optim.AdamW(self.decoder.parameters(), betas=(0.9, 0.98), weight_decay=0.0, fused=fused),
        ]
        self.step, self.seconds, self.clock = 0, 0.0, Clock()
        if (state := out / "state.pt").exists():
            self._restore(torch.load(state, map_location=device))

    def train(self, plan: Plan, workers: int, limits: dict[str, float], report: Any, every: int) -> None:
        """Trains to the end of the plan.

        Args:
            limits: seconds since the start of the run by which a stage has ended, whatever is left of it.
            every: steps between two lines of the log.
        """
        begun = time.monotonic() - self.seconds
        counts, saved = [], self.seconds
        first_of = {"vision": 0, "full": plan.vision, "hidden": plan.vision + plan.full}
        tokenizer = str(self.tokenizer_file)
        while self.step < plan.steps:
            lessons = Lessons(tokenizer, self.seed, plan, range(self.step, plan.steps), self.scale)
            for batch in ahead(lessons, workers, self.device):
                stage, progress = plan.stage(self.step)
                progress = max(progress, self.clock.progress(stage, self.seconds, limits.get(stage, math.inf)))
                if progress >= 1:
                    self.step = first_of[stage] + getattr(plan, stage)
                    break
                losses, right = self.learn(batch, stage, progress, self.step - first_of[stage])
                counts.append(right)
                self.step += 1
                self.seconds = time.monotonic() - begun
                if self.step % every == 0:
                    report(self._line(stage, losses, counts))
                    counts = []
                if self.seconds - saved > 120:
                    saved = self.seconds
                    self.save()
                if self.step == first_of[stage] + getattr(plan, stage):
                    break
            self.save()

    def learn(self, batch: Batch, stage: str, progress: float, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """One step on clips never seen before; answers are counted before the weights change.

        Returns:
            losses; `[kinds + 1, 2]`, right and asked of each kind, and of the cells that show something.
        """
        of_tower, of_deltas = rates(stage, progress, step)
        for optimizer, rate in zip(self.optimizers, (of_tower, of_tower, of_deltas), strict=True):
            optimizer.param_groups[0]["lr"] = rate
        cuda = self.device.type == "cuda"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=cuda):
            visual = self.tower(batch.images)
        vision, right, shown = self.grounding.loss(visual, batch.colours, batch.shapes)
        counts = torch.zeros(len(ALL_KINDS) + 1, 2, device=self.device)
        counts[-1, 0], counts[-1, 1] = right, shown
        losses = {"vision": vision}
        total = vision if stage == "vision" else VISION_WEIGHT * vision
        if stage != "vision":
            layers = self.decoder.merged(self.dtype)
            losses["answers"], hits = self.answers(batch, visual, layers)
            counts[:-1].index_add_(0, batch.kinds, torch.stack([hits.float(), torch.ones_like(hits).float()], 1))
            total = total + losses["answers"]
            if step % LANGUAGE_EVERY == 0:
                losses["language"] = language_loss(self.decoder, self._texts(), layers)
                total = total + LANGUAGE_WEIGHT * losses["language"]
        total.backward()
        nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
        if stage != "vision":
            losses["norm"] = nn.utils.clip_grad_norm_(self.decoder.parameters(), 1.0)
        for optimizer in self.optimizers[: 2 if stage == "vision" else 3]:
            optimizer.step()
            optimizer.zero_grad()
        return {name: loss.detach() for name, loss in losses.items()}, counts

    def answers(self, batch: Batch, visual: Tensor, layers: list[tuple[Tensor, ...]]) -> tuple[Tensor, Tensor]:
        """The loss of a batch's answers, and which are right."""
        x = self.decoder.embed(batch.ids)
        where = (batch.ids == self.video)[..., None].expand_as(x)
        x = x.to(self.dtype).masked_scatter(where, visual.to(self.dtype))
        mask = mask_of(batch.branches, batch.until, self.dtype)
        with sdpa_kernel(_KERNELS):
            hidden = self.decoder(x, batch.positions, mask, layers)
        learned = batch.answers[:, 1:] != IGNORE
        logits = self.decoder.logits(hidden[:, :-1][learned])
        owners = batch.answers[:, 1:][learned].long()
        return answer_loss(logits, batch.ids[:, 1:][learned], owners, len(batch.kinds))

    def _texts(self) -> Tensor:
        rng = np.random.default_rng((self.seed, self.step, 7))
        count = max(1, round(TEXTS_AT_ONCE * self.scale))
        chosen = self.texts[rng.integers(len(self.texts), size=count)].astype(np.int64)
        return torch.from_numpy(chosen).to(self.device)

    def _line(self, stage: str, losses: dict[str, Tensor], counts: list[Tensor]) -> dict[str, Any]:
        """A line of the log: losses of the latest step, shares of right answers since the line before."""
        total = torch.stack(counts).sum(0).tolist()
        names = (*ALL_KINDS, "cells")
        accuracy = {name: round(right / asked, 3) for name, (right, asked) in zip(names, total, strict=True) if asked}
        values = {f"{name}_loss": round(float(loss), 4) for name, loss in losses.items()}
        return {"step": self.step, "stage": stage, "seconds": round(self.seconds, 1), **values, **accuracy}

    def save(self) -> None:
        """Writes what was learned and, to resume, the whole state; an interruption leaves the earlier files whole."""
        deltas = {
            f"decoder.{module}.{side}": factor
            for side in "ab"
            for module, factor in getattr(self.decoder, side).items()
        }
        deltas |= {"added": self.decoder.added} | {f"visual.{name}": w for name, w in self.tower.exported().items()}
        small = {name: weight.detach().bfloat16().cpu().contiguous() for name, weight in deltas.items()}
        save_file(small, self.out / "deltas.part")
        os.replace(self.out / "deltas.part", self.out / f"{self.clock.stage}.safetensors")
        state = {
            "tower": self.tower.state_dict(),
            "decoder": dict(self.decoder.named_parameters()),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "step": self.step,
            "seconds": self.seconds,
            "clock": asdict(self.clock),
        }
        torch.save(state, self.out / "state.part")
        os.replace(self.out / "state.part", self.out / "state.pt")

    def _restore(self, saved: dict[str, Any]) -> None:
        self.tower.load_state_dict(saved["tower"])
        self.decoder.load_state_dict(saved["decoder"], strict=False)
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        self.step, self.seconds, self.clock = saved["step"], saved["seconds"], Clock(**saved["clock"])


def _layer(name: str) -> int:
    """The layer that a weight of the decoder belongs to; -1 for none."""
    return int(name.split(".")[1]) if name.startswith("layers.") else -1


def measure(run: Run, plan: Plan, steps: int, report: Any) -> None:
    """How long a step with clips of each length takes, without and with the making of its clips."""
    lessons = Lessons(str(run.tokenizer_file), run.seed, plan, range(1), run.scale)
    for patches in LENGTHS:
        begun = time.monotonic()
        batch = on_device(lessons.batch(patches, 9_000_000 + patches, 0.0), run.device)
        made = time.monotonic() - begun
        times = []
        for _ in range(steps):
            begun = time.monotonic()
            losses, _ = run.learn(batch, "full", 0.0, 1)
            float(losses["answers"])
            times.append(time.monotonic() - begun)
        memory = torch.cuda.max_memory_allocated() / 2**30 if run.device.type == "cuda" else 0.0
        report(
            {
                "patches": patches,
                "tokens": list(batch.ids.shape),
                "made_s": round(made, 2),
                "step_s": [round(t, 3) for t in times],
                "GiB": round(memory, 1),
                "loss": round(float(losses["answers"]), 3),
            }
        )


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Train the witness.")
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json, as assembled")
    parser.add_argument("--texts", type=Path, required=True, help="from training.witness.texts")
    parser.add_argument("--out", type=Path, required=True, help="folder of the run; an earlier one is resumed")
    parser.add_argument("--vision", type=int, default=400, help="steps of the vision tower alone")
    parser.add_argument("--full", type=int, default=2000, help="steps of everything")
    parser.add_argument("--hidden", type=int, default=0, help="steps with tokens hidden")
    parser.add_argument("--limits", default="", help='seconds by which stages end, such as "vision=60,full=450"')
    parser.add_argument("--scale", type=float, default=1.0, help="of the clips a step")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report-every", type=int, default=REPORT_EVERY, help="steps")
    parser.add_argument("--layers", type=int, help="only the first ones of the decoder, to try things out")
    parser.add_argument("--measure", type=int, default=0, help="only time so many steps of each length")
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = True
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    run = Run(args.out, args.gguf, args.tokenizer, args.texts, device, args.seed, args.scale, args.layers)
    limits = {name: float(value) for name, value in (each.split("=") for each in args.limits.split(",") if each)}
    plan = Plan(args.vision, args.full, args.hidden)
    with (args.out / "log.jsonl").open("a", buffering=1) as log:

        def report(line: dict[str, Any]) -> None:
            print(json.dumps(line), file=log)
            print(*(f"{name} {value}" for name, value in line.items()), file=sys.stderr, flush=True)

        if args.measure:
            measure(run, plan, args.measure, report)
        else:
            run.train(plan, args.workers, limits, report, args.report_every)


if __name__ == "__main__":
    main()
