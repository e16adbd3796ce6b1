"""Lists of images, as text or Parquet, read while they are iterated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, MissingDependency
from ..files.regular_file import open_regular_file
from ..optional_packages import install_command

PARQUET_MAGIC = b"PAR1"
PATH_COLUMN = "path"
BATCH_ROWS = 10_000
MAX_LINE_BYTES = 1 << 16  # bytes; no system allows longer paths


def read(listing: Path) -> Iterator[str]:
    """Yield the paths and URLs of a list.

    A text file has one per line, in UTF-8; names in other encodings are kept. Blank lines and lines that start with # are
    skipped. A Parquet file has them in the column `path` and needs pyarrow.

    Raises `InputError` for an unreadable list, and `MissingDependency`."""
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
                f"Line {number} of {listing} is not a path. Use a text with one path or URL per line, or Parquet."
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
            f"{listing} is a Parquet list, which requires pyarrow. Install it: {install_command('pyarrow')}"
        ) from error
    try:
        table = parquet.ParquetFile(file)
        if PATH_COLUMN not in table.schema_arrow.names:
            names = ", ".join(table.schema_arrow.names[:5])
            raise InputError(f"{listing} has no column {PATH_COLUMN!r}, only {names}. Rename the column with the images.")
        for batch in table.iter_batches(batch_size=BATCH_ROWS, columns=[PATH_COLUMN]):
            for value in batch.column(0).to_pylist():
                if not isinstance(value, str):
                    raise InputError(
                        f"{listing}: the column {PATH_COLUMN!r} contains {value!r}; expected text in every row."
                    )
                if value:
                    yield value
    except pyarrow.ArrowException as error:
        raise InputError(f"The list {listing} cannot be read: {error}.") from error
