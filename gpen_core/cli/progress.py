"""How a command shows what it is at: a bar with the time left, JSON for other programs, or not at all."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from .terminal import printable

PICTURES = "pictures"
BAR, JSON, NONE = KINDS = ("bar", "json", "none")
# What is counted, by the words that work says of itself; whatever else has bytes to count, which downloads have.
UNITS = {
    PICTURES: "picture",
    "Restoring faces": "face",
    "Finding faces": "face",
    "Enlarging the picture": "tile",
    "Looking for faces": "frame",
    "Restoring": "frame",
    "Restoring frames": "frame",
    "Moving the frames": "frame",
    "Joining": "packet",
    "Reading the film (MiB)": "MiB",
}
SELDOM = 0.2  # seconds between two lines of JSON about the same


def progress_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that every command has."""
    parser.add_argument("-q", "--quiet", action="store_true", help="no progress, notes and warnings; errors are still said")
    parser.add_argument(
        "--progress",
        choices=KINDS,
        help="on stderr: bar (the default; on terminals only), json (an object a line, which begins with {), none",
    )


class ProgressReporter:
    """Shows nothing: a progress callable, and where notes go. Base of those that show something."""

    def __init__(self, pictures: int = 0, quiet: bool = False) -> None:
        """`pictures` are all of a run, where it counts them."""
        self.pictures = pictures
        self.quiet = quiet

    def __call__(self, done: int, total: int, text: str) -> None:
        """See `progress.Progress`."""

    def step(self, done: int) -> None:
        """So many pictures are done."""

    def close(self) -> None:
        """Takes away what is shown."""

    def note(self, text: str) -> None:
        """A line on stderr, but not with `--quiet`."""
        if not self.quiet:
            self.write(f"gpen: {text}", sys.stderr)

    def error(self, text: str) -> None:
        self.write(f"gpen: {text}", sys.stderr)

    def write(self, line: str, to: TextIO) -> None:
        """A line that stays, not into the midst of what is shown."""
        to.write(printable(f"{line}\n"))


class TqdmReporter(ProgressReporter):
    """On a terminal one bar at a time with the time left, over pictures where there are several; elsewhere nothing."""

    def __init__(self, pictures: int = 0, quiet: bool = False) -> None:
        super().__init__(pictures, quiet)
        self._bar: Any = None
        self._at: object = None
        self._of_all: Any = self._new(PICTURES, 0, pictures) if pictures > 1 else None

    def __call__(self, done: int, total: int, text: str) -> None:
        if self._of_all is not None:
            self._beside(f"{text} {done}/{total}" if total else text)
            return
        if (text, total) != self._at:
            self._end()
            self._at = (text, total)
            self._bar = self._new(text, done, total)
        self._bar.update(done - self._bar.n)

    def step(self, done: int) -> None:
        if self._of_all is not None:
            self._of_all.update(done - self._of_all.n)

    def close(self) -> None:
        self._end()
        if self._of_all is not None:
            self._of_all.close()

    def write(self, line: str, to: TextIO) -> None:
        from tqdm import tqdm

        tqdm.write(printable(line), file=to)

    def _beside(self, at: str) -> None:
        if at != self._at:  # it is told many times within a face
            self._at = at
            self._of_all.set_postfix_str(printable(at))

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @staticmethod
    def _new(text: str, done: int, total: int) -> Any:
        from tqdm import tqdm

        unit = UNITS.get(text, "B")
        counted: dict[str, Any] = {"unit": f" {unit}"}
        if unit == "B":
            counted = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        if not total:
            counted["bar_format"] = "{desc} [{elapsed}]"
        desc = "" if text == PICTURES else printable(text)
        return tqdm(desc=desc, total=total or None, initial=done, file=sys.stderr, disable=None, leave=False, **counted)


@dataclass
class _RateEstimate:
    """When a stage began, and how far it had come then and is now."""

    begun: float
    first: int
    done: int

    def seconds_left(self, now: float, total: int) -> float | None:
        """As if it went on as it did so far; None where that cannot be told."""
        if self.done <= self.first or not total:
            return None
        return round((now - self.begun) / (self.done - self.first) * (total - self.done), 1)


class JsonReporter(ProgressReporter):
    """JSON, an object a line: `stage`, `done`, `total` (null: not known), `unit`, and `seconds_left` (null: not known)."""

    def __init__(self, pictures: int = 0, quiet: bool = False) -> None:
        super().__init__(pictures, quiet)
        self._paces: dict[str, _RateEstimate] = {}
        self._last = ("", 0, 0)
        self._said = 0.0
        if pictures:
            self.step(0)

    def __call__(self, done: int, total: int, text: str) -> None:
        now = time.monotonic()
        pace = self._paces.get(text)
        if pace is None or done < pace.done:  # the next picture's
            pace = self._paces[text] = _RateEstimate(now, done, done)
        pace.done = done
        state = (text, done, total)
        is_due = text != self._last[0] or done == total or now - self._said >= SELDOM
        if state == self._last or not is_due:
            return
        self._last, self._said = state, now
        told: dict[str, Any] = {"stage": text, "done": done, "total": total or None, "unit": UNITS.get(text, "byte")}
        told["seconds_left"] = pace.seconds_left(now, total)
        sys.stderr.write(json.dumps(told) + "\n")
        sys.stderr.flush()

    def step(self, done: int) -> None:
        self(done, self.pictures, PICTURES)


@contextmanager
def progress_reporter(given: argparse.Namespace, pictures: int = 0) -> Iterator[ProgressReporter]:
    """What a command with `progress_arguments` shows while it works, over so many pictures where it counts them."""
    asked = given.progress or (NONE if given.quiet else BAR)
    teller = {BAR: TqdmReporter, JSON: JsonReporter, NONE: ProgressReporter}[asked](pictures, given.quiet)
    try:
        yield teller
    finally:
        teller.close()
