"""What is decided for a track before its faces are restored: its network and its sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..faces.align import align_face
from ..faces.face import Face
from ..options import RestoreOptions
from ..pipeline.gpen_runner import GPENRunner
from ..pipeline.model_set import ModelSet
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, no_progress
from .analysis import VideoAnalysis
from .temporal_filter import GUIDE_SIZE
from .track import Track


@dataclass(frozen=True, eq=False)
class TrackPlan:
    """A track that will be restored."""

    track: Track
    size: int
    """Resolution of its network (px)."""
    models: ModelSet
    downscale: int
    """A power of two. Restored crops are downscaled by it, because the video has no more resolution."""
    is_monochrome: bool
    typical_face: Face
    """A face of its median size."""

    @classmethod
    def for_track(
        cls, track: Track, analysis: VideoAnalysis, restorer: FaceRestorer, options: RestoreOptions, progress: Progress
    ) -> TrackPlan:
        """Plan a track. Raises the errors of `ModelSet.runner_for`."""
        faces = [align_face(landmarks, 1, options.template) for landmarks in track.landmarks]
        side = max((one.side for one in faces if not isinstance(one, str)), default=1.0)
        size = restorer.models.runner_for(side, progress).network.size
        downscale = 1
        while size >= 2 * downscale * max(side, GUIDE_SIZE / 2):
            downscale *= 2
        x0, y0, x1, y1 = (float(v) for v in np.median(track.boxes, axis=0))
        typical_face = Face((x0, y0, x1, y1), 1.0, track.landmarks[len(track) // 2])
        return cls(track, size, restorer.models, downscale, track.number in analysis.monochrome_tracks, typical_face)

    @property
    def network(self) -> GPENRunner:
        """The network. The model `auto` may unload it for another track's network and load it again."""
        return self.models.runner_for(self.size, no_progress)
