"""Restores consecutive images in memory as a video."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import islice
from numbers import Real

from ..errors import InputError, OptionsError, oom_context
from ..faces.face import Face
from ..images.image import FloatImage, ImageData, to_image_data
from ..options import RestoreOptions, VideoOptions
from ..pipeline.devices import check_memory
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ReplayableProgress, no_progress, pluralize
from .analysis import VideoAnalysis
from .check_video import raise_if_image_only
from .first_pass import analyze_frames
from .frame_restorer import FrameRestorer, RestoredFrame
from .join_people import join_people, load_embedder
from .min_identity import keep_identity
from .pass_progress import RestoreProgress
from .region_mask import RegionMask, RegionMaskLike, open_mask
from .threaded_pipeline import ThreadedPipeline
from .torch_frame_restorer import frame_restorer_type
from .track_people import EmbeddingSource, match_people

SAME_IMAGES = "Each call must give the same images from the first one on: return a list, or a new generator."
Images = Callable[[], Iterable[object]]


@dataclass(frozen=True, eq=False)
class SequenceFrame:
    """One image with its index."""

    number: int
    image: ImageData

    @property
    def pts(self) -> int:
        return self.number


@dataclass(frozen=True, eq=False)
class SequenceResult:
    """The result for one image."""

    image: ImageData
    """The input's own image if no face was restored."""
    mask: FloatImage | None
    """[H, W] in [0, 1]: restored share of each pixel; None if no face was restored."""
    faces: tuple[Face, ...]
    """The tracked faces, in the order of their tracks. `reason` is why a face was skipped."""
    people: tuple[int, ...] = ()
    """For each face, the number of its person, which is that of the person's first track."""

    def __repr__(self) -> str:
        return f"SequenceResult({self.image!r}, {len(self.faces)} faces)"


def restore_sequence(
    restorer: FaceRestorer,
    images: Iterable[object] | Images,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    rate: float = 24.0,
    *,
    region_mask: RegionMaskLike | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Iterator[SequenceResult]:
    """Restore consecutive images of one size as `restore_video` does, and yield them one by one.

    `images`: a list or an array of images, each an array or anything that `RestoreInput.image` accepts, except paths; or a
    function that returns them, so that they need not be in memory together. It is called twice or, where faces are
    compared, more often, and must give the same images each time. `rate`: images per second, above 0. Cuts are detected,
    and faces are tracked and smoothed over time. Of `video`, only `temporal_smoothing`, `min_duration` and `join_people`
    apply. `on_note` is called with notes before the first result. `region_mask`, `progress`, `max_memory` and errors are
    those of `restore_video`. Raises `InputError`, too, for an iterator, and if a later call gives another number of images
    or another size, and `OptionsError` for an invalid rate."""
    options, video, progress_replay = (
        RestoreOptions.or_default(options),
        VideoOptions.or_default(video),
        ReplayableProgress(progress or no_progress),
    )
    check_memory(max_memory=max_memory)
    restorer.require_restoration("videos")
    raise_if_image_only(options)
    _raise_if_no_rate(rate)
    get_images = _as_function(images)

    def frames_from(first: int) -> Iterator[SequenceFrame]:
        return islice(_same_frames(get_images, analysis), first, None)

    identity = restorer.models.identity
    with oom_context("these images", "choose a smaller detection size"):
        load_embedder(identity, progress_replay, options, video)  # if it is loaded, people are joined, too
        analysis = analyze_frames(_frames(get_images), restorer.detector, options, rate, progress_replay)
        restorer.read_references(options, progress_replay)
        embeddings = EmbeddingSource(frames_from, progress_replay)
        analysis, notes = join_people(analysis, identity, video, embeddings)
        matches, person_notes = match_people(analysis.tracks, identity, options, embeddings)
        mask = None if region_mask is None else _region_mask(region_mask, rate, analysis.frame_count)
        args = (rate, progress_replay, mask, max_memory, None, matches)
        frame_restorer = frame_restorer_type(restorer, options).from_analysis(analysis, restorer, options, video, *args)
        for note in [*notes, *person_notes, *keep_identity(frame_restorer, analysis, identity, embeddings)]:
            on_note(note)
        events = RestoreProgress(progress_replay, frame_restorer.face_counts(analysis.frame_count))
        events.begin(0)
        with ThreadedPipeline(progress_replay.replay) as pipeline:
            for one in frame_restorer.run(_same_frames(get_images, analysis), range(analysis.frame_count), pipeline):
                yield _result(one, analysis, frame_restorer)
                events.done(one.frame.number)


def _as_function(images: Iterable[object] | Images) -> Images:
    if callable(images):
        return images
    if not isinstance(images, Iterable) or isinstance(images, Iterator):  # which gives its images only once
        raise InputError(
            f"images is of type {type(images).__name__}; expected a list, an array, or a function that returns the images."
        )
    return lambda: images


def _raise_if_no_rate(rate: object) -> None:
    if not isinstance(rate, Real) or not 0 < float(rate) < math.inf:
        raise OptionsError(f"rate is {rate!r}; expected images per second, such as 25.")


def _region_mask(mask: RegionMaskLike, rate: float, frame_count: int) -> RegionMask:
    opened = open_mask(mask, Fraction(rate).limit_denominator(1001))
    opened.check_count(frame_count)
    return opened


def _frames(images: Images) -> Iterator[SequenceFrame]:
    for number, one in enumerate(images()):
        yield SequenceFrame(number, to_image_data(one))


def _same_frames(images: Images, analysis: VideoAnalysis) -> Iterator[SequenceFrame]:
    """Yield the images of a later call. Raises `InputError` if they are not as many as in the first, or of another size."""
    count, expected = 0, analysis.frame_count
    for frame in _frames(images):
        count += 1
        if count > expected:
            break
        if frame.image.size != analysis.size:
            was, is_now = (f"{width}x{height}" for width, height in (analysis.size, frame.image.size))
            raise InputError(f"Image {frame.number} is {is_now}, but it was {was} in the first call. {SAME_IMAGES}")
        yield frame
    if count != expected:
        more = "more than " if count > expected else f"{count} instead of "
        raise InputError(f"A later call gave {more}{pluralize(expected, 'image')}. {SAME_IMAGES}")


def _result(one: RestoredFrame[SequenceFrame], analysis: VideoAnalysis, frame_restorer: FrameRestorer) -> SequenceResult:
    networks = frame_restorer.network_sizes
    faces, people = [], []
    for track in analysis.tracks:
        face = track.face_at(one.frame.number)
        if face is not None:
            is_restored, reason = track.number in one.tracks, frame_restorer.reasons[track.number]
            network = networks.get(track.number) if is_restored else None
            people.append(track.person)
            faces.append(replace(face, restored=is_restored, reason=reason, network=network))
    return SequenceResult(one.image, one.mask, tuple(faces), tuple(people))
