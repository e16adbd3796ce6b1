"""Progress display of the commands: a bar with the remaining time, JSON for other programs, or none."""

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
MIN_INTERVAL = 0.2  # seconds between two JSON lines about the same stage


def add_progress_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every command has."""
    parser.add_argument("-q", "--quiet", action="store_true", help="print errors only")
    parser.add_argument(
        "--progress",
        choices=STYLES,
        help="progress on stderr: bar (default; on terminals only), json (one object per line) or none",
    )


class ProgressReporter:
    """A progress callback that only prints notes and errors, and the base class of the other reporters."""

    def __init__(self, total_images: int = 0, quiet: bool = False) -> None:
        """`total_images` is the number of images in the run, or 0 if they are not counted."""
        self.total_images = total_images
        self.quiet = quiet

    def __call__(self, event: ProgressEvent) -> None:
        """See `progress.Progress`."""

    def step(self, done: int) -> None:
        """Report the number of finished images."""

    def close(self) -> None:
        """Remove the bars from the screen."""

    def note(self, text: str) -> None:
        """Print a line on stderr, unless `--quiet` is set."""
        if not self.quiet:
            self.write(f"gpen: {text}", sys.stderr)

    def summarize(self, line: str) -> None:
        """Print a line about the results on stdout, unless `--quiet` is set."""
        if not self.quiet:
            self.write(line, sys.stdout)
            sys.stdout.flush()

    def error(self, text: str) -> None:
        self.write(f"gpen: {text}", sys.stderr)

    def write(self, line: str, to: TextIO) -> None:
        """Print a line without breaking the bar."""
        to.write(printable(f"{line}\n"))

    def _batch(self, done: int) -> ProgressEvent:
        return ProgressEvent("batch", done, self.total_images, "image", "Images")


class TqdmReporter(ProgressReporter):
    """Shows one bar with the remaining time on terminals. With several images, the bar counts images. The time that remains
    of a video covers all stages, once it is known."""

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
        if event.time_left is not None:  # instead of the time left of this stage
            self._bar.bar_format = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}, {rate_fmt}{postfix}]"
            self._bar.set_postfix_str(event.time_left, refresh=False)
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
        if event != self._current:  # the same event is sent many times per face
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
    """Return the completed part of the known total."""
    if event.unit == "byte":
        return f"{event.done / 1e6:.0f}/{(event.total or 0) / 1e6:.0f} MB"
    return f"{event.done}/{event.total}"


@dataclass
class _RateEstimate:
    """Start time of a stage, with its counts then and now."""

    start_time: float
    start_count: int
    done: int

    def seconds_left(self, now: float, total: int | None) -> float | None:
        """Return the remaining time at the mean rate so far, or None if it is unknown."""
        if self.done <= self.start_count or not total:
            return None
        return round((now - self.start_time) / (self.done - self.start_count) * (total - self.done), 1)


class JsonReporter(ProgressReporter):
    """Writes one JSON object per line: the fields of `ProgressEvent`, and `seconds_left` of the stage. Both times are null
    if unknown."""

    def __init__(self, total_images: int = 0, quiet: bool = False) -> None:
        super().__init__(total_images, quiet)
        self._rates: dict[tuple[str, str], _RateEstimate] = {}
        self._last_event: ProgressEvent | None = None
        self._last_time = 0.0
        if total_images:
            self.step(0)

    def __call__(self, event: ProgressEvent) -> None:
        if event is self._last_event:  # the same event, sent again within a face
            return
        now = time.monotonic()
        key = event.stage, event.text
        rate = self._rates.get(key)
        if rate is None or event.done < rate.done:  # the next image has started
            rate = self._rates[key] = _RateEstimate(now, event.done, event.done)
        rate.done = event.done
        if not self._is_due(event, now) or event == self._last_event:
            return
        self._last_event, self._last_time = event, now
        line: dict[str, Any] = {"stage": event.stage, "done": event.done, "total": event.total, "unit": event.unit}
        total_left = None if event.total_seconds_left is None else round(event.total_seconds_left)
        line |= {"text": event.text, "seconds_left": rate.seconds_left(now, event.total)}
        line["total_seconds_left"] = total_left
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
    """Yield the reporter that the arguments of `add_progress_arguments` select."""
    style = args.progress or (NONE if args.quiet else BAR)
    reporter = {BAR: TqdmReporter, JSON: JsonReporter, NONE: ProgressReporter}[style](total_images, args.quiet)
    try:
        yield reporter
    finally:
        reporter.close()
