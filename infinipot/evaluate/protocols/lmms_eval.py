"""The protocol of lmms-eval (https://github.com/EvolvingLMMs-Lab/lmms-eval), as its task files have it.

Of `lmms_eval/tasks/`, each with the prompts of its "default" models:
- mlvu/ (commit 54ad0f8). Its copy of the data set writes the options behind the question, "(A) …" on a line each.
- videomme/ (commit 0696573; the prompt's last line is in `videomme.yaml`, read in copies of it). Of subtitles, those
  on show at a sampled frame count.
- longvideobench/ (commit 03a5823): `_v`, and `_i` where subtitles stand among the frames. A stream has watched its
  frames already: of the interleaved text the subtitles remain, in the same order, and the frames' places are left out.
- egoschema/ (commit 147ad5c).
- ovobench/ (commit 0379ab1), which is the benchmark's own.

Newer versions of the harness read letters by a shared parser; these rules are those that most published numbers were
made with. The harness leaves the frames to the model: 32 is what its Qwen2.5-VL takes by default.
"""

import random
import re
from collections.abc import Sequence

from infinipot.evaluate.metrics import over_questions, over_tasks
from infinipot.evaluate.protocols.base import Protocol, Rules
from infinipot.evaluate.protocols.official import OVO_BENCH
from infinipot.evaluate.records import Item, Question, Sampling, Subtitle

FRAMES = Sampling("uniform", frames=32)
PREFIXES = ("The best answer is", "The correct answer is", "The answer is", "The answer")
MORE_PREFIXES = ("The best option is", "The correct option is", "Best answer:", "Best option:")


def mlvu(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    options = "".join(
        f"\n({letter}) {option}" for letter, option in zip(question.letters, question.options, strict=True)
    )
    return f"{question.text}{options}\nOnly give the best option.\nBest option: ("


def before_the_bracket(question: Question, text: str) -> str | None:
    """The character before the first closing bracket; the whole text where there is none."""
    answer = text.strip()
    bracket = answer.find(")")
    if bracket >= 0:
        answer = answer[max(bracket - 1, 0) : bracket]
    return answer if len(answer) == 1 and answer in question.letters else None


def video_mme(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    opening = (
        "Select the best answer to the following multiple-choice question based on the video and the subtitles. "
        "Respond with only the letter (A, B, C, or D) of the correct option."
    )
    asked = f"{opening}\n{question.text}\n{question.details['options']}\n"
    if not question.details["subtitles"]:
        return f"{asked}\nAnswer with the option's letter from the given choices directly."
    shown = "\n".join(line.text for line in item.subtitles if any(line.start <= at < line.end for at in frame_times))
    subtitles = shown if item.subtitles else "No subtitles available"
    return f"This video's subtitles are listed below: \n{subtitles}\n{asked}The best answer is:"


def first_of_four(question: Question, text: str) -> str | None:
    """The first capital A to D behind what often opens an answer; also one inside a word."""
    return _first(text, "[ABCD]", PREFIXES)


def longvideobench(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    options = "".join(
        f"\n{letter}. {option}" for letter, option in zip(question.letters, question.options, strict=True)
    )
    asked = f"{question.text}{options}\nAnswer with the option's letter from the given choices directly.\n"
    if not question.details["subtitles"]:
        return asked
    lines = [entry for entry in interleaved(item.subtitles, frame_times) if isinstance(entry, str)]
    return "".join(f"{line}\n" for line in lines) + asked


def interleaved(subtitles: Sequence[Subtitle], frame_times: Sequence[float]) -> list[int | str]:
    """Frames, by index, and subtitles in the order in which the harness puts them.

    A line stands behind the frames up to its middle, and is left out unless a frame lies within it; lines shorter
    than a second count as one second long.
    """
    order: list[int | str] = []
    placed = 0
    for line in subtitles:
        start, end = line.start, line.end
        middle = (start + end) / 2
        while placed < len(frame_times) and frame_times[placed] <= middle:
            order.append(placed)
            placed += 1
        if end - start < 1:
            start, end = middle - 0.5, middle + 0.5
        if any(start < time < end for time in frame_times):
            order.append(line.text)
    return [*order, *range(placed, len(frame_times))]


def first_of_five(question: Question, text: str) -> str | None:
    """As `first_of_four`, A to E."""
    return _first(text, "[ABCDE]", PREFIXES + MORE_PREFIXES)


def drawn(question: Question, seed: int) -> str:
    """One of the letters, the same for a seed and question wherever and in whatever order they are asked."""
    return random.Random(f"{seed}:{question.id}").choice(question.letters)


def egoschema(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    options = "".join(
        f"\n{letter}. {option}" for letter, option in zip(question.letters, question.options, strict=True)
    )
    return f"{question.text}{options}\nAnswer with the option's letter from the given choices directly."


def exact_option(question: Question, text: str) -> str | None:
    """The option that the text is: whole ("A. He cooks."), its first sentence alone ("He cooks.") or its letter."""
    whole = [f"{letter}. {option}" for letter, option in zip(question.letters, question.options, strict=True)]
    whole = [option if option.endswith(".") else f"{option}." for option in whole]
    for form in (whole, [option.split(". ")[1] for option in whole], list(question.letters)):
        if text in form:
            return question.letters[form.index(text)]
    return None


def _first(text: str, letters: str, prefixes: Sequence[str]) -> str | None:
    answer = text.strip()
    for prefix in prefixes:
        answer = answer.replace(prefix, "")
    found = re.search(letters, answer)
    return found[0] if found else None


LMMS_EVAL = Protocol(
    "lmms-eval",
    "as the harness lmms-eval: its prompts, its reading of answers, its averages",
    {
        "mlvu": Rules(mlvu, before_the_bracket, FRAMES, 16, over_tasks),
        "video-mme": Rules(video_mme, first_of_four, FRAMES, 16, over_questions),
        "longvideobench": Rules(longvideobench, first_of_five, FRAMES, 32, over_questions, guess=drawn),
        "egoschema": Rules(egoschema, exact_option, FRAMES, 16, over_questions),
        "ovo-bench": OVO_BENCH,
    },
)
