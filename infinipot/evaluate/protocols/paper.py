"""The protocol of the published InfiniPot-V code.

https://github.com/aiha-lab/InfiniPot-V: prompts and reading as `legacy/qwen_inference_ovu_old.py` has them (commit
d6cad87), averages as `qwen_inference_ovu.py` writes them to `accuracy.json` (commit 39007cc): MLVU and LongVideoBench
over task types, Video-MME and EgoSchema over questions. Frames as `qwen-vl-utils` takes them there: 2 a second, at
even distances no more than 768, each about 128 tokens of 28 x 28 pixels.

What differs, and why:
- An unparsed answer is wrong. Both files take it for "C"; otherwise they read the same letters.
- At most 32 tokens are generated, not 300, or 5 where the video fits one block: the first letter counts.
- Qwen2.5-VL's positions follow the times of the frames, as in its training. The code leaves `second_per_grid_ts` out,
  so that each temporal patch stands two positions behind the last one, whatever the frame rate: the same at 2 frames a
  second, less than the time that passed where 768 frames are spread over a longer video.
- MLVU's test set, which the code does not run, gets the letters of its six options.
- LongVideoBench's task types are its question categories; the code takes them from the names of converted files that
  were not published.
- RVS is not in the published code: its rules are those of ReKV, which the paper compares with.
"""

import re

from infinipot.evaluate.protocols.base import Protocol, Rules
from infinipot.evaluate.protocols.official import RVS
from infinipot.evaluate.records import FrameSampling, Question

FRAMES = FrameSampling("uniform", frames=768, fps=2.0, pixels=(128 * 28 * 28, 128 * 28 * 28))
LONGEST = 32


LISTED = "Question: {text}\nOptions:\n{bracketed}"
ONLY_THE_LETTER = LISTED + "Respond with only the letter ({letters}) of the correct option."
THE_LETTER_FOR = LISTED + "Please answer with the letter for the correct option."
# The options of Video-MME bring their letters along.
VIDEO_MME = """\
Question: {text}
Options:
{given}
Respond with only the letter (A, B, C, or D) of the correct option."""


def first_of_four(question: Question, text: str) -> str | None:
    """The first capital A to D, or as far as the options go: also one inside a word."""
    last = max("D", question.letters[-1])
    found = re.search(f"[A-{last}]", text.replace("Answer", ""))
    return found[0] if found else None


def first_of_five(question: Question, text: str) -> str | None:
    """The first capital A to E, with the brackets and blanks round it, which may hold no other blank: "( A )" fails."""
    found = re.search(r"[( ]*[A-E][) ]*", text.replace("Answer", ""))
    letter = found[0].strip().strip("()") if found else ""
    return letter if len(letter) == 1 else None


PAPER = Protocol(
    "paper",
    "as the published InfiniPot-V code: 768 frames, the first letter counts, an unparsed answer is wrong",
    {
        "mlvu": Rules(ONLY_THE_LETTER, first_of_four, FRAMES, LONGEST, "tasks"),
        "video-mme": Rules(VIDEO_MME, first_of_four, FRAMES, LONGEST, "questions", variants=("no-subtitles",)),
        "longvideobench": Rules(THE_LETTER_FOR, first_of_five, FRAMES, LONGEST, "tasks", variants=("val", "test")),
        "egoschema": Rules(ONLY_THE_LETTER, first_of_five, FRAMES, LONGEST, "questions"),
        "rvs": RVS,
    },
)
