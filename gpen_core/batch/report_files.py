"""Reports of runs: JSON at the end of the run, or JSON Lines with a row for each input when it is finished.

JSON Lines have three kinds of `row`:

- `start`: the fields of `report.report_header`. A run that resumes another one appends its own `start`.
- `image` or `video`: the fields of the outcome's `to_json`, and `at`, the seconds since the start.
- `end`: `seconds`, `counts` by status, and `error` if the run ended early."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NoReturn

from ..errors import InputError, OutputError
from ..files.atomic_write import check_folder_writable, write_bytes
from ..files.path_checks import exists
from ..files.regular_file import open_regular_file
from ..options import RestoreOptions
from ..pipeline.report import ModelInfo, Outcome, OutcomeCounts, format_report, report_header, to_json
from ..progress import pluralize

log = logging.getLogger(__name__)

JSON_LINES_SUFFIX = ".jsonl"
START_PREFIX = b'{"row": "start"'
LARGE_REPORT = 100_000  # inputs; a JSON report of them needs some hundred megabytes of memory


@dataclass
class Report:
    """Counts outcomes without writing a file. A run is a `with` block; an error that ends it becomes part of the report."""

    names: dict[str, Any]
    """The requested model and detector."""
    options: RestoreOptions
    noun: str = field(default="image", kw_only=True)
    """What the inputs are: image or video."""
    counts: OutcomeCounts = field(default_factory=OutcomeCounts)
    started: float = field(default_factory=time.monotonic)
    restorer: ModelInfo | None = None

    def begin(self, restorer: ModelInfo) -> None:
        self.restorer = restorer

    def add(self, outcome: Outcome) -> None:
        self.counts.add(outcome)

    def end(self, error: str | None) -> None:
        """Finish the report. `error` is the error that ended the run. Raises `OutputError` if the file is incomplete."""

    def __enter__(self) -> Report:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end(None if error is None else str(error) or type(error).__name__)

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


@dataclass
class JsonReport(Report):
    """A JSON report, see `report.format_report`. All outcomes are kept in memory until the end."""

    path: Path = field(kw_only=True)
    outcomes: list[Outcome] = field(default_factory=list)

    def __post_init__(self) -> None:
        check_folder_writable(self.path.parent, "--report")

    def add(self, outcome: Outcome) -> None:
        super().add(outcome)
        self.outcomes.append(outcome)
        if len(self.outcomes) == LARGE_REPORT:
            log.warning(
                "The report %s is kept in memory until the run ends. To write it during the run, use a name with %s.",
                self.path,
                JSON_LINES_SUFFIX,
            )

    def end(self, error: str | None) -> None:
        key = "inputs" if self.noun == "image" else f"{self.noun}s"
        text = format_report(self.restorer, self.names, self.options, self.outcomes, error, self.seconds, key)
        write_bytes(self.path, text.encode())


@dataclass
class JsonLinesReport(Report):
    """A report as JSON Lines. Each row is written at once, so a killed run leaves whole lines. A row that cannot be written
    does not stop the run; `end` raises the error."""

    path: Path = field(kw_only=True)
    append: bool = False
    """Whether to append to the report of an earlier run."""
    file: BinaryIO | None = None
    ends_mid_line: bool = False
    """Whether the file may end in the middle of a line."""
    lost_rows: int = 0
    lost_reason: str = "a row was written only in part"
    has_begun: bool = False

    def __post_init__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.ends_mid_line = self.append and self.path.exists() and not _ends_with_newline(self.path)
            self.file = open(self.path, "ab" if self.append else "wb", buffering=0)  # noqa: SIM115  closed by `end`
        except OSError as error:
            raise OutputError(f"The report {self.path} cannot be written: {error.strerror or error}.") from error

    def begin(self, restorer: ModelInfo | None) -> None:
        self.restorer = restorer
        self.has_begun = True
        self._write({"row": "start", "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **self._header()})

    def _header(self) -> dict[str, Any]:
        return report_header(self.restorer, self.names, self.options)

    def add(self, outcome: Outcome) -> None:
        super().add(outcome)
        self._write({"row": self.noun, "at": round(self.seconds, 3), **outcome.to_json()})

    def end(self, error: str | None) -> None:
        if not self.has_begun:
            self.begin(None)
        last: dict[str, Any] = {"row": "end", "seconds": round(self.seconds, 3), "counts": dict(self.counts.statuses)}
        self._write(last if error is None else {**last, "error": error})
        assert self.file is not None
        with self.file:
            if self.lost_rows:
                raise OutputError(f"The report {self.path} lacks {pluralize(self.lost_rows, 'row')}: {self.lost_reason}.")

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


def open_report(
    path: Path | None, names: dict[str, Any], options: RestoreOptions, append: bool, noun: str = "image"
) -> Report:
    """Create the report for a path. `append` adds to a JSON Lines report of an earlier run. Raises `OutputError`."""
    if path is None:
        return Report(names, options, noun=noun)
    if path.suffix.lower() != JSON_LINES_SUFFIX:
        return JsonReport(names, options, noun=noun, path=path)
    return JsonLinesReport(names, options, noun=noun, path=path, append=append)


def iter_rows(path: Path, only_starts: bool = False) -> Iterator[dict[str, Any]]:
    """Yield the rows of a report, in the form of JSON Lines for both formats. A damaged line is a row `damaged` with its
    `line`. `only_starts` skips most other rows, which is fast, and also accepts reports of videos.

    Raises `InputError` if the file cannot be read or is not a report of images."""
    try:
        file, _ = open_regular_file(path)
        with file:
            first = file.readline()
            file.seek(0)
            is_lines = path.suffix.lower() == JSON_LINES_SUFFIX or _parse_row(first) is not None
            if is_lines:
                yield from _iter_json_lines(file, path, START_PREFIX if only_starts else b"")
            else:
                yield from _iter_json(file, path, only_starts)
    except OSError as error:
        raise InputError(f"The report {path} cannot be read: {error.strerror or error}.") from error


def _iter_json_lines(file: BinaryIO, path: Path, start: bytes) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip() and line.startswith(start):
            row = _parse_row(line) or {"row": "damaged", "line": number}
            if row["row"] == "video":
                _refuse_videos(path)
            yield row


def _parse_row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):  # RecursionError: nested too deeply
        return None
    if isinstance(row, dict) and "row" not in row and "video" in row:
        row["row"] = "video"  # the whole report of one video
    is_row = isinstance(row, dict) and row.get("row") in ("start", "image", "video", "end")
    return row if is_row and isinstance(row.get("options") or {}, dict) else None


def _iter_json(file: BinaryIO, path: Path, only_starts: bool) -> Iterator[dict[str, Any]]:
    try:
        content = json.loads(file.read())
        is_of_videos = content.pop("videos", content.get("video")) is not None
        inputs = [] if is_of_videos else [dict(one) for one in content.pop("inputs")]
        dict(content.get("options") or {})
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        _refuse(path)
    if is_of_videos and not only_starts:
        _refuse_videos(path)
    last = {key: content.pop(key) for key in ("seconds", "error") if key in content}
    yield {**content, "row": "start"}
    for one in inputs:
        yield {**one, "row": "image"}
    yield {**last, "row": "end"}


def _refuse(path: Path) -> NoReturn:
    raise InputError(f"{path} is not a report of gpen restore. Use a file that gpen restore --report wrote.") from None


def _refuse_videos(path: Path) -> NoReturn:
    raise InputError(f"{path} is a report of videos. Only reports of gpen restore are summarized: open the file itself.")


def warn_about_option_changes(path: Path, names: dict[str, Any], options: RestoreOptions) -> None:
    """Log a warning if the report of an earlier run shows that its outputs were made with other options."""
    if not exists(path):
        return
    current = json.loads(to_json(report_header(None, names, options)))
    differences: dict[str, None] = {}
    try:
        for row in iter_rows(path, only_starts=True):
            if row["row"] == "start":
                differences.update(dict.fromkeys(_differences(row, current)))
    except InputError as error:
        log.warning("%s It is unknown whether existing outputs were made with the same options.", error)
    if differences:
        log.warning(
            "Existing outputs are kept, but according to %s they were made with other settings (%s). Run without "
            "--skip-existing to replace them.",
            path,
            "; ".join(differences),
        )


def _differences(recorded: dict[str, Any], now: dict[str, Any]) -> Iterator[str]:
    """Yield each difference as `model: a, now b`."""
    earlier, current = ({**one, **(one.get("options") or {})} for one in (recorded, now))
    for key in dict.fromkeys(("version", "model", "detector", "references", *current["options"])):
        if key in earlier and earlier[key] != current.get(key):  # an earlier version may lack it
            yield f"{key}: {earlier[key]}, now {current.get(key)}"
