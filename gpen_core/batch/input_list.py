"""Lists of images, read as they are gone through: text, or Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, MissingDependency
from ..files.regular_file import open_regular_file

PARQUET_MAGIC = b"PAR1"
PATH_COLUMN = "path"
BATCH_ROWS = 10_000
MAX_LINE_BYTES = 1 << 16  # bytes: more is no path of any system


def read(listing: Path) -> Iterator[str]:
    """The paths and URLs in a list, a few at a time.

    A text (UTF-8; a name that is not is kept) has one a line; lines that are blank or begin with # are skipped, nothing
    else is taken away. A Parquet file has them in the column `path`, which needs pyarrow. Raises `InputError` for a list
    that cannot be read, and `MissingDependency`."""
    try:
        file, _ = open_regular_file(listing)
        with file:
            is_parquet = file.read(len(PARQUET_MAGIC)) == PARQUET_MAGIC
            file.seek(0)
            yield from _parquet_rows(file, listing) if is_parquet else _text_rows(file, listing)
    except OSError as error:
        raise InputError(f"The list {listing} cannot be read: {error.strerror or error}.") from error


def _text_rows(file: BinaryIO, listing: Path) -> Iterator[str]:
    number = 0
    while line := file.readline(MAX_LINE_BYTES):
        number += 1
        if len(line) == MAX_LINE_BYTES or b"\0" in line:
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
        raise MissingDependency(
            f"{listing} is a Parquet list, which needs pyarrow: pip install 'sd-gpen[parquet]'"
        ) from error
    try:
        table = parquet.ParquetFile(file)
        if PATH_COLUMN not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names[:5])
            raise InputError(f"{listing} has no column {PATH_COLUMN!r}, but {names}. Name the column with the images so.")
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=[PATH_COLUMN]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str):
                    raise InputError(f"{listing}: the column {PATH_COLUMN!r} holds {value!r}; expected text in every row.")
                if value:
                    yield value
    except pyarrow.ArrowException as error:
        raise InputError(f"The list {listing} cannot be read: {error}.") from error
