"""The protocol of lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval), as its task files have it.

Of `lmms_eval/tasks/`: mlvu/ (commit 54ad0f8).
"""

from collections.abc import Sequence

from infinipot.evaluate.metrics import over_tasks
from infinipot.evaluate.protocols.base import Protocol, Rules
from infinipot.evaluate.records import Item, Question, Sampling

FRAMES = Sampling("uniform", frames=32)


def mlvu(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    options = "".join(
        f"\n({letter}) {option}" for letter, option in zip(question.letters, question.options, strict=True)
    )
    return f"{question.text}{options}\nOnly give the best option.\nBest option: ("


def before_the_bracket(question: Question, text: str) -> str | None:
    """What stands before the first closing bracket; the whole text where there is none."""
    answer = text.strip()
    bracket = answer.find(")")
    if bracket >= 0:
        answer = answer[bracket - 1 : bracket] if bracket else ""
    return answer if len(answer) == 1 and answer in question.letters else None


LMMS_EVAL = Protocol(
    "lmms-eval",
    "as the harness lmms-eval: its prompts, its reading of answers, its averages",
    {
        "mlvu": Rules(mlvu, before_the_bracket, FRAMES, 16, over_tasks),
    },
)
