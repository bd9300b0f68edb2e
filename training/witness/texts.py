"""Ordinary text as token ids, on which the decoder is to go on speaking as it did.

    python -m training.witness.texts TOKENIZER.json TEXTS.npy

It is the documentation within Python's standard library; the exam on language is held on other text.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from infinipot.witness.checkpoint import SYSTEM

LENGTH = 512  # tokens
_SHORTEST = 200  # characters
_REQUESTS = ("Explain this.", "Tell me more about it.", "What does it do?", "Write something helpful.", "Go on.")


def documentation(library: Path) -> Iterator[str]:
    """The documentation strings of a folder's Python files that are long enough to say something."""
    for file in sorted(library.glob("*.py")) + sorted(library.glob("[a-l]*/*.py")):
        try:
            tree = ast.parse(file.read_text(encoding="utf-8"))
        except (SyntaxError, UnicodeDecodeError):
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                text = ast.get_docstring(node) or ""
                if len(text) >= _SHORTEST:
                    yield text


def sequences(tokenizer: Tokenizer, texts: Iterator[str]) -> Iterator[list[int]]:
    """Runs of LENGTH tokens: texts one behind the other, every other one as the answer of a chat."""
    ids: list[int] = []
    for number, text in enumerate(texts):
        if number % 2:
            request = _REQUESTS[number // 2 % len(_REQUESTS)]
            text = (
                f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{request}<|im_end|>\n"
                f"<|im_start|>assistant\n{text}<|im_end|>\n"
            )
        ids += tokenizer.encode(f"{text}<|endoftext|>").ids
        while len(ids) >= LENGTH:
            yield ids[:LENGTH]
            ids = ids[LENGTH:]


if __name__ == "__main__":
    made = list(sequences(Tokenizer.from_file(sys.argv[1]), documentation(Path(ast.__file__).parent)))
    np.save(sys.argv[2], np.array(made, np.uint16))
    print(f"{len(made)} sequences of {LENGTH} tokens")
