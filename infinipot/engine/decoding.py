"""How an answer comes about: which token is chosen, and its text as it comes.

Knows logits and tokens, not caches, videos or model families, nor where the next logits come from: whoever decodes does
so at a pace of their own.
"""

from collections.abc import Callable, Sequence, Sized

import torch
from torch import Tensor

from infinipot.errors import NumericalError

_UNFINISHED = "\ufffd"  # at the end of a text: a letter whose last bytes are still to come
_NOTHING = -1  # in place of a token, where there is none to choose

Scores = Callable[..., Tensor]  # ids `[1, n]` so far, logits `[1, vocab]` -> logits `[1, vocab]`


class Chooser:
    """Chooses the tokens of one answer, one after the other.

    Args:
        scores: what becomes of logits before a token is chosen.
        ids: the prompt, for `scores` that count what was said before.
        limit: tokens of the answer at the most.
        seed: None to take the likeliest token.
        device: of the logits.
    """

    def __init__(self, scores: Scores, ids: Sequence[int], limit: int, seed: int | None, device: torch.device) -> None:
        self._scores = scores
        self._ids = torch.empty(1, len(ids) + limit, dtype=torch.int64, device=device)
        self._ids[0, : len(ids)] = torch.tensor(ids, dtype=torch.int64)
        self._filled = len(ids)
        self._drawn = None if seed is None else torch.Generator(device).manual_seed(int(seed))
        # A list without processors changes nothing of logits, whatever was said before.
        self._greedy = seed is None and isinstance(scores, Sized) and not len(scores)

    def __call__(self, logits: Tensor) -> int:
        """The next token, by logits `[vocab]`; waits for the device once.

        Raises:
            NumericalError: they are not numbers.
        """
        if self._greedy:
            highest, token = logits.max(-1)  # is no number where any is none
            return _chosen(token, highest.isfinite(), logits.dtype)
        sound = are_numbers(logits)
        # What is none would end in an error of the device that nothing recovers from.
        row = torch.where(sound, logits, 0.0).float().unsqueeze(0)
        scores = self._scores(self._ids[:, : self._filled], row)
        if self._drawn is None:
            token = scores.argmax(-1)
        else:
            shares = scores.softmax(-1)
            sound = sound & shares.isfinite().all()
            token = torch.multinomial(shares.where(sound, 1.0), 1, generator=self._drawn)[:, 0]
        if self._filled < self._ids.shape[1]:
            self._ids[:, self._filled] = token
            self._filled += 1
        return _chosen(token, sound, logits.dtype)


def _chosen(token: Tensor, sound: Tensor, dtype: torch.dtype) -> int:
    """A token by its number; waits for the device. Raises where logits were none."""
    chosen = int(torch.where(sound, token, _NOTHING))
    if chosen == _NOTHING:
        raise overflow(dtype)
    return chosen


def are_numbers(logits: Tensor) -> Tensor:
    """Whether all logits are numbers, as a bool on their device. The largest tells: it is NaN if any of them is."""
    return logits.amax().isfinite()


def overflow(dtype: torch.dtype) -> NumericalError:
    """The error for logits that are not numbers."""
    name = str(dtype).removeprefix("torch.")
    mend = (
        "float16 overflows where bfloat16 and float32 do not: load the model with dtype='bfloat16' (--dtype bfloat16)"
        if dtype == torch.float16
        else "the checkpoint's weights may be damaged, or made for another type"
    )
    return NumericalError(f"what the model computes in {name} is not a number: {mend}")


class Speaker:
    """Spells an answer while its tokens come, up to a text that ends it.

    A token's text may depend on the one before it (a space, at the beginning, is none): so it is what a few tokens
    have in common with those before it that is left out, and a long answer is not spelt from its beginning every time.

    Args:
        spell: the text of tokens.
        stop: texts that end the answer, which is what stands before the first of them.
        on_text: called with each new piece of the text, never with what may be the beginning of a `stop`.

    Attributes:
        tokens: those said so far.
        text: what was told of their text.
        cut: whether a `stop` was met.
    """

    def __init__(
        self,
        spell: Callable[[Sequence[int]], str],
        stop: Sequence[str] = (),
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        self.tokens: list[int] = []
        self.text = ""
        self.cut = False
        self._spell, self._stop, self._on_text = spell, stop, on_text
        self._waiting = ""  # may be the beginning of a stop
        self._begin = self._shown = 0

    def say(self, token: int) -> bool:
        """Takes one more token; returns whether the answer goes on."""
        self.tokens.append(token)
        ahead, text = self._spell(self.tokens[self._begin : self._shown]), self._spell(self.tokens[self._begin :])
        if len(text) > len(ahead) and not text.endswith(_UNFINISHED):
            self._tell(text[len(ahead) :])
            self._begin, self._shown = self._shown, len(self.tokens)
        return not self.cut

    def end(self) -> str:
        """Tells what was held back, when no more tokens come; returns the whole answer."""
        if not self.cut:
            ahead = self._spell(self.tokens[self._begin : self._shown])
            self._tell(self._spell(self.tokens[self._begin :])[len(ahead) :])
        if self.cut:
            return self.text
        if self._waiting and self._on_text is not None:
            self._on_text(self._waiting)
        return self._spell(self.tokens)

    def _tell(self, piece: str) -> None:
        ready, self._waiting, self.cut = _before(self._stop, self._waiting + piece)
        self.text += ready
        if ready and self._on_text is not None:
            self._on_text(ready)


def _before(stop: Sequence[str], text: str) -> tuple[str, str, bool]:
    """What stands before the first `stop`, what is held back as the beginning of one, and whether there is one."""
    found = [place for end in stop if (place := text.find(end)) >= 0]
    if found:
        return text[: min(found)], "", True
    begun = max((_begun(end, text) for end in stop), default=0)
    return text[: len(text) - begun], text[len(text) - begun :], False


def _begun(end: str, text: str) -> int:
    """How many of its last letters a text has in common with the beginning of another one, which may be far longer."""
    longest = min(len(end) - 1, len(text))
    return next((length for length in range(longest, 0, -1) if text.endswith(end[:length])), 0)
