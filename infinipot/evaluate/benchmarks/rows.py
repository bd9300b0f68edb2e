"""Rows of a table: Parquet, as the hub's data sets have them, or the same rows as a JSON list. Knows no benchmark."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from infinipot.errors import BenchmarkError
from infinipot.evaluate.benchmarks.annotations import Entry, json_entries
from infinipot.evaluate.records import Problem


def row_entries(
    path: Path, data: Path, columns: Sequence[str], instead: Path | None = None
) -> Iterator[Entry | Problem]:
    """The annotations in a file of rows, one each.

    Args:
        path: of a JSON file by its ending, or else of Parquet.
        data: the data folder.
        columns: that are read of Parquet, where they are there.
        instead: the JSON file that would be read instead, for who has no pyarrow; by default beside `path`.

    Raises:
        BenchmarkError: it is Parquet, and pyarrow is not installed.
    """
    if path.suffix == ".json":
        yield from json_entries(path, data, source=path.stem)
    else:
        yield from _parquet_entries(path, data, columns, instead or path.with_suffix(".json"))


def _parquet_entries(path: Path, data: Path, columns: Sequence[str], instead: Path) -> Iterator[Entry | Problem]:
    where = path.relative_to(data).as_posix()
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise BenchmarkError(
            f"{path} is read by pyarrow, which is not installed: pip install 'infinipot[eval]', "
            f"or put the same rows beside it as {instead}"
        ) from None
    try:
        table = parquet.read_table(path)
        rows = table.select([name for name in columns if name in table.column_names]).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, KeyError) as error:
        why = str(error).partition("\n")[0] or type(error).__name__
        yield Problem(where, f"is no Parquet file that can be read ({why})")
        return
    for index, row in enumerate(rows):
        yield Entry(row, f"{where} row {index + 1}", path.stem, index)
