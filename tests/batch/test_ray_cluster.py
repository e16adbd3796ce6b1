"""`gpen restore --ray`: the same files as without, whatever happens to a worker. The tests under "With Ray" need it."""

import json
import os
import signal
import sys
import threading
import time
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from cli_fixtures import file_names, write_broken_png
from ray_fixtures import worker_pids, write_photos

from gpen_core.batch import ray_images
from gpen_core.batch.job import ImageJob
from gpen_core.batch.locations import Url
from gpen_core.batch.ray_cluster import GPU_TASK_ROWS, TASK_ROWS, ClusterConfig, decode_error, encode_error, run
from gpen_core.batch.ray_images import ImageWorkerSpec, RemoteOutcome
from gpen_core.errors import GpenError, ImageTooLarge, InputError, OptionsError, WeightsChanged
from gpen_core.options import RestoreOptions

pytest_plugins = ["cli_fixtures", "ray_fixtures"]
ON_TWO = ("--ray", "--workers", "2")


def test_without_ray_it_is_said_what_to_install(restore, face, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = restore(face, "-o", tmp_path / "out.png", "--ray")
    assert ran.status == 1 and 'pip install "ray[data]"' in ran.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--workers", "2"), "--workers needs --ray"),
        (("--ray", "photos/"), "expected host:port, auto or local"),
        (("--ray", "--workers", "0"), "expected at least 1"),
        (("--ray", "--device", "cuda:1"), "Use cuda instead of cuda:1"),
    ],
)
def test_what_contradicts_is_refused_before_anything_starts(restore, face, tmp_path, arguments, why):
    ran = restore(face, "-o", tmp_path / "out.png", *arguments)
    assert ran.status == 2 and why in ran.err


class FakeRay(ModuleType):
    """The part of Ray that `ray_cluster.run` uses, in this process. It runs every task at once, in one worker."""

    def __init__(self, monkeypatch, **has):
        super().__init__("ray")
        self.has, self.pools, self.calls = has, [], []
        self.answer = self.work
        self.data = ModuleType("ray.data")
        self.data.DataContext = SimpleNamespace(get_current=SimpleNamespace)
        self.data.ActorPoolStrategy = lambda **given: given
        self.data.from_items = lambda tasks, **_: SimpleNamespace(map_batches=partial(self.map_batches, tasks))
        self.exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}))
        self.init = self.shutdown = lambda **_: None
        monkeypatch.setitem(sys.modules, "ray", self)
        monkeypatch.setitem(sys.modules, "ray.data", self.data)

    def cluster_resources(self):
        return self.has

    def map_batches(self, tasks, kind, **given):
        """Notes what was asked for, and each task's rows with their numbers."""
        self.pools.append(given)
        self.calls.append([json.loads(task["task"]) for task in tasks])
        return SimpleNamespace(iter_batches=lambda **_: self.answer(tasks, kind, given["fn_constructor_args"]))

    @staticmethod
    def work(tasks, kind, arguments):
        """What the pool's workers answer. A test may set `answer` to a pool that loses tasks."""
        worker = kind(*arguments)
        return [worker({"task": [task["task"]]}) for task in tasks]

    @staticmethod
    def lose(tasks, kind, arguments):
        return []


def test_a_cluster_that_does_not_start_leaves_our_handler_of_sigterm(monkeypatch):
    def start(**_):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # as Ray does, with a handler of its own
        raise RuntimeError("no memory")

    FakeRay(monkeypatch, CPU=1).init = start
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(GpenError, match="Ray cannot be started here: no memory"):
            ray_images.run([], ImageWorkerSpec(refused, RestoreOptions()), ClusterConfig(), lambda outcome: None)
        assert signal.getsignal(signal.SIGTERM) == before
    finally:
        signal.signal(signal.SIGTERM, before)


def test_jobs_and_errors_come_back_as_they_went(monkeypatch):
    job = ImageJob(Path("a/\udc80.png"), Url("s3://b/c.png"), Path("o"), None, ((1, 2.5, 3, 4),), Path("m"))
    FakeRay(monkeypatch, CPU=1).answer = FakeRay.lose
    outcomes = []
    ray_images.run([job], ImageWorkerSpec(refused, RestoreOptions()), ClusterConfig(), outcomes.append)
    assert [outcome.files for outcome in outcomes] == [job] and "the worker was killed each time" in str(outcomes[0].error)
    error = decode_error(encode_error(ImageTooLarge("x.png: too large")))
    assert type(error) is ImageTooLarge and str(error) == "x.png: too large"
    assert type(decode_error(encode_error(ZeroDivisionError("by zero")))) is GpenError
    assert type(decode_error(["is_out_of_memory", "not an error"])) is GpenError


@pytest.mark.parametrize(
    ("has", "asked", "threads_told", "wanted"),
    [
        ({"CPU": 16.0}, ClusterConfig(), "", (4, 4, 4, 0)),
        ({"CPU": 2.0}, ClusterConfig(workers=2), "", (2, 1, 1, 0)),
        (
            {"CPU": 2.0},
            ClusterConfig(workers=2),
            "8",
            (2, 8, 1, 0),
        ),  # as the local run; still two processes on two processors
        ({"CPU": 64.0, "GPU": 8.0}, ClusterConfig(), "", (8, 8, 1, 1)),
        ({"CPU": 64.0, "GPU": 8.0}, ClusterConfig(device="cpu", workers=8), "", (8, 8, 8, 0)),
        ({}, ClusterConfig("auto", 4, "cuda"), "", (4, 1, 1, 1)),  # machines that are yet to come
    ],
)
def test_how_many_workers_with_how_many_threads(monkeypatch, has, asked, threads_told, wanted):
    monkeypatch.setenv("OMP_NUM_THREADS", threads_told)
    workers, threads, cpus, gpus = wanted
    ray = FakeRay(monkeypatch, **has)
    ray.answer = FakeRay.lose
    run(range(1000), Halving(), asked, lambda *_: None)
    pool = ray.pools[0]
    assert pool["compute"]["size"] == workers and pool["fn_constructor_args"][1] == threads
    assert pool["runtime_env"]["env_vars"] == {"OMP_NUM_THREADS": str(threads)}
    assert (pool["num_cpus"], pool["num_gpus"]) == (cpus, gpus or None)
    assert max(map(len, ray.calls[0])) == (GPU_TASK_ROWS if gpus else TASK_ROWS)


def test_more_workers_than_gpus_are_refused(monkeypatch):
    FakeRay(monkeypatch, CPU=8, GPU=2)
    with pytest.raises(OptionsError, match="4 workers need as many GPUs, but this machine has 2"):
        run(range(4), Halving(), ClusterConfig(workers=4), print)


def test_tasks_grow_smaller_so_that_all_workers_end_together(monkeypatch):
    rows = [f"row {number}" for number in range(100)]

    def sizes(workers, at_once):
        ray = FakeRay(monkeypatch, CPU=workers)
        ray.answer = FakeRay.lose
        run(rows, Halving(), ClusterConfig(workers=workers), lambda *_: None, at_once)
        assert [row for task in ray.calls[0] for row in task] == [list(row) for row in enumerate(rows)]
        return [len(task) for task in ray.calls[0]]

    told = sizes(3, 8)
    assert told[:7] == [8] * 7 and told == sorted(told, reverse=True) and told[-6:] == [1] * 6
    assert sizes(64, 8) == [1] * 100  # few for each: one by one
    assert sizes(3, 1) == [1] * 100


def test_rows_that_are_lost_are_tried_again_alone(monkeypatch):
    ray, heard = FakeRay(monkeypatch, CPU=1), []

    def answer(tasks, kind, arguments):
        """The pool loses the first task of each pass."""
        return ray.work(tasks[1:], kind, arguments)

    ray.answer = answer
    run([1, 2, 3, 4, 5], Halving(), ClusterConfig(), lambda *one: heard.append(one), 2)
    assert [len(task) for task in ray.calls[0]] == [2, 1, 1, 1] and [len(task) for task in ray.calls[1]] == [1, 1]
    assert [row for row, what in heard if what is None] == [1] and sorted(row for row, _ in heard) == [1, 2, 3, 4, 5]
    assert [pool["compute"]["max_tasks_in_flight_per_actor"] for pool in ray.pools] == [2, 1]


class Halving:
    """A work whose hand cannot do the number 0."""

    working_dir = "."

    def setup(self, threads):
        def hand(rows, tell):
            for row in rows:
                tell(threads * 60 // row)

        return hand


def test_what_was_done_before_a_worker_ended_is_heard_and_what_was_heard_before_is_not(monkeypatch):
    ray, heard = FakeRay(monkeypatch, CPU=2), []

    def answer(tasks, kind, arguments):
        """A worker did the first row and died, so that Ray has its whole task done again."""
        first_row = json.loads(tasks[0]["task"])[:1]
        return ray.work([{"task": json.dumps(first_row)}, tasks[0]], kind, arguments)

    ray.answer = answer
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with pytest.raises(GpenError, match="ZeroDivisionError"):
        run([2, 3, 0, 1, 5, 6, 7, 8], Halving(), ClusterConfig(workers=1), lambda *one: heard.append(one), 4)
    assert heard == [(2, 60), (3, 40)]


def test_what_a_worker_tells_is_what_the_report_has():
    told = {"input": "a", "output": None, "status": "failed", "error": "a: no", "seconds": {}}
    outcome = RemoteOutcome(ImageJob(Path("a"), Path("b")), error=InputError("a: no"), content=told)
    assert outcome.to_json() == told


# With Ray


@pytest.fixture
def photos(tmp_path, portrait):
    """Twelve, each another, in a folder."""
    return write_photos(tmp_path / "in", portrait, 12)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def told(path):
    return {Path(one["input"]).name: one for one in json.loads(path.read_text("utf-8"))["inputs"]}


@pytest.mark.slow
def test_the_files_of_a_local_run_and_one_bad_image(ray, restore, photos, tmp_path):
    write_broken_png(photos / "bad.png")
    reports = tmp_path / "local.json", tmp_path / "ray.json"
    runs = [
        restore(photos, "-o", tmp_path / report.stem, "--report", report, *how) for report, how in zip(reports, ((), ON_TWO))
    ]
    assert [run.status for run in runs] == [1, 1] and "bad.png" in runs[1].err
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")
    assert len(contents(tmp_path / "ray")) == 12
    here, there = map(told, reports)
    drop = ("seconds", "output")
    assert {name: {k: v for k, v in one.items() if k not in drop} for name, one in there.items()} == {
        name: {k: v for k, v in one.items() if k not in drop} for name, one in here.items()
    }
    assert json.loads(reports[1].read_text("utf-8"))["device"] == "cpu"

    (tmp_path / "ray" / "03.png").unlink()
    again = tmp_path / "again.jsonl"
    ran = restore(photos, "-o", tmp_path / "ray", "--skip-existing", "--report", again, *ON_TWO)
    rows = [json.loads(line) for line in again.read_text("utf-8").splitlines()]
    assert ran.status == 1 and rows[0]["row"] == "start" and rows[0]["dtype"]
    assert rows[-1]["counts"] == {"skipped": 11, "restored": 1, "failed": 1}
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a worker by /proc")
def test_a_killed_worker_loses_no_image(ray, restore, photos, tmp_path):
    before, killed = set(worker_pids()), []

    def kill():
        while len(contents_now(tmp_path / "out")) < 3:
            time.sleep(0.01)
        (one, *_) = sorted(set(worker_pids()) - before)
        os.kill(one, signal.SIGKILL)
        killed.append(one)

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    ran = restore(photos, "-o", tmp_path / "out", "--report", tmp_path / "run.json", *ON_TWO)
    assert killed and ran.status == 0
    assert {one["status"] for one in told(tmp_path / "run.json").values()} == {"restored"}
    assert file_names(tmp_path / "out") == file_names(photos)
    restore(photos, "-o", tmp_path / "local")
    assert contents(tmp_path / "out") == contents(tmp_path / "local")


def contents_now(folder):
    return [path for path in folder.glob("*.png") if not path.name.startswith(".")] if folder.is_dir() else []


DEADLY = """
import os, signal
from gpen_core.batch import local
process = local.process

def deadly(restorer, jobs, *more):
    if any("deadly" in str(job.source) for job in jobs):
        os.kill(os.getpid(), signal.SIGKILL)
    process(restorer, jobs, *more)

local.process = deadly
"""


@pytest.mark.slow
def test_an_image_that_kills_whoever_has_it_fails_alone(ray, restore, photos, tmp_path, monkeypatch):
    """A module that every Python of the run imports first stands in for an image at which a library crashes."""
    (tmp_path / "python").mkdir()
    (tmp_path / "python" / "gpen_deadly.py").write_text(DEADLY)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "python"), os.environ["PYTHONPATH"]]))
    monkeypatch.syspath_prepend(tmp_path / "python")
    from gpen_core.cli import model_loading as command

    monkeypatch.setattr(command, "partial", deadly_partial)
    (photos / "05.png").rename(photos / "deadly.png")
    ran = restore(photos, "-o", tmp_path / "out", "--report", tmp_path / "run.json", *ON_TWO)
    failed = [one for one in told(tmp_path / "run.json").values() if one["status"] != "restored"]
    assert ran.status == 1 and [Path(one["input"]).name for one in failed] == ["deadly.png"]
    assert "the worker was killed" in failed[0]["error"] and len(file_names(tmp_path / "out")) == 11


def deadly_partial(load, *arguments):
    """Travels whole, being defined in no module that a worker has."""

    def deadly_load():
        import gpen_deadly  # noqa: F401

        return load(*arguments)

    deadly_load.__module__ = "__main__"
    return deadly_load


def refused():
    raise WeightsChanged("red.pth is another")


def test_what_ends_a_worker_at_its_start_ends_the_run(tmp_path, monkeypatch):
    here = os.getcwd()  # noqa: PTH109  where the test began
    monkeypatch.setenv("OMP_NUM_THREADS", str(torch.get_num_threads()))  # the worker is in this process
    FakeRay(monkeypatch, CPU=1)
    for work, kind, why in (
        (ImageWorkerSpec(refused, RestoreOptions()), WeightsChanged, "red.pth is another"),
        (
            ImageWorkerSpec(refused, RestoreOptions(), working_dir=str(tmp_path / "none")),
            InputError,
            "The workers cannot open",
        ),
    ):
        with pytest.raises(kind, match=why):
            run(["unread"], work, ClusterConfig(), print)
    assert os.getcwd() == here  # noqa: PTH109


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_one_error(ray, restore, face, tmp_path):
    ran = restore(face, "-o", tmp_path / "out.png", "--ray", "127.0.0.1:1")
    assert ran.status == 1 and "Ray cannot be reached at 127.0.0.1:1" in ran.err
