"""The settings of a server: from the command line, the environment (INFINIPOT_SERVE_...) or a TOML file.

A setting in an earlier one of these overrides the later ones. Every limit has a default that a server on the open
internet can live with.
"""

import json
import logging
import os
import tomllib
from difflib import get_close_matches
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    DirectoryPath,
    Field,
    ValidationError,
)
from pydantic_settings import (
    BaseSettings,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from infinipot.config import POLICY, StreamConfig
from infinipot.errors import InfinipotError
from infinipot.gate import OFF

logger = logging.getLogger(__name__)
_PREFIX = "INFINIPOT_SERVE_"
_MIB = 1 << 20
Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Bytes = Annotated[ByteSize, Field(ge=1)]


def _gate(value: Any) -> Any:
    try:
        return OFF if value == OFF else StreamConfig(gate=value).gate
    except InfinipotError as error:
        raise ValueError(str(error)) from None


GateSetting = Annotated[float | str, BeforeValidator(_gate)]


def _listed(value: Any) -> Any:
    """Several, in one text: with commas between, as on the command line, or as JSON."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return json.loads(value)
    return [part.strip() for part in value.split(",") if part.strip()]


T = TypeVar("T")
Listed = Annotated[tuple[T, ...], NoDecode, BeforeValidator(_listed)]


class Limits(BaseModel):
    """Limits on what clients may ask for; more is a 400, 413, 422 or 429 that names the number that would be accepted.

    Attributes:
        streams: open at once, over all keys.
        connections: open at once; further ones are closed.
        frame_bytes, frame_pixels: of one picture as it comes, and of what it decodes to.
        frames_per_second: that one stream takes, averaged over two seconds.
        frames_waiting: of one stream; one more drops the oldest, which is counted and told.
        waiting_bytes: pixels of all frames that wait, over all streams, of which each may have one in any case; where
            they are more, the oldest of a stream give way to its newest. As many bytes are there for frames that the
            chunks of captions share.
        frames_per_request: pictures and videos in one request, and frames of one video in a chat.
        body_bytes, upload_bytes: of a request, and of a file that is uploaded or fetched.
        bodies_bytes: of all requests under way together, files that are uploaded left out: they go to the disk.
        uploads, uploads_bytes: files that are kept at once, and all of their bytes.
        body_seconds: in which a request's body has to be there, upload_seconds: that of a file, and header_seconds: its
            header.
        watches: standing questions of one stream, and events: of one owner that are kept.
        question_chars: of a question with all that stands before it.
        answers: at once, those that wait included; answers_waiting: of one stream.
        idle_seconds: without a frame or a question after which a stream is closed, and session_idle_seconds: without a
            message after which a session is over, with the stream that it opened for itself.
        chat_idle_seconds: as idle_seconds, of a stream that a chat opened as its session and that says nothing of it.
        decode_seconds, decode_bytes: for one picture, and for a decoding process.
        decoders, videos: processes that decode pictures, and videos that are decoded at once, in a process each: those
            of requests, and those that are played; cameras have processes of their own.
        camera_seconds: without a picture after which a camera is tried again, and frozen_seconds: those of an unchanged
            picture; 0 for cameras whose picture may stand still, such as screens.
        thumbnails: small pictures that are kept of one stream, and thumbnail_bytes: of each.
        answer_bytes: of keys that all answers under way keep turned, see `Model.answer_scratch`; beside memory_total.
        source_seconds: without a picture after which a source counts as lost.
        video_seconds: that the pictures and videos of a chat may take to be fetched, decoded and watched.
        drain_seconds: for answers, and sources, to finish at shutdown, before streams are saved.
    """

    model_config = ConfigDict(extra="forbid")

    streams: Count = 256
    connections: Count = 1024
    frame_bytes: Bytes = ByteSize(10 * _MIB)
    frame_pixels: Count = 16_000_000
    frames_per_second: Seconds = 60.0
    frames_waiting: Count = 64
    waiting_bytes: Bytes = ByteSize(2048 * _MIB)
    frames_per_request: Count = 512
    body_bytes: Bytes = ByteSize(32 * _MIB)
    bodies_bytes: Bytes = ByteSize(1024 * _MIB)
    upload_bytes: Bytes = ByteSize(512 * _MIB)
    uploads: Count = 64
    uploads_bytes: Bytes = ByteSize(4096 * _MIB)
    body_seconds: Seconds = 60.0
    upload_seconds: Seconds = 600.0
    header_seconds: Seconds = 15.0
    watches: Count = 16
    events: Count = 10_000
    question_chars: Count = 8192
    answers: Count = 64
    answers_waiting: Count = 8
    idle_seconds: Seconds = 86_400.0
    session_idle_seconds: Seconds = 60.0
    chat_idle_seconds: Seconds = 600.0
    decode_seconds: Seconds = 10.0
    decode_bytes: Bytes = ByteSize(1024 * _MIB)
    decoders: Count = 2
    videos: Count = 64
    source_seconds: Seconds = 30.0
    camera_seconds: Seconds = 20.0
    frozen_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 60.0
    thumbnails: Count = 96
    thumbnail_bytes: Annotated[ByteSize, Field(ge=2048)] = ByteSize(4096)
    answer_bytes: Annotated[ByteSize, Field(ge=0)] = ByteSize(256 * _MIB)
    video_seconds: Seconds = 600.0
    drain_seconds: Seconds = 30.0

    @property
    def pictures(self) -> int:
        """Bytes of small pictures that one stream may keep."""
        return self.thumbnails * int(self.thumbnail_bytes)


class Settings(BaseSettings):
    """A server's settings.

    Attributes:
        model, dtype, device, revision: see `infinipot.load`.
        memory_total: bytes that all streams together may reserve.
        memory, policy, fps, gate, look_again: of a stream that does not say; see `Model.stream`.
        step_tokens: tokens that one packed step runs over at the most, so that answers keep flowing.
        threads: of the CPU that the model runs in; left out, one fewer than there are cores, so that requests and
            decoding have one.
        api_keys: a file of keys, see `keys.py`; without it everyone is one and the same owner.
        snapshots: the folder that streams are saved in, and snapshot_seconds: from one time to the next, at the least.
        events: the file that standing questions and their events are kept in; left out, one among the snapshots.
        media_root: the folder below which `file:` addresses are played.
        media_hosts: from which media is fetched; none named: from every public one.
        media_networks: private ranges that may be fetched from all the same.
        demo: whether a stream is opened at the start that watches the synthetic world, and the page shows it.
        local_cameras: whether clients may watch the cameras of this machine.
        webhook_hosts: to which events are sent; none named: to every public one.
        cors_origins: web pages that may call; none by default.
        log_level: of the least lines that are logged.
    """

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", extra="forbid", validate_default=True
    )

    model: str
    dtype: str = "auto"
    device: str = "auto"
    revision: str | None = None
    memory_total: Bytes = ByteSize(2 << 30)
    memory: int | str | None = None
    policy: str = POLICY
    fps: Seconds = 2.0
    gate: GateSetting = OFF
    look_again: Annotated[int, Field(ge=0)] = 0
    step_tokens: Count = 2048
    threads: Count | None = None
    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8000
    api_keys: Path | None = None
    snapshots: Path | None = None
    snapshot_seconds: Seconds = 600.0
    events: Path | None = None
    media_root: DirectoryPath | None = None
    media_hosts: Listed[str] = ()
    media_networks: Listed[IPv4Network | IPv6Network] = ()
    local_cameras: bool = False
    demo: bool = False
    webhook_hosts: Listed[str] = ()
    cors_origins: Listed[str] = ()
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    limits: Limits = Limits()

    @property
    def stream(self) -> dict[str, Any]:
        """The default arguments of `Model.stream`."""
        return stream_settings(self.model_dump(include={"memory", "policy", "fps", "gate", "look_again"}))

    @property
    def events_path(self) -> Path | None:
        """The file of events; None for a server that keeps nothing.

        A service may write inside the folder of snapshots, and often not beside it. A file that an earlier version made
        there is kept.
        """
        if self.events is not None or self.snapshots is None:
            return self.events
        beside = self.snapshots.absolute().with_name(f"{self.snapshots.absolute().name}-events.sqlite")
        return beside if beside.is_file() else self.snapshots / "events.sqlite"

    @classmethod
    def read(cls, config: Path | None = None, **given: Any) -> Self:
        """Settings of what was given, else of the environment, else of a TOML file, else the defaults.

        Raises:
            InfinipotError: a value is not possible, or the file cannot be read.
        """

        class FromFile(cls):  # type: ignore[misc, valid-type]
            model_config = SettingsConfigDict(toml_file=config)

            @classmethod
            def settings_customise_sources(
                cls, settings_cls: type[BaseSettings], **sources: PydanticBaseSettingsSource
            ) -> tuple[PydanticBaseSettingsSource, ...]:
                return sources["init_settings"], sources["env_settings"], TomlConfigSettingsSource(settings_cls)

        if config is not None and not config.is_file():
            raise InfinipotError(f"{config}: no such file")
        _tell_unknown()
        try:
            return FromFile(**given)
        except SettingsError as error:
            raise InfinipotError(f"{error}: give JSON, or each part in a variable of its own") from None
        except ValidationError as error:
            raise InfinipotError("; ".join(dict.fromkeys(map(_line, error.errors())))) from None
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text in UTF-8"
            raise InfinipotError(f"{config} cannot be read: {why}") from None
        except tomllib.TOMLDecodeError as error:
            raise InfinipotError(f"{config} is not valid TOML: {error}") from None


def stream_settings(given: dict[str, Any]) -> dict[str, Any]:
    """Settings of a stream as `Model.stream` takes them: there, no gate is None."""
    return given | {"gate": None} if given.get("gate") == OFF else given


def _line(fault: Any) -> str:
    """The fault of one setting, without its value, which may be secret."""
    if fault["loc"] == ("model",) and fault["type"] == "missing":
        return "give a model: --model, INFINIPOT_SERVE_MODEL, or `model` in the file of --config"
    group, *rest = (str(part) for part in fault["loc"]) if fault["loc"] else ("settings",)
    if fault["type"] == "extra_forbidden":
        return f"there is no {'limit' if rest else 'setting'} {rest[0] if rest else group}{_near(group, rest)}"
    if group == "media_networks":
        return "media_networks: give a range of addresses, such as 192.168.0.0/16"
    if group == "port" and str(fault["input"]).startswith("tcp://"):
        return (
            f"port: {_PREFIX}PORT is {fault['input']}, as Kubernetes sets it where a Service has the name "
            "infinipot-serve: give the Service another one, or --port"
        )
    name = ".".join((group, *rest))
    if fault["type"].startswith("byte_size"):
        return f"{name}: give bytes, such as 512MiB or 8GiB"
    return f"{name}: {fault['msg'].removeprefix('Value error, ')}"


def _tell_unknown() -> None:
    """Warns of variables that look like settings, and are none: of a file it would be an error."""
    for name in os.environ:
        if name.upper().startswith(_PREFIX):
            group = name[len(_PREFIX) :].lower().partition("__")[0]
            if group not in Settings.model_fields:
                logger.warning("%s is ignored: there is no setting %s%s", name, group, _near(group, []))


def _near(group: str, rest: list[str]) -> str:
    """The names closest to an unknown one, or else all names."""
    names = sorted((Limits if rest else Settings).model_fields)
    near = get_close_matches(rest[0] if rest else group, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"
