"""What a stream's settings come to with a model: worked out once, when it opens, and never changed.

Knows how a cap is shared out, which texts a conversation is made of and how far positions go; holds nothing of what a
stream has seen.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from infinipot.config import StreamConfig, parse_memory
from infinipot.engine.budget import (
    LARGEST_SHARE,
    Budget,
    default_cap,
    default_dialogue,
    default_reserve,
    smallest_cap,
)
from infinipot.errors import CapError, InfinipotError, SettingError
from infinipot.gate import Gate
from infinipot.memory import (
    LayerShape,
    Memory,
    PositionRule,
    StateShape,
    allocated_bytes,
    lacks_memory,
    stored_columns,
    token_bytes,
)
from infinipot.models import Adapter, Gatherer
from infinipot.models.chat import ANSWER, ChatFormat
from infinipot.models.pictures import picture_bytes
from infinipot.policies.base import Attention, Policy


@dataclass(frozen=True, slots=True, eq=False)
class Setup:
    """A model, a policy and settings, and what follows from them.

    Attributes:
        adapter: of the model.
        policy: what stays when the memory is full.
        config: the settings, as they were given.
        chat: the texts around videos, questions and answers.
        prompt_ids: tokens ahead of the first patch.
        resume_ids: tokens ahead of the next patch after a remembered turn.
        suffix: `[n, width]`, what follows a whole video where that is not text, or None.
        budget: how the cap is shared out.
        budget_of: the budget of another cap, with the same settings.
        shapes: what each layer stores.
        rule: how positions advance.
        range: positions that the stream stays inside of by re-basing, or None where it does not re-base.
        pixels: least and most pixels of a resized frame, where frames are resized.
        gatherer: how frames, or pieces of sound, become patches.
        gate: what is given of each patch; None for all.
    """

    adapter: Adapter
    policy: Policy
    config: StreamConfig
    chat: ChatFormat
    prompt_ids: list[int]
    resume_ids: list[int]
    suffix: Tensor | None
    budget: Budget
    budget_of: Callable[[int], Budget]
    shapes: list[LayerShape | StateShape]
    rule: PositionRule
    range: int | None
    pixels: tuple[int, int] | None
    gatherer: Gatherer[Any, Any]
    gate: Gate | None

    @classmethod
    def of(cls, adapter: Adapter, policy: Policy, config: StreamConfig) -> "Setup":
        """Works out what settings come to.

        Raises:
            CapError: the cap is too small for the prompt, or too large for the model's positions.
            SettingError: the model or the policy cannot do what a setting asks for.
        """
        if policy.across_heads and adapter.tp_group.count > 1:
            raise SettingError(
                f"policy {policy.name!r} compares the heads of a layer, which {adapter.tp_group.count} processes "
                "share: take another policy, or leave tp_plan out"
            )
        gate = _gate(adapter, policy, config)
        chat = adapter.chat(config.system)
        prompt_ids = adapter.tokenize(chat.opening, opens=True)
        resume_ids = adapter.tokenize(chat.reopening, behind=ANSWER)
        budget_of = _shares(config, policy, (len(prompt_ids), len(resume_ids), adapter.caption_limit))
        shapes, rule = adapter.layer_shapes(), adapter.position_rule()
        ends = adapter.position_range if config.positions == "rebase" and policy.evicts else None
        token, beside = _size_of(shapes, stored_columns(rule, policy.stored))
        token, beside = token + _beside_tokens(adapter, gate), beside + _frame_bytes(adapter, config)
        cap = _cap(adapter, config, budget_of, (token, beside), ends)
        if ends is not None:
            if cap > _largest(ends):
                in_tokens = config.memory is None or str(config.memory).strip() == str(cap)
                amount = f"memory={cap} tokens" if in_tokens else f"memory={config.memory} is {cap} tokens, which"
                raise CapError(
                    f"{amount} may need more than the {ends} positions that the model was trained on: give at most "
                    f"{_largest(ends)} tokens, or positions='native'"
                )
            rule = replace(rule, longest_gap=max(1, ends // (8 * max(config.block or 0, 8))))
        budget = budget_of(cap)
        try:
            adapter.require_pixels(config.pixels)
        except ValueError as error:
            raise SettingError(f"{error}: leave pixels out") from error
        pixels = config.pixels or adapter.frame_pixels(budget.largest_patch())
        made = cls(
            adapter=adapter,
            policy=policy,
            config=config,
            chat=chat,
            prompt_ids=prompt_ids,
            resume_ids=resume_ids,
            suffix=adapter.closing(),
            budget=budget,
            budget_of=budget_of,
            shapes=shapes,
            rule=rule,
            range=ends,
            pixels=pixels,
            gatherer=adapter.gatherer(pixels),
            gate=gate,
        )
        if config.pixels and adapter.cell_pixels:  # frames of the least size are to fit, before one is resized to it
            block_patches(made, adapter.frame_cells((config.pixels[0],) * 2))
        return made

    @property
    def block_attention(self) -> Mapping[str, Attention]:
        """What the policy asks for of the attention that a block's own cells pay, by column."""
        return {name: each for name, each in self.policy.attention.items() if each.probe is None}

    @property
    def probes(self) -> Mapping[str, Attention]:
        """What it asks for of the attention that probes pay, by column; see probing.py."""
        return {name: each for name, each in self.policy.attention.items() if each.probe is not None}

    @property
    def columns(self) -> Mapping[str, torch.dtype]:
        """What the memory stores of each token beside its key and value."""
        return stored_columns(self.rule, self.policy.stored)

    @property
    def bytes(self) -> int:
        """What the stream's memory takes, all of it from the moment when it opens, scratch included.

        A gate's pictures of cells, and frames kept for a second look, come to this at the most: no grid has more cells
        than the cap has tokens, and frames are shrunk to what a look has room for.
        """
        pictures = self.budget.cap * _beside_tokens(self.adapter, self.gate) + _frame_bytes(self.adapter, self.config)
        return allocated_bytes(self.budget.cap, self.shapes, self.columns) + pictures

    @property
    def picture_pixels(self) -> int:
        """The most pixels of a frame kept for a second look."""
        return _picture_pixels(self.adapter, self.config)

    def allocate(self) -> Memory:
        """An empty memory.

        Raises:
            CapError: the device has no room for it.
        """
        adapter = self.adapter
        with reserving(self.budget.cap, self.bytes):
            return Memory(
                self.budget.cap,
                self.shapes,
                adapter.shared_rotary,
                self.rule,
                self.budget.dialogue,
                adapter.tp_group,
                self.policy.stored,
            )


def _shares(config: StreamConfig, policy: Policy, texts: tuple[int, int, int]) -> Callable[[int], Budget]:
    """How a cap would be shared out. Refers to no stream, which would then wait for the garbage collector.

    Args:
        texts: tokens of the prompt, of the text that opens a video again, and of a caption.
    """
    prompt, reopening, caption = texts

    def budget_of(cap: int) -> Budget:
        return Budget(
            cap=cap,
            prompt=prompt,
            reserve=default_reserve(cap) if config.reserve is None else config.reserve,
            dialogue=default_dialogue(cap) if config.dialogue is None else config.dialogue,
            reopening=reopening,
            keep=config.keep if policy.evicts else 0.0,
            block=config.block,
            caption=caption,
            whole_patches=policy.whole_patches,
        )

    return budget_of


def _gate(adapter: Adapter, policy: Policy, config: StreamConfig) -> Gate | None:
    """The gate that the settings ask for.

    Raises:
        SettingError: the stream is of sound, or its policy takes patches whole.
    """
    gate = Gate.of(config.gate)
    if gate is not None and adapter.modality != "video":
        raise SettingError(f"gate={config.gate!r} compares pictures, but the stream is of {adapter.modality}")
    if gate is not None and policy.whole_patches and not gate.whole:
        raise SettingError(
            f"policy {policy.name!r} needs whole patches, but gate={config.gate!r} lets parts of them through: use "
            "gate='patches', or another policy"
        )
    return gate


def _picture_pixels(adapter: Adapter, config: StreamConfig) -> int:
    """The most pixels of a frame kept for a second look.

    The reserve has tokens for so many. Where all frames become one size, it is four times that size, since some
    processors crop frames.
    """
    if adapter.cell_pixels:
        return (config.reserve or LARGEST_SHARE) * adapter.cell_pixels
    return 4 * adapter.frame_area


def _frame_bytes(adapter: Adapter, config: StreamConfig) -> int:
    """Bytes of the frames kept for second looks.

    Raises:
        SettingError: the model cannot look at them without the past, or there are no frames.
    """
    if not config.look_again:
        return 0
    if adapter.modality != "video":
        raise SettingError(
            f"look_again={config.look_again} is for frames, but this stream listens to sound: leave look_again out"
        )
    if not adapter.packs:
        raise SettingError(
            f"look_again={config.look_again}: {adapter.title} has layers with a recurrent state, "
            "so it cannot look at a frame without those before"
        )
    return config.look_again * 3 * _picture_pixels(adapter, config)


def _beside_tokens(adapter: Adapter, gate: Gate | None) -> int:
    """Bytes beside the memory for each token that it may hold."""
    return 0 if gate is None else picture_bytes(adapter.patch_frames)


def _size_of(shapes: list[LayerShape | StateShape], columns: Mapping[str, torch.dtype]) -> tuple[int, int]:
    """Bytes of a token over all layers, and of what is allocated beside tokens."""
    return token_bytes(shapes, columns), allocated_bytes(0, shapes, columns)


def _cap(
    adapter: Adapter, config: StreamConfig, budget_of: Callable[[int], Budget], size: tuple[int, int], ends: int | None
) -> int:
    """The cap in tokens. What is not given gives way to what is: the cap to frames, and frames to the cap."""
    if config.memory is not None:
        return parse_memory(config.memory, *size)
    cells = adapter.frame_cells(config.pixels or adapter.frame_pixels())
    return default_cap(budget_of, cells, None if ends is None else _largest(ends))


def _largest(ends: int) -> int:
    """The largest cap in tokens whose positions stay inside a range, gaps between patches included."""
    return 3 * ends // 4


def block_patches(setup: Setup, cells: int) -> int:
    """Temporal patches of `cells` tokens in a block.

    Args:
        setup: of the stream.
        cells: of one of them.

    Raises:
        CapError: not even one has room; the message names the memory that would do.
    """
    patches = setup.budget.block_patches(cells)
    if patches:
        return patches
    least = smallest_cap(setup.budget_of, cells)
    budget, unit = setup.budget, setup.gatherer.unit
    aside = f"reserve={budget.reserve}" + (f", dialogue={budget.dialogue}" if budget.dialogue else "")
    message = f"memory={budget.cap} tokens is too small for this prompt, {aside}"
    message += " and any video at all" if cells == 1 else f" and {unit} of {cells} tokens{_smaller_frames(setup)}"
    if setup.range is not None and least > _largest(setup.range):
        raise CapError(
            f"{message}; {least} tokens would do, but the {setup.range} positions that the model was trained on are "
            f"enough for {_largest(setup.range)} tokens: give a smaller share, or positions='native'"
        )
    raise CapError(f"{message}: " + (f"give at least {least}" if cells == 1 else f"the smallest that works is {least}"))


def _smaller_frames(setup: Setup) -> str:
    """Says what frames would fit, if frames can be smaller."""
    most = 0 if setup.pixels is None else setup.budget.largest_patch() * setup.adapter.cell_pixels
    if not setup.pixels or not most:
        return ""
    least = max(1, min(setup.pixels[0], most // 3))
    return (
        f". Frames of at most {most} pixels fit, pixels=({least}, {most}) or --min-pixels {least} "
        f"--max-pixels {most}; or give more memory"
    )


@contextmanager
def reserving(cap: int, size: int) -> Iterator[None]:
    """Makes a `CapError` that says how much is needed of what a device without room raises."""
    try:
        yield
    except RuntimeError as error:
        if not lacks_memory(error):
            why = str(error).partition("\n")[0]
            raise InfinipotError(f"the memory cannot be allocated: {why}") from error
        raise CapError(
            f"memory={cap} tokens needs {size / 2**20:.0f} MiB, but the device has too little free memory: give a "
            "smaller memory"
        ) from error
