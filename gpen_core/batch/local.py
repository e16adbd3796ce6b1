"""Restore many images on this machine. Reading, restoring and writing overlap."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

from ..errors import FaceNumberError, GpenError, InputError, OutOfMemory, OutputError, describe_unexpected, oom_context
from ..faces.select import raise_if_missing
from ..images import codecs
from ..images.codecs import EncodedImage
from ..images.image import FloatImage, ImageData, to_luminance
from ..images.image_warnings import collect_warnings
from ..images.resized_metadata import with_dimensions
from ..options import RestoreOptions
from ..pipeline import devices
from ..pipeline.inputs import RestoreInput, scale_factor
from ..pipeline.report import ImageOutcome
from ..pipeline.restore_result import RestoreResult
from ..pipeline.restorer import FaceRestorer
from ..pipeline.upscale import output_size
from ..progress import Progress
from . import image_io
from .file_keys import same_file_key
from .image_io import format_of, write_bytes
from .job import ImageJob, input_locations
from .locations import Location

log = logging.getLogger(__name__)

Out = TypeVar("Out")

DATA_ERRORS = (ValueError, TypeError, LookupError, ArithmeticError)
"""Errors in the network that fail one image only. A RuntimeError can come from the device, so it ends the run."""


def process_all(
    restorer: FaceRestorer,
    jobs: Iterable[ImageJob],
    options: RestoreOptions,
    on_finished: Callable[[ImageOutcome], None],
    progress: Progress | None = None,
    max_memory: int | None = None,
) -> list[ImageOutcome]:
    """Do the same as `process`, and return all outcomes."""
    outcomes: list[ImageOutcome] = []

    def record(outcome: ImageOutcome) -> None:
        outcomes.append(outcome)
        on_finished(outcome)

    process(restorer, jobs, options, record, progress, max_memory)
    return outcomes


def process(
    restorer: FaceRestorer,
    jobs: Iterable[ImageJob],
    options: RestoreOptions,
    on_finished: Callable[[ImageOutcome], None],
    progress: Progress | None = None,
    max_memory: int | None = None,
    is_done: Callable[[ImageJob], bool] | None = None,
    require_all_faces: bool = False,
    measure_identity: bool = False,
) -> None:
    """Restore the images in order. Jobs are fetched one ahead and not kept, so there may be any number of them.

    While one image is in the network, the next is read and the previous is written, each in its own thread. `on_finished`
    is called in order, once the file of an image is complete. `on_finished`, `progress` and the iterator `jobs` run in the
    caller's thread. A failed image does not stop the others, but missing or rejected weights do (`WeightsError`). If the run
    ends early, the current write is finished and reported first.

    `max_memory` limits the network's activations in bytes, and the images in memory to the same number again. Without it,
    half of the machine's memory is the limit. An image that does not fit next to others waits. An image that exceeds the
    limit alone is rejected before it is decoded (`OutOfMemory`). The size is estimated from the header.

    Jobs for which `is_done` returns True are skipped without reading them.

    An image fails if it has faces but none with a requested number. With `require_all_faces` it also fails if some of the
    requested numbers are missing. An image without a face does not fail. `measure_identity`: see
    `FaceRestorer.restore_batch`."""

    def restore(restore_input: RestoreInput) -> RestoreResult:
        (result,) = restorer.restore_batch(
            [restore_input], options, progress=progress, max_memory=max_memory, measure_identity=measure_identity
        )
        raise_if_missing(options.faces, len(result.faces), require_all_faces)
        return result

    # Reading images catches warnings. That is process-wide, and overlapping threads may not restore the filters.
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=2, thread_name_prefix="gpen") as pool:
        pipeline = _Pipeline(pool, on_finished, max_memory, devices.pixel_memory_budget(max_memory), options.upscale)
        try:
            pipeline.run((_pending_job(job, is_done) for job in jobs), restore)
        finally:
            pipeline.stop()


@dataclass(frozen=True, eq=False)
class _JobImages:
    """The decoded files of a job."""

    restore_input: RestoreInput
    base: EncodedImage
    notes: tuple[str, ...] = ()
    """Warnings from reading."""


@dataclass(eq=False)
class _PendingJob:
    """A job in progress."""

    job: ImageJob
    outcome: ImageOutcome
    is_finished: bool = False
    """The job is skipped or failed, so nothing is read."""
    required_bytes: int | None = None
    """The memory in bytes that its images need; None until it is computed."""


def _pending_job(job: ImageJob, is_done: Callable[[ImageJob], bool] | None) -> _PendingJob:
    pending = _PendingJob(job, ImageOutcome(job))
    try:
        if is_done is not None and is_done(job):
            pending.outcome.status, pending.is_finished = "skipped", True
    except InputError as error:  # a store did not answer
        pending.outcome.error, pending.is_finished = error, True
    return pending


@dataclass
class _Pipeline:
    """Keeps at most three images in memory: one being read, one in the network, one being written.

    The first is read and the last is written in the caller's thread, because there is nothing to overlap with. A single
    image therefore starts no thread."""

    pool: ThreadPoolExecutor
    on_finished: Callable[[ImageOutcome], None]
    max_memory: int | None
    memory_budget: int | None
    """Memory limit in bytes for all images in memory; None if unknown."""
    upscale: float = 1.0
    reading: Future[_JobImages | None] | None = None
    writing: tuple[ImageOutcome, Future[None]] | None = None

    def run(self, jobs: Iterator[_PendingJob], network: Callable[[RestoreInput], RestoreResult]) -> None:
        previous, current = None, next(jobs, None)
        while current is not None:
            following = next(jobs, None)
            self.restore(previous, current, following, network)
            previous, current = current, following

    def restore(
        self,
        previous: _PendingJob | None,
        current: _PendingJob,
        following: _PendingJob | None,
        network: Callable[[RestoreInput], RestoreResult],
    ) -> None:
        """Restore and write one image. If memory runs out while other images are loaded, try once more without them."""
        job, outcome = current.job, current.outcome
        images = None if current.is_finished else self._read(current)
        if following is not None and not following.is_finished:
            self._prefetch(following, [one for one in (previous, current) if one is not None])
        result = None if images is None else _attempt(outcome, lambda: network(images.restore_input), DATA_ERRORS)
        if images is not None and result is None and isinstance(outcome.error, OutOfMemory) and self._release_neighbors():
            log.warning("%s: out of memory while other images were loaded; trying again without them.", job.source)
            outcome.error = None
            result = _attempt(outcome, lambda: network(images.restore_input), DATA_ERRORS)
        self._finish_writing()
        if images is None or result is None:
            self._report(outcome)
        elif following is not None:
            self.writing = outcome, self.pool.submit(_write, job, outcome, images.base, result, images.notes)
        else:
            _write(job, outcome, images.base, result, images.notes)
            self._report(outcome)

    def stop(self) -> None:
        if self.reading is not None:
            self.reading.cancel()
        self._finish_writing()

    def _release_neighbors(self) -> bool:
        """Release the previous and the next image. Returns False if there are none."""
        was_shared = self.writing is not None or self.reading is not None
        if self.reading is not None and not self.reading.cancel():
            wait([self.reading])
        self.reading = None  # it is read again later
        self._finish_writing()
        return was_shared

    def _read(self, pending: _PendingJob) -> _JobImages | None:
        job, outcome = pending.job, pending.outcome
        reading, self.reading = self.reading, None
        images = None if reading is None else reading.result()
        if images is not None or (reading is not None and not isinstance(outcome.error, OutOfMemory)):
            return images
        self._finish_writing()  # the write may be of this file, see `_prefetch`
        if isinstance(outcome.error, OutOfMemory):
            log.warning("%s: out of memory while other images were loaded; reading it again without them.", job.source)
        outcome.error = None  # from the first attempt
        return _read(job, outcome, self.max_memory, self.upscale)

    def _prefetch(self, pending: _PendingJob, others: list[_PendingJob]) -> None:
        """Start reading the next image if it fits into memory and is not the output of an unwritten result.

        A plan only has such a conflict if an image is named twice with --in-place. Other callers may create more."""
        targets = {same_file_key(one.job.target) for one in others}
        if targets.isdisjoint(map(same_file_key, input_locations(pending.job))) and self._fits([*others, pending]):
            self.reading = self.pool.submit(_read, pending.job, pending.outcome, self.max_memory, self.upscale)

    def _fits(self, jobs: list[_PendingJob]) -> bool:
        """Whether the images of the last job fit into memory with the others. Waits for the current write if that helps."""
        if self.memory_budget is None:
            return True
        needs = [self._required_bytes(one) for one in jobs]
        if sum(needs) > self.memory_budget >= sum(needs[-2:]):
            self._finish_writing()
        return sum(needs[-2:]) <= self.memory_budget

    def _required_bytes(self, pending: _PendingJob) -> int:
        if pending.required_bytes is None:
            pending.required_bytes = (
                0 if pending.is_finished else int(sum(map(_decode_memory, input_locations(pending.job))) * self.upscale**2)
            )
        return pending.required_bytes

    def _finish_writing(self) -> None:
        if self.writing is None:
            return
        outcome, written = self.writing
        wait([written])  # if interrupted, `stop` finishes the write
        self.writing = None
        written.result()  # raises errors that `_attempt` does not catch
        self._report(outcome)

    def _report(self, outcome: ImageOutcome) -> None:
        try:
            self.on_finished(outcome)
        finally:
            _drop_pixels(outcome)


def _drop_pixels(outcome: ImageOutcome) -> None:
    outcome.result = None
    error: BaseException | None = outcome.error
    while error is not None:  # the frames of a traceback keep local variables with pixels alive
        error.__traceback__ = None
        error = error.__cause__


def _attempt(
    outcome: ImageOutcome, operation: Callable[[], Out], caught: tuple[type[Exception], ...] = (Exception,)
) -> Out | None:
    """Return the result of `operation`, or None if this image failed, with the error in `outcome`.

    Unexpected errors of the types `caught` also fail only this image. Errors of weights, options and device are raised and
    end the run."""
    source = str(outcome.files.source)
    try:
        with oom_context("this image", "choose a smaller detection size, or the CPU"):
            return operation()
    except (InputError, FaceNumberError, OutputError, OutOfMemory) as error:
        outcome.error = error if source in str(error) else type(error)(f"{source}: {error}")
    except GpenError:
        raise
    except caught as error:
        outcome.error = GpenError(f"{source}: {describe_unexpected(error)} Use --debug to see where it happened.")
        outcome.error.__cause__ = error
    return None


def attempt(job: ImageJob, operation: Callable[[], None]) -> ImageOutcome:
    """Run `operation` for one image and return the outcome, with the image's own error. Raises other errors."""
    outcome = ImageOutcome(job)
    _attempt(outcome, operation)
    if outcome.error is None:
        outcome.status = "unchanged"
    return outcome


def _decode_memory(location: Location) -> int:
    try:
        return image_io.decode_memory(location)
    except Exception as error:  # reading the image raises it later
        log.debug("%s: the required memory is unknown: %s", location, error)
        return 0


def _read(job: ImageJob, outcome: ImageOutcome, max_memory: int | None, upscale: float) -> _JobImages | None:
    start = time.perf_counter()
    with collect_warnings() as found:
        images = _attempt(outcome, lambda: _read_files(job, max_memory, upscale))
    if images is not None:
        outcome.seconds["read"] = time.perf_counter() - start
        outcome.size = images.base.image.size
        images = replace(images, notes=tuple(text.removeprefix(f"{job.source}: ") for text in found))
    return images


def _read_files(job: ImageJob, max_memory: int | None, upscale: float) -> _JobImages:
    read = partial(image_io.read, max_memory=max_memory, max_pixels=job.max_pixels)
    encoded = read(job.source)
    base = encoded if job.background is None else read(job.background)
    if not image_io.is_same_format(job.base, job.target, base.format) or upscale != 1:  # fails before the work
        codecs.check_format(format_of(job.target, base.format), base.image, output_size(base.image.size, upscale))
    before_swap = None if job.before_swap is None else read(job.before_swap).image
    background = None if job.background is None else base.image
    region_mask = None if job.region_mask is None else _region_mask(read(job.region_mask).image, encoded.image)
    return _JobImages(RestoreInput(encoded.image, before_swap, background, region_mask, job.boxes), base)


def _region_mask(mask: ImageData, image: ImageData) -> FloatImage:
    """Return the luminance of a mask image, [H, W] in [0, 1]. Raises `InputError` if its aspect ratio is not the image's."""
    scale_factor(image.size, mask.size, "mask", allow_smaller=True)
    return to_luminance(mask)


def _write(
    job: ImageJob, outcome: ImageOutcome, encoded: EncodedImage, result: RestoreResult, read_notes: tuple[str, ...]
) -> None:
    outcome.seconds.update(result.seconds)
    start = time.perf_counter()
    notes = _attempt(outcome, lambda: _write_file(job, encoded, result, read_notes))
    if notes is not None:
        outcome.seconds["write"] = time.perf_counter() - start
        outcome.faces, outcome.notes, outcome.result = result.faces, (*result.notes, *notes), result
        outcome.detectable_sizes = result.smallest_face, result.largest_face
        outcome.status = "restored" if result.is_changed else "enlarged" if _is_upscaled(encoded, result) else "unchanged"
        outcome.size = result.image_data.size


def _is_upscaled(encoded: EncodedImage, result: RestoreResult) -> bool:
    return result.image_data.size != encoded.image.size


def _write_file(job: ImageJob, encoded: EncodedImage, result: RestoreResult, read_notes: tuple[str, ...]) -> tuple[str, ...]:
    """Write the result, and return notes on metadata that the file does not keep. A copied file keeps all."""
    format_name = format_of(job.target, encoded.format)
    is_upscaled = _is_upscaled(encoded, result)
    if result.is_changed or is_upscaled or not image_io.is_same_format(job.base, job.target, encoded.format):
        metadata = with_dimensions(encoded.metadata, result.image_data.size) if is_upscaled else encoded.metadata
        restored = EncodedImage(result.image_data, metadata, encoded.format, encoded.lossy)
        data, notes = codecs.encode_with_notes(restored, format_name, job.quality)
        write_bytes(job.target, data)
        return (*read_notes, *notes)
    if job.target != job.base:  # nothing was restored: copying the file loses nothing
        write_bytes(job.target, encoded.data)  # the bytes that were read; the file may have changed
    return ()
