"""The file that a benchmark's own server scores, where labels are withheld: one for a whole run, never for a shard."""

from dataclasses import dataclass
from pathlib import Path

from infinipot.errors import ResultsError
from infinipot.evaluate.merge import Whole


@dataclass(frozen=True, slots=True)
class Submission:
    """What became of a run whose labels are withheld.

    Attributes:
        path: the file; None where shards are missing, so that none was written.
        about: a line for a person.
    """

    path: Path | None
    about: str


def submit(whole: Whole, path: Path) -> Submission | None:
    """Writes the answers of a run for the benchmark's own server; None where it has none, or labels are there.

    Raises:
        ResultsError: the file cannot be written.
    """
    if all(line["reference"] is not None for line in whole.answers):
        return None
    text = whole.benchmark.submission({line["question"]: line["answer"] for line in whole.answers})
    if text is None:
        return None
    if whole.missing:
        what = f"labels are withheld, and shard {', '.join(whole.missing)} is not here"
        return Submission(None, f"{what}: `infinipot eval report` of all shards writes the file for the server")
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ResultsError(f"{path}: the answers cannot be written here: {error.strerror}") from error
    part = "" if whole.settings["limit"] is None else ", of the first videos alone"
    left = whole.asked - len(whole.answers)
    short = f", but {left} of the {whole.asked} answers {'is' if left == 1 else 'are'} missing" if left else ""
    return Submission(
        path, f"labels are withheld; the answers for the benchmark's own server are in {path}{part}{short}"
    )


def submission_name(whole: Whole) -> str:
    """A file's name that tells a run from the others of a report."""
    name = f"{whole.settings['benchmark']}-{whole.settings['variant']}-{whole.name}"
    safe = "".join(letter if letter.isalnum() or letter in "-_.=@" else "-" for letter in name)
    return f"{safe}.submission.json"
