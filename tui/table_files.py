"""A table written to a file, of the format that its name ends in: whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from finetui.errors import StoreError, first_line
from finetui.files import whole_file
from tui.lines.arrow_values import values
from tui.lines.tables import csv_text, is_numeric, json_text, markdown_head, markdown_lines

ENDINGS = (".csv", ".parquet", ".json", ".md")
ROWS_AT_ONCE = 10_000


def path_of(text: str, endings: Sequence[str] = ENDINGS) -> Path:
    """The file that somebody means. Raises StoreError with what is wrong with it."""
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # ~nobody
        raise StoreError(f"{text}: {error}", "file") from None
    if path.suffix.lower() not in endings:
        raise StoreError(f"{path.name}: end the name in {', '.join(endings[:-1])} or {endings[-1]}", "file")
    if path.is_dir():
        raise StoreError(f"{path} is a directory", "file")
    if not path.parent.is_dir():
        raise StoreError(f"there is no directory {path.parent}", "file")
    return path


def write(table: Any, path: Path) -> int:
    """Write all rows of an Arrow table; return the bytes of the file. Raises StoreError; then nothing is changed."""
    import pyarrow as pa

    try:
        with whole_file(path) as temporary:
            if path.suffix.lower() == ".parquet":
                import pyarrow.parquet as parquet

                parquet.write_table(table.replace_schema_metadata(None), str(temporary))
            else:
                with temporary.open("w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                    _WRITERS[path.suffix.lower()](table, file)
        return path.stat().st_size
    except OSError as error:
        raise StoreError(f"{path} was not written: {error.strerror or error}", "file") from None
    except pa.ArrowException as error:
        raise StoreError(f"{path} was not written: {first_line(error)}", "file") from None


def _rows(table: Any) -> Iterator[list[tuple[Any, ...]]]:
    """The rows, some thousand at a time: as objects they take many times the memory."""
    for batch in table.to_batches(max_chunksize=ROWS_AT_ONCE):
        yield list(zip(*map(values, batch.columns), strict=True))


def _write_csv(table: Any, file: TextIO) -> None:
    file.write(csv_text(table.column_names, ()))
    for rows in _rows(table):
        file.write(csv_text((), rows, header=False))


def _write_json(table: Any, file: TextIO) -> None:
    """A list of objects, as `finetui sql --json` prints them."""
    before = "[\n"
    for rows in _rows(table):
        for row in rows:
            file.write(f"{before} {json_text(dict(zip(table.column_names, row, strict=True)))}")
            before = ",\n"
    file.write("[]\n" if before == "[\n" else "\n]\n")


def _write_markdown(table: Any, file: TextIO) -> None:
    file.write(markdown_head(table.column_names, [is_numeric(field.type) for field in table.schema]))
    for rows in _rows(table):
        file.write(markdown_lines(rows))


_WRITERS = {".csv": _write_csv, ".json": _write_json, ".md": _write_markdown}
