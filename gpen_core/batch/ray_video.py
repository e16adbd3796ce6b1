"""Videos on many processes and machines: each segment is restored within a worker, into the work folder beside the output,
which they all share with the command that joins them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import OutputError
from ..images.image import FloatImage
from ..options import RestoreOptions, VideoOptions
from ..pipeline.report import RuntimeInfo
from ..pipeline.restorer import FaceRestorer
from ..video.restore_video import SegmentRestorer
from ..video.segments import SegmentExecutor, SegmentResult
from . import ray_cluster
from .ray_cluster import ClusterConfig, WorkerFn


@dataclass(frozen=True)
class VideoWorkerSpec:
    """What a worker has to know of the video; see `ray_cluster.WorkerSpec`."""

    load: Callable[[], FaceRestorer]
    source: Path
    target: Path
    options: RestoreOptions
    video: VideoOptions
    region_mask: FloatImage | None = None
    max_memory: int | None = None
    analysis_key: str = ""
    """Of the first pass, once it is done."""
    working_dir: str = field(default_factory=os.getcwd)

    def setup(self, threads: int) -> WorkerFn:
        import torch

        torch.set_num_threads(threads)
        restorer = self.load()
        arguments = self.source, self.target, restorer, self.options, self.video, self.analysis_key
        segments = SegmentRestorer(*arguments, self.region_mask, self.max_memory, self.max_memory)
        return partial(_restore_segments, segments, (restorer.sizes, str(restorer.device), str(restorer.dtype)))


def segment_executor(
    spec: VideoWorkerSpec, config: ClusterConfig, on_start: Callable[[RuntimeInfo], None] = lambda machine: None
) -> SegmentExecutor:
    """For `restore_video`. A segment is restored again, up to three times, where its worker dies. `on_start` hears once of
    what the workers compute on. Raises as `ray_cluster.run`, and `OutputError` where a segment is lost each time."""
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
            sizes, device, dtype = reply["runtime"]
            on_start(RuntimeInfo(tuple(sizes), device, dtype))
        on_finished(SegmentResult(*reply["finished"]))

    ray_cluster.run(range(count), replace(spec, analysis_key=analysis_key), config, on_result, task_rows=1)
    if lost:
        raise OutputError(
            f"{spec.target} is without {len(lost)} of {count} segments: the worker ended each time that it had one of them, "
            "as if killed (memory? the log of Ray says more)."
        )


def _restore_segments(
    segments: SegmentRestorer, runtime: tuple[tuple[int, ...], str, str], rows: list[int], emit: Callable[[Any], None]
) -> None:
    """In a worker."""
    for number in rows:
        emit({"finished": segments.restore(number), "runtime": runtime})
