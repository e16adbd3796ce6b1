"""Films on many processes and machines: each segment is restored within a worker, into the work folder beside the output,
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
from ..pipeline.report import Machine
from ..pipeline.restorer import FaceRestorer
from ..video.restore_video import SegmentRestorer
from ..video.segments import Elsewhere, Finished
from . import ray_cluster
from .ray_cluster import Cluster, Hand


@dataclass(frozen=True)
class Work:
    """What a worker has to know of the film; see `ray_cluster.Work`."""

    load: Callable[[], FaceRestorer]
    source: Path
    target: Path
    options: RestoreOptions
    video: VideoOptions
    region_mask: FloatImage | None = None
    max_memory: int | None = None
    found_key: str = ""
    """Of the first pass, once it is done."""
    folder: str = field(default_factory=os.getcwd)

    def begin(self, threads: int) -> Hand:
        import torch

        torch.set_num_threads(threads)
        restorer = self.load()
        film = self.source, self.target, restorer, self.options, self.video, self.found_key
        segments = SegmentRestorer(*film, self.region_mask, self.max_memory, self.max_memory)
        return partial(_restore, segments, (restorer.sizes, str(restorer.device), str(restorer.dtype)))


def elsewhere(work: Work, which: Cluster, begun: Callable[[Machine], None] = lambda machine: None) -> Elsewhere:
    """For `restore_video`. A segment is restored again, up to three times, where its worker dies. `begun` hears once of what
    the workers compute on. Raises as `ray_cluster.run`, and `OutputError` where a segment is lost each time."""
    return partial(_run, work, which, begun)


def _run(
    work: Work,
    which: Cluster,
    begun: Callable[[Machine], None],
    found_key: str,
    count: int,
    finished: Callable[[Finished], None],
) -> None:
    lost: list[int] = []
    has_begun = False

    def heard(number: int, told: Any) -> None:
        nonlocal has_begun
        if told is None:
            lost.append(number)
            return
        if not has_begun:
            has_begun = True
            sizes, device, dtype = told["machine"]
            begun(Machine(tuple(sizes), device, dtype))
        finished(Finished(*told["finished"]))

    ray_cluster.run(range(count), replace(work, found_key=found_key), which, heard, at_once=1)
    if lost:
        raise OutputError(
            f"{work.target} is without {len(lost)} of {count} segments: the worker ended each time that it had one of them, "
            "as if killed (memory? the log of Ray says more)."
        )


def _restore(
    segments: SegmentRestorer, machine: tuple[tuple[int, ...], str, str], rows: list[int], tell: Callable[[Any], None]
) -> None:
    """In a worker."""
    for number in rows:
        tell({"finished": segments.restore(number), "machine": machine})
