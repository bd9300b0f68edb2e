"""The rules of OVO-S-Bench: its authors' code (github.com/InternLM/OVO-S-Bench, commit cd4768e).

The default prompt of `prompts.py`; answers are read as `score.py` reads them, which knows the letters A to E alone: F
and G are never found. Averages are over questions. At most 64 tokens are generated, as its configuration has it for
models behind an API that do not reason; those that it runs itself get 1024. Each of its models takes frames of its own,
most of them 128; a stream is watched at one a second, the default of its `fps` strategy.
"""

import re

from infinipot.evaluate.protocols.base import Rules
from infinipot.evaluate.records import FrameSampling, Question

PROMPT = """\
You are evaluating a video understanding task. Based on the video frames provided, answer the following multiple choice question.

Question: {text}

Options:
{dotted}
Instructions:
- Respond with ONLY the letter of your answer (e.g., "A" or "B").
- Do not include any explanation or additional text.

Your answer:"""  # noqa: E501

TAIL = 300
"""Characters at the end that the first forms are looked for in."""
AT_THE_END = (
    r"(?:answer|final\s+answer|final)[:\s]+([A-E])\b",
    r"<answer>\s*([A-E])\b",
    r"\b([A-E])\b\s*\.?\s*$",
    r"<\|begin_of_box\|>\s*([A-E])",
)
ANYWHERE = (
    r"\A([A-E])\b",
    r"(?:answer|choice|option)s?[:\s]+([A-E])\b",
    r"[(\[]\s*([A-E])\s*[)\]]",
)


def read(question: Question, text: str) -> str | None:
    """The letter in the first of the forms that is there, behind what a model thought."""
    answer = text.strip().rpartition("</think>")[2].strip()
    forms = [*((form, answer[-TAIL:]) for form in AT_THE_END), *((form, answer) for form in ANYWHERE)]
    found = (re.search(form, where, re.IGNORECASE) for form, where in forms)
    return next((match[1].upper() for match in found if match), None)


OFFICIAL = Rules(PROMPT, read, FrameSampling("fps", fps=1.0), 64, "questions")
