"""What produced a result: the versions, the code and the weights that an answer may depend on."""

import ast
import hashlib
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import infinipot
from infinipot import __version__, shipped

# Folders that change no answer of a model,
_ASIDE = ("camera/", "cli/", "embedded/", "evaluate/", "lmms_eval/", "serve/", "witness/")
# but for what draws the clips of the needle benchmark and asks about them,
OF_NEEDLE = (
    *(f"evaluate/needle/{name}.py" for name in ("case", "memories")),
    *(f"embedded/{name}.py" for name in ("casting", "drawing", "facts", "scenery", "staging", "words", "world")),
)
# and for what asks the questions of other benchmarks and reads the answers.
OF_EVAL = tuple(f"evaluate/{name}" for name in ("benchmarks/", "engines/", "protocols/", "records.py", "run.py"))

# What answers depend on in a model's folder beside its weights.
_BESIDE_WEIGHTS = ("*.json", "*.jinja", "*.model", "*.txt")


def versions() -> dict[str, str]:
    """Of the package, and of what it computes with, by name."""
    import torch  # here, since the command line imports this file to say what it can do
    import transformers

    return {
        "infinipot": __version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "python": platform.python_version(),
    }


def digest(path: Path) -> str:
    """Twelve digits that stand for the content of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:12]


def digest_of_model(model: str) -> str:
    """Twelve digits that stand for a model: the weights, configuration, tokenizer, processor and templates of a folder,
    else its name. A file is read anew only if its size or its time of change is another."""
    folder = Path(shipped.folder_of(model)).expanduser()
    weights = list(folder.glob("*.safetensors")) or list(folder.glob("*.bin"))
    if not weights:
        return model
    whole = hashlib.sha256()
    for path in sorted([*weights, *(path for kind in _BESIDE_WEIGHTS for path in folder.glob(kind))]):
        stat = path.stat()
        whole.update(f"{path.name} {_digest_once(path, stat.st_size, stat.st_mtime_ns)}\n".encode())
    return whole.hexdigest()[:12]


@cache
def _digest_once(path: Path, size: int, changed: int) -> str:
    """The digest of a file of this size that was last changed at this time, in nanoseconds."""
    return digest(path)


@cache
def digest_of_code(*aside: str) -> str:
    """Twelve digits that stand for the package's code as far as answers depend on it; comments and docstrings do not
    count.

    Args:
        aside: files, and folders with a slash at their end, that count as well, though a model's answers do not depend
            on them.
    """
    whole = hashlib.sha256()
    for name, path in _files_of_code(aside):
        text = path.read_text("utf-8")
        whole.update(f"{name}\n{meaning(text) if path.suffix == '.py' else text}\n".encode())
    return whole.hexdigest()[:12]


def _files_of_code(aside: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files on which answers depend, by their names in the package: code, and the tables that it reads."""
    root = Path(infinipot.__file__).parent
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
        name = path.relative_to(root).as_posix()
        if not name.startswith(_ASIDE) or name.startswith(aside):
            yield name, path


def meaning(source: str) -> str:
    """What a file of code does: the same with other comments, docstrings and line breaks."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
