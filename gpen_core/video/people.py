"""Lists the people of a video without restoring them, and keeps their tracks for `restore_video`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, OutputError, oom_context
from ..faces.detection.retinaface import Detector
from ..faces.thumbnail import THUMBNAIL_SIZE, face_thumbnail
from ..files.atomic_write import write_bytes
from ..files.path_checks import AnyPath, exists, local_path
from ..images.image import RGB8
from ..optional_packages import version_guard
from ..options import RestoreOptions, VideoOptions
from ..pipeline.identity_models import IdentityModels
from ..progress import Progress, ReplayableProgress, StageTimer, no_progress
from ..version import __version__
from .analysis import VideoAnalysis
from .check_video import probe_video, raise_if_past_end
from .first_pass import analyze_video
from .frame_ranges import FrameRanges
from .join_people import TrackPeople, join_people, load_embedder
from .probe import VideoInfo
from .reader import FrameReader
from .torch_frame import images_for_device
from .track import Track, tracks_by_person
from .track_people import EmbeddingSource
from .track_selection import skip_reasons
from .work_dir import cache_key, networks_digest, source_digest

TRACKS_FOLDER = "tracks"
INPUTS_FILE = "inputs.json"


@dataclass(frozen=True, eq=False)
class Person:
    """A person of a video: all tracks with the same `Track.person`."""

    number: int
    """The number for the option `faces`: that of the first track."""
    tracks: tuple[Track, ...]
    times: tuple[tuple[float, float], ...]
    """First and last second of each track."""
    size: float
    """Median side of the face in pixels."""
    reason: str | None
    """Why it would be skipped, or None."""
    thumbnail: RGB8
    """[160, 160, 3]: the face, aligned, in the frame where it is largest and surest."""

    @property
    def frame_count(self) -> int:
        return sum(map(len, self.tracks))


@dataclass(frozen=True, eq=False)
class VideoPeople:
    """The people of a video."""

    info: VideoInfo
    analysis: VideoAnalysis
    people: tuple[Person, ...]
    notes: tuple[str, ...] = ()
    """Notes about defects of the video, and about how tracks were joined to people."""


@oom_context("this video", "choose a smaller detection size")
@version_guard("av")
def find_people(
    source: AnyPath,
    detector: Detector,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    *,
    tracks_folder: AnyPath | None = None,
    progress: Progress | None = None,
    identity: IdentityModels | None = None,
) -> VideoPeople:
    """Detect and track the faces of a video, as `restore_video` does.

    `tracks_folder`: folder in which the tracks are kept for `restore_video`. If it already has those of this video with
    these options, faces are not detected again. `identity`: the embedder for `VideoOptions.join_people`; without it, `auto`
    joins nobody and `on` raises `MissingWeights`. `progress` and errors are those of `restore_video`."""
    options, video, replay = (
        RestoreOptions.or_default(options),
        VideoOptions.or_default(video),
        ReplayableProgress(progress or no_progress),
    )
    source = local_path(source)
    info = probe_video(source, video)
    raise_if_past_end(info, video)
    inputs = analysis_inputs(source_digest(source, replay), detector, options, video)
    folder = None if tracks_folder is None else _tracks_path(local_path(tracks_folder, OutputError), inputs)
    identity = identity or IdentityModels(detector)
    load_embedder(identity, replay, video)
    analysis = None if folder is None else VideoAnalysis.load(folder)
    reader = FrameReader(info, video.start, video.end, video.interlaced)
    if analysis is None:
        frames = reader.frames(make_image=images_for_device(detector.device))
        args = (options, video, info.rate, replay, StageTimer({}))
        analysis = analyze_video(frames, reader, detector, *args, is_only_pass=True)
        if folder is not None:
            write_bytes(folder / INPUTS_FILE, json.dumps(inputs, indent=1).encode())
            analysis.save(folder)
    embeddings = EmbeddingSource(partial(reader.frames, timestamps=analysis.pts), replay, folder)
    analysis, notes = join_people(analysis, identity, video, embeddings)
    people = _group_tracks(analysis, reader, options, video)
    return VideoPeople(info, analysis, people, (*analysis.notes, *notes))


def analysis_inputs(content: str, detector: Detector, options: RestoreOptions, video: VideoOptions) -> dict[str, Any]:
    """Return everything that the first pass depends on, by name. `content`: the video's `source_digest`."""
    return {
        "version": __version__,
        "video": content,
        "detector": networks_digest([detector.network]),
        **{name: getattr(video, name) for name in ("start", "end", "ranges", "fps", "interlaced")},
        **{name: getattr(options, name) for name in ("confidence", "detection_size", "angles", "template")},
    }


def kept_inputs(tracks_folder: Path, inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the inputs of the kept tracks that suit these `analysis_inputs`: their own, or those without ranges."""
    whole = {**inputs, "ranges": ()}
    is_only_whole = not exists(_tracks_path(tracks_folder, inputs)) and exists(_tracks_path(tracks_folder, whole))
    return whole if is_only_whole else inputs


def load_kept_tracks(
    tracks_folder: Path, inputs: Mapping[str, Any], source: Path
) -> tuple[VideoAnalysis, TrackPeople | None]:
    """Load the tracks that `find_people` kept for these `analysis_inputs`, and their people if it compared any.

    Raises `InputError` if the folder has none, or only those of other videos or options."""
    folder = _tracks_path(tracks_folder, inputs)
    analysis = VideoAnalysis.load(folder)
    if analysis is not None:
        return analysis, TrackPeople.load(folder, len(analysis.tracks))
    advice = f"Run: gpen detect {source} -o {tracks_folder}"
    others = [json.loads(path.read_bytes()) for path in sorted(tracks_folder.glob(f"{TRACKS_FOLDER}/*/{INPUTS_FILE}"))]
    same_video = [other for other in others if other.get("video") == inputs["video"]]
    if not same_video:
        raise InputError(f"{tracks_folder} has no tracks of {source}, or the video has changed. {advice}")
    named = {
        {"ranges": "range"}.get(name, name).replace("_", "-")
        for name, value in inputs.items()
        if not _same(same_video[-1].get(name), value)
    }
    raise InputError(
        f"The tracks of {source} in {tracks_folder} were made with another {', another '.join(sorted(named))}. "
        f"{advice}, with the same options."
    )


def _same(kept: Any, value: Any) -> bool:
    return bool(kept == json.loads(json.dumps(value)))


def _tracks_path(folder: Path, inputs: Mapping[str, Any]) -> Path:
    return folder / TRACKS_FOLDER / cache_key(inputs)


def _group_tracks(
    analysis: VideoAnalysis, reader: FrameReader, options: RestoreOptions, video: VideoOptions
) -> tuple[Person, ...]:
    """Return the people: all tracks with one `Track.person`, which `join_people` has set."""
    info = reader.info
    groups = tracks_by_person(analysis.tracks)
    reasons = skip_reasons(analysis, options, video, info.rate, ranges=FrameRanges.from_options(video, info, analysis))
    thumbnails = _thumbnails(analysis, reader, groups, options.template)

    def seconds(frame: int) -> float:
        return info.seconds_at(int(analysis.pts[frame]))

    return tuple(
        Person(
            number,
            tuple(tracks),
            tuple((seconds(track.first), seconds(track.last)) for track in tracks),
            float(np.median(np.concatenate([np.sqrt(track.areas) for track in tracks]))),
            next((reasons[track.number] for track in tracks), None),
            thumbnails[number],
        )
        for number, tracks in groups.items()
    )


def _thumbnails(
    analysis: VideoAnalysis, reader: FrameReader, groups: Mapping[int, Sequence[Track]], template: str
) -> dict[int, RGB8]:
    """Return the thumbnail of each person. A few frames are decoded again, near where they are."""
    by_frame: dict[int, list[tuple[int, Track]]] = {}
    for number, tracks in groups.items():
        frame, track = _best_view(tracks)
        by_frame.setdefault(frame, []).append((number, track))
    out = {number: np.full((THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3), 128, np.uint8) for number in groups}
    for number_of_frame, shown in sorted(by_frame.items()):
        image = next(reader.frames(number_of_frame, analysis.pts)).image
        for number, track in shown:
            thumbnail = face_thumbnail(image, track.landmarks[number_of_frame - track.first], template)
            if thumbnail is not None:
                out[number] = thumbnail
    return out


def _best_view(tracks: Sequence[Track]) -> tuple[int, Track]:
    """Return the frame with the largest product of score and size, and its track."""
    best, at = -1.0, (tracks[0].first, tracks[0])
    for track in tracks:
        values = np.nan_to_num(track.scores) * np.sqrt(track.areas)
        n = int(values.argmax())
        if values[n] > best:
            best, at = float(values[n]), (track.first + n, track)
    return at
