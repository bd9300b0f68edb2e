"""Runs the embedded model on clips, and examines a checkpoint on clips that it was never trained on.

python -m infinipot.embedded.examine                     # the packaged checkpoint
python -m infinipot.embedded.examine DIR --clips 50 --json
"""

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from infinipot.embedded import path
from infinipot.embedded.checkpoint import PATCH
from infinipot.embedded.lessons import exam
from infinipot.embedded.sequence import IGNORE, Batch, Pixels, Sequence, collate
from infinipot.embedded.world import HELD_OUT_SEEDS, KINDS, SIZE, Question

Case = tuple[Sequence, Pixels]
Counts = dict[str, tuple[int, int]]  # kind: right, asked
LENGTHS = (
    (4, 2.0),
    (8, 2.0),
    (16, 1.0),
    (32, 2.0),
    (32, 0.5),
    (60, 1.0),
)  # temporal patches, frames a second
CLIPS_AT_ONCE = 4


@dataclass(frozen=True, slots=True)
class Score:
    """How one kind of question went.

    Attributes:
        asked: number of questions.
        right: share answered exactly.
        guess: share that the better of two guesses gets right: any choice, or always the commonest answer.
    """

    asked: int
    right: float
    guess: float


def look(model: Qwen2_5_VLForConditionalGeneration, cases: list[Case]) -> torch.Tensor:
    """The visual tokens of the cases, one behind the other: `[B * T * 16, hidden]`."""
    pixels = torch.cat([seen.patches for _, seen in cases])
    side = SIZE // PATCH
    grid = torch.tensor([[len(pixels) // side**2, side, side]])
    return model.model.visual(pixels, grid_thw=grid).pooler_output


def answer(
    model: Qwen2_5_VLForConditionalGeneration, batch: Batch, visual: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the language model on a batch and its visual tokens, with explicit positions.

    Returns:
        logits `[answer tokens, vocabulary]` that predict the answer tokens, and the answer tokens.
    """
    embedded = model.model.language_model.embed_tokens(batch.ids)
    where = (batch.ids == model.config.video_token_id)[..., None].expand_as(embedded)
    hidden = model.model.language_model(
        inputs_embeds=embedded.masked_scatter(where, visual),
        position_ids=batch.positions,
        attention_mask=batch.mask,
        use_cache=False,
    ).last_hidden_state
    learned = batch.answers[:, 1:] != IGNORE
    return model.lm_head(hidden[:, :-1][learned]), batch.ids[:, 1:][learned]


def tally(logits: torch.Tensor, targets: torch.Tensor, batch: Batch) -> Counts:
    """Right and asked, by kind.

    Right is an answer whose every token, <|im_end|> too, is the likeliest one behind those before it: greedy
    decoding gives exactly this answer.
    """
    owners = batch.answers[:, 1:][batch.answers[:, 1:] != IGNORE]
    wrong = set(owners[logits.argmax(-1) != targets].tolist())
    return add(({kind: (int(number not in wrong), 1)} for number, kind in enumerate(batch.kinds)))


def add(counts: Iterable[Counts]) -> Counts:
    """The sum of counts."""
    total: Counts = {}
    for one in counts:
        for kind, (right, asked) in one.items():
            before = total.get(kind, (0, 0))
            total[kind] = (before[0] + right, before[1] + asked)
    return total


@torch.no_grad()
def examine(folder: Path, clips: int, seeds: range = HELD_OUT_SEEDS) -> dict[str, Score]:
    """Ask a checkpoint one question of every kind on `clips` clips of each of LENGTHS; scores by kind."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    counts: list[Counts] = []
    asked: dict[str, list[Question]] = defaultdict(list)
    for number, (patches, fps) in enumerate(LENGTHS):
        own = seeds[number * clips : (number + 1) * clips]
        for start in range(0, clips, CLIPS_AT_ONCE):
            exams = [exam(tokenizer, seed, patches, fps) for seed in own[start : start + CLIPS_AT_ONCE]]
            cases = [(sequence, seen) for sequence, seen, _ in exams]
            batch = collate([sequence for sequence, _ in cases])
            counts.append(tally(*answer(model, batch, look(model, cases)), batch))
            for question in (question for _, _, questions in exams for question in questions):
                asked[question.kind].append(question)
    total = add(counts)
    return {
        kind: Score(total[kind][1], total[kind][0] / total[kind][1], _guess(asked[kind]))
        for kind in KINDS
        if kind in total
    }


def _guess(questions: list[Question]) -> float:
    commonest = Counter(question.answer for question in questions).most_common(1)[0][1]
    return max(commonest, sum(question.chance for question in questions)) / len(questions)


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Examine a checkpoint of the embedded model.")
    parser.add_argument("folder", type=Path, nargs="?", default=path(), help="default: the packaged one")
    parser.add_argument("--clips", type=int, default=100, help=f"clips of each of {len(LENGTHS)} lengths")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    scores = examine(args.folder, args.clips)
    if args.json:
        print(json.dumps({kind: asdict(score) for kind, score in scores.items()}, indent=2))
        return
    print("kind      asked   right   guess")
    for kind, score in scores.items():
        print(f"{kind:8} {score.asked:6} {score.right:7.1%} {score.guess:7.1%}")


if __name__ == "__main__":
    main()
