"""The benchmarks' own protocols, as their authors' code has them: of the streaming ones, and of Video-MME-v2.

- OVO-Bench (github.com/JoeLeelyf/OVO-Bench): prompts of its `constant.py`, read in the copy that lmms-eval keeps
  (lmms_eval/tasks/ovobench/, commit 0379ab1); scores of its `utils/OVOBenchScore.py` (commit 19677d2): an answer is
  right if the right letter, or "Yes" or "No", is anywhere in it, a count if all its digits together are it. Tasks are
  averaged within a mode, and the three modes then, as the paper's tables do; that commit prints the mean of the twelve
  tasks instead. Since published averages are of three modes or of two, both stand in a report by their names.
- StreamingBench (github.com/THUNLP-MT/StreamingBench): the prompt as in `src/benchmark/StreamingOpenStreamText.py`
  (commit 7dbcf2f); the first character of an answer counts, over questions (`count.py`, read in a copy of the
  repository, Tyronita/StreamingBench, commit 8476952; it leaves empty answers out, here they are wrong).
- Video-MME-v2 and OVO-S-Bench: see `video_mme_v2` and `ovo_s_bench`.
- RVS (github.com/Becomebright/ReKV, `video_qa/rekv_stream_vqa.py`): the question alone, half a frame a second, 256
  tokens; a judge says whether the answer matches. Read in copies of that repository, not in itself.

OVO-Bench and StreamingBench take a clip up to the question's moment and a number of its frames anew for each question;
a stream is watched once, at one frame a second. So StreamingBench is run with "all context", which its README
(commit 6531757) gives apart: its main table lets a model see the 60 seconds before the question alone.
"""

import re
from collections.abc import Sequence

from infinipot.evaluate.protocols import ovo_s_bench, video_mme_v2
from infinipot.evaluate.protocols.base import Protocol, Rules
from infinipot.evaluate.records import LETTERS, FrameSampling, Item, Question

CHOICE = """
Question: {}
Options:
{}

Respond only with the letter corresponding to your chosen option (e.g., A, B, C). 
Do not include any additional text or explanation in your response.
"""  # noqa: W291

COUNT = """
You're watching a video in which people may perform a certain type of action repetively. 
The person performing this kind of action are referred to as 'they' in the following statement.
You're task is to count how many times have different people in the video perform this kind of action in total.
One complete motion counts as one. 
Now, answer the following question: {}
Provide your answer as a single number (e.g., 0, 1, 2, 3…) indicating the total count.
Do not include any additional text or explanation in your response.
"""  # noqa: W291

STEP = """
You're watching a tutorial video which contain a sequential of steps. 
The following is one step from the whole procedures: 
{}
Your task is to determine if the man or woman in the video is currently performing this step.
Answer only with “Yes” or “No”.
Do not include any additional text or explanation in your response.
"""  # noqa: W291

CLUE = """
You're responsible of answering questions based on the video content. 
The following question are relevant to the latest frames, i.e. the end of the video.
{}
Decide whether existing visual content, especially latest frames, i.e. frames that near the end of the video, provide enough information for answering the question.
Answer only with “Yes” or “No”.
Do not include any additional text or explanation in your response.
"""  # noqa: E501, W291

FORWARD = {"REC": COUNT, "SSR": STEP, "CRR": CLUE}

STREAMING = """\
You are an advanced video question-answering AI assistant. You have been provided with some frames from the video and a multiple-choice question related to the video. Your task is to carefully analyze the video and provide the best answer to question, choosing from the four options provided. Respond with only the letter (A, B, C, or D) of the correct option.

Question: {text}

Options:
{given}

The best option is:"""  # noqa: E501


def ovo_bench(item: Item, question: Question, frame_times: Sequence[float]) -> str:
    if question.task in FORWARD:
        return FORWARD[question.task].replace("{}", question.text)
    options = "; ".join(f"{letter}. {option}" for letter, option in zip(LETTERS, question.options, strict=False))
    return CHOICE.format(question.text, f"{options};")


def contained(question: Question, text: str) -> str | None:
    """The right answer if it is in the text, else the first of the others that is; of a count all digits together."""
    if question.task == "REC":
        return "".join(re.findall(r"\d+", text)) or None
    possible = ("Yes", "No") if question.task in FORWARD else tuple(question.letters)
    if question.task in FORWARD and text in ("Y", "N"):
        return "Yes" if text == "Y" else "No"
    if question.answer is not None and question.answer in text:
        return question.answer
    return min((answer for answer in possible if answer in text), key=text.index, default=None)


def first_character(question: Question, text: str) -> str | None:
    """The first character, if it is a letter of the options."""
    return text[0] if text and text[0] in question.letters else None


def whole_text(question: Question, text: str) -> str | None:
    """The answer on one line, for the judge; None where there is nothing to judge."""
    return text.replace("\n", "").strip() or None


OVO_BENCH = Rules(
    ovo_bench,
    contained,
    FrameSampling("fps", fps=1.0),
    128,
    "groups",
    means={"three modes": ("real-time", "backward", "forward"), "real-time + backward": ("real-time", "backward")},
)
RVS = Rules("{text}", whole_text, FrameSampling("fps", fps=0.5), 256, "questions")

OFFICIAL = Protocol(
    "official",
    "as the benchmark's own code: the streaming benchmarks, and Video-MME-v2",
    {
        "rvs": RVS,
        "ovo-bench": OVO_BENCH,
        "streaming-bench": Rules(STREAMING, first_character, FrameSampling("fps", fps=1.0), 128, "questions"),
        "video-mme-v2": video_mme_v2.OFFICIAL,
        "ovo-s-bench": ovo_s_bench.OFFICIAL,
    },
)
