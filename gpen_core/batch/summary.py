"""Summaries of any number of report rows. The last row of each image is stored on disk until the end."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from . import report_files
from .temporary_database import open_temporary_database

MAX_KINDS = 10_000
"""Maximum number of different errors and reasons. Numbers and file names are removed from them, so there are few."""
MAX_NAMES = 3
"""Maximum number of failed images whose names are kept for each error."""
OTHERS = "others"
ROW_ERRORS = (TypeError, ValueError, KeyError, AttributeError, OverflowError, RecursionError, sqlite3.DataError)
"""Errors from values of types that a report does not contain."""


@dataclass
class Summary:
    """The summary of several reports. An image counts once, by its last row that is not `skipped`."""

    runs: int = 0
    completed_runs: int = 0
    """Runs that wrote their `end` row."""
    failed_runs: Counter[str] = field(default_factory=Counter)
    """Errors that ended runs early, with counts."""
    statuses: Counter[str] = field(default_factory=Counter)
    faces: int = 0
    restored: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Reasons why faces were skipped, with counts."""
    errors: Counter[str] = field(default_factory=Counter)
    failed_names: dict[str, list[str]] = field(default_factory=dict)
    """The first `MAX_NAMES` images of each error."""
    processed: int = 0
    """Images that were not skipped, over all runs."""
    seconds: float = 0.0
    """Total duration of all runs."""
    stages: Counter[str] = field(default_factory=Counter)
    """Seconds per stage. Stages overlap."""
    damaged: list[str] = field(default_factory=list)
    """Lines that could not be read."""

    @property
    def finished(self) -> int:
        """Number of images whose faces are counted: all but those that failed or were skipped."""
        return self.statuses.total() - self.statuses["failed"] - self.statuses["skipped"]

    def add_image(self, row: dict[str, Any]) -> None:
        """Count one image by its row of a report, see `ImageOutcome.to_json`."""
        _count_row(_counted_fields(row), self)


def reason_kind(reason: str) -> str:
    """Return the reason why a face was skipped, without numbers: `smaller than the minimum`."""
    return re.split(r": | \(", reason, maxsplit=1)[0]


def summarize(paths: Iterable[Path]) -> Summary:
    """Summarize reports, oldest first. Raises `InputError` for a file that is not a report."""
    summary = Summary()
    store = open_temporary_database("CREATE TABLE images (input TEXT PRIMARY KEY, row TEXT) WITHOUT ROWID; BEGIN;")
    try:
        for path in paths:
            _read_report(path, summary, store)
        for (text,) in store.execute("SELECT row FROM images"):
            _count_row(json.loads(text), summary)
    finally:
        store.close()
    return summary


def _read_report(path: Path, summary: Summary, store: sqlite3.Connection) -> None:
    elapsed = 0.0
    for number, row in enumerate(report_files.iter_rows(path), 1):
        if row["row"] == "damaged":
            summary.damaged.append(f"{path}, line {row['line']}")
            continue
        try:
            elapsed = _add_row(row, elapsed, summary, store)
        except ROW_ERRORS:
            summary.damaged.append(f"{path}, row {number}")
    summary.seconds += elapsed


def _add_row(row: dict[str, Any], elapsed: float, summary: Summary, store: sqlite3.Connection) -> float:
    """Add a row, and return the seconds since the start of its run; `elapsed` is the value before this row.

    An exception leaves the summary unchanged."""
    if row["row"] == "start":
        summary.seconds += elapsed  # of a run without an `end` row
        summary.runs += 1
        return 0.0
    if row["row"] == "image":
        now = float(row.get("at", elapsed))
        _store_row(row, summary, store)
        return now
    seconds = float(row.get("seconds", elapsed))
    failure = [_normalize_text(str(row["error"]), "")] if "error" in row else []
    summary.seconds += seconds
    summary.completed_runs += 1
    summary.failed_runs.update(failure)
    return 0.0


def _store_row(row: dict[str, Any], summary: Summary, store: sqlite3.Connection) -> None:
    is_skipped = row.get("status") == "skipped"
    stages: dict[str, Any] = {str(stage): float(seconds) for stage, seconds in (row.get("seconds") or {}).items()}
    conflict_action = "IGNORE" if is_skipped else "REPLACE"
    values = str(row.get("input")).encode(errors="backslashreplace").decode(), json.dumps(_counted_fields(row))
    store.execute(f"INSERT OR {conflict_action} INTO images VALUES (?, ?)", values)
    if not is_skipped:
        summary.processed += 1
        for stage, seconds in stages.items():
            summary.stages[stage] += seconds


def _counted_fields(row: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a row that are counted."""
    faces = row.get("faces") or []
    skipped = (str(face["reason"]) for face in faces if not face.get("restored") and face.get("reason"))
    reasons = [_normalize_text(reason_kind(reason), "") for reason in skipped]
    out: dict[str, Any] = {"status": str(row.get("status")), "faces": len(faces)}
    out["restored"] = sum(bool(face.get("restored")) for face in faces)
    if reasons:
        out["reasons"] = reasons
    if "error" in row:
        name = str(row.get("input"))
        out["error"], out["name"] = _normalize_text(str(row["error"]), name), name
    return out


def _normalize_text(text: str, name: str) -> str:
    """Remove the image's name, the names of its output and mask, and numbers from a text, so that the same error is counted
    together. Digits in a word, such as mp4, stay."""
    if name:
        text = text.replace(name, "FILE")
        text = re.sub(rf"[^\s\"']{{0,400}}(?<!\w){re.escape(PurePath(name).stem)}\w{{0,40}}\.\w+", "FILE", text)
    return re.sub(r"(?<![^\W_])\d[\d,.]*(?<![,.])", "N", text)


def _count_row(row: dict[str, Any], summary: Summary) -> None:
    summary.statuses[str(row["status"])] += 1
    summary.faces += row["faces"]
    summary.restored += row["restored"]
    for text in row.get("reasons", []):
        _count_text(summary.reasons, text)
    if "error" in row:
        names = summary.failed_names.setdefault(_count_text(summary.errors, row["error"]), [])
        if len(names) < MAX_NAMES:
            names.append(row["name"])


def _count_text(kinds: Counter[str], text: str) -> str:
    """Count the text and return it, or `OTHERS` if there are too many different ones."""
    kind = text if text in kinds or len(kinds) < MAX_KINDS else OTHERS
    kinds[kind] += 1
    return kind
