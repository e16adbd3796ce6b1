"""Restores a video file: first pass, segments, then the output with all other streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

from ..errors import DeviceError, InputError, OutputError, oom_context
from ..faces.face import Face
from ..files.path_checks import AnyPath, local_path
from ..optional_packages import version_guard
from ..options import RestoreOptions, VideoOptions
from ..pipeline.devices import check_memory, pixel_memory_budget
from ..pipeline.people import references_digest
from ..pipeline.report import options_json
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress, ReplayableProgress, StageTimer, no_progress
from .alpha import check_opaque
from .analysis import FrameLike, VideoAnalysis
from .check_video import check_video, raise_if_faces_missing
from .encoding import IMAGE_SEQUENCE, Encoding
from .face_speed import seconds_per_face
from .first_pass import analyze_video
from .frame_memory import prefetch_depth
from .frame_ranges import FrameRanges
from .frame_restorer import FrameRestorer, RestoredFrame
from .join_people import TrackPeople, join_people, load_embedder
from .min_identity import keep_identity
from .mux import concatenate
from .pass_progress import RestoreProgress, SegmentsProgress
from .people import analysis_inputs, kept_inputs, load_kept_tracks
from .probe import VideoInfo
from .reader import DecodedFrame, FrameReader
from .region_mask import RegionMask, RegionMaskLike, open_region_mask
from .segments import SegmentExecutor, SegmentResult, SegmentStore, segment_ranges
from .temporal_filter import FlickerMetric
from .threaded_pipeline import ThreadedPipeline
from .timestamps import check_timestamps
from .torch_frame import images_for_device
from .torch_frame_restorer import frame_restorer_type, second_pass_images
from .track_people import EmbeddingSource, match_people
from .video_result import TrackOutcome, VideoResult
from .work_dir import WorkDir, cache_key, networks_digest, source_digest, source_state
from .writer import SegmentWriter


@dataclass
class _Run:
    """The state of one run."""

    info: VideoInfo
    reader: FrameReader
    restorer: FaceRestorer
    options: RestoreOptions
    video: VideoOptions
    encoding: Encoding
    work_dir: WorkDir
    progress: ReplayableProgress
    max_memory: int | None
    frame_memory: int | None
    region_mask: RegionMask | None
    tracks_folder: Path | None = None
    timer: StageTimer = field(default_factory=lambda: StageTimer({}))
    notes: list[str] = field(default_factory=list)
    """Notes for the result."""
    is_analyzed: bool = False
    """Whether an earlier run did the first pass."""
    face_seconds: float | None = None
    """Seconds per face, measured in the first pass."""

    @classmethod
    def open(
        cls,
        source: AnyPath,
        target: AnyPath,
        restorer: FaceRestorer,
        options: RestoreOptions,
        video: VideoOptions,
        region_mask: RegionMaskLike | None,
        progress: Progress,
        max_memory: int | None,
        frame_memory: int | None,
    ) -> _Run:
        """Check all that can be checked before any network is loaded. Arguments and errors are those of `restore_video`."""
        restorer.require_restoration("videos")
        check_memory(max_memory=max_memory, frame_memory=frame_memory)
        source, target = local_path(source), local_path(target, OutputError)
        info, encoding = check_video(source, target, options, video, frame_memory)
        reader = FrameReader(info, video.start, video.end, video.interlaced)
        mask = open_region_mask(region_mask, info, video)
        work_dir, tell = WorkDir(target), ReplayableProgress(progress)
        return cls(info, reader, restorer, options, video, encoding, work_dir, tell, max_memory, frame_memory, mask)

    @property
    def target(self) -> Path:
        return self.work_dir.target


@oom_context("this video", "choose a smaller detection size")
@version_guard("av")
def restore_video(
    source: AnyPath,
    target: AnyPath,
    restorer: FaceRestorer,
    options: RestoreOptions | None = None,
    video: VideoOptions | None = None,
    *,
    region_mask: RegionMaskLike | None = None,
    progress: Progress | None = None,
    max_memory: int | None = None,
    frame_memory: int | None = None,
    restart: bool = False,
    executor: SegmentExecutor | None = None,
    tracks_folder: AnyPath | None = None,
) -> VideoResult:
    """Restore the faces of a video (a file, or a folder of images) into `target`, and copy all other streams.

    All paths are strings or `os.PathLike`. Memory does not grow with the video's length. `target` appears only when it is
    complete. Finished segments are kept in a folder next to it. The next run with the same video, options and networks
    resumes from them, unless `restart` is true. `region_mask`: how much of each pixel may be restored. One mask [H, W] in
    [0, 1] of any size, masks [N, H, W] for each frame, or the path of an image, of a video or of a folder of images.
    `progress` counts bytes while the video is hashed, then frames, and may raise `Interrupted` to cancel. `max_memory`
    (bytes) limits the network, as in `FaceRestorer.restore_batch`. `frame_memory` (bytes; by default half of the machine's
    memory) limits frames and encoder; a video that cannot fit is refused by its header. With `executor`, other processes
    restore the segments. `tracks_folder`: folder with the tracks of `find_people`, so that faces are not detected again.
    Raises `InputError` if the source is not a video, has no frames, or has alpha or streams that the target cannot hold,
    and if `tracks_folder` has no tracks of this video with these options; `OptionsError` for invalid options;
    `FaceNumberError` for a face number that the video lacks; `OutputError` if the target cannot be written or another run is
    writing it; `MissingDependency` without PyAV; and the errors of `FaceRestorer.restore_batch`."""
    options, video, tell = RestoreOptions.or_default(options), VideoOptions.or_default(video), progress or no_progress
    run = _Run.open(source, target, restorer, options, video, region_mask, tell, max_memory, frame_memory)
    run.tracks_folder = None if tracks_folder is None else local_path(tracks_folder)
    restorer.prepare(options, run.progress)
    load_embedder(restorer.models.identity, run.progress, video)
    with run.work_dir.lock(restart):
        return _restore(run, executor)


def _restore(run: _Run, executor: SegmentExecutor | None) -> VideoResult:
    state, content = source_state(run.info.path), source_digest(run.info.path, run.progress)
    inputs: Mapping[str, Any] = analysis_inputs(content, run.restorer.detector, run.options, run.video)
    if run.tracks_folder is not None:
        inputs = kept_inputs(run.tracks_folder, inputs)
    analysis_key, analysis = cache_key(inputs), _analyze(run, inputs, is_local=executor is None)
    folder = run.work_dir.subfolder(analysis_key)
    embeddings = EmbeddingSource(partial(run.reader.frames, timestamps=analysis.pts), run.progress, folder, run.timer)
    analysis, people_notes = join_people(analysis, run.restorer.models.identity, run.video, embeddings)
    run.notes += people_notes
    raise_if_faces_missing(run.options.faces, len(analysis.tracks), run.info, run.video)
    if run.region_mask is not None:
        run.region_mask.check_count(analysis.frame_count, run.progress.replay)
    check_timestamps(run.reader, analysis.pts, run.target, run.encoding, folder)
    frame_restorer = _frame_restorer(run, analysis, embeddings)
    key = _segments_key(run, analysis, analysis_key) if executor is None or run.options.min_identity > 0 else None
    run.notes += keep_identity(frame_restorer, analysis, run.restorer.models.identity, embeddings, key)
    if executor is None:
        store = _segment_store(run, analysis, cache_key(key, frame_restorer.trials))
        missing = store.missing()
        done = len(store.ranges) - len(missing)
        frame_restorer.depth = _prefetch_depth(run, analysis, frame_restorer)
        _restore_missing(run, analysis, frame_restorer, store, missing)
    else:
        store, done = _run_executor(run, analysis, analysis_key, executor)
    if run.work_dir.other_runs([analysis_key, store.folder.name]):
        run.notes.append(f"{run.work_dir.folder} has segments of runs with other options. The option restart deletes them.")
    run.work_dir.raise_if_changed(run.info.path, state, content, run.progress)
    concatenate(store.files, run.reader, run.target, run.encoding, run.progress)
    result = _build_result(run, analysis, frame_restorer, store, done)
    note = run.work_dir.clear()
    return result if note is None else replace(result, notes=(*result.notes, note))


def _frame_restorer(run: _Run, analysis: VideoAnalysis, embeddings: EmbeddingSource) -> FrameRestorer:
    matches, notes = match_people(analysis.tracks, run.restorer.models.identity, run.options, embeddings)
    run.notes += notes
    args = (run.info.rate, run.progress, run.region_mask, run.max_memory, run.timer, matches)
    ranges = FrameRanges.from_options(run.video, run.info, analysis)
    restorer_type = frame_restorer_type(run.restorer, run.options)
    frame_restorer = restorer_type.from_analysis(analysis, run.restorer, run.options, run.video, *args, ranges=ranges)
    frame_restorer.prefers_planes = run.encoding.encoder != IMAGE_SEQUENCE
    return frame_restorer


def _prefetch_depth(run: _Run, analysis: VideoAnalysis, frame_restorer: FrameRestorer) -> int:
    plans, radius = frame_restorer.plans, frame_restorer.filter_radius
    return prefetch_depth(run.info, run.encoding, plans, radius, pixel_memory_budget(run.frame_memory), analysis.frame_count)


def _run_executor(
    run: _Run, analysis: VideoAnalysis, analysis_key: str, executor: SegmentExecutor
) -> tuple[SegmentStore, int]:
    """Let the executor restore the segments. Return them, and how many of them an earlier run finished."""
    ranges = segment_ranges(analysis.frame_count, analysis.cuts, run.info.rate)
    results: list[SegmentResult] = []
    events = SegmentsProgress(run.progress, analysis.frame_count, run.is_analyzed)

    def on_finished(one: SegmentResult) -> None:
        results.append(one)
        for stage, seconds in one.seconds.items():
            run.timer.seconds[stage] = run.timer.seconds.get(stage, 0.0) + seconds
        events.done(ranges[one.number], is_new=bool(one.seconds))

    before = set(run.work_dir.folder.glob("*/*.json"))
    executor(analysis_key, len(ranges), on_finished)
    names = sorted({one.folder_name for one in results})
    if len(names) != 1:
        raise DeviceError(
            f"The segments in {run.work_dir.folder} ({', '.join(names)}) were restored on different devices or in different "
            "precisions. Give all workers the same device and precision."
        )
    store = _segment_store(run, analysis, names[0])
    return store, len(before.intersection(store.reports))


class SegmentRestorer:
    """Restores segments of a video in another process, after the first pass; see `SegmentExecutor`.

    It writes them into the work folder of the run that waits for them. A local run can resume from them, too."""

    def __init__(
        self,
        source: AnyPath,
        target: AnyPath,
        restorer: FaceRestorer,
        options: RestoreOptions,
        video: VideoOptions,
        analysis_key: str,
        region_mask: RegionMaskLike | None = None,
        max_memory: int | None = None,
        frame_memory: int | None = None,
    ) -> None:
        """`analysis_key` is that of `SegmentExecutor`; the others are those of `restore_video`.

        Raises the errors of `restore_video`, and `InputError` if the result of the first pass is missing."""
        run = _Run.open(source, target, restorer, options, video, region_mask, no_progress, max_memory, frame_memory)
        analysis = VideoAnalysis.load(run.work_dir.folder / analysis_key)
        if analysis is None:
            raise InputError(
                f"A worker cannot find {run.work_dir.folder}, or it has no result of the first pass. Write the output into "
                "a folder that all machines share."
            )
        if run.region_mask is not None:
            run.region_mask.check_count(analysis.frame_count)
        restorer.prepare(options, run.progress)
        folder = run.work_dir.folder / analysis_key
        people = TrackPeople.load(folder, len(analysis.tracks))
        analysis = analysis if people is None else people.apply(analysis)
        embeddings = EmbeddingSource(partial(run.reader.frames, timestamps=analysis.pts), run.progress, folder)
        frame_restorer = _frame_restorer(run, analysis, embeddings)
        keep_identity(frame_restorer, analysis, restorer.models.identity, embeddings)  # as the waiting run has decided
        key = cache_key(_segments_key(run, analysis, analysis_key), frame_restorer.trials)
        self._run, self._analysis, self._frame_restorer = run, analysis, frame_restorer
        self._store = _segment_store(run, analysis, key)
        frame_restorer.depth = _prefetch_depth(run, analysis, frame_restorer)

    def restore(self, number: int) -> SegmentResult:
        """Restore a segment unless it is finished. Raises the errors of `restore_video`."""
        self._run.timer.seconds.clear()
        if self._store.is_missing(number):
            with oom_context("this video", "choose a smaller detection size"), version_guard("av"):
                _restore_missing(self._run, self._analysis, self._frame_restorer, self._store, [number])
        return SegmentResult(number, self._store.folder.name, dict(self._run.timer.seconds))


def _segment_store(run: _Run, analysis: VideoAnalysis, key: str) -> SegmentStore:
    return SegmentStore(run.work_dir.subfolder(key), segment_ranges(analysis.frame_count, analysis.cuts, run.info.rate))


def _segments_key(run: _Run, analysis: VideoAnalysis, analysis_key: str) -> str:
    """Return the key of everything that the segments depend on. All networks must be loaded."""
    people = [track.person for track in analysis.tracks]
    return cache_key(analysis_key, people, networks_digest(run.restorer.modules()), _second_pass_inputs(run))


def _second_pass_inputs(run: _Run) -> list[Any]:
    """Return the inputs of the second pass other than the first pass and the networks."""
    region_mask = None if run.region_mask is None else run.region_mask.digest
    device = [str(run.restorer.device), str(run.restorer.dtype)]
    references = references_digest(run.options)
    video = {name: value for name, value in asdict(run.video).items() if name != "join_people"}  # its result is in the key
    return [options_json(run.options), references, video, asdict(run.encoding), run.target.suffix, region_mask, device]


def _analyze(run: _Run, inputs: Mapping[str, Any], is_local: bool) -> VideoAnalysis:
    """Run the first pass, or load its result from the work folder or from the folder of tracks."""
    folder = run.work_dir.subfolder(cache_key(inputs))
    result = VideoAnalysis.load(folder)
    run.is_analyzed = result is not None or run.tracks_folder is not None
    if result is not None:
        return result
    if run.tracks_folder is not None:
        result, people = load_kept_tracks(run.tracks_folder, inputs, run.info.path)
        if people is not None:
            people.save(folder)
    else:
        frames = run.reader.frames(make_image=images_for_device(run.restorer.detector.device))
        frames = check_opaque(frames, run.info, run.encoding)
        args = (run.restorer.detector, run.options, run.video, run.info.rate, run.progress, run.timer)
        result = analyze_video(frames, run.reader, *args, measure=partial(_measure_face, run) if is_local else None)
    result.save(folder)
    return result


def _measure_face(run: _Run, frame: FrameLike, face: Face) -> float:
    args = (run.restorer, run.options, run.video, run.progress, run.max_memory)
    run.face_seconds = seconds_per_face(frame, face, *args)
    return run.face_seconds


def _restore_missing(
    run: _Run, analysis: VideoAnalysis, frame_restorer: FrameRestorer, store: SegmentStore, missing: Sequence[int]
) -> None:
    """Restore the missing segments. Adjacent ones run together, so that faces around their borders are restored once."""
    todo, faces = [store.ranges[n] for n in missing], frame_restorer.face_counts(analysis.frame_count)
    events = RestoreProgress(run.progress, faces, todo, run.face_seconds, run.is_analyzed)
    make_image = second_pass_images(frame_restorer)
    for _, group in groupby(enumerate(missing), lambda pair: pair[1] - pair[0]):
        numbers = [n for _, n in group]
        frame_range = range(store.ranges[numbers[0]].start, store.ranges[numbers[-1]].stop)
        first = max(0, frame_range.start - frame_restorer.preroll)
        frames = check_opaque(run.reader.frames(first, analysis.pts, make_image), run.info, run.encoding)
        until = min(analysis.frame_count, frame_range.stop + frame_restorer.filter_radius) - first
        events.begin(frame_range.start)
        with ThreadedPipeline(run.progress.replay) as pipeline:
            restored = frame_restorer.run(islice(frames, until), frame_range, pipeline)
            _write_segments(run, events, numbers, store, pipeline.prefetch(restored, frame_restorer.depth))


def _write_segments(
    run: _Run,
    events: RestoreProgress,
    numbers: Sequence[int],
    store: SegmentStore,
    restored: Iterator[RestoredFrame[DecodedFrame]],
) -> None:
    for n in numbers:
        frames: list[list[int]] = []
        flicker: dict[int, tuple[FlickerMetric, FlickerMetric]] = {}
        notes: list[str] = []
        with SegmentWriter(store.files[n], run.info, run.encoding) as writer:
            for one in islice(restored, len(store.ranges[n])):
                with run.timer.stage("encode"):
                    mask = None if one.mask is None else one.mask > 0
                    frame = one.frame if one.planes is None else replace(one.frame, native=one.planes)
                    writer.write(frame, None if mask is None else one.image, mask)
                frames.append(list(one.tracks))
                notes += [note for note in one.notes if note not in notes]
                for track, (before, after) in one.flicker.items():
                    sums = flicker.setdefault(track, (FlickerMetric(), FlickerMetric()))
                    sums[0].add(before)
                    sums[1].add(after)
                events.done(one.frame.number)
        if len(frames) < len(store.ranges[n]):
            last = store.ranges[n].start + len(frames)
            raise InputError(f"{run.info.path} ended at frame {last}, so it changed during the run. Run again.")
        flicker_sums = {str(track): [[one.weight, one.squares] for one in pair] for track, pair in flicker.items()}
        store.write_report(n, {"frames": frames, "flicker": flicker_sums, "notes": notes})


def _build_result(
    run: _Run, analysis: VideoAnalysis, frame_restorer: FrameRestorer, store: SegmentStore, done: int
) -> VideoResult:
    restored: list[tuple[int, ...]] = []
    flicker = {track.number: (FlickerMetric(), FlickerMetric()) for track in analysis.tracks}
    for n in range(len(store.ranges)):
        report = store.read_report(n)
        restored += [tuple(tracks) for tracks in report["frames"]]
        run.notes += [note for note in report["notes"] if note not in run.notes]
        for track, pair in report["flicker"].items():
            for total, one in zip(flicker[int(track)], pair):
                total.add(FlickerMetric(*one))
    counts = Counter(track for tracks in restored for track in tracks)
    networks = frame_restorer.network_sizes
    outcomes = [
        TrackOutcome(track, frame_restorer.reasons[n], networks.get(n), counts[n], *flicker[n], frame_restorer.trials.get(n))
        for n, track in ((track.number, track) for track in analysis.tracks)
    ]
    notes = tuple(dict.fromkeys([*run.notes, *analysis.notes, *run.reader.notes, *run.encoding.notes]))
    return VideoResult(
        run.info, run.target, analysis, tuple(outcomes), tuple(restored), run.timer.seconds, notes, (len(store.ranges), done)
    )
