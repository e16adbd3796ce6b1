"""The second pass over a video: restores each frame's faces, filters them over time and pastes them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, repeat
from typing import Any, Generic

import cv2
import numpy as np
from numpy.typing import NDArray

from ..faces.align import Alignment, align_face, crop_face, read_region
from ..faces.blend import Canvas, blur_small_face
from ..faces.fidelity import keep_input
from ..faces.identity import PersonMatch, StrengthTrial
from ..faces.postprocess import MaskModels, match_color, tone_and_mask
from ..images.image import FloatImage, ImageData
from ..options import RestoreOptions, VideoOptions
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, StageTimer
from .analysis import FrameLike, FrameT, VideoAnalysis
from .frame_ranges import FrameRanges
from .planes import Planes, aligned_boxes
from .reader import DecodedFrame
from .region_mask import RegionMask
from .temporal_filter import GUIDE_SIZE, RADIUS, FilteredFrame, FlickerMetric, TrackFilter
from .threaded_pipeline import ThreadedPipeline, timed
from .track_plan import TrackPlan
from .track_selection import skip_reasons

PREFETCH_DEPTH = 2  # frames between two stages

Layer = Any
"""A crop or a mask: an array [S, S, 3] or [S, S]. In `TorchFrameRestorer` a tensor [3, S, S] or [S, S] on the device."""


@dataclass(frozen=True, eq=False)
class FaceSlot:
    """One face of one frame."""

    plan: TrackPlan
    alignment: Alignment
    image: ImageData

    def crop(self) -> Layer:
        return crop_face(self.image, self.alignment)


@dataclass(frozen=True, eq=False)
class MaskedFace:
    """One restored face of one frame."""

    slot: FaceSlot
    crop: Layer
    """The input crop, downscaled like the restored one."""
    layers: list[Layer]
    """The images to filter over time: the restored crop, and its mask if that changes between frames."""
    mask: Layer | None
    """A mask that is constant over time."""

    @property
    def number(self) -> int:
        return self.slot.plan.track.number


@dataclass(frozen=True, eq=False)
class RestoredFaces(Generic[FrameT]):
    """A frame with its faces after the network."""

    frame: FrameT
    faces: list[MaskedFace] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class FilteredFace:
    """One restored face of one frame after the filter."""

    face: MaskedFace
    filtered: FilteredFrame

    @property
    def restored(self) -> Layer:
        return self.filtered.layers[0]

    @property
    def mask(self) -> Layer | None:
        return self.filtered.layers[1] if len(self.filtered.layers) > 1 else self.face.mask


Recolor = Callable[[RestoreOptions, FilteredFace], Layer]
"""Returns the restored crop with the colors that it is pasted with."""


@dataclass(frozen=True, eq=False)
class RestoredFrame(Generic[FrameT]):
    """A frame with restored faces."""

    frame: FrameT
    image: ImageData
    """The frame's own image if no face was restored, or if `planes` has the result."""
    mask: FloatImage | None
    """[H, W] in [0, 1]: restored share of each pixel; None if no face was restored, or if `planes` has the result."""
    tracks: tuple[int, ...]
    """Numbers of the restored tracks."""
    notes: tuple[str, ...] = ()
    flicker: Mapping[int, tuple[FlickerMetric, FlickerMetric]] = field(default_factory=dict)
    """By track: difference to the previous frame along the flow, before and after the filter."""
    planes: Planes | None = None
    """The changed planes, if `FrameRestorer.prefers_planes` and the restorer has them instead of an image."""


@dataclass
class FrameRestorer:
    """Restores the frames of a video, with everything that they share."""

    options: RestoreOptions
    mask_models: MaskModels
    plans: Sequence[TrackPlan]
    reasons: Mapping[int, str | None]
    """By track: the reason to skip it, or None."""
    rate: float
    """Frames per second."""
    temporal_smoothing: float
    frame_size: tuple[int, int]
    """Width and height in pixels."""
    max_memory: int | None = None
    region_mask: RegionMask | None = None
    timer: StageTimer = field(default_factory=StageTimer)
    depth: int = PREFETCH_DEPTH
    """Frames between two stages."""
    ranges: FrameRanges | None = None
    """The frames to restore; None: all."""
    filters: dict[int, TrackFilter] = field(default_factory=dict)
    """Filters by track."""
    trials: Mapping[int, StrengthTrial] = field(default_factory=dict)
    """By track: the strength that the option `min_identity` allows, see `keep_identity`."""
    prefers_planes: bool = False
    """Whether changed planes may be returned instead of an image."""

    @classmethod
    def from_analysis(
        cls,
        analysis: VideoAnalysis,
        restorer: FaceRestorer,
        options: RestoreOptions,
        video: VideoOptions,
        rate: float,
        progress: Progress,
        region_mask: RegionMask | None = None,
        max_memory: int | None = None,
        timer: StageTimer | None = None,
        matches: Mapping[int, PersonMatch | None] | None = None,
        ranges: FrameRanges | None = None,
    ) -> FrameRestorer:
        """Select the faces of a video and load their networks. `matches` and `ranges` as in `skip_reasons`.

        Raises the errors of `ModelSet.mask_models` and `ModelSet.runner_for`."""
        reasons = skip_reasons(analysis, options, video, rate, matches, ranges)
        selected = [track for track in analysis.tracks if reasons[track.number] is None]
        plans = [TrackPlan.for_track(track, analysis, restorer, options, progress) for track in selected]
        mask_models = restorer.models.mask_models(options, progress)
        timer = timer or StageTimer()
        smoothing = video.temporal_smoothing
        args = (smoothing, analysis.size, max_memory, region_mask, timer)
        return cls(options, mask_models, plans, reasons, rate, *args, ranges=ranges)

    @property
    def filter_radius(self) -> int:
        """Number of frames before and after a frame on which it depends."""
        return RADIUS if self.temporal_smoothing > 0 else 0

    @property
    def network_sizes(self) -> dict[int, int]:
        """Resolution of each track's network (px)."""
        return {one.track.number: one.size for one in self.plans}

    @property
    def preroll(self) -> int:
        """Number of frames that are needed before the first output frame: the filter's radius, and one more to measure the
        flicker of the first frame."""
        return self.filter_radius + 1 if self.filter_radius else 0

    def face_counts(self, frame_count: int) -> NDArray[np.int64]:
        """Return [N] how many faces are restored in each frame of the video."""
        counts = np.zeros(frame_count, np.int64)
        for plan in self.plans:
            counts[plan.track.first : plan.track.last + 1] += 1
        if self.ranges is not None:
            counts[[not self.ranges.is_near(number, self.preroll) for number in range(frame_count)]] = 0
        return counts

    def run(
        self, frames: Iterable[FrameT], frame_range: range, pipeline: ThreadedPipeline
    ) -> Iterator[RestoredFrame[FrameT]]:
        """Yield the restored frames of `frame_range`. Each stage runs in a thread of `pipeline`.

        `frames` must begin `preroll` frames earlier and end `filter_radius` frames later, if the video has them. Raises
        `OutOfMemory`, and the errors of reading the frames."""
        self.filters.clear()
        decoded = pipeline.prefetch(timed(frames, self.timer, "decode"), self.depth)
        restored = pipeline.prefetch(self._restore_frames(decoded, pipeline), self.depth)
        filtered = pipeline.prefetch(self._filter_frames(restored), self.depth)
        output = ((one, faces) for one, faces in filtered if one.frame.number in frame_range)
        masks: Iterator[FloatImage | None] = repeat(None)
        if self.region_mask is not None:
            own = islice(self.region_mask.masks(frame_range.start, self.frame_size), len(frame_range))
            masks = pipeline.prefetch(own, self.depth)
        return (self._paste_faces(one, faces, mask) for (one, faces), mask in zip(output, masks))

    def _restore_frames(self, frames: Iterable[FrameT], pipeline: ThreadedPipeline) -> Iterator[RestoredFaces[FrameT]]:
        """Yield each frame with its restored faces. Faces of several frames share a batch of the network."""
        batch = max((one.network.plan_batches(self.max_memory).batch_size for one in self.plans), default=1)
        group: list[tuple[FrameT, list[FaceSlot]]] = []
        for frame in frames:
            group.append((frame, self._face_slots(frame)))
            if sum(len(places) for _, places in group) >= batch or len(group) >= batch:
                yield from self._run_network(group, pipeline)
                group = []
        yield from self._run_network(group, pipeline)

    def _face_slots(self, frame: FrameLike) -> list[FaceSlot]:
        slots: list[FaceSlot] = []
        if self.ranges is not None and not self.ranges.is_near(frame.number, self.preroll):
            return slots
        for plan in self.plans:
            landmarks = plan.track.landmarks_at(frame.number)
            if landmarks is None:
                continue
            alignment = align_face(landmarks, plan.size, self.options.template)
            if not isinstance(alignment, str) and not alignment.source_region(*frame.image.size).empty:
                slots.append(FaceSlot(plan, alignment, frame.image))
        return slots

    def _run_network(
        self, group: Sequence[tuple[FrameT, list[FaceSlot]]], pipeline: ThreadedPipeline
    ) -> Iterator[RestoredFaces[FrameT]]:
        by_size: dict[int, list[tuple[int, FaceSlot]]] = {}
        for n, (_, slots) in enumerate(group):
            for slot in slots:
                by_size.setdefault(slot.plan.size, []).append((n, slot))
        restored = [RestoredFaces(frame) for frame, _ in group]
        for items in by_size.values():
            args = (items, lambda item: item[1].crop(), self.timer, self.max_memory, pipeline.raise_if_stopped)
            for output in items[0][1].plan.network.run_batches(*args):  # no name may keep the network in memory
                n, slot = output.item
                if output.note is not None:
                    restored[n].notes.append(f"face {slot.plan.track.number}: {output.note}")
                if output.restored is not None:
                    with self.timer.stage("mask"):
                        restored[n].faces.append(self._mask_face(slot, output.crop, output.restored))
        yield from restored

    def _mask_face(self, slot: FaceSlot, crop: Layer, restored: Layer) -> MaskedFace:
        plan = slot.plan
        width = min(1.0, plan.typical_face.width * slot.alignment.scale / slot.alignment.size)
        restored, mask = tone_and_mask(
            self.options, self.mask_models, crop, restored, width, is_monochrome=plan.is_monochrome
        )
        restored = keep_input(self.options.fidelity, slot.image, slot.alignment, crop, restored)
        layers = [_downscale(restored, plan.downscale)]
        if mask is not None and (self.mask_models.face_parser is not None or self.options.preserve):
            layers, mask = [*layers, mask], None
        return MaskedFace(slot, _downscale(crop, plan.downscale), layers, mask)

    def _filter_frames(
        self, frames: Iterable[RestoredFaces[FrameT]]
    ) -> Iterator[tuple[RestoredFaces[FrameT], list[FilteredFace]]]:
        """Yield each frame when all of its faces are filtered."""
        waiting: deque[RestoredFaces[FrameT]] = deque()
        ready: dict[tuple[int, int], FilteredFrame] = {}

        def collect(last_number: float) -> None:
            for track, one in self.filters.items():
                ready.update({(track, done.number): done for done in one.pop_ready(last_number)})
            for plan in self.plans:
                if plan.track.last + self.filter_radius < last_number:
                    self.filters.pop(plan.track.number, None)

        def finish(one: RestoredFaces[FrameT]) -> tuple[RestoredFaces[FrameT], list[FilteredFace]]:
            return one, [FilteredFace(face, ready.pop((face.number, one.frame.number))) for face in one.faces]

        for one in frames:
            number = one.frame.number
            with self.timer.stage("smooth"):
                for face in one.faces:
                    if face.number not in self.filters:
                        self.filters[face.number] = self._new_filter()
                    self.filters[face.number].add(number, self._flow_guide(face.crop), face.layers)
                    face.layers.clear()  # while the frame waits, they would need as much memory as the filter
                collect(number)
            waiting.append(one)
            while waiting and waiting[0].frame.number + self.filter_radius <= number:
                yield finish(waiting.popleft())
        with self.timer.stage("smooth"):
            collect(math.inf)
        while waiting:
            yield finish(waiting.popleft())

    def _new_filter(self) -> TrackFilter:
        return TrackFilter(self.temporal_smoothing, self.filter_radius)

    def _flow_guide(self, crop: Layer) -> Layer:
        """Return the guide [G, G, 3], with G at most about `GUIDE_SIZE`."""
        return _downscale(crop, max(1, crop.shape[0] // GUIDE_SIZE))

    def _paste_faces(
        self, one: RestoredFaces[FrameT], faces: Sequence[FilteredFace], region_mask: FloatImage | None
    ) -> RestoredFrame[FrameT]:
        frame = one.frame
        weight = 1.0 if self.ranges is None else self.ranges.weight(frame.number, self.rate)
        if not faces or weight == 0:
            return RestoredFrame(frame, frame.image, None, (), tuple(one.notes))
        tracks = tuple(sorted(face.face.number for face in faces))
        flicker = {face.face.number: (face.filtered.flicker_before, face.filtered.flicker_after) for face in faces}
        whole = RestoredFrame(frame, frame.image, None, tracks, tuple(one.notes), flicker)
        with self.timer.stage("blend"):
            return self._composite(whole, faces, weight, region_mask)

    def _composite(
        self, one: RestoredFrame[FrameT], faces: Sequence[FilteredFace], weight: float, region_mask: FloatImage | None
    ) -> RestoredFrame[FrameT]:
        """Paste the faces with this weight. `one` is the frame before, with the tracks of the faces."""
        frame = one.frame
        planes = frame.native if isinstance(frame, DecodedFrame) and self.prefers_planes else None
        if isinstance(planes, Planes) and not self.options.grain:  # which is measured in the whole image
            return self._composite_planes(one, planes, faces, weight, region_mask)
        canvas = Canvas(frame.image, region_mask)
        for paste in self._pastes(one, faces, weight, _recolor):
            canvas.paste(*paste, self.options.grain)
        if canvas.result is canvas.original:
            return replace(one, tracks=())
        return replace(one, image=canvas.result, mask=canvas.mask)

    def _composite_planes(
        self,
        one: RestoredFrame[FrameT],
        planes: Planes,
        faces: Sequence[FilteredFace],
        weight: float,
        region_mask: FloatImage | None,
    ) -> RestoredFrame[FrameT]:
        """Do the same to the planes, and read only the parts of the image that have faces."""
        image, changed = one.frame.image, planes
        regions = {face: read_region(image, face.face.slot.alignment) for face in faces}
        for region in aligned_boxes(regions.values(), planes.layout, planes.size):
            part, inside = image.part(region), [face for face in faces if region.contains(regions[face])]
            canvas = Canvas(part, None if region_mask is None else region_mask[region.slices])
            for crop, mask, alignment, strength in self._pastes(one, inside, weight, _recolor):
                canvas.paste(crop, mask, alignment.relative_to_region(region), strength)
            if canvas.result is not part:
                changed = changed.apply_difference(part, canvas.result, canvas.mask > 0, region)
        return replace(one, tracks=()) if changed is planes else replace(one, planes=changed)

    def _pastes(
        self, one: RestoredFrame[FrameT], faces: Sequence[FilteredFace], weight: float, recolor: Recolor
    ) -> Iterator[tuple[Layer, Layer | None, Alignment, float]]:
        """Yield crop, mask, alignment and strength of each face of a frame with this weight."""
        for face in faces:
            plan = face.face.slot.plan
            strength = self._strength(plan, one.frame.number, weight)
            yield recolor(self.options, face), face.mask, face.face.slot.alignment, strength

    def _strength(self, plan: TrackPlan, number: int, weight: float) -> float:
        """Return the strength of a face in a frame with this weight."""
        trial = self.trials.get(plan.track.number)
        strength = self.options.strength if trial is None or trial.strength is None else trial.strength
        return weight * strength * plan.track.fade_weight(number, self.rate)


def _recolor(options: RestoreOptions, one: FilteredFace) -> Layer:
    restored = match_color(options, one.face.crop, one.restored, one.mask)
    return blur_small_face(restored, one.face.slot.plan.typical_face)


def _downscale(layer: FloatImage, factor: int) -> FloatImage:
    if factor == 1:
        return layer
    side = layer.shape[0] // factor
    return np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA), np.float32)
