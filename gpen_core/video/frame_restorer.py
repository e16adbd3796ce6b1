"""The second pass over a film: each frame's faces through the network, steadied over time, put back."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic

import cv2
import numpy as np
from numpy.typing import NDArray

from ..faces.align import Alignment, align, extract
from ..faces.blend import Canvas, soften_small
from ..faces.face import Face
from ..faces.postprocess import Masking, matched, shaped
from ..images.image import FloatImage, Picture
from ..options import RestoreOptions, VideoOptions
from ..pipeline.gpen_runner import LoadedNetwork, Output
from ..pipeline.inputs import resize_mask
from ..pipeline.model_set import Models
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, StageTimer, no_progress
from .analysis import Frame, OneFrame, Survey
from .temporal_filter import GUIDE, RADIUS, Steadied, Steadiness, TrackFilter
from .threaded_pipeline import Stages, timed
from .track import Track
from .track_selection import why_left

DEPTH = 2  # frames between two stages


@dataclass(frozen=True, eq=False)
class Chosen:
    """A track that is to be restored."""

    track: Track
    size: int
    """The side of its network in pixels."""
    models: Models
    reduced: int
    """By this power of two its crops are reduced before anything is done with them: more is not seen in the film."""
    is_one_tone: bool
    like: Face
    """A face of its usual size."""

    @classmethod
    def of(cls, track: Track, survey: Survey, restorer: FaceRestorer, options: RestoreOptions, progress: Progress) -> Chosen:
        """Raises as `Models.network_for`."""
        faces = [align(landmarks, 1, options.template) for landmarks in track.landmarks]
        side = max((one.side for one in faces if not isinstance(one, str)), default=1.0)
        size = restorer.models.network_for(side, progress).network.size
        reduced = 1
        while size >= 2 * reduced * max(side, GUIDE / 2):
            reduced *= 2
        x0, y0, x1, y1 = (float(v) for v in np.median(track.boxes, axis=0))
        like = Face((x0, y0, x1, y1), 1.0, track.landmarks[len(track) // 2])
        return cls(track, size, restorer.models, reduced, track.number in survey.of_one_tone, like)

    @property
    def network(self) -> LoadedNetwork:
        """Not kept here: the model `auto` may drop it to make room for another track's, and load it again."""
        return self.models.network_for(self.size, no_progress)


@dataclass(frozen=True, eq=False)
class _Place:
    """One face of one frame."""

    chosen: Chosen
    alignment: Alignment
    picture: Picture

    def crop(self) -> FloatImage:
        return extract(self.picture, self.alignment)


@dataclass(frozen=True, eq=False)
class _Shaped:
    """One restored face of one frame."""

    place: _Place
    crop: FloatImage
    """As it came in, reduced as what was restored is."""
    layers: Sequence[FloatImage]
    """What is filtered over time: the restored crop and, where it changes from frame to frame, its mask."""
    mask: FloatImage | None
    """One that does not change."""

    @property
    def number(self) -> int:
        return self.place.chosen.track.number


@dataclass(frozen=True, eq=False)
class _Worked(Generic[OneFrame]):
    """A frame whose faces have been through the network."""

    frame: OneFrame
    faces: list[_Shaped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Steady:
    shaped: _Shaped
    steadied: Steadied


@dataclass(frozen=True, eq=False)
class RestoredFrame(Generic[OneFrame]):
    """A frame of which the faces are restored."""

    frame: OneFrame
    picture: Picture
    """The frame's own where nothing was restored."""
    mask: FloatImage | None
    """[H, W] in [0, 1]: how much of each pixel is restored; None where nothing is."""
    tracks: tuple[int, ...]
    """Numbers of those that were restored in it."""
    notes: tuple[str, ...] = ()
    steadiness: Mapping[int, tuple[Steadiness, Steadiness]] = field(default_factory=dict)
    """By track: how far it differs from the frame before it along what moves, before and after the filter."""


@dataclass
class Restoring:
    """What all frames of a film have in common, and what was measured."""

    options: RestoreOptions
    masking: Masking
    chosen: Sequence[Chosen]
    reasons: Mapping[int, str | None]
    """By track: why it is left alone; None of those that are chosen."""
    rate: float
    """Frames a second."""
    temporal_smoothing: float
    max_memory: int | None = None
    region_mask: FloatImage | None = None
    """[H, W] in [0, 1] of the frames' size: how much of each pixel may be restored."""
    watch: StageTimer = field(default_factory=StageTimer)
    depth: int = DEPTH
    """Frames that wait between two stages."""
    filters: dict[int, TrackFilter] = field(default_factory=dict)
    """By track."""

    @classmethod
    def of(
        cls,
        found: Survey,
        restorer: FaceRestorer,
        options: RestoreOptions,
        video: VideoOptions,
        rate: float,
        progress: Progress,
        region_mask: NDArray[np.floating] | None = None,
        max_memory: int | None = None,
        watch: StageTimer | None = None,
    ) -> Restoring:
        """With the faces of the film chosen and their networks loaded. `region_mask` [H, W] is of any size. Raises as
        `Models.masking` and `Models.network_for`, and `InputError` for what is no mask."""
        reasons = why_left(found, options, video, rate)
        left = [track for track in found.tracks if reasons[track.number] is None]
        chosen = [Chosen.of(track, found, restorer, options, progress) for track in left]
        fitted = None if region_mask is None else resize_mask(region_mask, found.size)
        masking = restorer.models.masking(options, progress)
        watch = watch or StageTimer()
        return cls(options, masking, chosen, reasons, rate, video.temporal_smoothing, max_memory, fitted, watch)

    @property
    def radius(self) -> int:
        """How many frames to each side a frame depends on."""
        return RADIUS if self.temporal_smoothing > 0 else 0

    @property
    def networks(self) -> dict[int, int]:
        """By chosen track: the side of its network in pixels."""
        return {one.track.number: one.size for one in self.chosen}

    @property
    def run_up(self) -> int:
        """How many frames before the first that is wanted are needed: one more than it depends on, for the measure of how
        far it differs from the one before it."""
        return self.radius + 1 if self.radius else 0

    def run(self, frames: Iterable[OneFrame], wanted: range, stages: Stages) -> Iterator[RestoredFrame[OneFrame]]:
        """The frames of `wanted`, restored; `frames` begin `run_up` earlier and end `radius` later, as far as there are any.
        Each stage works in a thread of `stages`. Raises `OutOfMemory`, and what reading the frames raises."""
        self.filters.clear()
        decoded = stages.ahead(timed(frames, self.watch, "decode"), self.depth)
        restored = stages.ahead(self._restored(decoded, stages), self.depth)
        steadied = stages.ahead(self._steadied(restored), self.depth)
        return (self._pasted(one, faces) for one, faces in steadied if one.frame.number in wanted)

    def _restored(self, frames: Iterable[OneFrame], stages: Stages) -> Iterator[_Worked[OneFrame]]:
        """Each frame and its faces; several frames go through the network together where that takes faces in batches."""
        batch = max((one.network.plan(self.max_memory).batch for one in self.chosen), default=1)
        group: list[tuple[OneFrame, list[_Place]]] = []
        for frame in frames:
            group.append((frame, self._places(frame)))
            if sum(len(places) for _, places in group) >= batch or len(group) >= batch:
                yield from self._through_network(group, stages)
                group = []
        yield from self._through_network(group, stages)

    def _places(self, frame: Frame) -> list[_Place]:
        places = []
        for chosen in self.chosen:
            landmarks = chosen.track.landmarks_in(frame.number)
            if landmarks is None:
                continue
            alignment = align(landmarks, chosen.size, self.options.template)
            if not isinstance(alignment, str) and not alignment.region(*frame.picture.size).empty:
                places.append(_Place(chosen, alignment, frame.picture))
        return places

    def _through_network(
        self, group: Sequence[tuple[OneFrame, list[_Place]]], stages: Stages
    ) -> Iterator[_Worked[OneFrame]]:
        by_size: dict[int, list[tuple[int, _Place]]] = {}
        for n, (_, places) in enumerate(group):
            for place in places:
                by_size.setdefault(place.chosen.size, []).append((n, place))
        made = [_Worked(frame) for frame, _ in group]
        for items in by_size.values():
            for output in self._outputs(items, stages):
                n, place = output.item
                if output.note is not None:
                    made[n].notes.append(f"face {place.chosen.track.number}: {output.note}")
                if output.restored is not None:
                    with self.watch.stage("mask"):
                        made[n].faces.append(self._shaped(place, output.crop, output.restored))
        yield from made

    def _outputs(
        self, items: Sequence[tuple[int, _Place]], stages: Stages
    ) -> Iterator[Output[tuple[int, _Place], FloatImage]]:
        """Of places with the same network."""
        network = items[0][1].chosen.network
        return network.outputs(items, lambda item: item[1].crop(), self.watch, self.max_memory, stages.check)

    def _shaped(self, place: _Place, crop: FloatImage, restored: FloatImage) -> _Shaped:
        chosen = place.chosen
        width = min(1.0, chosen.like.width * place.alignment.scale / place.alignment.size)
        restored, mask = shaped(self.options, self.masking, crop, restored, width, is_one_tone=chosen.is_one_tone)
        layers = [_reduced(restored, chosen.reduced)]
        if mask is not None and (self.masking.face is not None or self.options.preserve):
            layers, mask = [*layers, mask], None
        return _Shaped(place, _reduced(crop, chosen.reduced), layers, mask)

    def _steadied(self, frames: Iterable[_Worked[OneFrame]]) -> Iterator[tuple[_Worked[OneFrame], list[_Steady]]]:
        """Each frame once the filters have finished all of its faces."""
        waiting: deque[_Worked[OneFrame]] = deque()
        ready: dict[tuple[int, int], Steadied] = {}

        def collect(upto: float) -> None:
            for track, one in self.filters.items():
                ready.update({(track, done.number): done for done in one.ready(upto)})
            for chosen in self.chosen:
                if chosen.track.last + self.radius < upto:
                    self.filters.pop(chosen.track.number, None)

        def taken(one: _Worked[OneFrame]) -> tuple[_Worked[OneFrame], list[_Steady]]:
            return one, [_Steady(face, ready.pop((face.number, one.frame.number))) for face in one.faces]

        for one in frames:
            number = one.frame.number
            with self.watch.stage("smooth"):
                for face in one.faces:
                    self._filter(face).add(number, _guide(face.crop), face.layers)
                collect(number)
            waiting.append(one)
            while waiting and waiting[0].frame.number + self.radius <= number:
                yield taken(waiting.popleft())
        with self.watch.stage("smooth"):
            collect(math.inf)
        while waiting:
            yield taken(waiting.popleft())

    def _filter(self, face: _Shaped) -> TrackFilter:
        if face.number not in self.filters:
            self.filters[face.number] = TrackFilter(self.temporal_smoothing, self.radius)
        return self.filters[face.number]

    def _pasted(self, one: _Worked[OneFrame], faces: Sequence[_Steady]) -> RestoredFrame[OneFrame]:
        frame = one.frame
        if not faces:
            return RestoredFrame(frame, frame.picture, None, (), tuple(one.notes))
        with self.watch.stage("blend"):
            canvas = Canvas(frame.picture, self.region_mask)
            for face in faces:
                self._paste(canvas, frame.number, face.shaped, face.steadied.layers)
        is_changed = canvas.result is not canvas.original
        tracks = tuple(sorted(face.shaped.number for face in faces)) if is_changed else ()
        steadiness = {face.shaped.number: (face.steadied.before, face.steadied.after) for face in faces}
        mask = canvas.mask if is_changed else None
        return RestoredFrame(frame, canvas.result, mask, tracks, tuple(one.notes), steadiness)

    def _paste(self, canvas: Canvas, number: int, face: _Shaped, layers: Sequence[FloatImage]) -> None:
        chosen, options = face.place.chosen, self.options
        restored, mask = layers[0], layers[1] if len(layers) > 1 else face.mask
        restored = soften_small(matched(options, face.crop, restored, mask), chosen.like)
        strength = options.strength * chosen.track.strength(number, self.rate)
        canvas.paste(restored, mask, face.place.alignment, strength, options.grain)


def _reduced(layer: FloatImage, factor: int) -> FloatImage:
    if factor == 1:
        return layer
    side = layer.shape[0] // factor
    return np.asarray(cv2.resize(layer, (side, side), interpolation=cv2.INTER_AREA), np.float32)


def _guide(crop: FloatImage) -> FloatImage:
    """[GUIDE, GUIDE, 3], or as large as the crop is where that is less."""
    return _reduced(crop, max(1, crop.shape[0] // GUIDE))
