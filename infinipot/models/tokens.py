"""Text to token ids, by copies of a checkpoint's tokenizer that are never changed. Knows no conversation.

transformers reads special tokens in a text, or splits them up as mere text, by a flag that it sets on the one tokenizer
that all share before it encodes: two threads that want different things get each other's. So there is a copy for each.
"""

from typing import Any

from tokenizers import Tokenizer


class Encoder:
    """Gives the ids that the tokenizer itself gives, from any number of threads at once.

    Args:
        tokenizer: of transformers. One without a `backend_tokenizer` has no such flag, and is used as it is.
    """

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._copies = None if backend is None else {split: _copy(backend, split) for split in (False, True)}

    def __call__(self, text: str, *, split: bool, begin: bool) -> list[int]:
        """Token ids of a text.

        Args:
            text: any.
            split: whether special tokens in it are split up into what mere text would be.
            begin: whether it gets what the tokenizer puts around every prompt.
        """
        if self._copies is None:
            made = self._tokenizer(text, add_special_tokens=begin, split_special_tokens=split)
            return list(made.input_ids)
        return list(self._copies[split].encode(text, add_special_tokens=begin).ids)


def _copy(backend: Tokenizer, split: bool) -> Tokenizer:
    copy = Tokenizer.from_str(backend.to_str())
    copy.encode_special_tokens = split
    copy.no_padding()
    copy.no_truncation()
    return copy
