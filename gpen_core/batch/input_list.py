"""Lists of pictures, read as they are gone through: text, or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, MissingExtra
from ..files.regular_file import open_regular

PARQUET = b"PAR1"
COLUMN = "path"
ROWS = 10_000
LONGEST_LINE = 1 << 16  # bytes: more is no path of any system


def read(listing: Path) -> Iterator[str]:
    """The paths and URLs in a list, a few at a time.

    A text (UTF-8; a name that is not is kept) has one a line; lines that are blank or begin with # are skipped, nothing
    else is taken away. A Parquet file has them in the column `path`, which needs pyarrow. Raises `InputError` for a list
    that cannot be read, and `MissingExtra`."""
    try:
        file, _ = open_regular(listing)
        with file:
            is_parquet = file.read(len(PARQUET)) == PARQUET
            file.seek(0)
            yield from _parquet_rows(file, listing) if is_parquet else _lines(file, listing)
    except OSError as error:
        raise InputError(f"The list {listing} cannot be read: {error.strerror or error}.") from error


def _lines(file: BinaryIO, listing: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE or b"\0" in line:
            raise InputError(
                f"Line {number} of {listing} is no path. A list is a text with one path or URL a line, or Parquet."
            )
        text = line.decode("utf-8-sig" if number == 1 else "utf-8", "surrogateescape").rstrip("\r\n")
        if text.strip() and not text.startswith("#"):
            yield text


def _parquet_rows(file: BinaryIO, listing: Path) -> Iterator[str]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtra(f"{listing} is a Parquet list, which needs pyarrow: pip install 'sd-gpen[parquet]'") from error
    try:
        table = parquet.ParquetFile(file)
        if COLUMN not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names[:5])
            raise InputError(f"{listing} has no column {COLUMN!r}, but {names}. Name the column with the pictures so.")
        for batch in table.iter_batches(batch_size=ROWS, columns=[COLUMN]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str):
                    raise InputError(f"{listing}: the column {COLUMN!r} holds {value!r}; expected text in every row.")
                if value:
                    yield value
    except pyarrow.ArrowException as error:
        raise InputError(f"The list {listing} cannot be read: {error}.") from error
