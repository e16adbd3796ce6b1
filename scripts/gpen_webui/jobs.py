"""Work that can be stopped and says how far it is; and a line of it, for clients that do not wait."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Generic, TypeVar

from gpen_core import GpenError, Interrupted, Progress

from . import host

Result = TypeVar("Result")

MOST_WAITING = 8
MOST_BYTES = 256 << 20  # of the pictures in them
KEPT_SECONDS = 600.0
WAITING, WORKING, DONE, FAILED, STOPPED = "waiting", "working", "done", "failed", "stopped"


class Full(Exception):
    """No more work is taken on until some is done."""


@dataclass(eq=False)
class Job(Generic[Result]):
    """One piece of work, `work(progress)`; it ends early where its progress raises `Interrupted`."""

    work: Callable[[Progress], Result]
    size: int = 0
    """Bytes that it holds while it waits."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    status: str = WAITING
    done: int = 0
    total: int = 0
    text: str = ""
    result: Result | None = None
    error: Exception | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """As soon as the work asks for its progress; at once where it has not begun."""
        self._stop.set()

    def run(self) -> None:
        """What goes wrong is kept in `error`, to be answered with; what nobody foresaw is logged, too."""
        self.status = WORKING
        try:
            self._go_on_only_if_wanted()
            self.result = self.work(self.progress)
            self.status = DONE
        except Interrupted as error:
            self.error, self.status = error, STOPPED
        except GpenError as error:
            self.error, self.status = error, FAILED
        except Exception as error:
            host.log.exception("GPEN: the API's work failed.")
            self.error, self.status = error, FAILED

    def progress(self, done: int, total: int, text: str) -> None:
        """As gpen_core tells it."""
        self._go_on_only_if_wanted()
        self.done, self.total, self.text = done, total, text

    def _go_on_only_if_wanted(self) -> None:
        if self._stop.is_set():
            raise Interrupted("Stopped: whoever asked for it does not want it any more.")


def _later(seconds: float, then: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, then)
    timer.daemon = True
    timer.start()


class Line(Generic[Result]):
    """Jobs one after the other in a thread of their own, which ends when there are none. `later` calls back in time."""

    def __init__(self, later: Callable[[float, Callable[[], object]], None] = _later) -> None:
        self._later = later
        self._lock = threading.Lock()
        self._jobs: dict[str, Job[Result]] = {}
        self._busy = False

    def add(self, job: Job[Result]) -> None:
        """Raises `Full`."""
        with self._lock:
            waiting = self._waiting()
            held = sum(one.size for one in waiting) + job.size
            if len(waiting) >= MOST_WAITING or (waiting and held > MOST_BYTES):
                raise Full(f"{len(waiting)} pictures are waiting already. Ask again when some are done.")
            self._jobs[job.id] = job
            if not self._busy:
                self._busy = True
                threading.Thread(target=self._run, name="gpen-jobs", daemon=True).start()

    def find(self, name: str) -> Job[Result] | None:
        return self._jobs.get(name)

    def ahead(self, job: Job[Result]) -> int:
        """How many jobs come before this one."""
        with self._lock:
            unfinished = [one for one in self._jobs.values() if one.status in (WAITING, WORKING)]
        return unfinished.index(job) if job in unfinished else 0

    def drop(self, name: str) -> bool:
        """Stops it and forgets it. False where there is no such job."""
        with self._lock:
            job = self._jobs.pop(name, None)
        if job is not None:
            job.stop()
        return job is not None

    def _waiting(self) -> list[Job[Result]]:
        return [job for job in self._jobs.values() if job.status == WAITING]

    def _next(self) -> Job[Result] | None:
        with self._lock:
            job = next(iter(self._waiting()), None)
            if job is None:
                self._busy = False
            else:
                job.status = WORKING  # so that it does not count as waiting any more
            return job

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            self._later(KEPT_SECONDS, partial(self.drop, job.id))
