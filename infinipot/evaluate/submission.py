"""The file that a benchmark's own server scores, where labels are withheld: one for a whole run, never for a shard."""

from pathlib import Path

from infinipot.evaluate.core.tables import file_name, write_text
from infinipot.evaluate.results import Run


def submit(run: Run, path: Path) -> str | None:
    """Writes the answers of a run for the benchmark's own server, unless shards are missing.

    Returns:
        A line for a person; None where the benchmark has no such server, or the labels are there.

    Raises:
        ResultsError: the file cannot be written.
    """
    if all(line.reference is not None for line in run.answers):
        return None
    text = run.benchmark.submission({line.question: line.answer for line in run.answers})
    if text is None:
        return None
    if run.missing:
        what = f"labels are withheld, and shard {', '.join(run.missing)} is not here"
        return f"{what}: `infinipot eval report` of all shards writes the file for the server"
    write_text(path, text)
    part = "" if run.settings["limit"] is None else ", of the first videos alone"
    left = run.asked - len(run.answers)
    short = f", but {left} of the {run.asked} answers {'is' if left == 1 else 'are'} missing" if left else ""
    return f"labels are withheld; the answers for the benchmark's own server are in {path}{part}{short}"


def submission_name(run: Run) -> str:
    """A file's name that tells a run from the others of a report."""
    name = f"{run.settings['benchmark']}-{run.settings['variant']}-{run.name}"
    return f"{file_name(name)}.submission.json"
