"""Checks a wheel that is installed in a bare environment, whose Python runs this: `make test-wheel`.

python tests/wheel/check.py dist/infinipot-0.1.0-py3-none-any.whl
"""

import subprocess
import sys
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

MOST_BYTES = 12_000_000
EXTRAS = ("matplotlib", "fastapi", "pyarrow", "ray", "gguf")  # what a plain install does not bring
INSIDE = ("infinipot/py.typed", "infinipot/embedded/weights/model.safetensors", "infinipot/serve/page/files/index.html")


def main(wheel: Path) -> None:
    """Runs every check; the first that fails ends it."""
    names = zipfile.ZipFile(wheel).namelist()
    check(wheel.stat().st_size < MOST_BYTES, f"{wheel.stat().st_size / 1e6:.1f} MB, of {MOST_BYTES / 1e6:.0f} at most")
    check(set(INSIDE) <= set(names), "holds the package, its types and its model")
    outside = {name.partition("/")[0] for name in names} - {"infinipot"}
    check(all(name.endswith(".dist-info") for name in outside), f"holds nothing else: {', '.join(sorted(outside))}")
    check(not [name for name in EXTRAS if find_spec(name)], "the environment is bare")

    heavy = python("-c", "import infinipot, sys; print({'torch', 'transformers', 'numpy'} & set(sys.modules))")
    check(heavy == "set()", "importing the package imports nothing that computes")
    version = wheel.name.split("-")[1]
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
