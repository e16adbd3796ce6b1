"""Lists of images, as text or Parquet, read while they are iterated."""

from __future__ import annotations

import io
import shutil
import tempfile
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from ..errors import InputError, MissingDependency
from ..files.regular_file import open_regular_file
from ..optional_packages import install_command

PARQUET_MAGIC = b"PAR1"
PATH_COLUMN = "path"
BATCH_ROWS = 10_000
MAX_LINE_BYTES = 1 << 16  # bytes; no system allows longer paths
STANDARD_INPUT = Path("-")


def read(listing: Path) -> Iterator[str]:
    """Yield the paths and URLs of a list.

    A text file has one per line, in UTF-8; names in other encodings are kept. UTF-16 with a byte order mark, which
    PowerShell writes, is read, too. Blank lines and lines that start with # are skipped. A Parquet file has them in the
    column `path` and needs pyarrow. The list may be a pipe, or `-` for the standard input, and is read once.

    Raises `InputError` for an unreadable list, and `MissingDependency`."""
    try:
        with _open(listing) as file:
            first = file.readline(MAX_LINE_BYTES)
            if first.startswith(PARQUET_MAGIC):
                yield from _parquet_rows(_seekable(first, file), listing)
            elif first.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
                text = io.TextIOWrapper(_seekable(first, file), "utf-16", "replace")
                yield from _text_rows((line.encode() for line in text), listing)
            else:
                yield from _text_rows(chain([first], iter(partial(file.readline, MAX_LINE_BYTES), b"")), listing)
    except OSError as error:
        raise InputError(f"The list {listing} cannot be read: {error.strerror or error}.") from error


def _open(listing: Path) -> BinaryIO:
    if listing == STANDARD_INPUT:
        return open(0, "rb", closefd=False)
    return open(listing, "rb") if listing.is_fifo() else open_regular_file(listing)[0]


def _seekable(first: bytes, rest: BinaryIO) -> BinaryIO:
    """Return a list of which `first` was already read, or of a pipe, a temporary copy, from the start."""
    if rest.seekable():
        rest.seek(0)
        return rest
    copy = tempfile.TemporaryFile()  # noqa: SIM115  the caller reads it
    copy.write(first)
    shutil.copyfileobj(rest, copy)
    copy.seek(0)
    return copy


def _text_rows(lines: Iterator[bytes], listing: Path) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
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
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:  # Spark writes text without checking it
        raise InputError(f"The list {listing} cannot be read: {error}.") from error
