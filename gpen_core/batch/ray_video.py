"""Restore a video on many processes and machines.

Each worker restores segments into the work folder next to the output, which all machines share. The command joins them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import astuple, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..options import RestoreOptions, VideoOptions
from ..pipeline.report import RuntimeInfo
from ..pipeline.restorer import FaceRestorer
from ..video.region_mask import RegionMaskLike
from ..video.restore_video import SegmentRestorer
from ..video.segments import SegmentExecutor, SegmentResult
from . import ray_cluster
from .ray_cluster import ClusterConfig, WorkerFn


@dataclass(frozen=True)
class VideoWorkerSpec:
    """The work of a video worker, see `ray_cluster.WorkerSpec`."""

    load: Callable[[], FaceRestorer]
    source: Path
    target: Path
    options: RestoreOptions
    video: VideoOptions
    region_mask: RegionMaskLike | None = None
    max_memory: int | None = None
    analysis_key: str = ""
    """The key of the first pass, once it is done."""
    working_dir: str = field(default_factory=os.getcwd)

    def setup(self, threads: int) -> WorkerFn:
        import torch

        torch.set_num_threads(threads)
        restorer = self.load()
        arguments = self.source, self.target, restorer, self.options, self.video, self.analysis_key
        segments = SegmentRestorer(*arguments, self.region_mask, self.max_memory, self.max_memory)
        return partial(_restore_segments, segments, astuple(RuntimeInfo.of(restorer)))


def segment_executor(
    spec: VideoWorkerSpec, config: ClusterConfig, on_start: Callable[[RuntimeInfo], None] = lambda runtime: None
) -> SegmentExecutor:
    """Return an executor for `restore_video`. If its worker dies, a segment is tried up to three more times.

    `on_start` is called once with the device and precision of the workers. Errors as in `ray_cluster.run`, and
    `OutputError` if a segment is lost each time."""
    return partial(_run_segments, spec, config, on_start)


def _run_segments(
    spec: VideoWorkerSpec,
    config: ClusterConfig,
    on_start: Callable[[RuntimeInfo], None],
    analysis_key: str,
    count: int,
    on_finished: Callable[[SegmentResult], None],
) -> None:
    lost: list[int] = []
    has_begun = False

    def on_result(number: int, reply: Any) -> None:
        nonlocal has_begun
        if reply is None:
            lost.append(number)
            return
        if not has_begun:
            has_begun = True
            on_start(RuntimeInfo.from_row(reply["runtime"]))
        on_finished(SegmentResult(*reply["finished"]))

    ray_cluster.run(range(count), replace(spec, analysis_key=analysis_key), config, on_result, task_rows=1)
    if lost:
        raise OutputError(
            f"{spec.target} lacks {len(lost)} of {count} segments: their worker was killed each time, maybe out of memory. "
            "See Ray's log."
        )


def _restore_segments(
    segments: SegmentRestorer, runtime: tuple[object, ...], rows: list[int], emit: Callable[[Any], None]
) -> None:
    """Restore segments in a worker."""
    for number in rows:
        emit({"finished": segments.restore(number), "runtime": runtime})
