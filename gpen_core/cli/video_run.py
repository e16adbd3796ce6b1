"""Restores the videos of a run of `gpen video` one after the other, with one model and one report."""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import (
    DeviceError,
    GpenError,
    InputError,
    Interrupted,
    MissingDependency,
    OutOfMemory,
    OutputError,
    UnsupportedPackage,
    WeightsError,
    describe_unexpected,
)
from ..files.path_checks import exists, is_folder
from ..progress import ProgressEvent, pluralize
from .exit_status import exit_status
from .model_loading import cluster_from_args, load_local, load_restorer, restorer_loader
from .progress_display import ProgressReporter, progress_reporter
from .report_text import seconds_text, skip_lines, statuses_text
from .run_report import open_run_report, report_names
from .terminal import print_input_error, print_summary
from .videos_time_left import VideosTimeLeft

if TYPE_CHECKING:
    from ..batch.video_plan import VideoJob, VideoPlan
    from ..options import RestoreOptions, VideoOptions
    from ..pipeline.report import ModelInfo, RuntimeInfo
    from ..pipeline.restorer import FaceRestorer
    from ..video.segments import SegmentExecutor
    from ..video.video_report import VideoOutcome
    from ..video.video_result import VideoResult

log = logging.getLogger(__name__)

RUN_ERRORS = (Interrupted, WeightsError, DeviceError, MissingDependency, UnsupportedPackage)
"""Errors that every other video would have, too. They end a run of several videos."""


def run_videos(args: argparse.Namespace, options: RestoreOptions, video: VideoOptions, plan: VideoPlan) -> int:
    """Restore all videos, write the report and return the exit status. The error of the only named video is raised."""
    return (_SingleRun if plan.is_single else _BatchRun)(args, options, video, plan).run()


class _Run:
    """What both kinds of runs share: the models, and the restoration of one video."""

    def __init__(self, args: argparse.Namespace, options: RestoreOptions, video: VideoOptions, plan: VideoPlan) -> None:
        self.args, self.options, self.video, self.plan = args, options, video, plan
        self.model_info: ModelInfo | None = None
        self.restorer: FaceRestorer | None = None
        self.names = report_names(args, options)
        self.frame_counts: dict[VideoJob, int | None] = {}
        """The approximate number of frames of each checked video."""

    def check(self, job: VideoJob) -> None:
        """Raise the errors that can be found before anything is downloaded or loaded."""
        from ..batch.video_plan import raise_if_unmatched
        from ..video.check_video import check_video
        from ..video.region_mask import open_region_mask

        raise_if_unmatched(job)
        info, _ = check_video(job.source, job.target, self.options, self.video, self.args.max_memory)
        open_region_mask(self.region_mask(job), info, self.video)
        self.frame_counts[job] = info.expected_frames(self.video.start, self.video.end)

    def region_mask(self, job: VideoJob) -> Path | None:
        return region_mask_for(job, self.args.region_mask, self.plan)

    @cached_property
    def time_left(self) -> VideosTimeLeft:
        """The time left of all videos, after they were checked."""
        return VideosTimeLeft(self.frame_counts)

    def load(self) -> None:
        """Load the networks. With Ray, they run the first pass, on the GPU if there is one."""
        if self.args.ray is None:
            self.model_info = self.restorer = load_restorer(self.args, self.options)
        else:
            cluster_from_args(self.args)
            self.restorer = load_local(self.args, self.options, "cpu" if self.args.device == "cpu" else "auto")

    def restore(self, job: VideoJob) -> VideoResult:
        """Restore one video and print its result."""
        from ..video.restore_video import restore_video
        from ..video.work_dir import OutputLocked, WorkDir

        assert self.restorer is not None
        args, start = self.args, time.monotonic()
        executor = None if args.ray is None else self._executor(job)
        with progress_reporter(args) as reporter:
            self.announce(job, reporter)
            try:
                result = restore_video(
                    job.source,
                    job.target,
                    self.restorer,
                    self.options,
                    self.video,
                    region_mask=self.region_mask(job),
                    progress=self.time_left.start(job, reporter),
                    max_memory=args.max_memory,
                    frame_memory=args.max_memory,
                    restart=args.restart,
                    executor=executor,
                    tracks_folder=args.tracks,
                )
            except (KeyboardInterrupt, Interrupted, OutOfMemory, OutputError) as error:
                work_dir = WorkDir(job.target)
                if work_dir.has_progress and not isinstance(error, OutputLocked):
                    reporter.note(f"Finished parts are kept in {work_dir.folder}. Run the same command to resume.")
                raise
            for note in result.notes:
                reporter.note(f"{job.source}: {note}")
        seconds = time.monotonic() - start
        if not result.segments[1]:
            self.time_left.finish(len(result.restored), seconds)
        print_summary(args, f"{job.target}: {result.summary} ({seconds_text(seconds)})")
        for line in _why_skipped(result, self.restorer, self.options):
            print_summary(args, f"  {line}")
        return result

    def announce(self, job: VideoJob, reporter: ProgressReporter) -> None:
        """Say which video comes next."""

    def _on_workers(self, machine: RuntimeInfo) -> None:
        """Called once for each video with Ray, with the device of the workers."""
        self.model_info = machine

    def _executor(self, job: VideoJob) -> SegmentExecutor:
        cluster = cluster_from_args(self.args)
        from ..batch import ray_video

        video_args = job.source, job.target, self.options, self.video, self.region_mask(job), self.args.max_memory
        spec = ray_video.VideoWorkerSpec(restorer_loader(self.args, self.options), *video_args)
        return ray_video.segment_executor(spec, cluster, self._on_workers)


class _SingleRun(_Run):
    """One named video. Its error ends the run."""

    def run(self) -> int:
        """Restore the video, write the report and return the exit status."""
        from ..files.atomic_write import check_folder_writable
        from ..video import video_report

        (job,) = self.plan.jobs
        if self.args.report is not None:
            check_folder_writable(self.args.report.parent, "--report")
        result, failure = None, None
        names = {**self.names, "input": str(job.source), "output": str(job.target)}
        try:
            if not (self.args.skip_existing and exists(job.target)):
                self.check(job)
                self.load()
                result = self.restore(job)
            else:
                print_summary(self.args, f"{job.target}: skipped, it already exists")
        except BaseException as error:
            failure = str(error) or type(error).__name__
            raise
        finally:
            if self.args.report is not None:
                from ..batch.report_files import JSON_LINES_SUFFIX
                from ..files.atomic_write import write_bytes

                indent = None if self.args.report.suffix.lower() == JSON_LINES_SUFFIX else 1
                text = video_report.report(self.model_info, names, self.options, self.video, result, failure, indent)
                write_bytes(self.args.report, text.encode())
        return 0


class _BatchRun(_Run):
    """Several videos. One that fails does not stop the others."""

    def __init__(self, args: argparse.Namespace, options: RestoreOptions, video: VideoOptions, plan: VideoPlan) -> None:
        super().__init__(args, options, video, plan)
        names = {**self.names, "video": dict(vars(video))}
        self.report = open_run_report(args, options, names, plan.left_out, "video")
        self.start = time.monotonic()
        self.errors: dict[VideoJob, GpenError] = {}
        """Errors that were found before anything was loaded."""
        self.people = self.restored_people = 0

    def run(self) -> int:
        """Restore the videos, write the report and return the exit status."""
        with self.report:
            self._check_all()
            todo = [job for job in self.plan.jobs if job not in self.errors and not self._is_skipped(job)]
            if todo:
                self.load()
                if self.args.ray is None and self.restorer is not None:
                    self.report.begin(self.restorer)
            try:
                for job in self.plan.jobs:
                    self._add(self._outcome(job))
            finally:
                self._print_summary()
        return exit_status(self.report.counts.errors, self.report.counts.total)

    def _check_all(self) -> None:
        """Find the videos that cannot be restored, and print why. Errors that all have are raised."""
        for job in self.plan.jobs:
            if not self._is_skipped(job):
                try:
                    self.check(job)
                except (InputError, OutputError, OutOfMemory) as error:
                    self._print_error(job, error)
                    self.errors[job] = error

    def _is_skipped(self, job: VideoJob) -> bool:
        return self.args.skip_existing and exists(job.target)

    def _outcome(self, job: VideoJob) -> VideoOutcome:
        """Restore a video unless it is skipped or has an error."""
        from ..video.video_report import VideoOutcome

        outcome = VideoOutcome(job.source, job.target, error=self.errors.get(job))
        if outcome.error is not None:
            return outcome
        if self._is_skipped(job):
            outcome.status = "skipped"
            print_summary(self.args, f"{job.target}: skipped, it already exists")
            return outcome
        try:
            outcome.result = self.restore(job)
        except RUN_ERRORS:
            raise
        except GpenError as error:
            outcome.error = error
        except Exception as error:
            outcome.error = GpenError(f"{describe_unexpected(error)} Use --debug to see where it happened.")
            outcome.error.__cause__ = error
        else:
            outcome.status = "restored" if any(outcome.result.restored) else "unchanged"
        if outcome.error is not None:
            self._print_error(job, outcome.error)
        return outcome

    def _print_error(self, job: VideoJob, error: GpenError) -> None:
        print_input_error(job.source, error)
        log.debug("Traceback:", exc_info=error)

    def _add(self, outcome: VideoOutcome) -> None:
        from ..video.people_summary import people_of_video

        self.report.add(outcome)
        if outcome.result is not None:
            people = people_of_video(outcome.result)
            self.people += len(people)
            self.restored_people += sum(person.restored > 0 for person in people)

    def announce(self, job: VideoJob, reporter: ProgressReporter) -> None:
        done, total = self.report.counts.total, len(self.plan.jobs)
        reporter(ProgressEvent("batch", done, total, "video", "Videos"))
        reporter.note(f"video {done + 1} of {total}: {job.source}")

    def _on_workers(self, machine: RuntimeInfo) -> None:
        if self.report.restorer is None and not self.report.counts.total:
            self.report.begin(machine)
        self.report.restorer = machine

    def _print_summary(self) -> None:
        """Print the totals, also if the run ended early."""
        from ..video.video_result import people_count_text

        counts, total = self.report.counts, len(self.plan.jobs)
        if not counts.total:
            return
        done = "" if counts.total == total else f"{counts.total:,} of "
        took = seconds_text(time.monotonic() - self.start)
        statuses = statuses_text(counts.statuses)
        print_summary(self.args, f"{done}{pluralize(total, 'video')} in {took}: {statuses}")
        if counts.statuses["restored"] + counts.statuses["unchanged"]:
            print_summary(self.args, people_count_text(self.people, self.restored_people))


def _why_skipped(result: VideoResult, restorer: FaceRestorer, options: RestoreOptions) -> Iterator[str]:
    """Yield the reasons why people were skipped or, if none was found, the detectable sizes and advice."""
    from ..faces.detection.pyramid import pyramid_detectable_sizes
    from ..pipeline.no_face import no_face_advice
    from ..video.people_summary import people_of_video

    if not result.tracks:
        size, scale_range = result.analysis.size, restorer.detector.scale_range
        yield no_face_advice(*pyramid_detectable_sizes(size, options.detection_size, scale_range))
    people = people_of_video(result)
    yield from skip_lines(
        {one.number: one.reason or "the options allow no frame of it" for one in people if not one.restored}
    )


def region_mask_for(job: VideoJob, path: Path | None, plan: VideoPlan) -> Path | None:
    """Return the region mask of a video: that of its name if a folder is given for several videos.

    Raises `InputError` if the folder has no mask for it, or several."""
    found = region_masks_of(job, path, plan)
    if path is not None and len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise InputError(f"{job.source} needs one mask of its name in {path}, but there is {names}. Add or remove masks.")
    return found[0] if found else None


def region_masks_of(job: VideoJob, path: Path | None, plan: VideoPlan) -> list[Path]:
    """Return the files that may be the region mask of a video. Raises `InputError` if the folder cannot be read."""
    if path is None or plan.is_single or not is_folder(path):
        return [] if path is None else [path]
    stem = job.source.name if is_folder(job.source) else job.source.stem
    try:
        return sorted(one for one in path.iterdir() if stem == (one.name if is_folder(one) else one.stem))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
