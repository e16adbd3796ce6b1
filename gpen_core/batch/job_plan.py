"""The jobs of a run, checked before it starts and stored in a temporary database.

SQLite sorts more rows than fit into memory. Its table is also a copy of the list of inputs, which may change during the
run."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path, PurePath
from types import TracebackType

from ..errors import InputError, OptionsError, OutputError, summarize_problems
from ..files.atomic_write import check_folder_writable
from ..files.path_checks import is_folder
from ..images import codecs, formats
from . import image_io
from .file_keys import FileKeyMap, same_file_key
from .job import ImageJob
from .locations import Location, parse_location
from .output_names import OutputSpec, check_in_place, conflict_advice, output_naming
from .paired_files import PairedFiles
from .read_files import ReadFiles
from .sources import InputItem
from .temporary_database import open_temporary_database

BATCH_ROWS = 10_000  # rows
CHECKED_HEADERS = 1_000  # images; takes about a second
SOURCE, PAIRED, RESULT = 0, 1, 2
SCHEMA = """
    CREATE TABLE jobs (number INTEGER PRIMARY KEY, source BLOB, below BLOB, before_swap BLOB, background BLOB, mask BLOB);
    CREATE TABLE keys (key BLOB, kind INTEGER, number INTEGER);
    CREATE TABLE repeated (number INTEGER);
"""


class JobPlan:
    """The jobs of a run: a collection of `ImageJob` in the order of the inputs, each image once.

    It assigns to each image its output, and its image before a swap, background and mask. These are files, or folders of
    files with the same names. The constructor raises `OptionsError` if a result would overwrite an input, one of the files
    `read` or another result, and `OutputError` if the disk is full. Use it from one thread at a time, and close it."""

    def __init__(self, items: Iterable[InputItem], spec: OutputSpec, read: ReadFiles | None = None) -> None:
        self._spec, self._read = spec, read or ReadFiles()
        with _convert_database_errors():
            self._database = open_temporary_database(SCHEMA)
            try:
                self._fill(items)
            except BaseException:
                self.close()
                raise

    def _fill(self, items: Iterable[InputItem]) -> None:
        spec, keys = self._spec, FileKeyMap()
        paired_files = (
            PairedFiles(spec.before_swap, "--before-swap"),
            PairedFiles(spec.background, "--background"),
            PairedFiles(spec.region_mask, "--region-mask"),
        )
        self._database.execute("BEGIN")
        for chunk in _chunks(enumerate(items)):
            self._insert(chunk, paired_files, keys)
        self._drop_duplicates()
        self._count = int(self._database.execute("SELECT count(*) FROM jobs").fetchone()[0])
        self._output_path = output_naming(spec, self._count)
        for one in paired_files:
            one.check(self._count)
        rows = self._database.execute("SELECT source, below, number FROM jobs")
        results = ((_digest(self._result_key(self._target(*texts), keys)), RESULT, number) for *texts, number in rows)
        self._database.executemany("INSERT INTO keys VALUES (?, ?, ?)", results)
        self._database.execute("COMMIT")
        if not spec.in_place:
            self._raise_if_conflicts()

    def _result_key(self, target: str, keys: FileKeyMap) -> str:
        key = keys.key_for(target)
        if not self._spec.in_place:
            self._read.raise_if_overwritten(target, key)
        return key

    def _insert(self, chunk: list[tuple[int, InputItem]], paired_files: tuple[PairedFiles, ...], keys: FileKeyMap) -> None:
        jobs, inputs = [], []
        for number, item in chunk:
            others = [one.for_image(item) for one in paired_files]
            jobs.append((number, *map(_encode_text, (item.source, item.relative_path, *others))))
            inputs.append((_digest(keys.key_for(item.source)), SOURCE, number))
            inputs += [(_digest(keys.key_for(str(path))), PAIRED, number) for path in others if path is not None]
        self._database.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)", jobs)
        self._database.executemany("INSERT INTO keys VALUES (?, ?, ?)", inputs)

    def _drop_duplicates(self) -> None:
        """Delete all but the first of images that are named several times."""
        by_key = self._database.execute("SELECT key, number FROM keys WHERE kind = ? ORDER BY key, number", (SOURCE,))
        duplicates = ((number,) for _, same in groupby(by_key, _row_key) for _, number in list(same)[1:])
        self._database.executemany("INSERT INTO repeated VALUES (?)", duplicates)
        for table in ("jobs", "keys"):
            self._database.execute(f"DELETE FROM {table} WHERE number IN (SELECT number FROM repeated)")

    def _raise_if_conflicts(self) -> None:
        """Raise `OptionsError` for the first job whose result must not be written."""
        by_key = self._database.execute("SELECT key, kind, number FROM keys ORDER BY key, kind, number")
        conflicts = (_find_conflict([row[1:] for row in same]) for _, same in groupby(by_key, _row_key))
        first = min((conflict for conflict in conflicts if conflict is not None), default=None)
        if first is None:
            return
        number, other = first
        job = self._job(number)
        if other < 0:
            raise OptionsError(f"{job.target} is an input and would be overwritten. Choose another -o, or use --in-place.")
        both = self._job(other).source, job.source
        raise OptionsError(f"{both[0]} and {both[1]} would both become {job.target}. {conflict_advice(*both)}")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[ImageJob]:
        with _convert_database_errors():
            for _, job in self._numbered_jobs():
                yield job

    def check_report(self, report: Path) -> None:
        """Raise `OptionsError` if the report would overwrite an image or is a folder."""
        if is_folder(report):
            raise OptionsError(f"The report {report} is a folder. Choose a file, such as {report / 'report.json'}.")
        if self.has(report):
            raise OptionsError(f"The report {report} would overwrite an image. Choose another file.")
        self._read.raise_if_overwritten(report, same_file_key(report), "Choose another --report.")

    def has(self, path: Path) -> bool:
        """Whether a path is that of an input, a paired file or a result."""
        row = self._database.execute("SELECT 1 FROM keys WHERE key = ?", (_digest(same_file_key(path)),)).fetchone()
        return row is not None

    def check_outputs(self) -> None:
        """Check the outputs before any work is done.

        Raises `OptionsError` for results that their format cannot store, and `OutputError` for a folder that is not
        writable. Alpha channels are checked in the headers of the first `CHECKED_HEADERS` images. The others fail one by
        one, before their work."""
        spec = self._spec
        if spec.in_place:
            for job in self:
                check_in_place(job.source)
        elif spec.format == "jpg" or spec.background is not None or self._result_format() in codecs.OPAQUE_FORMATS:
            self._check_alpha()
        if isinstance(spec.out, Path):
            check_folder_writable(Path(self._output_path("x")).parent)

    def _result_format(self) -> str:
        """Return the format of all results. Empty if it depends on the input; `x` stands for one without a suffix."""
        return formats.output_format(PurePath(self._output_path("x")), "")

    def _check_alpha(self) -> None:
        converted = (job for job in self if isinstance(job.base, Path) and not image_io.is_same_format(job.base, job.target))
        opaque = (job for job in converted if image_io.format_of(job.target, "") in codecs.OPAQUE_FORMATS)
        with_alpha = [job for job in islice(opaque, CHECKED_HEADERS) if _has_alpha(job.base)]
        if with_alpha:
            names = summarize_problems([str(job.base) for job in with_alpha])
            raise OptionsError(f"{names}: {codecs.alpha_message(image_io.format_of(with_alpha[0].target, ''))}")

    def close(self) -> None:
        self._database.close()

    def __enter__(self) -> JobPlan:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _job(self, number: int) -> ImageJob:
        return next(job for _, job in self._numbered_jobs("WHERE number = ?", (number,)))

    def _numbered_jobs(
        self, clause: str = "ORDER BY number", values: tuple[int, ...] = ()
    ) -> Iterator[tuple[int, ImageJob]]:
        for number, source, relative_path, *paired in self._database.execute(f"SELECT * FROM jobs {clause}", values):
            before_swap, background, mask = (None if other is None else Path(_decode_text(other)) for other in paired)
            locations = parse_location(_decode_text(source)), parse_location(self._target(source, relative_path))
            spec = self._spec
            job = ImageJob(*locations, before_swap, background, spec.boxes, mask, spec.quality, spec.max_pixels)
            yield number, job

    def _target(self, source: bytes, relative_path: bytes) -> str:
        return _decode_text(source) if self._spec.in_place else self._output_path(_decode_text(relative_path))


def _has_alpha(location: Location) -> bool:
    """Whether an image has an alpha channel. False if it cannot be opened, because reading it raises the error later."""
    try:
        return isinstance(location, Path) and codecs.has_alpha(location)
    except InputError:
        return False


def _find_conflict(entries: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Find a conflict among the sorted kinds and numbers that share a file.

    Returns the number of the first job whose result must not be written there, and the number of the job whose result is
    already there, or -1 if an input is there."""
    results = [number for kind, number in entries if kind == RESULT]
    if results and entries[0][0] != RESULT:
        return results[0], -1
    return (results[1], results[0]) if len(results) > 1 else None


def _row_key(row: tuple[bytes, int]) -> bytes:
    return row[0]


def _digest(key: str) -> bytes:
    """Hash to 16 bytes, which sort fast. Among a billion names, the probability of a collision is 10**-21."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).digest()


def _encode_text(text: object) -> bytes | None:
    """Encode a name. Names that are not valid text are preserved, too."""
    return None if text is None else str(text).encode(errors="surrogatepass")


def _decode_text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")


def _chunks(numbered: Iterable[tuple[int, InputItem]]) -> Iterator[list[tuple[int, InputItem]]]:
    iterator = iter(numbered)
    while chunk := list(islice(iterator, BATCH_ROWS)):
        yield chunk


@contextlib.contextmanager
def _convert_database_errors() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"The temporary file for the plan of the run failed ({error}). Set $TMPDIR to another folder."
        ) from error
