"""Pictures on many processes and machines: each is read, restored and written within a worker, by `local.stream`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import GpenError
from ..options import RestoreOptions
from ..pipeline.report import Machine, Outcome
from ..pipeline.restorer import FaceRestorer
from . import local, ray_cluster
from .job import Job, is_done
from .locations import place_of
from .ray_cluster import Cluster, Hand


@dataclass(frozen=True)
class Work:
    """What a worker has to know, the same for every picture; see `ray_cluster.Work`."""

    load: Callable[[], FaceRestorer]
    options: RestoreOptions
    max_memory: int | None = None
    skip_existing: bool = False
    folder: str = field(default_factory=os.getcwd)

    def begin(self, threads: int) -> Hand:
        import torch

        torch.set_num_threads(threads)
        return partial(_restore, self, self.load())


@dataclass
class Told(Outcome):
    """What a worker says became of a picture."""

    told: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return self.told


def run(
    jobs: Iterable[Job],
    work: Work,
    which: Cluster,
    finished: Callable[[Outcome], None],
    begun: Callable[[Machine], None] = lambda machine: None,
) -> None:
    """Restores the pictures, any number of them. `finished` hears of each in this thread once its file is complete, as they
    end and not in order; `begun`, once and before that, of what the workers compute on.

    A picture that fails does not stop the others, nor does one whose worker dies each time that it has it. Raises as
    `ray_cluster.run`."""
    has_begun = False

    def heard(row: str, told: dict[str, Any] | None) -> None:
        nonlocal has_begun
        if told is None:
            finished(_lost(_of_text(row)))
            return
        if not has_begun:
            has_begun = True
            sizes, device, dtype = told["machine"]
            begun(Machine(tuple(sizes), device, dtype))
        finished(_told(_of_text(row), told))

    ray_cluster.run(map(_as_text, jobs), work, which, heard)


def _restore(work: Work, restorer: FaceRestorer, rows: list[str], tell: Callable[[dict[str, Any]], None]) -> None:
    """In a worker."""
    machine = restorer.sizes, str(restorer.device), str(restorer.dtype)

    def finished(outcome: Outcome) -> None:
        error = None if outcome.error is None else ray_cluster.said(outcome.error)
        tell({"outcome": outcome.to_json(), "error": error, "machine": machine})

    done = is_done if work.skip_existing else None
    local.stream(restorer, [_of_text(row) for row in rows], work.options, finished, None, work.max_memory, done)


def _told(job: Job, row: dict[str, Any]) -> Told:
    told = row["outcome"]
    size = (told["width"], told["height"]) if "width" in told else None
    notes, seconds = tuple(told.get("notes", ())), told["seconds"]
    error = None if row["error"] is None else ray_cluster.error_of(row["error"])
    return Told(job, told["status"], error, size, notes=notes, seconds=seconds, told=told)


def _lost(job: Job) -> Outcome:
    why = "the worker ended each time that it had this picture, as if killed (memory? the log of Ray says more)"
    return Outcome(job, error=GpenError(f"{job.source}: {why}."))


def _as_text(job: Job) -> str:
    """As JSON; names that are no text stay, too."""
    places = (job.source, job.target, job.before_swap, job.background, job.region_mask)
    return json.dumps([[None if place is None else str(place) for place in places], job.boxes])


def _of_text(text: str) -> Job:
    (source, target, *others), boxes = json.loads(text)
    before_swap, background, region_mask = (None if other is None else Path(other) for other in others)
    within = None if boxes is None else tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)
    return Job(place_of(source), place_of(target), before_swap, background, within, region_mask)
