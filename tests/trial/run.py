"""Tries broken files, servers and API requests until the time is up: `python -m tests.trial.run --minutes 30`.

Each batch has a process of its own, with a limit on its memory and on the time of each case. A case is accepted, refused by
a `GpenError`, or a fault: it crashed (another exception, a signal, something written) or hung. Faults are kept with their
bytes and can be tried again: `--only picture/png/SEED/NUMBER`. Ends with 1 if there was any.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from .cases import KINDS, make

ROOT = Path(__file__).resolve().parents[2]
HUNG = 20.0  # seconds
NAMED = 50  # faults in the summary
LOADING = 180.0  # seconds that a process may take before its first case


@dataclass
class Tally:
    """What became of the cases of one kind."""

    refused: int = 0
    accepted: int = 0
    crashed: int = 0
    hung: int = 0
    memory: int = 0
    """Most bytes that a process took beyond what it had when it began."""

    @property
    def tried(self) -> int:
        return self.refused + self.accepted + self.crashed + self.hung


@dataclass
class Trial:
    """All that was tried. Used by several threads."""

    seed: int
    keep: Path
    tallies: dict[str, Tally] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, number: int, outcome: str, why: str = "") -> None:
        with self.lock:
            tally = self.tallies.setdefault(kind, Tally())
            setattr(tally, outcome, getattr(tally, outcome) + 1)
        if outcome in ("crashed", "hung"):
            self._keep(f"{kind}/{self.seed}/{number}", outcome, why)

    def _keep(self, name: str, outcome: str, why: str) -> None:
        kind, seed, number = name.rsplit("/", 2)
        self.keep.mkdir(parents=True, exist_ok=True)
        path = self.keep / name.replace("/", "-")
        path.with_suffix(".bin").write_bytes(make(kind, int(seed), int(number)))
        path.with_suffix(".txt").write_text(f"{name} {outcome}\n{why}\n", encoding="utf-8")
        last = (why.strip().splitlines() or [""])[-1]
        with self.lock:
            self.faults.append(f"`--only {name}` {outcome}: {last[:200]}")
        print(f"{name} {outcome}: {last[:300]}", file=sys.stderr)

    def took(self, kind: str, memory: int) -> None:
        with self.lock:
            tally = self.tallies.setdefault(kind, Tally())
            tally.memory = max(tally.memory, memory)

    def batch(self, kind: str, first: int, end: int) -> None:
        """Cases `first` to `end` (not included); a process that dies is followed by another, behind the case it died of."""
        while first < end:
            first = self._process(kind, first, end)

    def _process(self, kind: str, first: int, end: int) -> int:
        """Runs one worker; the number of the case with which the next one is to begin."""
        command = [sys.executable, "-m", f"{__package__}.worker", kind, *map(str, (self.seed, first, end))]
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            worker = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=said, text=True)
            at, outcome, began = first, "", False
            try:
                for told in _told(worker):
                    if "number" in told:
                        at, outcome, began = told["number"], "crashed", True
                    elif "outcome" in told:
                        self.count(kind, at, told["outcome"], told.get("why", ""))
                        at, outcome = at + 1, ""
                    elif "memory" in told:
                        self.took(kind, told["memory"])
            except queue.Empty:
                outcome = "hung"
                worker.kill()
            status = worker.wait()
            if at < end or outcome:
                said.seek(0)
                self.count(kind, at, outcome or "crashed", f"{said.read()[-6000:]}\nThe process ended with {status}.")
                at += 1
            return at if began else end  # what cannot begin would not begin again, either

    def table(self) -> str:
        rows = ["| kind | tried | refused | accepted | crashed | hung | peak memory |", "|---|--:|--:|--:|--:|--:|--:|"]
        for kind, t in sorted(self.tallies.items()):
            numbers = " | ".join(f"{n:,}" for n in (t.tried, t.refused, t.accepted, t.crashed, t.hung))
            rows.append(f"| {kind} | {numbers} | {t.memory / 1e6:,.0f} MB |")
        more = [f"- and {len(self.faults) - NAMED} more"] if len(self.faults) > NAMED else []
        return "\n".join([*rows, "", *(f"- {fault}" for fault in self.faults[:NAMED]), *more])


def _told(worker: subprocess.Popen[str]) -> Iterator[dict]:
    """What a worker tells, line by line; `queue.Empty` if it is silent for too long."""
    lines: queue.Queue[str] = queue.Queue()

    def listen(pipe: IO[str]) -> None:
        for line in pipe:
            lines.put(line)
        lines.put("")

    threading.Thread(target=listen, args=(worker.stdout,), daemon=True).start()
    patience = LOADING
    while line := lines.get(timeout=patience):
        told = json.loads(line)
        patience = HUNG if "number" in told else LOADING
        yield told


def batches(kinds: list[str], count: int | None) -> Iterator[tuple[str, int, int]]:
    """Kind, first and end, the kinds in turn; without end where no count is given."""
    for turn in itertools.count():
        spans = [(kind, turn * KINDS[kind].batch) for kind in kinds]
        left = [(kind, first, first + KINDS[kind].batch) for kind, first in spans if count is None or first < count]
        if not left:
            return
        yield from ((kind, first, end if count is None else min(end, count)) for kind, first, end in left)


def try_all(trial: Trial, work: Iterator[tuple[str, int, int]], until: float, jobs: int) -> None:
    def go_on() -> None:
        while time.monotonic() < until:
            with trial.lock:
                batch = next(work, None)
            if batch is None:
                return
            trial.batch(*batch)

    threads = [threading.Thread(target=go_on) for _ in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser("python -m tests.trial.run", description=__doc__.split("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="how long new batches are begun (default 30)")
    parser.add_argument("--count", type=int, help="so many cases of each kind instead")
    parser.add_argument("--seed", type=int, default=int(time.strftime("%Y%m%d")), help="default: today's date, as 20260131")
    parser.add_argument("--kind", action="append", choices=list(KINDS), help="only this kind; may be given several times")
    parser.add_argument("--only", metavar="KIND/SEED/NUMBER", help="one case, as a fault was reported")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once (default: one a core)")
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "trial", help="folder for the bytes of faults")
    given = parser.parse_args(arguments)
    trial = Trial(given.seed, given.keep)
    if given.only:
        kind, seed, number = given.only.rsplit("/", 2)
        trial.seed = int(seed)
        trial.batch(kind, int(number), int(number) + 1)
    else:
        until = time.monotonic() + (60 * given.minutes if given.count is None else float("inf"))
        try_all(trial, batches(given.kind or list(KINDS), given.count), until, given.jobs)
    print(f"Seed {trial.seed}.\n\n{trial.table()}")
    return 1 if trial.faults else 0


if __name__ == "__main__":
    sys.exit(main())
