"""One process that tries a batch of cases and says on its output, a line each, what it does; see `run`."""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import sys
import tempfile
import traceback
from pathlib import Path

from .cases import KINDS, make
from .watch import audited

try:
    import resource
except ImportError:  # Windows: nothing to tell of memory
    resource = None

MEMORY = 6 << 30  # bytes of address space beyond what the libraries take
LONG = 15.0  # seconds after which a case says where it is; `run` ends it later


def limit_memory() -> None:
    pages = Path("/proc/self/statm")  # of Linux; the first number is what the address space has now
    if resource is not None and pages.exists():
        limit = int(pages.read_text().split()[0]) * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def peak() -> int:
    """Most bytes that this process has had in memory."""
    if resource is None:
        return 0
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used if sys.platform == "darwin" else used << 10


def attempt(kind: str, data: bytes, folder: Path) -> str:
    before = set(folder.iterdir())
    with audited(folder, KINDS[kind].calls):
        outcome = KINDS[kind].attempt(data)
    left = [path.name for path in folder.iterdir() if path not in before]
    assert not left, f"it left {left}"
    return outcome


def report(kind: str, data: bytes, folder: Path) -> dict[str, str]:
    faulthandler.dump_traceback_later(LONG)
    try:
        return {"outcome": attempt(kind, data, folder)}
    except BaseException:  # also what Rust's panics become; it is told, and the next case goes on
        return {"outcome": "crashed", "why": traceback.format_exc()}
    finally:
        faulthandler.cancel_dump_traceback_later()


def main(kind: str, seed: int, first: int, end: int) -> None:
    told = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever libraries print must not be taken for what is told
    faulthandler.enable()
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        report(kind, make(kind, 0, 0), Path(folder))  # loads what is loaded once
        start = peak()
        limit_memory()
        for number in range(first, end):
            print(json.dumps({"number": number}), file=told)
            print(json.dumps(report(kind, make(kind, seed, number), Path(folder))), file=told)
        print(json.dumps({"memory": peak() - start}), file=told)


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
