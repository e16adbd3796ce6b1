"""Distribute rows to processes and machines with Ray Data. The only module that imports Ray.

A row is any JSON value, such as the file names of an image. A worker reads, restores and writes the image, and returns only
the outcome. Rows are sent in windows of limited length, because Ray Data keeps all rows and tasks of a dataset in this
process until the dataset ends."""

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
from ..optional_packages import install_command, version_guard
from ..progress import pluralize

MAX_IN_FLIGHT = 50_000  # rows
TASK_ROWS = 8  # rows per task: they share Ray's overhead, and reading overlaps with the network
GPU_TASK_ROWS = 32  # on GPUs, which are faster
TASKS_PER_WORKER = 2  # target number of remaining tasks per worker; tasks shrink so that all workers finish together
MAX_TASKS_PER_WORKER = 2  # including the one that is running
CPUS_PER_WORKER = 4  # if the number of workers is not given
CONNECT_TIMEOUT = 10.0  # seconds
PACKAGE = '"ray[data]"'  # as a shell needs it
OBJECT_STORE_BYTES = 200 << 20  # bytes, for a Ray that we start: it stores file names only

WorkerFn = Callable[[list[Any], Callable[[Any], None]], None]
"""Processes rows and calls back with the outcome of each, in order. An exception ends the run."""


class WorkerSpec(Protocol):
    """The work to do on rows. It is pickled for the workers, so its functions must be importable on their machines."""

    @property
    def working_dir(self) -> str:
        """The folder of relative paths."""

    def setup(self, threads: int) -> WorkerFn:
        """Load the networks in a worker, in that folder. It computes in this number of threads."""


@dataclass(frozen=True)
class ClusterConfig:
    """The Ray cluster to use, and the number of workers."""

    address: str | None = None
    """`auto` or host:port of a running cluster. None starts Ray on this machine for the time of the run."""
    workers: int | None = None
    """None: one per GPU, or one per four processors."""
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise OptionsError(f"--workers is {self.workers}; expected at least 1.")
        if ":" in self.device:
            kind = self.device.partition(":")[0]
            raise OptionsError(f"Ray assigns the devices to the workers. Use {kind} instead of {self.device}.")


def import_ray() -> Any:
    """Import Ray. Raises `MissingDependency`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage statistics by default
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingDependency(f"--ray requires Ray. Install it: {install_command(PACKAGE)}") from error
    return ray


@version_guard("ray")
def run(
    rows: Iterable[Any],
    spec: WorkerSpec,
    cluster: ClusterConfig,
    on_result: Callable[[Any, Any], None],
    task_rows: int | None = None,
) -> None:
    """Process any number of rows on the workers. `on_result(row, outcome)` is called in this thread, not in order.

    The outcomes of a task arrive when its last row is finished. A task has at most `task_rows` rows, by default 8, or 32 on
    GPUs. If a worker dies, its rows are tried again, then twice more alone. For rows that are lost each time,
    `on_result(row, None)` is called.

    Raises `MissingDependency` without Ray, `GpenError` if there is no cluster, and errors of a worker's `WorkerFn`
    (`WeightsError`, `DeviceError`, ...)."""
    with contextlib.redirect_stdout(sys.stderr), _connect(cluster) as ray:  # Ray prints messages about workers
        size = _cluster_size(ray, cluster)
        remaining = iter(rows)
        while window := dict(enumerate(islice(remaining, MAX_IN_FLIGHT))):
            _run_window(ray, spec, size, window, on_result, task_rows or size.task_rows)
            if window:  # lost: these rows, or others in their tasks, killed their worker
                _run_window(ray, spec, size, window, on_result, alone=True)
            for row in window.values():
                on_result(row, None)


@dataclass(frozen=True)
class _ClusterSize:
    """The size of the pool of workers."""

    workers: int
    threads: int
    """Threads per worker."""
    cpus: int
    """Processors that Ray reserves per worker."""
    gpus: int
    """GPUs that Ray reserves per worker, 0 or 1."""

    @property
    def task_rows(self) -> int:
        return GPU_TASK_ROWS if self.gpus else TASK_ROWS


def _cluster_size(ray: Any, cluster: ClusterConfig) -> _ClusterSize:
    """Plan the workers. Raises `OptionsError` if there are too few GPUs, because Ray would wait forever."""
    resources = ray.cluster_resources()
    cpus, gpus = (int(resources.get(kind, 0)) for kind in ("CPU", "GPU"))
    on_gpu = cluster.device.startswith("cuda") or (cluster.device == "auto" and gpus > 0)
    workers = cluster.workers or (max(1, gpus) if on_gpu else max(1, cpus // CPUS_PER_WORKER))
    if cluster.address is None and on_gpu and workers > gpus:
        raise OptionsError(
            f"{pluralize(workers, 'worker')} need as many GPUs, but this machine has {gpus}. Use fewer --workers."
        )
    share = max(1, cpus // workers)
    threads = _threads_from_env() or share
    return _ClusterSize(workers, threads, 1 if on_gpu else min(threads, share), int(on_gpu))


def _threads_from_env() -> int | None:
    value = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return int(value) if value.isdigit() and int(value) > 0 else None


@contextlib.contextmanager
def _connect(cluster: ClusterConfig) -> Iterator[Any]:
    """Connect to Ray. A Ray that we started is stopped afterwards; a running cluster is not."""
    ray = import_ray()
    local_options: dict[str, Any] = {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    local_options["num_cpus"] = max(os.cpu_count() or 1, cluster.workers or 1)
    options = local_options if cluster.address is None else {"address": cluster.address}
    if cluster.address not in (None, "auto"):
        _probe(str(cluster.address))
    try:
        with _preserve_sigterm():
            # Without an address, do not use the cluster of $RAY_ADDRESS.
            ray.init(**{"address": "local", **options}, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises many types here
        action = "be started here" if cluster.address is None else f"be reached at {cluster.address}"
        raise GpenError(f"Ray cannot {action}: {first_line(error) or type(error).__name__}") from error
    try:
        _quiet_ray(ray)
        yield ray
    finally:
        ray.shutdown()


def _probe(address: str) -> None:
    """Raise `GpenError` if the address does not answer. Ray itself would wait for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        raise GpenError(f"Ray cannot be reached at {address}: {first_line(error)}.") from error


@contextlib.contextmanager
def _preserve_sigterm() -> Iterator[None]:
    """Restore our handler of SIGTERM, which finishes the report. Ray's handler ends the process at once."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread() and before is not None:
            signal.signal(signal.SIGTERM, before)


def _quiet_ray(ray: Any) -> None:
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.max_errored_blocks = -1  # lost rows are found by their missing results
    logging.getLogger("ray.data._internal.execution").setLevel(logging.CRITICAL)


def decode_error(encoded: list[str]) -> GpenError:
    """Convert an encoded error to a `GpenError`, also if it was another type in the worker."""
    name, message = encoded
    kind = vars(errors).get(name)
    if isinstance(kind, type) and issubclass(kind, GpenError):
        return kind(message)
    return GpenError(f"A worker failed and ended the run: {name}: {message}")


def encode_error(error: BaseException) -> list[str]:
    """Encode an error as its type and text, to send it between processes."""
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
    """Process the rows in `window`. Finished rows are removed from it."""
    workers = min(size.workers, len(window))
    tasks = [{"task": json.dumps(task)} for task in _split_tasks(window, workers, task_rows)]
    pool = ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1 if alone else MAX_TASKS_PER_WORKER)
    with warnings.catch_warnings(), _convert_ray_errors(ray):
        # Ray 2.60 deprecates these arguments without a replacement; 2.64 removes them.
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
    """Split the numbered rows into tasks of `task_rows` rows, and of fewer toward the end."""
    rows, remaining = iter(window.items()), len(window)
    while remaining:
        task = list(islice(rows, max(1, min(task_rows, remaining // (TASKS_PER_WORKER * workers)))))
        remaining -= len(task)
        yield task


def _collect(reply: dict[str, Any], window: dict[int, Any], on_result: Callable[[Any, Any], None]) -> None:
    for number, result in reply["results"]:
        if number in window:  # otherwise its worker died after reporting it
            on_result(window.pop(number), result)
    if reply["error"] is not None:
        raise decode_error(reply["error"])


@contextlib.contextmanager
def _convert_ray_errors(ray: Any) -> Iterator[None]:
    """Convert Ray's errors to `GpenError`."""
    try:
        yield
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
        message = "; ".join(dict.fromkeys((lines[0], lines[-1])))  # the last line of a traceback is the error
        raise GpenError(f"Ray ended the run: {message}") from error


class Worker:
    """A worker process of Ray's pool."""

    def __init__(self, spec: WorkerSpec, threads: int) -> None:
        self.error: list[str] | None = None
        try:
            _enter_folder(spec.working_dir)
            self.fn = spec.setup(threads)
        except Exception as error:  # reported with the first task: Ray keeps only the text of errors here
            self.error = encode_error(error)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Process tasks: a column `task` of JSON texts becomes a column `results` of JSON texts."""
        return {"results": [json.dumps(self._run_task(json.loads(str(text)))) for text in batch["task"]]}

    def _run_task(self, task: list[tuple[int, Any]]) -> dict[str, Any]:
        results: list[tuple[int, Any]] = []
        if self.error is None:
            try:
                # Outcomes arrive in the order of the rows, so the number of each is that of the next row.
                self.fn([row for _, row in task], lambda result: results.append((task[len(results)][0], result)))
            except Exception as error:  # reported to the driver, which ends the run. Ray would retry it
                self.error = encode_error(error)
        return {"results": results, "error": self.error}


def _enter_folder(folder: str) -> None:
    try:
        os.chdir(folder)
    except OSError as error:
        reason = f"The workers cannot open {folder}, where the run was started ({error.strerror})"
        raise InputError(f"{reason}. Start it in a folder that all machines share.") from error
