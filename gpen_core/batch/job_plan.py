"""The jobs of a run, checked before it begins and kept on disk: memory does not grow with their number.

They lie in an SQLite database without a name, which SQLite keeps in a temporary file ($TMPDIR) that nobody else sees and
that is gone with the process, however it ends. It is taken rather than sorted runs and `heapq.merge`, since it is both at
once: its ORDER BY is an external merge sort, written in C, and its table is the copy of a list that may change meanwhile."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType

from ..errors import OptionsError, OutputError
from ..images import codecs
from .file_keys import FileKeyMap, same_file_key
from .job import Boxes, Job
from .locations import Place, Url, is_folder, place_of
from .paired_files import Companions
from .sources import Found

OTHER_PICTURES = (".gif", ".avif", ".heic", ".heif", ".jp2", ".jxl", ".tga", ".exr", ".psd", ".pdf")
AT_ONCE = 10_000  # rows
SOURCE, COMPANION, RESULT = 0, 1, 2
TABLES = """
    PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -16384;
    CREATE TABLE jobs (number INTEGER PRIMARY KEY, source BLOB, below BLOB, before_swap BLOB, background BLOB, mask BLOB);
    CREATE TABLE keys (key BLOB, kind INTEGER, number INTEGER);
    CREATE TABLE repeated (number INTEGER);
"""


@dataclass(frozen=True)
class Wishes:
    """What a run was asked to do with its pictures."""

    out: Place | None
    in_place: bool = False
    before_swap: Path | None = None
    background: Path | None = None
    boxes: Boxes | None = None
    region_mask: Path | None = None


class Plan:
    """Where each result goes, and which pictures before a swap, backgrounds and masks (files, or folders of files of the
    same names) belong to which picture: a collection of `Job`, in the order in which the pictures were found, each picture
    once.

    Making it raises `OptionsError` where a result would overwrite an input or another result, and `OutputError` where the
    disk is full. It is for one thread at a time, and closed after use."""

    def __init__(self, found: Iterable[Found], wishes: Wishes) -> None:
        if not wishes.in_place and wishes.out is None:
            raise OptionsError("Say where the results go: -o FILE or FOLDER, or --in-place.")
        self._wishes = wishes
        self._store = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        try:
            with _disk():
                self._store.executescript(TABLES)
                self._fill(found)
        except BaseException:
            self.close()
            raise

    def _fill(self, found: Iterable[Found]) -> None:
        wishes, keys = self._wishes, FileKeyMap()
        companions = (
            Companions(wishes.before_swap, "--before-swap"),
            Companions(wishes.background, "--background"),
            Companions(wishes.region_mask, "--region-mask"),
        )
        self._store.execute("BEGIN")
        for some in _chunks(enumerate(found)):
            self._take(some, companions, keys)
        self._drop_repeated()
        self._count = int(self._store.execute("SELECT count(*) FROM jobs").fetchone()[0])
        self._result_of = _results(wishes, self._count)
        for one in companions:
            one.check(self._count)
        below = self._store.execute("SELECT source, below, number FROM jobs")
        results = ((_digest(keys.of(self._target(*texts))), RESULT, number) for *texts, number in below)
        self._store.executemany("INSERT INTO keys VALUES (?, ?, ?)", results)
        self._store.execute("COMMIT")
        if not wishes.in_place:
            self._refuse_clashes()

    def _take(self, some: list[tuple[int, Found]], companions: tuple[Companions, ...], keys: FileKeyMap) -> None:
        jobs, inputs = [], []
        for number, found in some:
            others = [one.of(found) for one in companions]
            jobs.append((number, *map(_packed, (found.source, found.below, *others))))
            inputs.append((_digest(keys.of(found.source)), SOURCE, number))
            inputs += [(_digest(keys.of(str(path))), COMPANION, number) for path in others if path is not None]
        self._store.executemany("INSERT INTO jobs VALUES (?, ?, ?, ?, ?, ?)", jobs)
        self._store.executemany("INSERT INTO keys VALUES (?, ?, ?)", inputs)

    def _drop_repeated(self) -> None:
        """Of pictures that are named twice, the first stays."""
        by_key = self._store.execute("SELECT key, number FROM keys WHERE kind = ? ORDER BY key, number", (SOURCE,))
        repeated = ((number,) for _, same in groupby(by_key, _first) for _, number in list(same)[1:])
        self._store.executemany("INSERT INTO repeated VALUES (?)", repeated)
        for table in ("jobs", "keys"):
            self._store.execute(f"DELETE FROM {table} WHERE number IN (SELECT number FROM repeated)")

    def _refuse_clashes(self) -> None:
        """Raises `OptionsError` for the first job whose result may not be written."""
        by_key = self._store.execute("SELECT key, kind, number FROM keys ORDER BY key, kind, number")
        clashes = (_clash([row[1:] for row in same]) for _, same in groupby(by_key, _first))
        first = min((clash for clash in clashes if clash is not None), default=None)
        if first is None:
            return
        number, other = first
        job = self._job(number)
        if other < 0:
            raise OptionsError(f"{job.target} is an input and would be overwritten. Choose another -o, or --in-place.")
        both = f"{self._job(other).source} and {job.source}"
        raise OptionsError(f"{both} would both become {job.target}. Restore them separately.")

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Job]:
        with _disk():
            for _, job in self._numbered():
                yield job

    def check_report(self, report: Path) -> None:
        """Raises `OptionsError` where the report would overwrite a picture or cannot be a file."""
        if is_folder(report):
            raise OptionsError(f"The report {report} is a folder. Name a file, such as {report / 'report.json'}.")
        key = _digest(same_file_key(report))
        if self._store.execute("SELECT 1 FROM keys WHERE key = ?", (key,)).fetchone() is not None:
            raise OptionsError(f"The report {report} would overwrite a picture. Name a file of its own.")

    def close(self) -> None:
        self._store.close()

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _job(self, number: int) -> Job:
        return next(job for _, job in self._numbered("WHERE number = ?", (number,)))

    def _numbered(self, which: str = "ORDER BY number", values: tuple[int, ...] = ()) -> Iterator[tuple[int, Job]]:
        for number, source, below, *others in self._store.execute(f"SELECT * FROM jobs {which}", values):
            before, behind, mask = (None if other is None else Path(_text(other)) for other in others)
            places = place_of(_text(source)), place_of(self._target(source, below))
            yield number, Job(*places, before, behind, self._wishes.boxes, mask)

    def _target(self, source: bytes, below: bytes) -> str:
        return _text(source) if self._wishes.in_place else self._result_of(_text(below))


def _results(wishes: Wishes, count: int) -> Callable[[str], str]:
    """Where a result goes by its name below OUT, which is a folder or, for one picture, a file. Raises `OptionsError`."""
    out = wishes.out
    if out is None:
        return str  # in place, where it is not asked for
    if isinstance(out, Url):
        return _remote_results(out, count)
    suffix = out.suffix.lower()
    known = suffix in codecs.SUFFIXES
    is_file = known or suffix in OTHER_PICTURES or os.path.lexists(out) or (suffix and count == 1)
    if is_folder(out) or not is_file:
        return partial(os.path.join, str(out))
    if count > 1:
        raise OptionsError(f"{count} pictures do not fit into one file: {out}. Give a folder.")
    if not known:
        raise OptionsError(
            f"{out}: a picture of type {suffix or 'none'} cannot be written. Choose one of {', '.join(codecs.SUFFIXES)}; "
            "if a folder is meant, make it first."
        )
    return lambda below: str(out)


def _remote_results(out: Url, count: int) -> Callable[[str], str]:
    """Folders need not be there; what has no picture's suffix is one."""
    suffix = out.suffix.lower()
    if suffix not in (*codecs.SUFFIXES, *OTHER_PICTURES):
        return lambda below: str(out / below)
    if count > 1:
        raise OptionsError(f"{count} pictures do not fit into one file: {out}. Give a folder.")
    if suffix not in codecs.SUFFIXES:
        raise OptionsError(
            f"{out}: a picture of type {suffix} cannot be written. Choose one of {', '.join(codecs.SUFFIXES)}."
        )
    return lambda below: str(out)


def _clash(same: list[tuple[int, int]]) -> tuple[int, int] | None:
    """Of the kinds and numbers that share a place, sorted: the first job whose result may not go there, and the job whose
    result does already, or -1 where an input lies there."""
    results = [number for kind, number in same if kind == RESULT]
    if results and same[0][0] != RESULT:
        return results[0], -1
    return (results[1], results[0]) if len(results) > 1 else None


def _first(row: tuple[bytes, int]) -> bytes:
    return row[0]


def _digest(key: str) -> bytes:
    """Of a length that sorts fast; among a billion names two are the same with a chance of 1 to 10**21."""
    return blake2b(key.encode(errors="surrogatepass"), digest_size=16).digest()


def _packed(text: object) -> bytes | None:
    """Names that are no text have to stay, too."""
    return None if text is None else str(text).encode(errors="surrogatepass")


def _text(data: bytes) -> str:
    return data.decode(errors="surrogatepass")


def _chunks(numbered: Iterable[tuple[int, Found]]) -> Iterator[list[tuple[int, Found]]]:
    iterator = iter(numbered)
    while some := list(islice(iterator, AT_ONCE)):
        yield some


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise OutputError(
            f"The plan of a run is kept in a temporary file, and that failed ({error}). $TMPDIR names another folder for it."
        ) from error
