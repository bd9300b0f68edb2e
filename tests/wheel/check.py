"""Checks a wheel that is installed in a bare environment, whose Python runs this: `make test-wheel`.

python tests/wheel/check.py dist/infinipot-0.1.0-py3-none-any.whl

The source archive that it was made from lies beside it.
"""

import subprocess
import sys
import tarfile
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "infinipot"
MOST_BYTES = 12_000_000
EXTRAS = ("matplotlib", "fastapi", "pyarrow", "ray", "gguf")  # what a plain install does not bring
BESIDE = {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "pyproject.toml", "PKG-INFO", ".gitignore"}


def main(wheel: Path) -> None:
    """Runs every check; the first that fails ends it."""
    check(wheel.stat().st_size < MOST_BYTES, f"{wheel.stat().st_size / 1e6:.1f} MB, of {MOST_BYTES / 1e6:.0f} at most")
    version = wheel.name.split("-")[1]
    package = {path.relative_to(PACKAGE.parent).as_posix() for path in PACKAGE.rglob("*.*") if path.suffix != ".pyc"}
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    check(names == package, "the wheel holds the package and nothing else")
    with tarfile.open(wheel.with_name(f"infinipot-{version}.tar.gz")) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    check(names == package | BESIDE, "the source archive holds the package and what is said about it, nothing else")
    check(not [name for name in EXTRAS if find_spec(name)], "the environment is bare")

    heavy = python("-c", "import infinipot, sys; print({'torch', 'transformers', 'numpy'} & set(sys.modules))")
    check(heavy == "set()", "importing the package imports nothing that computes")
    check(command("--version") == f"infinipot {version}", f"the command is of version {version}")
    check("infinipot-v" in command("policies"), "policies are listed")
    check("Qwen2.5-VL" in command("models"), "models are listed")
    said = command("demo", "--minutes", "2")
    check(
        "compressions made room" in said and "infinipot[plots]" in said,
        "the demo runs and names the extra for pictures",
    )


def check(right: bool, what: str) -> None:
    """Tells what was checked, or ends with it."""
    if not right:
        sys.exit(f"FAILED: {what}")
    print(f"ok: {what}")


def command(*args: str) -> str:
    """What `infinipot` of this environment prints."""
    return output(str(Path(sys.executable).with_name("infinipot")), *args)


def python(*args: str) -> str:
    """What Python prints, in a folder where no checkout can be imported."""
    return output(sys.executable, *args)


def output(*words: str) -> str:
    with tempfile.TemporaryDirectory() as elsewhere:
        done = subprocess.run(words, capture_output=True, text=True, cwd=elsewhere)
    if done.returncode:
        sys.exit(f"FAILED: {' '.join(words)}\n{done.stderr}")
    return done.stdout.strip()


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
