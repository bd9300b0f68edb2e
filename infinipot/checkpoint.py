"""A checkpoint's files, and whether they belong together: asked before weights are read, since that may take minutes.

A folder is written by others: whatever is in it is either loaded, or a `ModelError` that says in one line what is the
matter and what to do. Knows files and transformers' loading, nothing of streams.
"""

import difflib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig, PreTrainedConfig
from transformers.utils import logging

from infinipot import shipped
from infinipot.errors import ModelError
from infinipot.models import ADAPTERS, Adapter, adapters
from infinipot.text import check_text

_WORDS = "What is happening?"
_PICTURE = np.zeros((64, 64, 3), np.uint8)
_TOKENIZER_FILES = "tokenizer.json (or vocab.json and merges.txt, or tokenizer.model) and tokenizer_config.json"
_PROCESSOR_FILES = "the checkpoint's own processor_config.json (or preprocessor_config.json)"
_LONG = 200  # letters: of a longer line the first sentence is told
_SHIPPED = ", ".join(shipped.NAMES)
_MEDIA = ("video", "image", "audio")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The files of a model: a folder, or a checkpoint of the hub.

    Attributes:
        name: the id or folder, for people, or the name of a model that comes with the project.
        revision: of a hub checkpoint.
    """

    name: str
    revision: str | None = None

    @property
    def source(self) -> str:
        """The argument that transformers loads from."""
        return shipped.folder_of(self.name)

    @property
    def pinned(self) -> dict[str, str]:
        """The revision, as transformers takes it."""
        return {"revision": self.revision} if self.revision else {}

    def adapter(self) -> type[Adapter]:
        """The adapter for its model type.

        Raises:
            ModelError: there is no such checkpoint, its config.json cannot be read, or no family is of its type.
        """
        model_type = self._config().get("model_type")
        by_type = _by_type(ADAPTERS)
        if isinstance(model_type, str) and model_type not in by_type:
            by_type = _by_type(adapters())  # another package may bring it
        if not isinstance(model_type, str):
            raise self._error(f"its config.json names no model type; supported are {', '.join(sorted(by_type))}")
        if model_type not in by_type:
            near = difflib.get_close_matches(model_type, by_type, n=1)
            hint = f"the nearest is {near[0]} ({by_type[near[0]].title}); " if near else ""
            raise self._error(
                f"model type {model_type!r} is not supported; {hint}supported are {', '.join(sorted(by_type))}. "
                "To add a family, see 'Add a model family' in CONTRIBUTING.md"
            )
        self.configuration()
        return by_type[model_type]

    def kv_heads(self) -> int:
        """KV heads of a layer."""
        return int(self.configuration().get_text_config().num_key_value_heads)

    def processor(self, adapter: type[Adapter]) -> Any:
        """Its processor, with tokenizer and chat template.

        Raises:
            ModelError: a file that it needs is missing, or cannot be used.
        """
        try:
            with _quiet():
                return adapter.processor_loader.from_pretrained(self.source, **self.pinned)
        except Exception as error:  # whatever a file makes of a library that trusts it
            why = self._damage()
            if why is None:
                needed = "" if isinstance(error, ImportError) else f". It needs {_PROCESSOR_FILES}, {_TOKENIZER_FILES}"
                why = f"{in_a_line(error)}{needed}"
            raise self._error(f"the processor cannot be loaded: {why}") from error

    def skeleton(self, adapter: type[Adapter], **options: Any) -> Any:
        """The network without its weights, on the device "meta": their names and shapes are compared, nothing is read.

        Returns:
            The network; None for quantized weights, of which only their library knows how they lie.

        Raises:
            ModelError: config.json describes no network, or not the one whose weights are there.
        """
        if self._config().get("quantization_config"):
            return None
        with _quiet():
            return self._load(
                adapter, "no network can be made from its config.json", device_map={"": "meta"}, **options
            )

    def network(self, adapter: type[Adapter], **options: Any) -> Any:
        """Loads the weights.

        Raises:
            ModelError: they cannot be read, some are missing, or some are not of the shape that config.json says.
        """
        own = self.name in shipped.NAMES  # which is loaded before a progress bar is read
        with _quiet() if own else nullcontext():
            return self._load(adapter, "the weights cannot be loaded", **options)

    def _load(self, adapter: type[Adapter], else_wrong: str, **options: Any) -> Any:
        """The network; `else_wrong` is the message for failures that no file explains."""
        try:
            loaded: Any = adapter.loader.from_pretrained(
                self.source, output_loading_info=True, ignore_mismatched_sizes=True, **self.pinned, **options
            )
        except Exception as error:  # whatever a file makes of a library that trusts it
            damage = self._damage()
            of_files = damage is not None or isinstance(error, OSError | ImportError | SafetensorError)
            what = "the weights cannot be loaded" if of_files else else_wrong
            raise self._error(f"{what}: {damage or in_a_line(error)}") from error
        network, report = loaded
        if other := sorted(report["mismatched_keys"]):
            weight, here, wanted = other[0]
            raise self._error(
                f"config.json and weights do not belong together: {weight} is {list(here)}, not {list(wanted)}, one of "
                f"{len(other)} of another shape. Take both from the same checkpoint"
            )
        if missing := sorted(report["missing_keys"]):
            raise self._error(
                f"the checkpoint lacks {len(missing)} weights, {missing[0]} among them: copy or download all of its "
                "files again"
            )
        return network

    def check(self, adapter: Adapter) -> None:
        """Makes sure that network, processor, tokenizer and chat template are of one model, of which a memory can hold
        what it needs; runs no network.

        Raises:
            ModelError: they are not.
        """
        self._check_words(adapter)
        path = Path(self.source) / "generation_config.json"
        if path.exists() and (damage := _damage(path)):  # transformers goes on without it
            raise self._error(f"{path.name} {damage}")
        try:
            adapter.layer_shapes()
            adapter.require_static_rope()
            adapter.chat()
            adapter.scores({}, [0], 1, torch.device("cpu"))
        except ModelError as error:
            raise self._error(str(error)) from error
        self._check_pictures(adapter)

    def _check_words(self, adapter: Adapter) -> None:
        """A tokenizer is the model's if it can spell, has no more tokens than the model and numbers media alike."""
        tokenizer, config = adapter.processor.tokenizer, adapter.model.config
        rows = adapter.model.get_input_embeddings().weight.shape[0]
        known = max(tokenizer.get_vocab().values(), default=0) + 1
        wrong = None
        if not set(tokenizer(_WORDS).input_ids) - {tokenizer.unk_token_id, tokenizer.bos_token_id}:
            wrong = f"knows no words (it has {known} tokens, the model {rows})"
        elif known > rows:
            wrong = f"has {known} tokens, and the model {rows}"
        for kind in _MEDIA:
            token, ours = (getattr(adapter.processor, f"{kind}_token{ending}", None) for ending in ("", "_id"))
            theirs = getattr(config, f"{kind}_token_id", getattr(config, f"{kind}_token_index", None))
            if wrong is None and None not in (ours, theirs) and ours != theirs:
                wrong = f"gives {token} the number {ours}, and the model {theirs}"
        if wrong is not None:
            raise self._error(f"its tokenizer {wrong}: put the checkpoint's own {_TOKENIZER_FILES} beside the weights")

    def _check_pictures(self, adapter: Adapter) -> None:
        """A processor is the model's if it takes a picture, and cuts it as the encoder does."""
        try:
            adapter.patch_of([_PICTURE])
        except Exception as error:
            raise self._error(
                f"the processor failed on a test image: {in_a_line(error)}. Put {_PROCESSOR_FILES} there"
            ) from error
        processor = getattr(adapter.processor, "video_processor", None)
        vision = getattr(adapter.model.config, "vision_config", None)
        for ours, theirs in (("patch_size",) * 2, ("temporal_patch_size",) * 2, ("merge_size", "spatial_merge_size")):
            cut, wanted = getattr(processor, ours, None), getattr(vision, theirs, None)
            if isinstance(cut, int) and isinstance(wanted, int) and cut != wanted:
                raise self._error(
                    f"the processor's {ours} is {cut}, and the model's {wanted}: take the processor's and the "
                    "model's files from the same checkpoint"
                )
        frames = getattr(processor, "temporal_patch_size", adapter.patch_frames)
        if frames != adapter.patch_frames:
            raise self._error(
                f"it takes {frames} frames to a patch; of its family {adapter.patch_frames} are supported"
            )

    def _config(self) -> dict[str, Any]:
        """Reads config.json."""
        check_text(self.name, "the name of the model", ModelError)  # safetensors opens no other files
        name, folder = self.name, Path(self.source)
        if not name:
            raise ModelError(f"the name of the model is empty: give a hub id, a folder, or one of {_SHIPPED}")
        if folder.is_file():
            raise self._error("this is a file: give the folder that holds its config.json")
        if (name.startswith((".", "/", "~")) or name.count("/") > 1) and not folder.is_dir():
            raise self._error("no such folder")
        if not folder.is_dir():
            return self._config_on_the_hub()
        path = folder / "config.json"
        if not path.is_file():
            raise self._error("the folder has no config.json, so it is not a checkpoint")
        try:
            config = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise self._error(f"its config.json is not valid JSON ({in_a_line(error)})") from error
        if not isinstance(config, dict):
            raise self._error("its config.json is not a JSON object")
        return config

    def _config_on_the_hub(self) -> dict[str, Any]:
        near = difflib.get_close_matches(self.name.lower(), shipped.NAMES, n=1)
        hint = f'; did you mean "{near[0]}"?' if near else ""
        if near and "/" not in self.name:  # the hub, which may be asked for long, has a slash in its names
            raise self._error(f"no folder and no model of the project has this name{hint}")
        try:
            return dict(PreTrainedConfig.get_config_dict(self.source, **self.pinned)[0])
        except Exception as error:
            why = f"on the hub there is no such checkpoint: {in_a_line(error)}"
            if isinstance(error.__cause__, LocalEntryNotFoundError):  # also where looking things up is turned off
                why = "the cache does not hold it, and the hub cannot be asked for it"
                raise self._error(f"no folder has this name, {why}{hint}") from error
            raise self._error(f"no folder has this name, and {why}{hint}") from error

    def configuration(self) -> Any:
        """Its configuration, as transformers has it."""
        try:
            return AutoConfig.from_pretrained(self.source, **self.pinned)
        except Exception as error:
            raise self._error(f"its config.json cannot be used: {in_a_line(error)}") from error

    def _damage(self) -> str | None:
        """The first file of the folder that cannot be read, and why; None if all can."""
        faults = ((path.name, _damage(path)) for path in sorted(Path(self.source).glob("*")))
        return next((f"{name} {what}" for name, what in faults if what is not None), None)

    def _error(self, what: str) -> ModelError:
        return ModelError(f"{self.name}: {what}")


def _by_type(known: Sequence[type[Adapter]]) -> dict[str, type[Adapter]]:
    """Returns the families of video by model type, the first where several run one."""
    return {each: adapter for adapter in reversed(known) if adapter.modality == "video" for each in adapter.model_types}


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the progress bars and reports of transformers: the loader checks for faults and raises errors itself."""
    level, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bar:
            logging.enable_progress_bar()


def _damage(path: Path) -> str | None:
    """The fault of a damaged file; None if it is intact, or of a kind that is not checked."""
    try:
        if path.suffix == ".json" and not isinstance(json.loads(path.read_bytes()), dict):
            return "holds no JSON object: copy or download it again"
        if path.suffix == ".jinja":
            path.read_text(encoding="utf-8")
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt"):
                pass
    except OSError as error:  # a link that leads nowhere, as in a cache that was cleared; a folder; no permission
        return f"cannot be opened ({error.strerror or error}): copy or download it again"
    except (ValueError, RecursionError, SafetensorError) as error:
        with path.open("rb") as file:
            if file.read(40).startswith(b"version https://git-lfs"):
                return "only says where Git LFS keeps it: run git lfs pull in its folder"
        return f"is cut short or damaged ({in_a_line(error)}): copy or download it again"
    return None


def in_a_line(error: BaseException) -> str:
    """The first line of what an error says, and its kind where that says little by itself."""
    first, *more = str(error).strip().split("\n") or [""]
    line = f"{first} {more[0].strip()}" if first.endswith(":") and more else first
    line = (line if len(line) <= _LONG else line.partition(". ")[0]).rstrip(".")
    expected = isinstance(error, OSError | ValueError | RuntimeError | ImportError | SafetensorError | ModelError)
    return line if expected and line else f"{type(error).__name__}: {line}".rstrip(": ")
