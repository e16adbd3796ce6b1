"""Face detection in any number of images, on the detector's device or on the CPU, in batches that fit into memory."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from ..errors import is_out_of_memory, oom_context
from ..faces.detection.retinaface import Detector
from ..faces.face import Box, Face
from ..faces.select import flag_implausible, sort_faces
from ..images.image import ImageData
from ..options import RestoreOptions
from ..progress import Progress, ProgressEvent, no_progress
from . import device_check
from .devices import ForkGuard, run_with_oom_backoff
from .inputs import load_image, raise_if_single
from .torch_image import UploadCache
from .torch_image_source import TorchImageSource

log = logging.getLogger(__name__)


@oom_context("these images", "choose a smaller detection size")
def detect_faces(
    detector: Detector,
    images: Iterable[object],
    options: RestoreOptions | None = None,
    near: Sequence[Box] | None = None,
    progress: Progress = no_progress,
) -> list[list[Face]]:
    """See `FaceRestorer.detect`. `near`: see `Detector.detect`."""
    ForkGuard.check()
    raise_if_single(images)
    options = RestoreOptions.or_default(options)
    found = detect_in_batches(detector, [(load_image(image), None) for image in images], options, progress, near=near)
    return [flag_implausible(sort_faces(faces, options.order)) for faces in found]


def detect_in_batches(
    detector: Detector,
    requests: Sequence[tuple[ImageData, Sequence[Box] | None]],
    options: RestoreOptions,
    progress: Progress,
    upload_cache: UploadCache | None = None,
    near: Sequence[Box] | None = None,
) -> Iterator[list[Face]]:
    """Detect faces. Images are downscaled on the detector's device if it supports that, else on the CPU.

    `progress` is called before each pass of the network."""
    on_tick = partial(progress, ProgressEvent("detect", 0, None, "image", "Detecting faces"))
    cache = upload_cache or UploadCache(0)

    def run(batch: Sequence[tuple[ImageData, Sequence[Box] | None]]) -> list[list[Face]]:
        args = ([one for one, _ in batch], options, [boxes for _, boxes in batch], on_tick)
        device = detector.device
        if device_check.supports_image_ops(device):
            try:
                return detector.detect(*args, partial(TorchImageSource, device=device, upload_cache=cache), near)
            except Exception as error:
                cache.clear()
                if len(batch) > 1 or not is_out_of_memory(error):
                    raise
            log.warning("The image does not fit on the device next to the face detector; downscaling it on the CPU.")
        return detector.detect(*args, near=near)

    for _, found in run_with_oom_backoff(requests, detector.batch_size, run, "image", "choose a smaller detection size"):
        yield from found
