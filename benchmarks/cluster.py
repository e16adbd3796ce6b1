"""The overhead of Ray (docs/cluster.md), measured with workers that compute nothing. Requires Ray.

    python benchmarks/cluster.py pace [--workers 2 8 64] [--each 60] [--seconds 0.5] [--of pictures]
    python benchmarks/cluster.py memory [--rows 1000000] [--workers 2] [--task 32]

`pace`: workers sleep for each row. They do not load torch, so there can be far more workers than CPU cores. With
`--of pictures` it runs `gpen restore` without the networks: workers read and write small images and sleep in between. It
prints the share of the workers' time that they slept. The time starts with the first row of each worker, or when all workers
run, and ends with the last row of all. It also prints when the first and the last worker started and when all rows were
done, in seconds from the call.

`memory`: plans a list of that many synthetic names. Workers find each output already present, and the results are reported
as JSON Lines. The memory of this process is that of `gpen restore --input-list ... --ray --skip-existing` without networks.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from load import resident  # noqa: E402

from gpen_core.batch import ray_cluster  # noqa: E402
from gpen_core.batch.job_plan import JobPlan  # noqa: E402
from gpen_core.batch.output_names import OutputSpec  # noqa: E402
from gpen_core.batch.ray_cluster import ClusterConfig, WorkerFn  # noqa: E402
from gpen_core.batch.sources import Sources  # noqa: E402
from gpen_core.options import RestoreOptions  # noqa: E402

MB = 2**20
SIDE = 64  # px
OFTEN = 20  # times that memory is told


@dataclass(frozen=True)
class Sleeper:
    """A work whose hand sleeps for each row. When, each worker writes into a file of its own."""

    seconds: float
    notes: str
    folder: str

    def sleep(self) -> None:
        begun = time.time()
        time.sleep(self.seconds)
        with open(Path(self.notes) / str(os.getpid()), "a", encoding="ascii") as notes:
            notes.write(f"{begun} {time.time()}\n")

    def begin(self, threads: int) -> WorkerFn:
        return self._hand

    def _hand(self, rows: list[Any], tell: Callable[[Any], None]) -> None:
        for _ in rows:
            self.sleep()
            tell(None)


class FakeRestorer:
    """In place of a `FaceRestorer`: sleeps for each image and leaves it as it is."""

    sizes, device, dtype = (512,), "none", "none"

    def __init__(self, sleeper: Sleeper) -> None:
        self.sleeper = sleeper

    def restore_batch(self, inputs: Sequence[Any], *_: object, **__: object) -> list[Any]:
        """One image in, the same out."""
        from gpen_core.pipeline.restore_result import RestoreResult

        self.sleeper.sleep()
        return [RestoreResult(np.zeros((SIDE, SIDE), np.float32), (), 0.0, 0.0, {}, frame.image) for frame in inputs]


def run_pictures(folder: Path, count: int, sleeper: Sleeper, which: ClusterConfig) -> None:
    """Of one image `count` copies."""
    from PIL import Image

    from gpen_core.batch import ray_images
    from gpen_core.batch.job import ImageJob
    from gpen_core.pipeline.report import ImageOutcome

    Image.new("RGB", (SIDE, SIDE), "red").save(folder / "in.png")
    (folder / "out").mkdir()
    jobs = (ImageJob(folder / "in.png", folder / "out" / f"{n}.png") for n in range(count))
    outcomes: list[ImageOutcome] = []
    work = ray_images.ImageWorkerSpec(partial(FakeRestorer, sleeper), RestoreOptions())  # type: ignore[arg-type]
    ray_images.run(jobs, work, which, outcomes.append)
    assert Counter(one.status for one in outcomes) == {"unchanged": count}


def pace(workers: int, each: int, seconds: float, of: str) -> str:
    """One row of the table."""
    count, which, heard = workers * each, ClusterConfig(workers=workers), list[Any]()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "notes").mkdir()
        sleeper = Sleeper(seconds, str(folder / "notes"), temporary)
        asked = time.time()
        if of == "pictures":
            run_pictures(folder, count, sleeper, which)
        else:
            ray_cluster.run(range(count), sleeper, which, lambda row, told: heard.append(row))
            assert sorted(heard) == list(range(count))
        read = [np.loadtxt(path, ndmin=2) for path in (folder / "notes").iterdir()]  # [n, 2]: from, to
    begun, spans = [float(one[0, 0]) for one in read], np.concatenate(read)
    assert len(read) == workers and len(spans) == count
    last, all_there = float(spans[:, 1].max()), max(begun)
    whole = busy(spans, 0.0) / sum(last - one for one in begun)
    steady = busy(spans, all_there) / (workers * (last - all_there))
    since = [f"{when - asked:.1f}" for when in (min(begun), all_there, last)]
    return f"| {' | '.join((str(workers), str(count), f'{whole:.3f}', f'{steady:.3f}', *since))} |"


def busy(spans: NDArray[np.float64], since: float) -> float:
    """Seconds of all workers that lie after that time."""
    return float((spans[:, 1] - np.maximum(spans[:, 0], since)).clip(0).sum())


def nothing_to_do() -> Any:
    """Every output is said to be there."""
    from gpen_core.batch import ray_images

    ray_images.is_done = lambda job: True
    return FakeRestorer(Sleeper(0.0, "", ""))


def memory(count: int, workers: int) -> None:
    """Prints rows of a table: what was done, seconds since the start, this process's memory."""
    from gpen_core.batch import ray_images, report_files
    from gpen_core.pipeline.report import ImageOutcome

    begun, done = time.time(), 0

    def say(what: str) -> None:
        print(f"| {what} | {time.time() - begun:.0f} | {resident('VmRSS') // MB} | {resident('VmHWM') // MB} |", flush=True)

    def finished(outcome: ImageOutcome) -> None:
        nonlocal done
        assert outcome.status == "skipped"
        report.add(outcome)
        done += 1
        if done % (count // OFTEN) == 0:
            say(f"{done:,} rows")

    with tempfile.TemporaryDirectory() as temporary:
        names, out = Path(temporary) / "names.txt", Path(temporary) / "out"
        with names.open("w", encoding="ascii") as file:
            file.writelines(f"/photographs/{n // 1000:06}/{n % 1000:03}.jpg\n" for n in range(count))
        say("libraries")
        with JobPlan(Sources(listing=names), OutputSpec(out)) as todo:
            say("planned")
            report = report_files.open_report(Path(temporary) / "run.jsonl", {"model": "none"}, RestoreOptions(), False)
            work = ray_images.ImageWorkerSpec(nothing_to_do, RestoreOptions(), skip_existing=True, working_dir=temporary)
            ray_images.run(todo, work, ClusterConfig(workers=workers), finished, report.begin)
        report.end(None)
    assert done == count
    say("end")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("pace", "memory"))
    parser.add_argument("--workers", type=int, nargs="+", metavar="N")
    parser.add_argument("--each", type=int, default=60, metavar="N", help="rows for each worker")
    parser.add_argument("--seconds", type=float, default=0.5, metavar="S", help="that each row takes")
    parser.add_argument("--of", choices=("rows", "pictures"), default="rows")
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--task", type=int, default=ray_cluster.TASK_ROWS, metavar="N", help="rows of a task: 8, on GPUs 32")
    given = parser.parse_args()
    ray_cluster.TASK_ROWS = given.task
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    if given.what == "memory":
        print("| what | s | MB now | MB at most |\n|---|---|---|---|")
        memory(given.rows, *(given.workers or [2]))
        return
    print("| workers | rows | of ideal | once all are there | first s | all there s | done s |\n|" + "---|" * 7)
    for workers in given.workers or (2, 8, 64):
        print(pace(workers, given.each, given.seconds, given.of), flush=True)


if __name__ == "__main__":
    main()
