"""Text to token ids, by copies of a checkpoint's tokenizer that are never changed. Knows no conversation.

transformers reads special tokens in a text, or splits them up as mere text, by a flag that it sets on the one tokenizer
that all share before it encodes: two threads that want different things get each other's. So there is a copy for each.
Questions are asked again and again, and the texts around them are always the same: ids of short texts are kept.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

from tokenizers import Tokenizer

_Encode = Callable[[str, bool, bool], tuple[int, ...]]  # a text, whether it is split, and whether it begins a prompt
_KEPT, _SHORT = 512, 1024  # texts whose ids are kept, of so many characters at the most


class Encoder:
    """Gives the ids that the tokenizer itself gives, from any number of threads at once.

    Args:
        tokenizer: of transformers. One without a `backend_tokenizer` has no such flag, and is used as it is.
    """

    def __init__(self, tokenizer: Any) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", None)
        self._encode = _as_it_is(tokenizer) if backend is None else _by_copies(backend)
        self._encode_again = self._encode if backend is None else lru_cache(_KEPT)(self._encode)

    def __call__(self, text: str, *, split: bool, begin: bool) -> list[int]:
        """Token ids of a text.

        Args:
            text: any.
            split: whether special tokens in it are split up into what mere text would be.
            begin: whether it gets what the tokenizer puts around every prompt.
        """
        encode = self._encode_again if len(text) <= _SHORT else self._encode
        return list(encode(str(text), split, begin))  # an answer is more than its text, and would be kept with it


def _as_it_is(tokenizer: Any) -> _Encode:
    def encode(text: str, split: bool, begin: bool) -> tuple[int, ...]:
        return tuple(tokenizer(text, add_special_tokens=begin, split_special_tokens=split).input_ids)

    return encode


def _by_copies(backend: Tokenizer) -> _Encode:
    copies = {split: _copy(backend, split) for split in (False, True)}

    def encode(text: str, split: bool, begin: bool) -> tuple[int, ...]:
        return tuple(copies[split].encode(text, add_special_tokens=begin).ids)

    return encode


def _copy(backend: Tokenizer, split: bool) -> Tokenizer:
    copy = Tokenizer.from_str(backend.to_str())
    copy.encode_special_tokens = split
    copy.no_padding()
    copy.no_truncation()
    return copy
