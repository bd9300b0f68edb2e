"""A memory beside a bookkeeper that remembers every token it was ever given."""

from collections import Counter
from typing import Any

import numpy as np
import torch

from infinipot import policies
from infinipot.memory import LayerShape, Memory, PositionRule, Rotary, Transaction
from infinipot.policies import Policy
from support.memories import Slots, slots, to_model, view

LAYERS, HEADS, DIM = 2, 2, 16


ROTARY = Rotary(1.0 / 100.0 ** (torch.arange(8) / 8), axes=[0, 0, 1, 1, 1, 2, 2, 2])


FLAT = Rotary(ROTARY.inv_freq)


PARTIAL = Rotary(ROTARY.inv_freq[:4], axes=[0, 1, 2, 0])  # half of the head, axes interleaved


SIZES = ((2, 3), (3, 2), (4, 4))


class Bookkeeper:
    """Writes tokens whose value is their number, so that each can be recognised wherever the memory moves it."""

    def __init__(
        self,
        cap: int = 400,
        policy: Policy | str = "random",
        dialogue: int = 24,
        caption: tuple[int, int] = (0, 0),
        rotary: Rotary = ROTARY,
        **rule: Any,
    ) -> None:
        shape = LayerShape(HEADS, DIM, torch.device("cpu"), torch.float32)
        self.policy = policies.make(policy)
        columns = self.policy.stored
        self.memory = Memory(cap, [shape] * LAYERS, rotary, PositionRule(**rule), dialogue, columns=columns)
        self.caption = caption
        self.rotary = rotary
        self.records: list[tuple[int, int, int, float]] = []  # patch, row, column, time; patch -1 for text
        self.time = 0.0

    def key(self, number: torch.Tensor) -> torch.Tensor:
        """The unrotated key of tokens, `[..., DIM]`."""
        return torch.sin(number.unsqueeze(-1) * (1.0 + torch.arange(DIM)))

    def write(self, transaction: Transaction) -> None:
        """What a model's forward does: appends keys and values to every layer, and reads them turned."""
        step = self.memory.step(transaction)
        count = step.count
        number = torch.arange(len(self.records) - count, len(self.records)).float()
        keys = self.key(number).expand(HEADS, count, DIM)
        values = number.view(1, -1, 1).expand(HEADS, count, DIM)
        for layer in range(LAYERS):
            step.store(layer, self.rotary.to_stored(keys), values)
            turned, read = step.read(layer)
            expected = self.rotated(self.key(number), step.positions.T)
            own = slice(step.start, None)
            torch.testing.assert_close(to_model(self.rotary, turned[0, own]), expected, atol=1e-5, rtol=0)
            assert torch.equal(read[:, own], values)

    def rotated(self, raw: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """Keys `[..., DIM]` turned to positions `[..., 3]`, of a head of which only a part may turn."""
        half = len(self.rotary.axes)
        angle = positions[..., list(self.rotary.axes)].float() * self.rotary.inv_freq
        first, second, rest = raw[..., :half], raw[..., half : 2 * half], raw[..., 2 * half :]
        cos, sin = angle.cos(), angle.sin()
        return torch.cat([first * cos - second * sin, second * cos + first * sin, rest], -1)

    def watch(self, patches: int, size: tuple[int, int], pause: float, keep: float | None) -> None:
        grid = self.memory.use_grid(*size)
        patch = self.memory.cursor.patch
        times = [self.time + index * (1.0 + pause) for index in range(patches)]
        self.time = times[-1] + 1.0
        with self.memory.transaction() as transaction:
            if self.memory.cursor.base is None:
                self.records += [(-1, -1, -1, self.time)] * 3
                transaction.text(3, self.time)
                self.write(transaction)
            for number, time in enumerate(times, patch):
                rows, columns = size
                before, after = self.caption
                self.records += [(number, -1, -1, time)] * before
                self.records += [(number, row, column, time) for row in range(rows) for column in range(columns)]
                self.records += [(number, -1, -1, time)] * after
                transaction.video(grid, [time], before, after)
            self.write(transaction)
            self.memory.commit(
                transaction, policy=self.policy, budget_for=lambda _, held: max(1, int(held * keep)) if keep else None
            )

    def turn(self, tokens: int) -> None:
        with self.memory.transaction() as transaction:
            self.records += [(-1, -1, -1, self.time)] * tokens
            transaction.text(tokens, self.time)
            self.write(transaction)
            self.memory.commit(transaction, turn=True)

    def check(self) -> None:
        """Every held token is where, when and how it was recorded, and its key is rotated for its position."""
        memory = self.memory
        layers, records = [slots(memory, layer) for layer in range(LAYERS)], np.array(self.records).reshape(-1, 4)
        for own in layers:
            numbers = own.values[..., 0]
            assert torch.equal(own.values, numbers.unsqueeze(-1).expand(-1, -1, DIM))
            expected = records[numbers.long().numpy()]  # [heads, held, 4]
            np.testing.assert_array_equal(own.patch, expected[..., 0])
            np.testing.assert_allclose(own.time, expected[..., 3], rtol=1e-6)
            assert (own.patch[:, : memory.state.text] == -1).all(), "every head holds all text"
            assert (own.patch[:, memory.state.text :] >= 0).all(), "and beside it video"
            rows, columns = self.row_and_column(own.cell.numpy())
            np.testing.assert_array_equal(rows, expected[..., 1])
            np.testing.assert_array_equal(columns, expected[..., 2])

            text = (own.cell < 0).numpy()
            temporal, base = own.temporal.numpy(), own.base.numpy()
            across = np.zeros_like(base) if memory.rule.flat else base
            row = torch.from_numpy(np.where(memory.rule.flat | text, temporal, across + rows))
            column = torch.from_numpy(np.where(memory.rule.flat | text, temporal, across + columns))
            position = torch.stack([torch.from_numpy(temporal), row, column], -1)
            torch.testing.assert_close(own.keys, self.rotated(self.key(numbers), position), atol=1e-5, rtol=0)
            assert (position < memory.cursor.next).all(), "the next position lies behind all that are held"
            # Text stands behind every row and column before it: tokens are numbered in order of arrival.
            reach = position.amax(-1).numpy()
            for head in range(HEADS):
                arrived = np.argsort(numbers[head].numpy())
                assert (np.diff(numbers[head].numpy()[arrived]) > 0).all(), "no token twice"
                behind = np.maximum.accumulate(reach[head, arrived])
                later = text[head, arrived][1:]
                assert (position[head, arrived].numpy()[1:, 0][later] > behind[:-1][later]).all(), "text comes after"
                assert (np.diff(temporal[head, arrived]) >= 0).all(), "time runs forward"
        self.check_captions(layers)
        self.check_view(layers)

    def check_captions(self, layers: list[Slots]) -> None:
        """Captions are those of the patches of which cells are held, whole, and the same for all."""
        patches, expected = set(), []
        for own in layers:
            video = own.patch >= 0
            patches |= set(own.patch[video & (own.cell >= 0)].tolist())
            expected += [own.patch[head][(video & (own.cell < 0))[head]].tolist() for head in range(HEADS)]
        assert all(sorted(held) == sorted(self.memory.state.captions) for held in expected)
        size = sum(self.caption)
        assert not size or Counter(self.memory.state.captions) == dict.fromkeys(patches, size)

    def check_view(self, layers: list[Slots]) -> None:
        """A policy is shown every cell of every row once, with its key and value."""
        if not self.memory.held:
            return
        tokens = view(self.memory)
        assert tokens.layer == [layer for layer in range(LAYERS) for _ in range(HEADS)]
        numbers, keys, order = tokens.values[..., 0], tokens.keys, tokens.in_order()
        told = numbers.gather(1, order)
        for row, (layer, head) in enumerate(zip(tokens.layer, tokens.head, strict=True)):
            own = layers[layer]
            cells = own.cell[head] >= 0
            assert torch.equal(told[row], own.values[head, cells, 0])
            assert torch.equal(tokens.patch.gather(1, order)[row], own.patch[head, cells].int())
            assert torch.equal(tokens.cell.gather(1, order)[row], own.cell[head, cells].int())
        torch.testing.assert_close(to_model(self.rotary, keys), self.key(numbers), atol=1e-6, rtol=0)

    def row_and_column(self, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rows, columns = np.full_like(cell, -1), np.full_like(cell, -1)
        for grid in self.memory.grids:
            inside = (cell >= grid.first_cell) & (cell < grid.first_cell + grid.cells)
            rows[inside], columns[inside] = np.divmod(cell[inside] - grid.first_cell, grid.columns)
        return rows, columns
