"""Rows given to many processes and machines, by Ray Data. The only file that imports Ray.

A row is anything that JSON knows, such as a picture's names: what it stands for is read, worked on and written within a
worker, and only what became of it comes back. Rows are handed over in windows of bounded length: Ray Data holds all that it
was given, and something of each task, in this process until a dataset ends, so that memory would grow with their number."""

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
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from .. import errors
from ..errors import GpenError, InputError, MissingExtra, OptionsError, first_line
from ..optional_packages import calls_of

WINDOW = 50_000  # rows
AT_ONCE = 8  # rows of a task: the engine's own work for each is shared by them, and reading overlaps with the network
ON_GPU_AT_ONCE = 32  # where a picture takes less time, and there are many workers
SHARES = 2  # tasks that a worker is to have of what is left; they grow smaller, so that all workers end together
TASKS_WAITING = 2  # at each worker, one of them at work
CPUS_PER_WORKER = 4  # where nobody says how many workers
KNOCKS = 10.0  # seconds
OBJECT_STORE = 200 << 20  # bytes, of a Ray that is ours: it holds names only

Hand = Callable[[list[Any], Callable[[Any], None]], None]
"""Takes rows and calls back, for each in order, with what became of it. What it raises ends the run."""


class Work(Protocol):
    """What is to be done with rows. It travels to the workers whole: functions as their names, which the workers' machines
    have, too."""

    @property
    def folder(self) -> str:
        """What relative names are relative to."""

    def begin(self, threads: int) -> Hand:
        """Once in each worker, in that folder: loads what it needs, to compute in so many threads."""


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


def check() -> Any:
    """Ray, as a module. Raises `MissingExtra`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtra("--ray needs Ray: pip install 'sd-gpen[ray]'") from error
    return ray


@calls_of("ray")
def run(
    rows: Iterable[Any],
    work: Work,
    cluster: Cluster,
    heard: Callable[[Any, Any], None],
    at_once: int | None = None,
) -> None:
    """Has the rows, any number of them, worked on. `heard(row, what became of it)` is called in this thread as they end, not
    in order, and of a task's rows (at most `at_once`; else 8, and on GPUs 32) when the last of them ends.

    The rows that were with a worker that died are tried again, by whichever worker, then twice more alone; of those that are
    lost each time, `heard(row, None)` is called. Raises `MissingExtra` without Ray, `GpenError` where there is no cluster,
    and what a worker's hand raised (`WeightsError`, `DeviceError`, ...)."""
    with contextlib.redirect_stdout(sys.stderr), _ray(cluster) as ray:  # Ray prints what befalls a worker
        size = _size(ray, cluster)
        left = iter(rows)
        while window := dict(enumerate(islice(left, WINDOW))):
            _pass(ray, work, size, window, heard, at_once or size.at_once)
            if window:  # lost: what they were with ended their worker, or they did
                _pass(ray, work, size, window, heard, alone=True)
            for row in window.values():
                heard(row, None)


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
        return ON_GPU_AT_ONCE if self.gpus else AT_ONCE


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


def error_of(said: list[str]) -> GpenError:
    """The error that `said` told of. What is none of our errors in a worker is one here."""
    name, message = said
    kind = vars(errors).get(name)
    if isinstance(kind, type) and issubclass(kind, GpenError):
        return kind(message)
    return GpenError(f"A worker ended the run: {name}: {message}")


def said(error: BaseException) -> list[str]:
    """Its kind and its text, as they travel."""
    return [type(error).__name__, str(error)]


def _pass(
    ray: Any,
    work: Work,
    size: _Size,
    window: dict[int, Any],
    heard: Callable[[Any, Any], None],
    at_once: int = 1,
    alone: bool = False,
) -> None:
    """Rows that are heard of leave `window`."""
    workers = min(size.workers, len(window))
    tasks = [{"task": json.dumps(task)} for task in _tasks(window, workers, at_once)]
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1 if alone else TASKS_WAITING)
    with warnings.catch_warnings(), _failing(ray):
        # Ray 2.60 deprecates these names without others for them; 2.64 is to be without.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        results = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
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
            for text in batch["told"]:
                _hear(json.loads(text), window, heard)


def _tasks(window: dict[int, Any], workers: int, at_once: int) -> Iterator[list[tuple[int, Any]]]:
    """The rows with their numbers, cut into tasks: of `at_once` rows, and of fewer towards the end."""
    rows, left = iter(window.items()), len(window)
    while left:
        some = list(islice(rows, max(1, min(at_once, left // (SHARES * workers)))))
        left -= len(some)
        yield some


def _hear(told: dict[str, Any], window: dict[int, Any], heard: Callable[[Any, Any], None]) -> None:
    for number, what in told["told"]:
        if number in window:  # else heard of before its worker died
            heard(window.pop(number), what)
    if told["ended"] is not None:
        raise error_of(told["ended"])


@contextlib.contextmanager
def _failing(ray: Any) -> Iterator[None]:
    """What Ray raises, as an error of ours."""
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        said = "; ".join(dict.fromkeys((lines[0], lines[-1])))  # the last is what a traceback ends with
        raise GpenError(f"Ray ended the run: {said}") from error


class Worker:
    """One process of Ray's pool."""

    def __init__(self, work: Work, threads: int) -> None:
        self.ended: list[str] | None = None
        try:
            _enter(work.folder)
            self.hand = work.begin(threads)
        except Exception as error:  # told with the first task: of one raised here, Ray keeps the text only
            self.ended = said(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """From a column `task` to a column `told`, one JSON text each."""
        return {"told": [json.dumps(self._told(json.loads(str(text)))) for text in batch["task"]]}

    def _told(self, task: list[tuple[int, Any]]) -> dict[str, Any]:
        told: list[tuple[int, Any]] = []
        if self.ended is None:
            try:
                self.hand([row for _, row in task], lambda what: told.append((task[len(told)][0], what)))
            except Exception as error:  # told to the driver, who ends the run with it: Ray would only try again
                self.ended = said(error)
        return {"told": told, "ended": self.ended}


def _enter(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        why = f"{folder}, where the run was started, is not there for its workers ({error.strerror})"
        raise InputError(f"{why}. Start it in a folder that every machine has, such as a shared one.") from error
