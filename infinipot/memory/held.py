"""What a memory holds, as numbers, and how they change. Knows no tensors."""

from dataclasses import dataclass, field, replace

from infinipot.memory.positions import Cursor
from infinipot.memory.transaction import Kind, Transaction


@dataclass(frozen=True, slots=True)
class Held:
    """The numbers of tokens that a memory holds, the same in every row. Replaced as a whole.

    Attributes:
        tokens: the number of slots held.
        cell_tokens: how many of them hold cells of the video.
        run: the slots of the cells, if they are the same contiguous run in all rows; else None.
        captions: for each held caption token, the temporal patch it belongs to.
        prompt: the tokens of the prompt.
        turns: the tokens of each remembered turn, oldest first.
        turns_gone: the number of turns that were forgotten before those.
        cursor: the stream's place on the position axes.
        seen: the tokens ever committed: what a cache without eviction would hold.
        compressions, rebases: how many of each there were.
    """

    tokens: int = 0
    cell_tokens: int = field(default=0, metadata={"saved_as": "cells"})
    run: slice | None = field(default_factory=lambda: slice(0, 0))
    captions: tuple[int, ...] = ()
    prompt: int = 0
    turns: tuple[int, ...] = ()
    turns_gone: int = 0
    cursor: Cursor = field(default_factory=Cursor)
    seen: int = 0
    compressions: int = 0
    rebases: int = 0

    @property
    def text(self) -> int:
        """Tokens of the prompt and the remembered turns."""
        return self.prompt + sum(self.turns)

    @property
    def video(self) -> int:
        """Tokens of the video, per layer and KV head: cells, and captions if there are any."""
        return self.tokens - self.text

    @property
    def dialogue(self) -> int:
        """Tokens of the remembered turns."""
        return sum(self.turns)

    @property
    def turns_ever(self) -> int:
        """The number of turns ever remembered, forgotten ones included."""
        return self.turns_gone + len(self.turns)

    def with_transaction(self, transaction: Transaction, *, turn: bool) -> "Held":
        """What is held after a transaction is added.

        Args:
            transaction: its text counts towards the newest turn, or towards the prompt if there is none.
            turn: whether its text is a new turn.
        """
        opening = 0
        if not self.tokens and transaction.runs and transaction.runs[0][1] is Kind.TEXT:
            # The first text of an empty memory is the prompt, which is not part of any turn.
            opening, _ = transaction.runs[0]
        text = sum(tokens for tokens, kind in transaction.runs if kind is Kind.TEXT) - opening
        turns = [*self.turns, *([0] if turn else [])]
        if turns:
            turns[-1] += text
        return replace(
            self,
            tokens=self.tokens + transaction.tokens,
            cell_tokens=self.cell_tokens + sum(tokens for tokens, kind in transaction.runs if kind is Kind.CELL),
            run=self._run_with(transaction),
            captions=(*self.captions, *transaction.captions),
            prompt=self.prompt + opening + (0 if turns else text),
            turns=tuple(turns),
            cursor=transaction.cursor,
            seen=self.seen + transaction.tokens,
        )

    def without_old_turns(self, limit: int) -> "Held":
        """What is held after turns are cut to a limit of tokens: the oldest go first, the newest always stays."""
        if len(self.turns) < 2 or self.dialogue <= limit:
            return self
        turns = list(self.turns)
        while len(turns) > 1 and sum(turns) > limit:
            turns.pop(0)
        return replace(
            self,
            tokens=self.tokens - sum(self.turns) + sum(turns),
            turns=tuple(turns),
            turns_gone=self.turns_gone + len(self.turns) - len(turns),
        )

    def without_cells(self, cell_tokens: int, patches: frozenset[int]) -> "Held":
        """What is held after an eviction that leaves so many cells and the captions of `patches`."""
        captions = tuple(patch for patch in self.captions if patch in patches)
        return replace(
            self,
            tokens=self.text + len(captions) + cell_tokens,
            cell_tokens=cell_tokens,
            captions=captions,
            compressions=self.compressions + 1,
        )

    def moved_to(self, after: "Held") -> "Held":
        """`after`, once slots have moved. Keeps `run` if only cells at the end of the memory moved; else None."""
        alone = self.run is not None and self.run.stop == self.tokens and not self.captions
        if alone and self.run is not None and after.turns_gone == self.turns_gone:
            return replace(after, run=slice(self.run.start, after.tokens))
        return replace(after, run=None)

    def _run_with(self, transaction: Transaction) -> slice | None:
        run, start = (self.run if self.cell_tokens else slice(0, 0)), self.tokens
        for tokens, kind in transaction.runs:
            if kind is Kind.CELL and run is not None:
                if run.start == run.stop:
                    run = slice(start, start + tokens)
                else:
                    run = slice(run.start, start + tokens) if run.stop == start else None
            start += tokens
        return run
