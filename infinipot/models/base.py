"""What differs between model families, and nothing else. Knows transformers' models, not policies or streams."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from transformers import AutoModelForImageTextToText, AutoProcessor

from infinipot.errors import ModelError
from infinipot.memory import (
    ALONE,
    AnswerScratch,
    LayerShape,
    PositionRule,
    Rotary,
    StateShape,
    Step,
    Steps,
    TensorParallelGroup,
)
from infinipot.models.attention import attach
from infinipot.models.gathering import FrameGatherer, Gatherer
from infinipot.models.patch import Clip, Patch
from infinipot.models.pictures import SIDE, pictures
from infinipot.models.texts import Texts
from infinipot.video import Frame

PARITY = "logits at the same positions, greedy answers and pixels as transformers makes them, on small random weights"
_TOGETHER = 1 << 17  # pixels of frames that are prepared together: 1.5 MB of them, as the encoder takes them


class Adapter(Texts, ABC):
    """A loaded model and its processor behind the few operations that a stream needs. Holds no state of a stream.

    Args:
        model: a transformers model for image-text-to-text, in evaluation mode.
        processor: its processor, with tokenizer and chat template; None where only tensors go in and out.

    Class attributes:
        model_types: the `model_type`s of the checkpoints that it runs.
        title: how people call the family.
        modality: what its streams are of, "video" or "audio"; also what chat templates call that.
        patch_frames: frames per temporal patch.
        checked: what the tests hold against transformers, as `infinipot models` prints it.
        loader: the transformers class whose `from_pretrained` loads it.
        processor_loader: the one whose `from_pretrained` loads its processor.
        tp_plan: how tensor parallelism shares out the decoder, where transformers has no plan of its own.
    """

    model_types: ClassVar[tuple[str, ...]]
    title: ClassVar[str]
    modality: ClassVar[str] = "video"
    patch_frames: ClassVar[int]
    checked: ClassVar[str]
    loader: ClassVar[Any] = AutoModelForImageTextToText
    processor_loader: ClassVar[Any] = AutoProcessor
    tp_plan: ClassVar[Mapping[str, str]] = {}

    def __init__(self, model: Any, processor: Any = None) -> None:
        super().__init__(model, processor)
        self.scratch = AnswerScratch()
        if model is not None and (decoder := self.language_model) is not None:
            attach(decoder)

    # What is seen, or heard

    def gatherer(self, pixels: tuple[int, int] | None = None) -> Gatherer[Any, Any]:
        """How streams gather patches; `pixels` as in `patchify`."""

        def make(clip: Clip) -> Patch:
            return self.patchify([clip], pixels)[0]

        return FrameGatherer(self.patch_frames, make)

    @abstractmethod
    def patchify(self, clips: Sequence[Clip], pixels: tuple[int, int] | None = None) -> list[Patch]:
        """The temporal patches of clips of frames of one size, each as it would be alone.

        Args:
            clips: at most `patch_frames` frames each; a last odd one is repeated.
            pixels: least and most pixels of a resized frame; None for `frame_pixels`.

        Raises:
            ValueError: the processor does not take pictures of this size.
        """

    def prepare(self, clips: Sequence[Clip], pixels: tuple[int, int] | None = None) -> list[Patch]:
        """The temporal patches of any number of clips, by as few calls of `patchify` as are quick.

        A call of a processor costs more than what it does to a few small frames, but frames that do not fit a
        processor's cache together take longer together than one after the other.
        """
        height, width = clips[0][0].size
        at_once = max(1, _TOGETHER // (self.patch_frames * max(height * width, self._least_area(pixels))))
        runs = [clips[start : start + at_once] for start in range(0, len(clips), at_once)]
        return [patch for run in runs for patch in self.patchify(run, pixels)]

    def patch_of(
        self, images: Sequence[np.ndarray], times: Sequence[float] = (0.0,), pixels: tuple[int, int] | None = None
    ) -> Patch:
        """One temporal patch of images, `[height, width, 3]` uint8, and a time of each in seconds."""
        return self.patchify([tuple(Frame(*given) for given in zip(images, times, strict=True))], pixels)[0]

    def _least_area(self, pixels: tuple[int, int] | None) -> int:
        """Pixels that a frame has at the least when it is resized."""
        return (pixels or self.frame_pixels() or (0, 0))[0]

    def pictures(self, patch: Patch) -> Tensor:
        """What each cell of a temporal patch shows, as the encoder gets it: see `models.pictures`."""
        processor = self.processor.video_processor
        mean, deviation = (
            torch.tensor(each, dtype=torch.float32).view(3, 1, 1)
            for each in (processor.image_mean, processor.image_std)
        )
        return pictures(self._blocks(patch) * deviation + mean, patch.rows, patch.columns)

    def _blocks(self, patch: Patch) -> Tensor:
        """Means of the pixels in 4 x 4 blocks of each cell, `[frames, 3, 4 · rows, 4 · columns]`."""
        return adaptive_avg_pool2d(patch.pixels, (SIDE * patch.rows, SIDE * patch.columns))

    def frame_pixels(self, room: int | None = None) -> tuple[int, int] | None:
        """Least and most pixels of a frame where nobody says; None where the model takes frames of one size only.

        Args:
            room: cells that a patch may have; frames get smaller for it, down to what the family has for a video.
        """
        return None

    def require_pixels(self, pixels: tuple[int, int] | None) -> None:  # nothing to require
        """Refuses a size of frames, `pixels` as in `patchify`, that the model cannot take.

        Raises:
            ValueError: frames are of one size, and it is not within these.
        """

    @property
    def cell_pixels(self) -> int:
        """Pixels of a resized frame that make a cell; 0 where the model takes frames of one size only."""
        return 0

    @cached_property
    def frame_area(self) -> int:
        """Pixels of every resized frame, where the model takes frames of one size only."""
        height, width = self.patch_of([np.zeros((32, 32, 3), np.uint8)]).pixels.shape[-2:]
        return height * width

    def frame_cells(self, pixels: tuple[int, int] | None) -> int:
        """Cells of the largest frame that becomes at most so many pixels."""
        if pixels is None or not self.cell_pixels:
            patch = self.patch_of([np.zeros((32, 32, 3), np.uint8)])
            return patch.rows * patch.columns
        return max(1, pixels[1] // self.cell_pixels)

    @abstractmethod
    def encode(self, patches: Sequence[Patch]) -> Tensor:
        """The encoder's tokens for patches of one grid, one after the other, `[sum of their tokens, hidden]`.

        Rows may be wider where a model takes more than embeddings, as long as `join` and `forward` understand them.
        """

    def closing(self) -> Tensor | None:
        """What stands after a whole video, `[n, hidden]`, where that is not text: it comes with each question."""
        return None

    # Language

    @property
    @abstractmethod
    def language_model(self) -> Any:
        """The decoder: runs on embeddings, positions and a cache."""

    @abstractmethod
    def position_rule(self) -> PositionRule:
        """How positions advance with the video."""

    @abstractmethod
    def rotary(self) -> Rotary:
        """How the decoder rotates its keys."""

    def require_static_rope(self) -> None:
        """Refuses a decoder in which the rotation of a key depends on more than its position.

        Raises:
            ModelError: keys change with the length of the prompt.
        """
        kind = (getattr(self._text_config, "rope_parameters", None) or {}).get("rope_type", "default")
        if kind in ("dynamic", "longrope"):
            raise ModelError(
                f"{self.title} uses {kind!r} rotary scaling, whose keys change with the length of the prompt"
            )

    @cached_property
    def shared_rotary(self) -> Rotary:
        """The rotation, with its tables of angles, that all streams share."""
        self.require_static_rope()
        return self.rotary()

    @property
    def position_range(self) -> int:
        """Positions the model was trained on: the largest allowed is one less."""
        return int(self._text_config.max_position_embeddings)

    @property
    def position_limit(self) -> int | None:
        """Positions that even a stream which leaves `position_range` must not leave; None for no such limit."""
        return None

    def embed(self, ids: Sequence[int]) -> Tensor:
        """Token embeddings, `[len(ids), hidden]`."""
        table = self.model.get_input_embeddings()
        return table(torch.tensor(ids, dtype=torch.int64).to(device_of(table), non_blocking=True))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Rows of text and of patches, one after the other, `[n, hidden]`."""
        return torch.cat([part.to(parts[-1]) for part in parts if len(part)])

    @cached_property
    def packs(self) -> bool:
        """Whether tokens of several streams can be run over at once; a layer with a recurrent state serves one."""
        return not any(isinstance(shape, StateShape) for shape in self.layer_shapes())

    def forward(self, embeddings: Tensor, *steps: Step) -> Tensor:
        """Runs the decoder over embeddings, each step's tokens after the last one's.

        Args:
            embeddings: `[sum of the steps' tokens, hidden]`.
            steps: one for each stream, which attends to its own memory alone; a single one where not `packs`.

        Returns:
            The logits after each step, `[steps, vocab]`.
        """
        return self._decode(steps, inputs_embeds=embeddings.unsqueeze(0))

    def _decode(self, steps: Sequence[Step], **inputs: Any) -> Tensor:
        embeddings = inputs["inputs_embeds"]
        # At position 0 nothing turns: the memory's own attention does that, see models/attention.py.
        nowhere = torch.zeros(1, embeddings.shape[1], dtype=torch.int64, device=embeddings.device)
        states = steps[0].memory.states
        output = self.language_model(
            position_ids=nowhere if self.position_rule().flat else nowhere.expand(3, 1, -1),
            attention_mask=self.attention_mask(embeddings.device),
            use_cache=bool(states.recurrent),
            steps=Steps(steps),
            **({self._cache_argument: states} if states.recurrent else {}),
            **inputs,
        )
        hidden = output.last_hidden_state[0]
        last = [hidden[end - 1 : end] for end in accumulate(step.count for step in steps)]
        return self.model.lm_head(last[0] if len(last) == 1 else torch.cat(last))

    def attention_mask(self, device: torch.device) -> Any:
        """What keeps the decoder from making a mask of its own: one in four dimensions is taken as it is."""
        return torch.zeros(1, 1, 1, 1, device=device)

    @cached_property
    def _cache_argument(self) -> str:
        """What the decoder calls a cache: transformers renamed it in 5.24."""
        names = inspect.signature(type(self.language_model).forward).parameters
        return "cache" if "cache" in names else "past_key_values"

    def layer_shapes(self) -> list[LayerShape | StateShape]:
        """What each layer stores, and where: storage follows its layer."""
        kinds, window = (getattr(self._text_config, name, None) for name in ("layer_types", "sliding_window"))
        if "sliding_attention" in (kinds or ()) or (not kinds and window):
            raise ModelError(
                f"{self.title} with sliding-window attention ({window} tokens) is not supported: a memory keeps what a "
                f"window would not see. Where the memory is below the window, give the checkpoint's config.json "
                f"sliding_window=null"
            )
        return [self._slot_shape(layer) for layer in self.language_model.layers]

    def _slot_shape(self, layer: torch.nn.Module) -> LayerShape:
        config = self._text_config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return LayerShape(
            config.num_key_value_heads // self.tp_group.count, head_dim, device_of(layer), self.model.dtype
        )

    @cached_property
    def tp_group(self) -> TensorParallelGroup:
        """The processes that share the KV heads, equally, under tensor parallelism."""
        for layer in self.language_model.layers:
            if hasattr(layer, "self_attn"):  # weights that are shared out know among whom
                mesh = getattr(layer.self_attn.k_proj.weight, "device_mesh", None)
                return ALONE if mesh is None else TensorParallelGroup(mesh.get_group(), torch.device(mesh.device_type))
        return ALONE

    @property
    def _text_config(self) -> Any:
        return self.model.config.get_text_config()


def device_of(layer: torch.nn.Module) -> torch.device:
    """The device a layer computes on, also where accelerate keeps its weights elsewhere."""
    hook = getattr(layer, "_hf_hook", None)
    device = getattr(hook, "execution_device", None)
    return torch.device(device) if device is not None else next(layer.parameters()).device
