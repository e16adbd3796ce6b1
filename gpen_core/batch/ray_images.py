"""Restore images on many processes and machines. Each worker runs `local.process`."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from dataclasses import astuple, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import GpenError
from ..options import RestoreOptions
from ..pipeline.report import ImageOutcome, RuntimeInfo
from ..pipeline.restorer import FaceRestorer
from . import local, ray_cluster
from .job import ImageJob, is_done
from .locations import parse_location
from .ray_cluster import ClusterConfig, WorkerFn


@dataclass(frozen=True)
class ImageWorkerSpec:
    """The work of an image worker, see `ray_cluster.WorkerSpec`."""

    load: Callable[[], FaceRestorer]
    options: RestoreOptions
    max_memory: int | None = None
    skip_existing: bool = False
    require_all_faces: bool = False
    measure_identity: bool = False
    working_dir: str = field(default_factory=os.getcwd)

    def setup(self, threads: int) -> WorkerFn:
        import torch

        torch.set_num_threads(threads)
        return partial(_restore_jobs, self, self.load())


@dataclass
class RemoteOutcome(ImageOutcome):
    """The outcome of an image, as a worker reported it."""

    content: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return self.content


def run(
    jobs: Iterable[ImageJob],
    spec: ImageWorkerSpec,
    config: ClusterConfig,
    on_finished: Callable[[ImageOutcome], None],
    on_start: Callable[[RuntimeInfo], None] = lambda runtime: None,
) -> None:
    """Restore any number of images. `on_finished` is called in this thread once a file is complete, not in order.

    `on_start` is called once before that, with the device and precision of the workers. A failed image does not stop the
    others, even if its worker dies each time. Errors as in `ray_cluster.run`."""
    has_begun = False

    def on_result(row: str, reply: dict[str, Any] | None) -> None:
        nonlocal has_begun
        if reply is None:
            on_finished(_lost_outcome(decode_job(row)))
            return
        if not has_begun:
            has_begun = True
            on_start(RuntimeInfo.from_row(reply["runtime"]))
        on_finished(_to_outcome(decode_job(row), reply))

    ray_cluster.run(map(encode_job, jobs), spec, config, on_result)


def _restore_jobs(
    spec: ImageWorkerSpec, restorer: FaceRestorer, rows: list[str], emit: Callable[[dict[str, Any]], None]
) -> None:
    """Restore jobs in a worker."""
    runtime = astuple(RuntimeInfo.of(restorer))

    def on_finished(outcome: ImageOutcome) -> None:
        error = None if outcome.error is None else ray_cluster.encode_error(outcome.error)
        emit({"outcome": outcome.to_json(), "error": error, "runtime": runtime})

    done = is_done if spec.skip_existing else None
    jobs = [decode_job(row) for row in rows]
    local.process(
        restorer,
        jobs,
        spec.options,
        on_finished,
        max_memory=spec.max_memory,
        is_done=done,
        require_all_faces=spec.require_all_faces,
        measure_identity=spec.measure_identity and restorer.can_measure_identity,
    )


def _to_outcome(job: ImageJob, row: dict[str, Any]) -> RemoteOutcome:
    content = row["outcome"]
    size = (content["width"], content["height"]) if "width" in content else None
    notes, seconds = tuple(content.get("notes", ())), content["seconds"]
    error = None if row["error"] is None else ray_cluster.decode_error(row["error"])
    return RemoteOutcome(job, content["status"], error, size, notes=notes, seconds=seconds, content=content)


def _lost_outcome(job: ImageJob) -> ImageOutcome:
    reason = "the worker was killed each time that it processed this image, maybe out of memory. See Ray's log"
    return ImageOutcome(job, error=GpenError(f"{job.source}: {reason}."))


def encode_job(job: ImageJob) -> str:
    """Encode a job as JSON. File names that are not valid text are preserved."""
    locations = (job.source, job.target, job.before_swap, job.background, job.region_mask)
    return json.dumps(
        [[None if place is None else str(place) for place in locations], job.boxes, job.quality, job.max_pixels]
    )


def decode_job(text: str) -> ImageJob:
    (source, target, *others), boxes, *limits = json.loads(text)
    before_swap, background, region_mask = (None if other is None else Path(other) for other in others)
    boxes_xyxy = None if boxes is None else tuple((x0, y0, x1, y1) for x0, y0, x1, y1 in boxes)
    files = parse_location(source), parse_location(target), before_swap, background
    return ImageJob(*files, boxes_xyxy, region_mask, *limits)
