"""What a memory holds, as numbers, and how they change. Knows no tensors."""

from dataclasses import dataclass, field, replace

from infinipot.memory.positions import Cursor
from infinipot.memory.transaction import Kind, Taken


@dataclass(frozen=True, slots=True)
class Held:
    """What a memory holds of every row. Replaced as a whole.

    Attributes:
        tokens: how many slots are held.
        cells: how many of them hold cells of the video.
        run: the slots of the cells, where those are the same run in all rows; else None.
        captions: for each caption token held the temporal patch that it belongs to.
        prompt: tokens of the prompt.
        turns: tokens of each remembered turn, oldest first.
        turns_gone: how many turns have left before those.
        cursor: where the stream stands on the position axes.
        seen: tokens ever committed: what a cache without eviction would hold.
        compressions, rebases: how often either was done.
    """

    tokens: int = 0
    cells: int = 0
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
        """Turns remembered so far, those that have left included."""
        return self.turns_gone + len(self.turns)

    def with_transaction(self, taken: Taken, *, turn: bool) -> "Held":
        """What is held together with a transaction.

        Args:
            taken: what it has taken up; the text goes to the prompt, or to the newest turn if there is one.
            turn: whether the text is a turn of its own.
        """
        opening = 0
        if not self.tokens and taken.runs and taken.runs[0][1] is Kind.TEXT:
            # What an empty memory is given first is the prompt, which no turn takes along.
            opening, _ = taken.runs[0]
        said = sum(tokens for tokens, kind in taken.runs if kind is Kind.TEXT) - opening
        turns = [*self.turns, *([0] if turn else [])]
        if turns:
            turns[-1] += said
        return replace(
            self,
            tokens=self.tokens + taken.tokens,
            cells=self.cells + sum(tokens for tokens, kind in taken.runs if kind is Kind.CELL),
            run=self._run_with(taken),
            captions=(*self.captions, *taken.captions),
            prompt=self.prompt + opening + (0 if turns else said),
            turns=tuple(turns),
            cursor=taken.cursor,
            seen=self.seen + taken.tokens,
        )

    def without_old_turns(self, limit: int) -> "Held":
        """What is held when turns stay within a limit of tokens: the oldest go first, the newest stays."""
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

    def without_cells(self, cells: int, patches: frozenset[int]) -> "Held":
        """What is held when so many cells stay, and the captions of some temporal patches."""
        captions = tuple(patch for patch in self.captions if patch in patches)
        return replace(
            self,
            tokens=self.text + len(captions) + cells,
            cells=cells,
            captions=captions,
            compressions=self.compressions + 1,
        )

    def moved_to(self, after: "Held") -> "Held":
        """`after`, when slots of what is held have moved: where cells lie is known if nothing else left or moved."""
        alone = self.run is not None and self.run.stop == self.tokens and not self.captions
        if alone and self.run is not None and after.turns_gone == self.turns_gone:
            return replace(after, run=slice(self.run.start, after.tokens))
        return replace(after, run=None)

    def _run_with(self, taken: Taken) -> slice | None:
        run, start = (self.run if self.cells else slice(0, 0)), self.tokens
        for tokens, kind in taken.runs:
            if kind is Kind.CELL and run is not None:
                if run.start == run.stop:
                    run = slice(start, start + tokens)
                else:
                    run = slice(run.start, start + tokens) if run.stop == start else None
            start += tokens
        return run
