"""Many pictures on many processes and machines, by Ray Data. The only file that imports Ray.

Rows are names: a picture is read, restored and written within a worker, by `local.stream`, and only what became of it comes
back, as JSON. The plan is handed over in windows of bounded length: Ray Data holds all that it was given, and something of
each task, in this process until a dataset ends, so that memory would grow with the number of rows."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from .. import errors
from ..errors import GpenError, InputError, MissingExtra, OptionsError, first_line
from ..options import RestoreOptions
from ..report import Machine, Outcome
from ..restorer import FaceRestorer
from . import local
from .job import Job, is_done
from .places import place_of

WINDOW = 50_000  # rows
AT_ONCE = 8  # pictures of a task on a GPU, where reading and writing are to overlap with the network
TASKS_WAITING = 2  # at each worker, one of them at work
CPUS_PER_WORKER = 4  # where nobody says how many workers
KNOCKS = 10.0  # seconds
OBJECT_STORE = 200 << 20  # bytes, of a Ray that is ours: it holds names only


@dataclass(frozen=True)
class Cluster:
    """Which Ray, and how many workers it is to have."""

    address: str | None = None
    """`auto` or host:port of one that runs; None for one of our own on this machine, for as long as the run."""
    workers: int | None = None
    """None: one for each GPU, or one for every four processors."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise OptionsError(f"Expected at least one worker, got {self.workers}.")
        if ":" in self.device:
            kind = self.device.partition(":")[0]
            raise OptionsError(f"Ray says which worker has which device: give {kind} instead of {self.device}.")


@dataclass(frozen=True)
class Work:
    """What a worker has to know, the same for every picture."""

    load: Callable[[], FaceRestorer]
    """It travels as the name of a function that the workers' machines have, too, with its arguments."""
    options: RestoreOptions
    max_memory: int | None = None
    skip_existing: bool = False
    folder: str = field(default_factory=os.getcwd)
    """What relative names are relative to."""


@dataclass
class Told(Outcome):
    """What a worker says became of a picture."""

    told: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return self.told


def check() -> Any:
    """Ray, as a module. Raises `MissingExtra`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("--ray needs Ray: pip install 'sd-gpen[ray]'") from error
    return ray


def run(
    jobs: Iterable[Job],
    work: Work,
    cluster: Cluster,
    finished: Callable[[Outcome], None],
    begun: Callable[[Machine], None] = lambda machine: None,
) -> None:
    """Restores the pictures, any number of them. `finished` hears of each in this thread once its file is complete, as they
    end and not in order; `begun`, once and before that, of what the workers compute on.

    A picture that fails does not stop the others. Those that were with a worker that died are tried again, by whichever
    worker, a second time alone; then they have failed. Raises `MissingExtra` without Ray, `GpenError` where there is no
    cluster, and what ends a local run (`WeightsError`, `DeviceError`) where a worker meets it."""
    with contextlib.redirect_stdout(sys.stderr), _ray(cluster) as ray:  # Ray prints what befalls a worker
        size = _size(ray, cluster)
        heard = _Heard(finished, begun)
        rows = iter(jobs)
        while window := dict(enumerate(islice(rows, WINDOW))):
            _pass(ray, work, size, window, heard, size.at_once)
            if window:  # lost: what they were with ended their worker, or they did
                _pass(ray, work, size, window, heard, alone=True)
            for job in window.values():
                finished(_lost(job))


@dataclass(frozen=True)
class _Size:
    """Of the pool."""

    workers: int
    threads: int
    """Of a worker's computing."""
    cpus: int
    """That Ray keeps for a worker."""
    gpus: int
    """0 or 1, likewise."""

    @property
    def at_once(self) -> int:
        return AT_ONCE if self.gpus else 1


def _size(ray: Any, cluster: Cluster) -> _Size:
    """Raises `OptionsError` for what would wait for ever."""
    has = ray.cluster_resources()
    cpus, gpus = (int(has.get(kind, 0)) for kind in ("CPU", "GPU"))
    on_gpu = cluster.device.startswith("cuda") or (cluster.device == "auto" and gpus > 0)
    workers = cluster.workers or (max(1, gpus) if on_gpu else max(1, cpus // CPUS_PER_WORKER))
    if cluster.address is None and on_gpu and workers > gpus:
        raise OptionsError(f"{workers} workers need as many GPUs; this machine has {gpus}. --workers takes fewer.")
    share = max(1, cpus // workers)
    threads = _threads_told() or share
    return _Size(workers, threads, 1 if on_gpu else min(threads, share), int(on_gpu))


def _threads_told() -> int | None:
    told = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(told) if told.isdigit() and int(told) > 0 else None


@contextlib.contextmanager
def _ray(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected. A Ray of our own is ended with the run, one that was there is left."""
    ray = check()
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE}
    own["num_cpus"] = max(os.cpu_count() or 1, cluster.workers or 1)
    where = own if cluster.address is None else {"address": cluster.address}
    if cluster.address not in (None, "auto"):
        _knock(str(cluster.address))
    try:
        with _same_signals():
            # Another's cluster that $RAY_ADDRESS names is not meant where none is.
            ray.init(**{"address": "local", **where}, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, and none of them Ray's own
        wanted = "be started here" if cluster.address is None else f"be reached at {cluster.address}"
        raise GpenError(f"Ray cannot {wanted}: {first_line(error) or type(error).__name__}") from error
    try:
        _quieten(ray)
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Raises `GpenError` where nobody answers, for which Ray itself takes minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), KNOCKS).close()
    except (OSError, OverflowError) as error:
        raise GpenError(f"Ray cannot be reached at {address}: {first_line(error)}.") from error


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    """Ray ends the process at SIGTERM; the command line finishes its report."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)


def _quieten(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # what is lost is seen by who was not heard of
    logging.getLogger("ray.data._internal.execution").setLevel(logging.CRITICAL)


@dataclass
class _Heard:
    """Hears what comes back, and tells it."""

    finished: Callable[[Outcome], None]
    begun: Callable[[Machine], None]
    has_begun: bool = False

    def row(self, row: dict[str, Any], window: dict[int, Job]) -> None:
        if "ended" in row:
            raise _error(row["ended"])
        if not self.has_begun:
            self.has_begun = True
            sizes, device, dtype = row["machine"]
            self.begun(Machine(tuple(sizes), device, dtype))
        job = window.pop(row["number"], None)
        if job is not None:  # else heard of before its worker died
            self.finished(_told(job, row))


def _told(job: Job, row: dict[str, Any]) -> Told:
    told = row["outcome"]
    size = (told["width"], told["height"]) if "width" in told else None
    notes, seconds = tuple(told.get("notes", ())), told["seconds"]
    error = None if row["error"] is None else _error(row["error"])
    return Told(job, told["status"], error, size, notes=notes, seconds=seconds, told=told)


def _error(said: list[str]) -> GpenError:
    """As `_said`. What is none of our errors in a worker is one here."""
    name, message = said
    kind = vars(errors).get(name)
    if isinstance(kind, type) and issubclass(kind, GpenError):
        return kind(message)
    return GpenError(f"A worker ended the run: {name}: {message}")


def _said(error: BaseException) -> list[str]:
    return [type(error).__name__, str(error)]


def _lost(job: Job) -> Outcome:
    why = "the worker ended each time that it had this picture, as if killed (memory? the log of Ray says more)"
    return Outcome(job, error=GpenError(f"{job.source}: {why}."))


def _pass(
    ray: Any, work: Work, size: _Size, window: dict[int, Job], heard: _Heard, at_once: int = 1, alone: bool = False
) -> None:
    """Rows that are heard of leave `window`."""
    rows = [{"number": number, "job": _as_text(job)} for number, job in window.items()]
    workers = min(size.workers, len(rows))
    at_once = min(at_once, -(-len(rows) // workers))
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1 if alone else TASKS_WAITING)
    with warnings.catch_warnings(), _failing(ray):
        # Ray 2.60 deprecates these names without others for them; 2.64 is to be without.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        results = ray.data.from_items(rows, override_num_blocks=-(-len(rows) // at_once)).map_batches(
            Worker,
            batch_size=None,
            fn_constructor_args=(work, size.threads),
            compute=pool,
            num_cpus=size.cpus,
            num_gpus=size.gpus or None,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(size.threads)}},
            max_restarts=-1,
            max_task_retries=1,
        )
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            for text in batch["row"]:
                heard.row(json.loads(text), window)


@contextlib.contextmanager
def _failing(ray: Any) -> Iterator[None]:
    """What Ray raises, as an error of ours."""
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        said = "; ".join(dict.fromkeys((lines[0], lines[-1])))  # the last is what a traceback ends with
        raise GpenError(f"Ray ended the run: {said}") from error


def _as_text(job: Job) -> str:
    """As JSON; names that are no text stay, too."""
    places = (job.source, job.target, job.original, job.background, job.limit)
    return json.dumps([[None if place is None else str(place) for place in places], job.boxes])


def _of_text(text: str) -> Job:
    (source, target, *others), boxes = json.loads(text)
    original, background, limit = (None if other is None else Path(other) for other in others)
    within = None if boxes is None else tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)
    return Job(place_of(source), place_of(target), original, background, within, limit)


class Worker:
    """One process of Ray's pool, with its own networks."""

    def __init__(self, work: Work, threads: int) -> None:
        self.work = work
        self.ended: list[str] | None = None
        try:
            self._begin(threads)
        except Exception as error:  # told with the first picture: of one raised here, Ray keeps the text only
            self.ended = _said(error)

    def _begin(self, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        folder = self.work.folder
        try:
            os.chdir(folder)
        except OSError as error:
            why = f"{folder}, where the run was started, is not there for its workers ({error.strerror})"
            raise InputError(f"{why}. Start it in a folder that every machine has, such as a shared one.") from error
        self.restorer = self.work.load()
        self.machine = (self.restorer.sizes, str(self.restorer.device), str(self.restorer.dtype))

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """From columns `number` and `job` to a column `row`, one JSON text each."""
        if self.ended is not None:
            return {"row": [json.dumps({"ended": self.ended})]}
        numbers = [int(number) for number in batch["number"]]
        rows: list[dict[str, Any]] = []

        def finished(outcome: Outcome) -> None:
            error = None if outcome.error is None else _said(outcome.error)
            told = {"number": numbers[len(rows)], "outcome": outcome.to_json(), "error": error, "machine": self.machine}
            rows.append(told)

        jobs = [_of_text(str(text)) for text in batch["job"]]
        done = is_done if self.work.skip_existing else None
        try:
            local.stream(self.restorer, jobs, self.work.options, finished, None, self.work.max_memory, done)
        except Exception as error:  # told to the driver, who ends the run with it: Ray would only try again
            rows.append({"ended": _said(error)})
        return {"row": [json.dumps(row) for row in rows]}
