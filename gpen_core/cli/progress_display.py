"""How a command shows its progress: a bar with the time left, JSON for other programs, or not at all."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from ..progress import ProgressEvent
from .terminal import printable

BAR, JSON, NONE = STYLES = ("bar", "json", "none")
MIN_INTERVAL = 0.2  # seconds between two lines of JSON about the same stage


def add_progress_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that every command has."""
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="no progress, summary, notes and warnings; errors are still said"
    )
    parser.add_argument(
        "--progress",
        choices=STYLES,
        help="on stderr: bar (the default; on terminals only), json (an object a line, which begins with {), none",
    )


class ProgressReporter:
    """A progress callable that shows nothing, and prints notes and errors. Base of those that show something."""

    def __init__(self, total_images: int = 0, quiet: bool = False) -> None:
        """`total_images` is how many the run has; 0 where it does not count them."""
        self.total_images = total_images
        self.quiet = quiet

    def __call__(self, event: ProgressEvent) -> None:
        """See `progress.Progress`."""

    def step(self, done: int) -> None:
        """`done` images of the run are finished."""

    def close(self) -> None:
        """Removes what is on the screen."""

    def note(self, text: str) -> None:
        """A line on stderr, but not with `--quiet`."""
        if not self.quiet:
            self.write(f"gpen: {text}", sys.stderr)

    def summarize(self, line: str) -> None:
        """A line on stdout of what was done, but not with `--quiet`."""
        if not self.quiet:
            self.write(line, sys.stdout)
            sys.stdout.flush()

    def error(self, text: str) -> None:
        self.write(f"gpen: {text}", sys.stderr)

    def write(self, line: str, to: TextIO) -> None:
        """Prints a line that stays, without breaking a bar."""
        to.write(printable(f"{line}\n"))

    def _batch(self, done: int) -> ProgressEvent:
        return ProgressEvent("batch", done, self.total_images, "image", "Images")


class TqdmReporter(ProgressReporter):
    """On a terminal one bar at a time with the time left, over images where there are several; elsewhere nothing."""

    def __init__(self, total_images: int = 0, quiet: bool = False) -> None:
        super().__init__(total_images, quiet)
        self._bar: Any = None
        self._current: object = None
        self._total_bar: Any = self._new_bar(self._batch(0), "") if total_images > 1 else None

    def __call__(self, event: ProgressEvent) -> None:
        if self._total_bar is not None:
            self._set_postfix(event)
            return
        if (event.text, event.total) != self._current:
            self._close_bar()
            self._current = (event.text, event.total)
            self._bar = self._new_bar(event, event.text)
        self._bar.update(event.done - self._bar.n)

    def step(self, done: int) -> None:
        if self._total_bar is not None:
            self._total_bar.update(done - self._total_bar.n)

    def close(self) -> None:
        self._close_bar()
        if self._total_bar is not None:
            self._total_bar.close()

    def write(self, line: str, to: TextIO) -> None:
        from tqdm import tqdm

        tqdm.write(printable(line), file=to)

    def _set_postfix(self, event: ProgressEvent) -> None:
        if event != self._current:  # a face sends the same event many times
            self._current = event
            self._total_bar.set_postfix_str(printable(f"{event.text} {_amount(event)}" if event.total else event.text))

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    @staticmethod
    def _new_bar(event: ProgressEvent, desc: str) -> Any:
        from tqdm import tqdm

        bar_options: dict[str, Any] = {"unit": f" {event.unit}"}
        if event.unit == "byte":
            bar_options = {"unit": "B", "unit_scale": True, "unit_divisor": 1024}
        if not event.total:
            bar_options["bar_format"] = "{desc} {n_fmt}{unit} [{elapsed}]" if event.done else "{desc} [{elapsed}]"
        bar_options |= {"desc": printable(desc), "total": event.total or None, "initial": event.done}
        return tqdm(file=sys.stderr, disable=None, leave=False, **bar_options)


def _amount(event: ProgressEvent) -> str:
    """How far of how much, where the total is known."""
    if event.unit == "byte":
        return f"{event.done / 1e6:.0f}/{(event.total or 0) / 1e6:.0f} MB"
    return f"{event.done}/{event.total}"


@dataclass
class _RateEstimate:
    """When a stage began, and how far it was then and is now."""

    start_time: float
    start_count: int
    done: int

    def seconds_left(self, now: float, total: int | None) -> float | None:
        """At the mean rate so far; None where it is unknown."""
        if self.done <= self.start_count or not total:
            return None
        return round((now - self.start_time) / (self.done - self.start_count) * (total - self.done), 1)


class JsonReporter(ProgressReporter):
    """JSON, one object per line: the fields of `ProgressEvent`, and `seconds_left`, null where it is unknown."""

    def __init__(self, total_images: int = 0, quiet: bool = False) -> None:
        super().__init__(total_images, quiet)
        self._rates: dict[tuple[str, str], _RateEstimate] = {}
        self._last_event: ProgressEvent | None = None
        self._last_time = 0.0
        if total_images:
            self.step(0)

    def __call__(self, event: ProgressEvent) -> None:
        if event is self._last_event:  # sent again between the steps of one face
            return
        now = time.monotonic()
        key = event.stage, event.text
        rate = self._rates.get(key)
        if rate is None or event.done < rate.done:  # the next image's
            rate = self._rates[key] = _RateEstimate(now, event.done, event.done)
        rate.done = event.done
        if not self._is_due(event, now) or event == self._last_event:
            return
        self._last_event, self._last_time = event, now
        line: dict[str, Any] = {"stage": event.stage, "done": event.done, "total": event.total, "unit": event.unit}
        line |= {"text": event.text, "seconds_left": rate.seconds_left(now, event.total)}
        sys.stderr.write(json.dumps(line) + "\n")
        sys.stderr.flush()

    def _is_due(self, event: ProgressEvent, now: float) -> bool:
        last = self._last_event
        is_new = last is None or (event.stage, event.text) != (last.stage, last.text)
        return is_new or event.done == event.total or now - self._last_time >= MIN_INTERVAL

    def step(self, done: int) -> None:
        self(self._batch(done))


@contextmanager
def progress_reporter(args: argparse.Namespace, total_images: int = 0) -> Iterator[ProgressReporter]:
    """What a command with `add_progress_arguments` shows while it works, over `total_images` images where it counts them."""
    style = args.progress or (NONE if args.quiet else BAR)
    reporter = {BAR: TqdmReporter, JSON: JsonReporter, NONE: ProgressReporter}[style](total_images, args.quiet)
    try:
        yield reporter
    finally:
        reporter.close()
