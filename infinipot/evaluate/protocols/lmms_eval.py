"""The protocol of lmms-eval 0.7.3 (https://github.com/EvolvingLMMs-Lab/lmms-eval), as its task files have it.

`make test-lmms-eval` compares prompts and readings with the harness itself. Of `lmms_eval/tasks/`, each with the
prompts of its "default" models:
- mlvu/. Its copy of the data set writes the options behind the question, "(A) …" on a line each. Only the letters A to
  D are read, of the test set's six options too: whatever is right there beyond D is never found.
- videomme/. Of subtitles, those on show at a sampled frame count.
- longvideobench/: `_v`, and `_i` where subtitles stand among the frames. A stream has watched its frames already: of
  the interleaved text the subtitles remain, in the same order, and the frames' places are left out. Unparsed answers
  are drawn at random.
- egoschema/. Unparsed answers are drawn at random.
- ovobench/, which is the benchmark's own; the harness has no average over its three modes.
- videomme_v2/ and vsisuper/: see `video_mme_v2` and `vsi_super`.

Versions of the harness before its shared parser (`letters.ranked`) read MLVU, Video-MME and EgoSchema otherwise. It
leaves the frames to the model: 32 is what its Qwen2.5-VL takes by default.
"""

import random
from collections.abc import Sequence

from infinipot.evaluate.protocols import video_mme_v2, vsi_super
from infinipot.evaluate.protocols.base import Protocol, Rules, listed
from infinipot.evaluate.protocols.letters import behind_openings, first, ranked
from infinipot.evaluate.protocols.official import OVO_BENCH
from infinipot.evaluate.records import FrameSampling, Item, Question, Subtitle

FRAMES = FrameSampling("uniform", frames=32)
PREFIXES = (
    *("The best answer is", "The correct answer is", "The answer is", "The answer"),
    *("The best option is", "The correct option is", "Best answer:", "Best option:"),
)


MLVU = "{text}\n{bracketed}Only give the best option.\nBest option: ("
DOTTED = "{text}\n{dotted}Answer with the option's letter from the given choices directly."


def ranked_of_four(question: Question, text: str) -> str | None:
    """A to D by the form it stands in; E and F never."""
    return ranked(text, "ABCD")


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


def longvideobench(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    asked = DOTTED.format(**listed(question)) + "\n"
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
    """The first capital A to E behind what often opens an answer; also one inside a word."""
    return behind_openings(text, PREFIXES, "ABCDE")


def drawn(question: Question, seed: int) -> str:
    """One of the letters, the same for a seed and question wherever and in whatever order they are asked."""
    return random.Random(f"{seed}:{question.id}").choice(question.letters)


def first_form(question: Question, text: str) -> str | None:
    """The letter that `letters.first` finds."""
    whole = [f"{letter}. {option}".strip() for letter, option in zip(question.letters, question.options, strict=True)]
    return first(text, whole, question.letters)


LMMS_EVAL = Protocol(
    "lmms-eval",
    "as the harness lmms-eval: its prompts, its reading of answers, its averages",
    {
        "mlvu": Rules(MLVU, ranked_of_four, FRAMES, 16, "tasks"),
        "video-mme": Rules(video_mme, ranked_of_four, FRAMES, 16, "questions"),
        "longvideobench": Rules(longvideobench, first_of_five, FRAMES, 32, "questions", guess=drawn),
        "egoschema": Rules(DOTTED, first_form, FRAMES, 16, "questions", guess=drawn),
        "ovo-bench": OVO_BENCH,
        "video-mme-v2": video_mme_v2.LMMS_EVAL,
        "vsi-super-recall": vsi_super.RECALL,
        "vsi-super-count": vsi_super.COUNT,
    },
)
