"""Processes that are killed at moments by lot, and what lies there then: `python -m tests.trial.kills --count 50`.

Each operation is done by a real process in a folder of its own, and killed with SIGKILL; what has a final name must then be
the old file or the whole new one. A second process, left alone, must end well and leave nothing half-written. Ends with 1
if anything was not so.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .damage import dice
from .kill_operations import OPERATIONS, ROOT

ENDS = 600.0  # seconds after which a process hangs


@dataclass
class Row:
    """What became of one operation's processes."""

    killed: int = 0
    outputs: Counter = field(default_factory=Counter)
    """old (or not there yet), new, torn."""
    wrong_records: int = 0
    parts: int = 0
    """Unfinished files right after the kills."""
    left: int = 0
    """Those that are still there after the second runs."""
    ended_well: int = 0
    tried: int = 0

    @property
    def is_well(self):
        return not (self.outputs["torn"] or self.wrong_records or self.left) and self.ended_well == self.tried


HEAD = "| operation | killed | old | new | torn | records wrong | parts left by kills | after the second run | ended well |"


def line(name, row):
    told = (row.killed, *(row.outputs[kind] for kind in ("old", "new", "torn")), row.wrong_records, row.parts, row.left)
    return f"| {name} | {' | '.join(map(str, told))} | {row.ended_well} of {row.tried} |"


def table(rows):
    return "\n".join([HEAD, "|---|" + "--:|" * 8, *(line(name, row) for name, row in rows.items())])


def spawn(command):
    nowhere = {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1"}  # nothing leaves the machine
    environ = {**os.environ, **nowhere, "GPEN_OFFLINE": "", "OMP_NUM_THREADS": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-m", "gpen_core", *command], cwd=ROOT, env=environ, **quiet)


def run_to_end(command):
    """How long it takes in seconds, and its status."""
    start, process = time.monotonic(), spawn(command)
    _, said = process.communicate(timeout=ENDS)
    if process.returncode:
        print(said.decode(errors="replace")[-2000:], file=sys.stderr)
    return time.monotonic() - start, process.returncode


def kill_one(operation, begun, moment, row):
    """Kills `moment` seconds after the work itself has begun, which most of a process's time comes before."""
    process = spawn(operation.command())
    until = time.monotonic() + ENDS
    while not begun() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.003)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.kill()
        row.killed += 1
    process.communicate()


def try_once(operation, moment, row):
    operation.begin()
    kill_one(operation, operation.has_begun, moment, row)
    row.tried += 1
    row.outputs.update(operation.outputs())
    row.wrong_records += operation.wrong_records()
    row.parts += len(operation.parts())
    status = run_to_end(operation.command())[1]
    row.left += len(operation.parts())
    after = Counter(operation.outputs())
    row.outputs["torn"] += after["torn"]
    row.wrong_records += operation.wrong_records()
    row.ended_well += status == 0 and set(after) == {"new"}


def try_all(names, count, seed):
    rows = {}
    for name in names:
        rows[name] = Row()
        with tempfile.TemporaryDirectory() as folder, OPERATIONS[name](Path(folder)) as operation:
            lot = dice(f"kill/{name}", seed, 0)
            for _ in range(count):
                try_once(operation, lot.random() ** 2 * operation.lasts, rows[name])
                print(line(name, rows[name]), file=sys.stderr, flush=True)
    return rows


def main(arguments=None):
    parser = argparse.ArgumentParser("python -m tests.trial.kills", description=__doc__.split("\n\n")[0])
    parser.add_argument("--count", type=int, default=50, help="kills of each operation (default 50)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operation", action="append", choices=list(OPERATIONS), help="only this one; may be given again")
    given = parser.parse_args(arguments)
    rows = try_all(given.operation or list(OPERATIONS), given.count, given.seed)
    print(table(rows))
    return 0 if all(row.is_well for row in rows.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
