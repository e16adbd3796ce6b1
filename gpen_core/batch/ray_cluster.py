"""Rows given to many processes and machines, by Ray Data. The only file that imports Ray.

A row is anything that JSON knows, such as an image's names: what it stands for is read, worked on and written within a
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
from ..errors import GpenError, InputError, MissingDependency, OptionsError, first_line
from ..optional_packages import version_guard

MAX_IN_FLIGHT = 50_000  # rows
TASK_ROWS = 8  # rows of a task: the engine's own work for each is shared by them, and reading overlaps with the network
GPU_TASK_ROWS = 32  # where an image takes less time, and there are many workers
TASKS_PER_WORKER = 2  # tasks that a worker is to have of what is left; they grow smaller, so that all workers end together
MAX_TASKS_PER_WORKER = 2  # at each worker, one of them at work
CPUS_PER_WORKER = 4  # where nobody says how many workers
CONNECT_TIMEOUT = 10.0  # seconds
OBJECT_STORE_BYTES = 200 << 20  # bytes, of a Ray that is ours: it holds names only

WorkerFn = Callable[[list[Any], Callable[[Any], None]], None]
"""Takes rows and calls back, for each in order, with what became of it. What it raises ends the run."""


class WorkerSpec(Protocol):
    """What is to be done with rows. It travels to the workers whole: functions as their names, which the workers' machines
    have, too."""

    @property
    def working_dir(self) -> str:
        """What relative names are relative to."""

    def setup(self, threads: int) -> WorkerFn:
        """Once in each worker, in that folder: loads what it needs, to compute in so many threads."""


@dataclass(frozen=True)
class ClusterConfig:
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


def import_ray() -> Any:
    """Ray, as a module. Raises `MissingDependency`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody unless asked
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependency("--ray needs Ray: pip install 'sd-gpen[ray]'") from error
    return ray


@version_guard("ray")
def run(
    rows: Iterable[Any],
    spec: WorkerSpec,
    cluster: ClusterConfig,
    on_result: Callable[[Any, Any], None],
    task_rows: int | None = None,
) -> None:
    """Has the rows, any number of them, worked on. `heard(row, what became of it)` is called in this thread as they end, not
    in order, and of a task's rows (at most `task_rows`; else 8, and on GPUs 32) when the last of them ends.

    The rows that were with a worker that died are tried again, by whichever worker, then twice more alone; of those that are
    lost each time, `heard(row, None)` is called. Raises `MissingDependency` without Ray, `GpenError` where there is no
    cluster, and what a worker's hand raised (`WeightsError`, `DeviceError`, ...)."""
    with contextlib.redirect_stdout(sys.stderr), _connect(cluster) as ray:  # Ray prints what befalls a worker
        size = _cluster_size(ray, cluster)
        remaining = iter(rows)
        while window := dict(enumerate(islice(remaining, MAX_IN_FLIGHT))):
            _run_window(ray, spec, size, window, on_result, task_rows or size.task_rows)
            if window:  # lost: what they were with ended their worker, or they did
                _run_window(ray, spec, size, window, on_result, alone=True)
            for row in window.values():
                on_result(row, None)


@dataclass(frozen=True)
class _ClusterSize:
    """Of the pool."""

    workers: int
    threads: int
    """Of a worker's computing."""
    cpus: int
    """That Ray keeps for a worker."""
    gpus: int
    """0 or 1, likewise."""

    @property
    def task_rows(self) -> int:
        return GPU_TASK_ROWS if self.gpus else TASK_ROWS


def _cluster_size(ray: Any, cluster: ClusterConfig) -> _ClusterSize:
    """Raises `OptionsError` for what would wait for ever."""
    resources = ray.cluster_resources()
    cpus, gpus = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU"))
    on_gpu = cluster.device.startswith("cuda") or (cluster.device == "auto" and gpus > 0)
    workers = cluster.workers or (max(1, gpus) if on_gpu else max(1, cpus // CPUS_PER_WORKER))
    if cluster.address is None and on_gpu and workers > gpus:
        raise OptionsError(f"{workers} workers need as many GPUs; this machine has {gpus}. --workers takes fewer.")
    share = max(1, cpus // workers)
    threads = _threads_from_env() or share
    return _ClusterSize(workers, threads, 1 if on_gpu else min(threads, share), int(on_gpu))


def _threads_from_env() -> int | None:
    value = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(value) if value.isdigit() and int(value) > 0 else None


@contextlib.contextmanager
def _connect(cluster: ClusterConfig) -> Iterator[Any]:
    """Ray, connected. A Ray of our own is ended with the run, one that was there is left."""
    ray = import_ray()
    local_options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    local_options["num_cpus"] = max(os.cpu_count() or 1, cluster.workers or 1)
    options = local_options if cluster.address is None else {"address": cluster.address}
    if cluster.address not in (None, "auto"):
        _probe(str(cluster.address))
    try:
        with _preserve_sigterm():
            # Another's cluster that $RAY_ADDRESS names is not meant where none is.
            ray.init(**{"address": "local", **options}, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # of many kinds, and none of them Ray's own
        action = "be started here" if cluster.address is None else f"be reached at {cluster.address}"
        raise GpenError(f"Ray cannot {action}: {first_line(error) or type(error).__name__}") from error
    try:
        _quiet_ray(ray)
        yield ray
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Raises `GpenError` where nobody answers, for which Ray itself takes minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise GpenError(f"Ray cannot be reached at {address}: {first_line(error)}.") from error


@contextlib.contextmanager
def _preserve_sigterm() -> Iterator[None]:
    """Ray ends the process at SIGTERM; the command line finishes its report."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread() and before is not None:
        signal.signal(signal.SIGTERM, before)


def _quiet_ray(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # what is lost is seen by who was not heard of
    logging.getLogger("ray.data._internal.execution").setLevel(logging.CRITICAL)


def decode_error(encoded: list[str]) -> GpenError:
    """The error that `encoded` told of. What is none of our errors in a worker is one here."""
    name, message = encoded
    kind = vars(errors).get(name)
    if isinstance(kind, type) and issubclass(kind, GpenError):
        return kind(message)
    return GpenError(f"A worker ended the run: {name}: {message}")


def encode_error(error: BaseException) -> list[str]:
    """Its kind and its text, as they travel."""
    return [type(error).__name__, str(error)]


def _run_window(
    ray: Any,
    spec: WorkerSpec,
    size: _ClusterSize,
    window: dict[int, Any],
    on_result: Callable[[Any, Any], None],
    task_rows: int = 1,
    alone: bool = False,
) -> None:
    """Rows that are heard of leave `window`."""
    workers = min(size.workers, len(window))
    tasks = [{"task": json.dumps(task)} for task in _split_tasks(window, workers, task_rows)]
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1 if alone else MAX_TASKS_PER_WORKER)
    with warnings.catch_warnings(), _convert_ray_errors(ray):
        # Ray 2.60 deprecates these names without others for them; 2.64 is to be without.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        results = ray.data.from_items(tasks, override_num_blocks=len(tasks)).map_batches(
            Worker,
            batch_size=None,
            fn_constructor_args=(spec, size.threads),
            compute=pool,
            num_cpus=size.cpus,
            num_gpus=size.gpus or None,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": str(size.threads)}},
            max_restarts=-1,
            max_task_retries=1,
        )
        for batch in results.iter_batches(batch_size=None, prefetch_batches=0):
            for text in batch["results"]:
                _collect(json.loads(text), window, on_result)


def _split_tasks(window: dict[int, Any], workers: int, task_rows: int) -> Iterator[list[tuple[int, Any]]]:
    """The rows with their numbers, cut into tasks: of `task_rows` rows, and of fewer toward the end."""
    rows, remaining = iter(window.items()), len(window)
    while remaining:
        task = list(islice(rows, max(1, min(task_rows, remaining // (TASKS_PER_WORKER * workers)))))
        remaining -= len(task)
        yield task


def _collect(reply: dict[str, Any], window: dict[int, Any], on_result: Callable[[Any, Any], None]) -> None:
    for number, result in reply["results"]:
        if number in window:  # else heard of before its worker died
            on_result(window.pop(number), result)
    if reply["error"] is not None:
        raise decode_error(reply["error"])


@contextlib.contextmanager
def _convert_ray_errors(ray: Any) -> Iterator[None]:
    """What Ray raises, as an error of ours."""
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        message = "; ".join(dict.fromkeys((lines[0], lines[-1])))  # the last is what a traceback ends with
        raise GpenError(f"Ray ended the run: {message}") from error


class Worker:
    """One process of Ray's pool."""

    def __init__(self, spec: WorkerSpec, threads: int) -> None:
        self.error: list[str] | None = None
        try:
            _enter_folder(spec.working_dir)
            self.fn = spec.setup(threads)
        except Exception as error:  # told with the first task: of one raised here, Ray keeps the text only
            self.error = encode_error(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """From a column `task` to a column `results`, one JSON text each."""
        return {"results": [json.dumps(self._run_task(json.loads(str(text)))) for text in batch["task"]]}

    def _run_task(self, task: list[tuple[int, Any]]) -> dict[str, Any]:
        results: list[tuple[int, Any]] = []
        if self.error is None:
            try:
                self.fn([row for _, row in task], lambda result: results.append((task[len(results)][0], result)))
            except Exception as error:  # told to the driver, who ends the run with it: Ray would only try again
                self.error = encode_error(error)
        return {"results": results, "error": self.error}


def _enter_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        reason = f"{folder}, where the run was started, is not there for its workers ({error.strerror})"
        raise InputError(f"{reason}. Start it in a folder that every machine has, such as a shared one.") from error
