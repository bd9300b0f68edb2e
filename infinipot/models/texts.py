"""The texts of a model family: its chat template, its tokenizer, the captions of patches, and how an answer ends."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor

from infinipot.errors import ModelError
from infinipot.models.chat import ANSWER, ChatFormat, read_chat_format
from infinipot.models.scoring import Scoring
from infinipot.models.tokens import Encoder
from infinipot.numbers import is_whole

_LATEST = 9_999_999_999.9  # seconds: a time with as many digits as a stream's may get, seconds since 1970 included


class Texts:
    """What an adapter knows of texts: reads its processor, never the network.

    Args:
        model: of transformers, for its generation config.
        processor: with tokenizer and chat template; None where only tensors go in and out.
    """

    modality: ClassVar[str]
    patch_frames: ClassVar[int]

    def __init__(self, model: Any, processor: Any) -> None:
        self.model = model
        self.processor = processor
        self._scoring = Scoring(model)
        tokenizer = getattr(processor, "tokenizer", None)
        self._encoder = None if tokenizer is None else Encoder(tokenizer)

    @property
    def placeholder(self) -> str:
        """The chat template's placeholder of a video, which captions and cell tokens replace."""
        return str(self.processor.video_token)

    @property
    def cell_id(self) -> int:
        """The token that stands in a whole prompt, as transformers' processor makes it, for each token of a video."""
        return int(self.processor.tokenizer.convert_tokens_to_ids(self._cell_token))

    @property
    def _cell_token(self) -> str:
        return str(self.processor.video_token)

    def caption(self, times: Sequence[float], number: int, *, opens: bool) -> tuple[str, str]:
        """The texts ahead of a temporal patch and after it. A family captions all of its patches, or none.

        Captions count against the memory and leave with their patch.

        Args:
            times: of its frames, in seconds.
            number: temporal patches of the stream before it.
            opens: whether it is the first of its video: of the stream, or after a remembered turn.
        """
        return "", ""

    def caption_ids(self, times: Sequence[float], number: int, *, opens: bool) -> tuple[list[int], list[int]]:
        """Token ids of `caption`."""
        before, after = self.caption(times, number, opens=opens)
        return self.tokenize(before) if before else [], self.tokenize(after) if after else []

    @cached_property
    def caption_limit(self) -> int:
        """The most tokens that both texts of a patch together take, at any time of a stream."""
        latest, most = [_LATEST] * self.patch_frames, int(_LATEST)
        lengths = [sum(map(len, self.caption_ids(latest, most, opens=opens))) for opens in (True, False)]
        return max(lengths)

    def chat(self, system: str | None = None) -> ChatFormat:
        """The texts around videos, questions and answers, by the checkpoint's own chat template."""
        return read_chat_format(self.processor, self.placeholder, self.modality, system)

    def tokenize(self, text: str, *, plain: bool = False, opens: bool = False, behind: str = "") -> list[int]:
        """Token ids of a piece of a conversation.

        Args:
            text: the piece.
            plain: whether what looks like a special token is mere text.
            opens: whether the conversation begins with it: then it has what the tokenizer begins every prompt with.
            behind: a text like the one ahead of it, where its first token depends on that (as Llama's does).
        """
        assert self._encoder is not None, "there is no text without a tokenizer"
        first = self.processor.tokenizer.bos_token
        begun = first is not None and text.startswith(first)
        ids = self._encoder(text, split=plain, begin=opens and not begun)
        if behind:
            ahead, whole = (self.tokenize(part, plain=plain) for part in (behind, behind + text))
            ids = whole[len(ahead) :] if whole[: len(ahead)] == ahead else ids
        return ids

    def prompt(self, before: str, question: str, after: str, *, behind: str) -> list[int]:
        """Token ids of a question between the texts around it.

        They are those of all three as one text, unless the question contains the text of a special token. That is read
        as mere text, so that a question cannot end its turn and begin another.
        """
        plain = self.tokenize(question, plain=True)
        if plain == self.tokenize(question):
            return self.tokenize(before + question + after, behind=behind)
        return [*self.tokenize(before, behind=behind), *plain, *self.tokenize(after, behind=ANSWER)]

    def detokenize(self, ids: Sequence[int]) -> str:
        """Text of an answer, without special tokens."""
        return str(self.processor.tokenizer.decode(ids, skip_special_tokens=True))

    @property
    def stop_ids(self) -> frozenset[int]:
        """Tokens that end an answer: the generation config's, or the tokenizer's where that names none.

        Raises:
            ModelError: what it names is no token.
        """
        said = self.model.generation_config.eos_token_id
        if said is None and self.processor is not None:
            said = self.processor.tokenizer.eos_token_id
        ids = said if isinstance(said, list) else [] if said is None else [said]
        if not all(map(is_whole, ids)):
            raise ModelError(
                f"the checkpoint's generation config cannot be used: eos_token_id={said!r} is not a token id"
            )
        return frozenset(ids)

    def scores(
        self, asked: Mapping[str, Any], ids: Sequence[int], limit: int, device: torch.device
    ) -> tuple[Callable[..., Tensor], bool]:
        """What becomes of logits before a token is chosen, and whether it is drawn: see `Scoring.of`."""
        return self._scoring.of(asked, ids, limit, self.stop_ids, device)
