"""lmms-eval's side of infinipot: its settings in, its answers out."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NoReturn

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from loguru import logger
from tqdm import tqdm

from infinipot import (
    CapError,
    FrameError,
    InfinipotError,
    PolicyError,
    SettingError,
    Stream,
    VideoError,
    load,
    policies,
)
from infinipot.config import POLICY, StreamConfig
from infinipot.evaluate.engines.base import STREAM_SETTINGS
from infinipot.evaluate.records import FrameSampling
from infinipot.lmms_eval.request import Excerpt, Request, read
from infinipot.policies import Policy

_DEFAULT_FPS = 2.0
_STREAMING = tuple(name for name in STREAM_SETTINGS if name != "look_again")  # no question here asks for a second look


class Infinipot(lmms):
    """Videos watched in bounded memory, a video once for all its questions.

    Args:
        pretrained: a hub id, a folder, or "embedded" for the small model that ships with the package.
        batch_size: 1; one video is watched at a time.
        revision, dtype, device, device_map, attn_implementation: see `infinipot.load`. With several processes each
            loads the model on its own device.
        policy: see `Model.stream`.
        fps, max_num_frames: the rate and the most frames, see `FrameSampling`; with neither, 2 frames per second.
        min_pixels, max_pixels: of a resized frame; both or neither.
        system_prompt: a system message, or a file that holds it, in place of the task's and the chat template's own.
        max_batch_size: given by lmms-eval, and ignored.
        options: memory, keep, block, reserve, positions, gate, see `Model.stream`; and options of the policy, which
            lmms-eval's commas separate from it: `policy=infinipot-v:combine=union,alpha=0.4`.

    Raises:
        InfinipotError: settings are not possible; wherever that can be told, it is raised before the model is loaded.
    """

    is_simple = False  # conversations, through doc_to_messages

    def __init__(
        self,
        pretrained: str,
        *,
        batch_size: int | str = 1,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        device_map: str | None = None,
        attn_implementation: str | None = None,
        policy: str = POLICY,
        fps: float | None = None,
        max_num_frames: int | None = None,
        min_pixels: int | None = None,
        max_pixels: int | None = None,
        system_prompt: str | None = None,
        max_batch_size: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        if str(batch_size) != "1":
            raise SettingError(f"batch_size={batch_size}: infinipot watches one video at a time, so it is 1")
        if (min_pixels is None) != (max_pixels is None):
            raise SettingError("give both min_pixels and max_pixels, or neither")
        streaming: dict[str, Any] = {name: options.pop(name) for name in _STREAMING if name in options}
        streaming["pixels"] = None if min_pixels is None else (min_pixels, max_pixels)
        fps = _DEFAULT_FPS if fps is None and max_num_frames is None else fps
        chosen, self._sampling = _policy(policy, options), FrameSampling.of(max_num_frames, fps)
        StreamConfig(**streaming)
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        self._system = None if system_prompt is None else self._resolve_system_prompt(_unquoted(system_prompt))
        self._loaded = load(
            str(pretrained),
            dtype=dtype,
            device=self._own_device(device, device_map),
            device_map=device_map,
            attn_implementation=attn_implementation,
            revision=None if revision is None else str(revision),
        )
        self._streaming = {"policy": chosen, **streaming, "dialogue": 0}  # no turn is remembered
        self._stream().close()  # what the model cannot take is an error now

    @property
    def device(self) -> torch.device:
        """The device on which lmms-eval exchanges numbers between processes."""
        return self.accelerator.device

    def _own_device(self, device: str | None, device_map: str | None) -> str | torch.device:
        """The device of this process's model."""
        if self._world_size == 1:
            return device or "auto"
        if device_map is not None:
            raise InfinipotError(
                f"device_map={device_map} spreads one model over devices; {self._world_size} processes have one each"
            )
        return self.accelerator.device

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """Answers in the order of the requests.

        A video that cannot be read is logged, and its answers are empty; if that is so of every one, it is an error.

        Raises:
            QuestionError: a request that is not one video and a question.
            CapError: a question and its answer do not fit the share of the memory that is reserved for them; or, in
                mid-run, a video's frames do not fit the memory, or fill it under a policy that never evicts.
            VideoError: no video at all could be read.
        """
        asked = [read(instance, self.task_dict, self._system) for instance in requests]
        self._require_room(asked)
        answers = [""] * len(asked)
        broken: dict[Excerpt, str] = {}
        watched = 0
        with tqdm(total=len(asked), disable=self.rank != 0, desc="Model Responding") as progress:
            for (excerpt, system), places in _by_excerpt(asked).items():
                about = [asked[place] for place in places]
                try:
                    for place, answer in zip(places, self._answers(excerpt, system, about), strict=True):
                        answers[place] = answer
                    watched += 1
                except (VideoError, FrameError) as error:
                    broken[excerpt] = str(error)
                    logger.error(f"{about[0].where}: {error}; empty answers to {len(about)} questions")
                except CapError as error:  # of the settings, not of the video: answers left out would flatter them
                    raise CapError(f"{about[0].where}, {excerpt.source}: {error}") from error
                progress.update(len(places))
        _report(len(asked), watched, broken)
        return answers

    def loglikelihood(self, requests: Sequence[Instance]) -> NoReturn:
        """A stream gives words, not their likelihood."""
        raise InfinipotError(
            "infinipot answers in words and gives no likelihoods: take a task, or a variant of it, of output_type "
            "generate_until"
        )

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> NoReturn:
        """A stream is asked one question at a time."""
        raise InfinipotError("tasks of several rounds are not supported: infinipot asks one question at a time")

    def clean(self) -> None:
        """Frees the memory and the model; lmms-eval calls it after the last answer."""
        del self._loaded
        super().clean()

    def _stream(self, system: str | None = None) -> Stream:
        return self._loaded.stream(system=system, **self._streaming)

    def _answers(self, excerpt: Excerpt, system: str | None, about: Sequence[Request]) -> list[str]:
        """The answers to all questions about an excerpt, from one stream that watches it.

        Raises:
            VideoError, FrameError: it cannot be read, or holds pictures that the model cannot take.
            CapError: the memory is too small for its frames, or full and the policy never evicts.
        """
        with self._stream(system) as stream:
            with self._sampling.open(excerpt.source, excerpt.start, excerpt.end) as video:
                for frame in video:
                    stream.watch(frame)
            return [
                stream.ask(one.question, max_new_tokens=one.max_new_tokens, temperature=0, stop=one.until)
                for one in about
            ]

    def _require_room(self, asked: Sequence[Request]) -> None:
        """Raises for questions that cannot be asked now, rather than after days."""
        # The longest first: the reserve that its error names will do for the others.
        ordered = sorted(asked, key=lambda request: (request.system or "", -_length(request)))
        for system, requests in groupby(ordered, lambda request: request.system):
            with self._stream(system) as stream:
                for request in requests:
                    try:
                        stream.answer_limit(request.question, max_new_tokens=request.max_new_tokens)
                    except InfinipotError as error:
                        raise type(error)(f"{request.where}: {error}") from error


def _report(questions: int, watched: int, broken: Mapping[Excerpt, str]) -> None:
    if broken and not watched:
        raise VideoError(f"no video could be read, of {len(broken)}; the first: {next(iter(broken.values()))}")
    logger.info(f"{questions} questions about {watched} videos, each watched once for all of its questions")
    if broken:
        logger.warning(f"{len(broken)} videos could not be read; their questions got empty answers")


def _by_excerpt(asked: Sequence[Request]) -> dict[tuple[Excerpt, str | None], list[int]]:
    """The places of the requests about each excerpt, in the order in which the excerpts first come."""
    places: dict[tuple[Excerpt, str | None], list[int]] = {}
    for place, request in enumerate(asked):
        places.setdefault((request.excerpt, request.system), []).append(place)
    return places


def _length(request: Request) -> float:
    """About how many tokens a question and its answer take."""
    return len(request.question) / 4 + request.max_new_tokens


def _policy(policy: str, options: Mapping[str, Any]) -> Policy:
    try:
        return policies.make(_unquoted(policy), **options)
    except PolicyError as error:
        if not options:
            raise
        known = ", ".join((*(Infinipot.__init__.__kwdefaults__ or ()), *_STREAMING))
        raise PolicyError(f"{error}. Model arguments that are not options of a policy: pretrained, {known}") from error


def _unquoted(value: str) -> str:
    """lmms-eval leaves the quotes on that keep a value with commas together."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
