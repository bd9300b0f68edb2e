"""How well a witness still speaks: the perplexity of text, beside that of its decoder before it learned to see.

    python -m training.witness.language

The text is Python's own manual, as the standard library carries it (`pydoc_data.topics`); training saw none of it.
"""

import argparse
import math
import tempfile
from pathlib import Path
from pydoc_data import topics
from typing import Any

import torch
from torch.nn import functional as F  # noqa: N812
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from infinipot import shipped
from infinipot.witness import assemble

LENGTH = 512  # tokens at once


@torch.no_grad()
def perplexity(model: Any, ids: torch.Tensor) -> float:
    """Of rows of tokens `[n, LENGTH]`, each read by itself."""
    total = 0.0
    for row in ids:
        logits = model(input_ids=row[None], use_cache=False).logits[0, :-1]
        total += float(F.cross_entropy(logits, row[1:], reduction="sum"))
    return math.exp(total / (ids.shape[0] * (ids.shape[1] - 1)))


def text(tokenizer: Any, rows: int) -> torch.Tensor:
    """`rows` pieces of LENGTH tokens from all over the manual."""
    manual = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    ids = torch.tensor(tokenizer(manual, verbose=False)["input_ids"])
    pieces = ids[: len(ids) // LENGTH * LENGTH].view(-1, LENGTH)
    return pieces[torch.linspace(0, len(pieces) - 1, rows).long()]


def main() -> None:
    """The command line; see the module's docstring."""
    parser = argparse.ArgumentParser(description="Perplexity of text, before and after a witness learned to see.")
    parser.add_argument("models", nargs="*", default=["witness", "witness-hidden"], help="names, or folders")
    parser.add_argument("--rows", type=int, default=24, help=f"pieces of {LENGTH} tokens")
    parser.add_argument("--from", dest="source", type=Path, help="the decoder: see python -m infinipot.witness")
    args = parser.parse_args()
    folders = {name: Path(shipped.folder_of(name)) for name in args.models}
    ids = text(AutoTokenizer.from_pretrained(next(iter(folders.values()))), args.rows)
    with tempfile.TemporaryDirectory() as work:
        before = perplexity(assemble.untrained(Path(work), args.source)[0], ids)
    print(f"SmolLM2 as it came  {before:8.2f}")
    for name, folder in folders.items():
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).eval()
        after = perplexity(model, ids)
        print(f"{name:18}  {after:8.2f}  {after / before:.3f} times")


if __name__ == "__main__":
    main()
