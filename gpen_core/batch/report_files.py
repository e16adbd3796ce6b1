"""What a run tells of itself in a file while it goes on: all at its end as JSON, or each picture as it ends, as JSON Lines.

A file of lines has three kinds of rows (`row`): `start`, with what `report.heading` says; `picture`, with what
`Outcome.to_json` says and `at`, the seconds since the start; and `end`, with `seconds`, `counts` by status and perhaps
`error`. A run that goes on where another ended adds its own `start` to the same file."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import InputError, OutputError
from ..files.atomic_write import write_bytes
from ..files.regular_file import open_regular
from ..options import RestoreOptions
from ..pipeline.report import Engine, Outcome, OutcomeCounts, as_json, heading, report

log = logging.getLogger(__name__)

LINES = ".jsonl"
START = b'{"row": "start"'
MANY = 100_000  # pictures, of which a report of one piece takes some hundred megabytes


@dataclass
class Report:
    """Counts, and writes nothing."""

    names: dict[str, Any]
    """The model and the detector as they were asked for."""
    options: RestoreOptions
    counts: OutcomeCounts = field(default_factory=OutcomeCounts)
    began: float = field(default_factory=time.monotonic)
    restorer: Engine | None = None

    def begin(self, restorer: Engine) -> None:
        self.restorer = restorer

    def add(self, outcome: Outcome) -> None:
        self.counts.add(outcome)

    def end(self, error: str | None) -> None:
        """To be called once, whatever ended the run. Raises `OutputError` where the file is not complete."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began


@dataclass
class WholeReport(Report):
    """One JSON text, see `report.report`: what became of every picture is held until the end."""

    path: Path = field(kw_only=True)
    outcomes: list[Outcome] = field(default_factory=list)

    def add(self, outcome: Outcome) -> None:
        super().add(outcome)
        self.outcomes.append(outcome)
        if len(self.outcomes) == MANY:
            log.warning("%s is held in memory until the run ends. A name with %s is written as it goes.", self.path, LINES)

    def end(self, error: str | None) -> None:
        text = report(self.restorer, self.names, self.options, self.outcomes, error, self.seconds)
        write_bytes(self.path, text.encode())


@dataclass
class RowReport(Report):
    """JSON Lines. Each row is written at once, so that what is killed leaves whole lines. A row that cannot be written does
    not stop the pictures; `end` says so."""

    path: Path = field(kw_only=True)
    appends: bool = False
    """To what an earlier run wrote."""
    file: BinaryIO | None = None
    is_torn: bool = False
    """Whether the file may end within a line."""
    lost: int = 0
    why: str = "only a part was written"
    has_begun: bool = False

    def __post_init__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "ab" if self.appends else "wb", buffering=0)  # noqa: SIM115  closed by `end`
        except OSError as error:
            raise OutputError(f"The report {self.path} cannot be written: {error.strerror or error}.") from error
        self.is_torn = not _ends_a_line(self.path)

    def begin(self, restorer: Engine | None) -> None:
        self.restorer = restorer
        self.has_begun = True
        self._write({"row": "start", "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **self._heading()})

    def _heading(self) -> dict[str, Any]:
        return heading(self.restorer, self.names, self.options)

    def add(self, outcome: Outcome) -> None:
        super().add(outcome)
        self._write({"row": "picture", "at": round(self.seconds, 3), **outcome.to_json()})

    def end(self, error: str | None) -> None:
        if not self.has_begun:
            self.begin(None)
        last: dict[str, Any] = {"row": "end", "seconds": round(self.seconds, 3), "counts": dict(self.counts.statuses)}
        self._write(last if error is None else {**last, "error": error})
        assert self.file is not None
        with self.file:
            if self.lost:
                raise OutputError(f"The report {self.path} is without {self.lost} rows: {self.why}.")

    def _write(self, row: dict[str, Any]) -> None:
        data = (b"\n" if self.is_torn else b"") + as_json(row).encode()
        assert self.file is not None
        try:
            written = self.file.write(data)
            self.is_torn = written != len(data)
            self.lost += self.is_torn
        except OSError as error:
            self.is_torn, self.lost, self.why = True, self.lost + 1, error.strerror or str(error)


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def of(path: Path | None, names: dict[str, Any], options: RestoreOptions, appends: bool) -> Report:
    """The report that a name asks for. `appends`: the run goes on where another ended. Raises `OutputError`."""
    if path is None:
        return Report(names, options)
    if path.suffix.lower() != LINES:
        return WholeReport(names, options, path=path)
    return RowReport(names, options, path=path, appends=appends)


def rows(path: Path, only_starts: bool = False) -> Iterator[dict[str, Any]]:
    """A report's rows, those of one piece in the same form; of lines that are damaged a row `damaged`, with its `line`.
    With `only_starts` most others are left out, which takes little time.

    Raises `InputError` for what cannot be read or is no report of pictures."""
    try:
        file, _ = open_regular(path)
        with file:
            first = file.readline()
            file.seek(0)
            is_lines = path.suffix.lower() == LINES or _row(first) is not None
            yield from _of_lines(file, START if only_starts else b"") if is_lines else _of_one_piece(file, path)
    except OSError as error:
        raise InputError(f"The report {path} cannot be read: {error.strerror or error}.") from error


def _of_lines(file: BinaryIO, start: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip() and line.startswith(start):
            yield _row(line) or {"row": "damaged", "line": number}


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # RecursionError: nested without end
        return None
    is_row = isinstance(row, dict) and row.get("row") in ("start", "picture", "end")
    return row if is_row and isinstance(row.get("options") or {}, dict) else None


def _of_one_piece(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(file.read())
        inputs = [dict(one) for one in content.pop("inputs")]
        dict(content.get("options") or {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{path} is no report of gpen restore. Expected a file that --report has written.") from None
    last = {key: content.pop(key) for key in ("seconds", "error") if key in content}
    yield {**content, "row": "start"}
    for one in inputs:
        yield {**one, "row": "picture"}
    yield {**last, "row": "end"}


def warn_of_others(path: Path, names: dict[str, Any], options: RestoreOptions) -> None:
    """One warning where an earlier run's report is there and says that what is there was made otherwise."""
    if not path.exists():
        return
    own = json.loads(as_json(heading(None, names, options)))
    differs: dict[str, None] = {}
    try:
        for row in rows(path, only_starts=True):
            if row["row"] == "start":
                differs.update(dict.fromkeys(_differences(row, own)))
    except InputError as error:
        log.warning("%s Whether what is there was made with the same options is not known.", error)
    if differs:
        log.warning(
            "Outputs that are there are kept, but by %s they were made with other settings (%s). Without --skip-existing "
            "they are made anew.",
            path,
            "; ".join(differs),
        )


def _differences(before: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """`model: a, now b`, option by option."""
    flat, own = ({**one, **(one.get("options") or {})} for one in (before, now))
    for key in dict.fromkeys(("version", "model", "detector", *own["options"])):
        if key in flat and flat[key] != own[key]:  # an earlier version may not know it
            yield f"{key}: {flat[key]}, now {own[key]}"
