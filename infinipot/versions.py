"""What produced a result: the versions, the code and the weights that an answer may depend on."""

import ast
import hashlib
import platform
import sys
from collections.abc import Iterable, Iterator
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
OF_EVAL = tuple(
    f"evaluate/{name}" for name in ("benchmarks/", "engines/", "plan.py", "protocols/", "records.py", "run.py")
)

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
    return _digest_of(_files_of_code(aside))


@cache
def digest_of_plugin(kind: type) -> str | None:
    """Twelve digits that stand for the code of a class that another package brings, and of the classes that it derives
    from; comments and docstrings do not count. None for a class of this package.

    The code is that of the whole package which the class is in, since a class calls what stands beside it.
    """
    known = {*sys.stdlib_module_names, *versions()}
    modules = {each.__module__ for each in kind.__mro__ if each.__module__.partition(".")[0] not in known}
    files = {name: path for module in sorted(modules) for name, path in _files_of_package(module)}
    return _digest_of(files.items()) if modules else None


def _digest_of(files: Iterable[tuple[str, Path]]) -> str:
    """Twelve digits that stand for what files do, given by their names."""
    whole = hashlib.sha256()
    for name, path in files:
        text = path.read_text("utf-8", errors="backslashreplace")  # a compiled module is no text
        whole.update(f"{name}\n{_meaning_of(text) if path.suffix == '.py' else text}\n".encode())
    return whole.hexdigest()[:12]


def _meaning_of(source: str) -> str:
    """What a file of code does, or its text where that is no code, such as a template's."""
    try:
        return meaning(source)
    except (SyntaxError, ValueError):
        return source


def _files_of_code(aside: tuple[str, ...]) -> Iterator[tuple[str, Path]]:
    """The files on which answers depend, by their names in the package."""
    for name, path in _files_below(Path(infinipot.__file__).parent):
        if not name.startswith(_ASIDE) or name.startswith(aside):
            yield name, path


def _files_of_package(module: str) -> Iterable[tuple[str, Path]]:
    """The files of the outermost package with code of its own that a module is in, or the module's one if there is no
    such package, by names that begin with the package's or the module's."""
    parts = module.split(".")
    for name in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
        if file := getattr(sys.modules.get(name), "__file__", None):
            path = Path(file)
            found = _files_below(path.parent) if path.name == "__init__.py" else [(path.name, path)]
            return [(f"{name}/{inside}", each) for inside, each in found]
    return []


def _files_below(root: Path) -> Iterator[tuple[str, Path]]:
    """The code in a folder and the tables that it reads, by their names in it, in order."""
    for path in sorted([*root.rglob("*.py"), *root.rglob("*.toml")]):
        yield path.relative_to(root).as_posix(), path


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
