"""Jobs with progress that can be stopped, and a queue of them for asynchronous clients."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from gpen_core import GpenError, Interrupted, Progress, ProgressEvent

from . import host
from .budget import CapacityExceeded, Reservation

MAX_WAITING = 8
MAX_FINISHED = 256
MAX_RESULT_BYTES = 256 << 20  # of finished jobs; the newest result is kept whatever its size
RESULT_TTL = 600.0
WAITING, WORKING, DONE, FAILED, STOPPED = "waiting", "working", "done", "failed", "stopped"


@dataclass(frozen=True)
class Failure:
    """Type and message of an exception. The exception itself would keep the request and its images in memory."""

    kind: type[Exception]
    text: str


@dataclass(eq=False)
class Job:
    """One job: `work(progress)` returns the reply. It ends early if `progress` raises `Interrupted`."""

    work: Callable[[Progress], bytes] | None
    """None after the job, because it holds the request."""
    reservation: Reservation | None = None
    """The bytes of the request; released at the end."""
    id: str = field(default_factory=lambda: secrets.token_urlsafe(12))
    status: str = WAITING
    event: ProgressEvent | None = None
    """The last progress event; None before the job starts."""
    result: bytes | None = None
    failure: Failure | None = None
    is_evicted: bool = False
    """Whether the result was removed to make room for newer ones."""
    expires_at: float | None = None
    _stop: threading.Event = field(default_factory=threading.Event)

    def stop(self) -> None:
        """Stop the job at its next progress event, or before it starts."""
        self._stop.set()

    def run(self) -> None:
        """Run the job. Errors are stored in `failure`; unexpected ones are logged, too."""
        self.status = WORKING
        status = FAILED
        try:
            self._raise_if_stopped()
            assert self.work is not None
            self.result = self.work(self.progress)
            status = DONE
        except Exception as error:
            if not isinstance(error, GpenError):
                host.log.exception("GPEN: internal error in an API job.")
            self.failure = Failure(type(error), str(error))
            status = STOPPED if isinstance(error, Interrupted) else FAILED
        finally:
            self.release()
            self.status = status

    def release(self) -> None:
        """Free the memory of the request."""
        self.work = None
        if self.reservation is not None:
            self.reservation.release()

    def progress(self, event: ProgressEvent) -> None:
        """Store the event. Raises `Interrupted` after the job is stopped."""
        self._raise_if_stopped()
        self.event = event

    def _raise_if_stopped(self) -> None:
        if self._stop.is_set():
            raise Interrupted("Cancelled by the client.")


def _call_later(seconds: float, callback: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, callback)
    timer.daemon = True
    timer.start()


class JobQueue:
    """Runs jobs one after the other in a thread, which ends when the queue is empty. `call_later` starts a timer."""

    def __init__(
        self,
        call_later: Callable[[float, Callable[[], object]], None] = _call_later,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._call_later, self._clock = call_later, clock
        self._lock = threading.Lock()
        self._jobs: dict[str, Job] = {}
        self._is_running = self._has_timer = False

    def add(self, job: Job) -> None:
        """Raises `CapacityExceeded`."""
        with self._lock:
            waiting = self._waiting()
            if len(waiting) >= MAX_WAITING:
                raise CapacityExceeded("The job queue is full. Retry later.")
            self._jobs[job.id] = job
            if not self._is_running:
                self._is_running = True
                threading.Thread(target=self._run, name="gpen-jobs", daemon=True).start()

    def find(self, name: str) -> Job | None:
        return self._jobs.get(name)

    def unfinished(self) -> list[Job]:
        with self._lock:
            return [one for one in self._jobs.values() if one.status in (WAITING, WORKING)]

    def position(self, job: Job) -> int:
        """Return the number of jobs before this one."""
        unfinished = self.unfinished()
        return unfinished.index(job) if job in unfinished else 0

    def cancel(self, name: str) -> bool:
        """Stop and remove a job. Return False if there is no such job."""
        with self._lock:
            job = self._jobs.pop(name, None)
            if job is not None and job.status == WAITING:
                job.status = STOPPED  # it will never start
                job.release()
        if job is not None:
            job.stop()
        return job is not None

    def _waiting(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.status == WAITING]

    def _next(self) -> Job | None:
        with self._lock:
            job = next(iter(self._waiting()), None)
            if job is None:
                self._is_running = False
            else:
                job.status = WORKING  # it no longer counts as waiting
            return job

    def _run(self) -> None:
        while (job := self._next()) is not None:
            job.run()
            self._retain(job)

    def _retain(self, job: Job) -> None:
        """Keep the result for `RESULT_TTL` seconds, with one timer for all jobs."""
        with self._lock:
            job.expires_at = self._clock() + RESULT_TTL
            self._evict()
            is_first, self._has_timer = not self._has_timer, True
        if is_first:
            self._call_later(RESULT_TTL, self._expire)

    def _finished(self) -> list[Job]:
        return [job for job in self._jobs.values() if job.expires_at is not None]  # in the order of their end

    def _evict(self) -> None:
        finished = self._finished()
        for job in finished[:-MAX_FINISHED]:
            del self._jobs[job.id]
        held = sum(len(job.result or b"") for job in finished)
        for job in finished[:-1]:
            if held > MAX_RESULT_BYTES and job.result is not None:
                held -= len(job.result)
                job.result, job.is_evicted = None, True

    def _expire(self) -> None:
        with self._lock:
            now = self._clock()
            for job in self._finished():
                if job.expires_at is not None and job.expires_at <= now:
                    del self._jobs[job.id]
            expiries = [job.expires_at for job in self._finished() if job.expires_at is not None]
            self._has_timer = bool(expiries)
        if expiries:
            self._call_later(min(expiries) - now, self._expire)
