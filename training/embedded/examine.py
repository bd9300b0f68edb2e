"""Examines a model that knows the synthetic world on clips that it was never trained on, the whole video in view.

python -m training.embedded.examine                     # the packaged checkpoint
python -m training.embedded.examine witness
python -m training.embedded.examine DIR --clips 50 --video street.mp4 --json
"""

import argparse
import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from infinipot import shipped
from infinipot.embedded.facts import BACKGROUNDS, HELD_OUT_SEEDS
from infinipot.embedded.scenery import Footage
from infinipot.embedded.words import KINDS
from infinipot.embedded.world import Clip, Question
from infinipot.evaluate.needle.rows import best_guess
from training.embedded.batch import collate
from training.embedded.forward import Counts, add, answer, look, tally
from training.embedded.lessons import exam

# temporal patches, frames a second
LENGTHS = ((8, 2.0), (16, 1.0), (32, 2.0), (32, 0.5), (60, 1.0), (60, 2.0))
CLIPS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Score:
    """How questions went.

    Attributes:
        asked: number of questions.
        right: share answered exactly.
        guess: share that the better of two guesses gets right: any choice, or always the commonest answer.
    """

    asked: int
    right: float
    guess: float


Scores = dict[str, Score]  # kind, or "all"


@torch.no_grad()
def examine(
    folder: Path, clips: int, backgrounds: dict[str, str | Path], seeds: range = HELD_OUT_SEEDS
) -> dict[str, Scores]:
    """Asks a checkpoint one question of every kind on `clips` clips of each of LENGTHS before each background.

    Args:
        folder: the checkpoint.
        clips: of each length and background.
        backgrounds: a name for each background of `Clip`, or for a video file.
        seeds: of the clips.

    Returns:
        scores by name of the background, then by kind.
    """
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(folder)
    size, system = shipped.frame_size(folder), system_message(processor)
    unused = iter(seeds)
    scores = {}
    for name, given in backgrounds.items():
        background = given if isinstance(given, str) else Footage(given, size=size)
        counts: list[Counts] = []
        asked: dict[str, list[Question]] = defaultdict(list)
        for patches, fps in LENGTHS:
            for start in range(0, clips, CLIPS_AT_ONCE):
                own = [next(unused) for _ in range(min(CLIPS_AT_ONCE, clips - start))]
                exams = [
                    exam(processor.tokenizer, _clip(seed, patches, fps, background, size), patches, _draw(seed), system)
                    for seed in own
                ]
                batch = collate([sequence for sequence, _, _ in exams], [pixels for _, pixels, _ in exams])
                logits, targets, _ = answer(model, batch, look(model, batch.pixels, size))
                counts.append(tally(logits, targets, batch))
                for question in (question for _, _, questions in exams for question in questions):
                    asked[question.kind].append(question)
        scores[name] = _scores(add(counts), asked)
    return scores


def system_message(processor: Any) -> str:
    """The message that the processor's chat template puts first."""
    begun = processor.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
    return str(begun).removeprefix("<|im_start|>system\n").partition("<|im_end|>")[0]


def _clip(seed: int, patches: int, fps: float, background: str | Footage, size: int) -> Clip:
    """A clip that goes on two patches longer than it is watched, so that watching may end within an event."""
    shown = background if isinstance(background, str) else background.beginning_at(seed)
    return Clip(seed, 2 * (patches + 2) / fps, fps, background=shown, size=size)


def _draw(seed: int) -> np.random.Generator:
    return np.random.default_rng((seed, 2))


def _scores(total: Counts, asked: dict[str, list[Question]]) -> Scores:
    """By kind, and of all kinds together; few clips may ask no question of some kind."""
    scores = {
        kind: Score(total[kind][1], total[kind][0] / total[kind][1], _guess(asked[kind]))
        for kind in KINDS
        if asked[kind]
    }
    count = sum(score.asked for score in scores.values())
    right, guess = (sum(getattr(each, part) * each.asked for each in scores.values()) for part in ("right", "guess"))
    return scores | {"all": Score(count, right / count, guess / count)}


def _guess(questions: list[Question]) -> float:
    rights, chances = [question.answer for question in questions], [question.chance for question in questions]
    return best_guess(rights, chances) / len(questions)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Examine a checkpoint of the embedded model.")
    parser.add_argument("model", nargs="?", default="embedded", help="a folder, or a name of a model that ships")
    parser.add_argument("--clips", type=int, default=30, help=f"of each of {len(LENGTHS)} lengths and background")
    parser.add_argument("--video", type=Path, action="append", default=[], help="a video file as one more background")
    parser.add_argument("--first-seed", type=int, default=HELD_OUT_SEEDS.start)
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    backgrounds: dict[str, str | Path] = {name: name for name in BACKGROUNDS}
    backgrounds |= {video.name: video for video in args.video}
    scores = examine(
        Path(shipped.folder_of(args.model)), args.clips, backgrounds, range(args.first_seed, HELD_OUT_SEEDS.stop)
    )
    if args.json:
        named = {name: {kind: asdict(score) for kind, score in each.items()} for name, each in scores.items()}
        print(json.dumps(named, indent=2))
        return
    for name, each in scores.items():
        print(f"{name}\n  kind      asked   right   guess")
        for kind, score in each.items():
            print(f"  {kind:8} {score.asked:6} {score.right:7.1%} {score.guess:7.1%}")


if __name__ == "__main__":
    main()
