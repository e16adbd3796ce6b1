"""What a run tells of itself in a file while it goes on: all at its end as JSON, or each image as it ends, as JSON Lines.

A file of lines has three kinds of rows (`row`): `start`, with what `report.report_header` says; `image`, with what
`ImageOutcome.to_json` says and `at`, the seconds since the start; and `end`, with `seconds`, `counts` by status and perhaps
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
from ..files.regular_file import open_regular_file
from ..options import RestoreOptions
from ..pipeline.report import ImageOutcome, ModelInfo, OutcomeCounts, format_report, report_header, to_json

log = logging.getLogger(__name__)

JSON_LINES_SUFFIX = ".jsonl"
START_PREFIX = b'{"row": "start"'
LARGE_REPORT = 100_000  # images, of which a report of one piece takes some hundred megabytes


@dataclass
class Report:
    """Counts, and writes nothing."""

    names: dict[str, Any]
    """The model and the detector as they were asked for."""
    options: RestoreOptions
    counts: OutcomeCounts = field(default_factory=OutcomeCounts)
    started: float = field(default_factory=time.monotonic)
    restorer: ModelInfo | None = None

    def begin(self, restorer: ModelInfo) -> None:
        self.restorer = restorer

    def add(self, outcome: ImageOutcome) -> None:
        self.counts.add(outcome)

    def end(self, error: str | None) -> None:
        """To be called once, whatever ended the run. Raises `OutputError` where the file is not complete."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass
class JsonReport(Report):
    """One JSON text, see `report.format_report`: what became of every image is held until the end."""

    path: Path = field(kw_only=True)
    outcomes: list[ImageOutcome] = field(default_factory=list)

    def add(self, outcome: ImageOutcome) -> None:
        super().add(outcome)
        self.outcomes.append(outcome)
        if len(self.outcomes) == LARGE_REPORT:
            log.warning(
                "%s is held in memory until the run ends. A name with %s is written as it goes.",
                self.path,
                JSON_LINES_SUFFIX,
            )

    def end(self, error: str | None) -> None:
        text = format_report(self.restorer, self.names, self.options, self.outcomes, error, self.seconds)
        write_bytes(self.path, text.encode())


@dataclass
class JsonLinesReport(Report):
    """JSON Lines. Each row is written at once, so that what is killed leaves whole lines. A row that cannot be written does
    not stop the images; `end` says so."""

    path: Path = field(kw_only=True)
    append: bool = False
    """To what an earlier run wrote."""
    file: BinaryIO | None = None
    ends_mid_line: bool = False
    """Whether the file may end within a line."""
    lost_rows: int = 0
    lost_reason: str = "only a part was written"
    has_begun: bool = False

    def __post_init__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "ab" if self.append else "wb", buffering=0)  # noqa: SIM115  closed by `end`
        except OSError as error:
            raise OutputError(f"The report {self.path} cannot be written: {error.strerror or error}.") from error
        self.ends_mid_line = not _ends_with_newline(self.path)

    def begin(self, restorer: ModelInfo | None) -> None:
        self.restorer = restorer
        self.has_begun = True
        self._write({"row": "start", "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **self._header()})

    def _header(self) -> dict[str, Any]:
        return report_header(self.restorer, self.names, self.options)

    def add(self, outcome: ImageOutcome) -> None:
        super().add(outcome)
        self._write({"row": "image", "at": round(self.seconds, 3), **outcome.to_json()})

    def end(self, error: str | None) -> None:
        if not self.has_begun:
            self.begin(None)
        last: dict[str, Any] = {"row": "end", "seconds": round(self.seconds, 3), "counts": dict(self.counts.statuses)}
        self._write(last if error is None else {**last, "error": error})
        assert self.file is not None
        with self.file:
            if self.lost_rows:
                raise OutputError(f"The report {self.path} is without {self.lost_rows} rows: {self.lost_reason}.")

    def _write(self, row: dict[str, Any]) -> None:
        data = (b"\n" if self.ends_mid_line else b"") + to_json(row).encode()
        assert self.file is not None
        try:
            written = self.file.write(data)
            self.ends_mid_line = written != len(data)
            self.lost_rows += self.ends_mid_line
        except OSError as error:
            self.ends_mid_line, self.lost_rows, self.lost_reason = True, self.lost_rows + 1, error.strerror or str(error)


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return True
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"


def open_report(path: Path | None, names: dict[str, Any], options: RestoreOptions, append: bool) -> Report:
    """The report that a name asks for. `append`: the run goes on where another ended. Raises `OutputError`."""
    if path is None:
        return Report(names, options)
    if path.suffix.lower() != JSON_LINES_SUFFIX:
        return JsonReport(names, options, path=path)
    return JsonLinesReport(names, options, path=path, append=append)


def iter_rows(path: Path, only_starts: bool = False) -> Iterator[dict[str, Any]]:
    """A report's rows, those of one piece in the same form; of lines that are damaged a row `damaged`, with its `line`.
    With `only_starts` most others are left out, which takes little time.

    Raises `InputError` for what cannot be read or is no report of images."""
    try:
        file, _ = open_regular_file(path)
        with file:
            first = file.readline()
            file.seek(0)
            is_lines = path.suffix.lower() == JSON_LINES_SUFFIX or _parse_row(first) is not None
            yield from _iter_json_lines(file, START_PREFIX if only_starts else b"") if is_lines else _iter_json(file, path)
    except OSError as error:
        raise InputError(f"The report {path} cannot be read: {error.strerror or error}.") from error


def _iter_json_lines(file: BinaryIO, start: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip() and line.startswith(start):
            yield _parse_row(line) or {"row": "damaged", "line": number}


def _parse_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # RecursionError: nested without end
        return None
    is_row = isinstance(row, dict) and row.get("row") in ("start", "image", "end")
    return row if is_row and isinstance(row.get("options") or {}, dict) else None


def _iter_json(file: BinaryIO, path: Path) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(file.read())
        inputs = [dict(one) for one in content.pop("inputs")]
        dict(content.get("options") or {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{path} is no report of gpen restore. Expected a file that --report has written.") from None
    last = {key: content.pop(key) for key in ("seconds", "error") if key in content}
    yield {**content, "row": "start"}
    for one in inputs:
        yield {**one, "row": "image"}
    yield {**last, "row": "end"}


def warn_about_option_changes(path: Path, names: dict[str, Any], options: RestoreOptions) -> None:
    """One warning where an earlier run's report is there and says that what is there was made otherwise."""
    if not path.exists():
        return
    current = json.loads(to_json(report_header(None, names, options)))
    differences: dict[str, None] = {}
    try:
        for row in iter_rows(path, only_starts=True):
            if row["row"] == "start":
                differences.update(dict.fromkeys(_differences(row, current)))
    except InputError as error:
        log.warning("%s Whether what is there was made with the same options is not known.", error)
    if differences:
        log.warning(
            "Outputs that are there are kept, but by %s they were made with other settings (%s). Without --skip-existing "
            "they are made anew.",
            path,
            "; ".join(differences),
        )


def _differences(recorded: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """`model: a, now b`, option by option."""
    earlier, current = ({**one, **(one.get("options") or {})} for one in (recorded, now))
    for key in dict.fromkeys(("version", "model", "detector", *current["options"])):
        if key in earlier and earlier[key] != current[key]:  # an earlier version may not know it
            yield f"{key}: {earlier[key]}, now {current[key]}"
