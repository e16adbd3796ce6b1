"""Restores the frames of a video on the network's device: crops, masks, colors, filtering and pasting in torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, reduce

import torch
import torch.nn.functional as F

from ..errors import oom_context
from ..faces.align import crop_face, read_region
from ..faces.blend import Canvas
from ..images.image import FloatImage, ImageData, Region
from ..network.config import CPU_FLOAT32
from ..options import RestoreOptions, supported_on_device
from ..pipeline import device_check
from ..pipeline.devices import SMALLER_MODEL_HINT
from ..pipeline.restorer import FaceRestorer
from ..pipeline.torch_canvas import TorchCanvas
from ..pipeline.torch_image import DeviceImage, make_if_fits, to_array, to_tensor, upload
from ..pipeline.torch_postprocess import apply_tone, blur_small_face, build_mask, match_color
from ..pipeline.torch_resize import downsample
from ..pipeline.torch_upload import Upload, Uploader
from .analysis import FrameLike, FrameT
from .ffmpeg_rgb import FrameImages, convert_parts
from .frame_image import MakeImage, convert_now
from .frame_restorer import FaceSlot, FilteredFace, FrameRestorer, Layer, MaskedFace, RestoredFaces, RestoredFrame
from .planes import Planes
from .reader import DecodedFrame
from .temporal_filter import GUIDE_SIZE, TrackFilter
from .threaded_pipeline import ThreadedPipeline
from .torch_frame import DeviceFrame, images_for_device
from .torch_planes import apply_difference
from .torch_temporal_filter import TorchTrackFilter


def frame_restorer_type(restorer: FaceRestorer, options: RestoreOptions) -> type[FrameRestorer]:
    """Return the frame restorer of the networks' device if it supports these options, else that of the CPU.

    In a video, `min_identity` only sets strengths, which both support."""
    is_on_device = supported_on_device(replace(options, min_identity=0.0)) and device_check.supports_image_ops(
        restorer.device
    )
    return TorchFrameRestorer if is_on_device and device_check.passes(FILTER, restorer.device) else FrameRestorer


def second_pass_images(frame_restorer: FrameRestorer) -> MakeImage:
    """Return what makes images that are converted to RGB where their faces are restored, and only the parts needed."""
    if not frame_restorer.prefers_planes or not frame_restorer.plans:
        return convert_now
    is_on_device = isinstance(frame_restorer, TorchFrameRestorer)
    make = images_for_device(frame_restorer.plans[0].models.device) if is_on_device else convert_now
    return FrameImages(convert_parts) if make is convert_now else make


@dataclass(frozen=True, eq=False)
class _DeviceSlot(FaceSlot):
    """One face of one frame, of which the part with faces is on the device."""

    device: torch.device
    device_image: DeviceImage | None
    """Shared by the faces of the frame; None if it does not fit into the device's memory."""

    def crop(self) -> Layer:
        if self.device_image is None:
            return to_tensor(crop_face(self.image, self.alignment), self.device)
        return self.device_image.crop(self.alignment)


@dataclass
class TorchFrameRestorer(FrameRestorer):
    """A `FrameRestorer` for the options of `supported_on_device`.

    The part of a frame with faces is uploaded once: its planes, or an image in its own sample type. RGB, crops and masks
    stay on the device. The changed part comes back: of the planes if they are preferred, else of the image. Once a frame
    does not fit into the device's memory, OpenCV crops and pastes the faces."""

    is_too_large: bool = field(default=False, init=False)
    """Whether a frame did not fit."""
    _uploads: dict[int, Upload[DeviceImage]] = field(default_factory=dict, init=False)
    """By frame: uploads that were started before its faces are cropped."""

    def _restore_frames(self, frames: Iterable[FrameT], pipeline: ThreadedPipeline) -> Iterator[RestoredFaces[FrameT]]:
        self._uploads.clear()
        if self.plans:
            uploader = Uploader.from_environment(self._device)
            if uploader.is_async:
                frames = pipeline.prefetch(self._start_uploads(frames, uploader), self.depth)
        return super()._restore_frames(frames, pipeline)

    @property
    def _device(self) -> torch.device:
        return self.plans[0].models.device

    def _start_uploads(self, frames: Iterable[FrameT], uploader: Uploader) -> Iterator[FrameT]:
        for frame in frames:
            started = self._upload(frame.image, super()._face_slots(frame), uploader)
            if started is not None:
                self._uploads[frame.number] = started
            yield frame

    def _upload(self, image: ImageData, slots: Sequence[FaceSlot], uploader: Uploader) -> Upload[DeviceImage] | None:
        """Upload the part of a frame with faces. None without faces, and if it does not fit."""
        if not slots or self.is_too_large:
            return None
        region = reduce(Region.union, (read_region(image, slot.alignment) for slot in slots))
        started = make_if_fits(lambda: uploader.start(partial(upload, image, region, self._device)))
        self.is_too_large |= started is None
        return started

    def _face_slots(self, frame: FrameLike) -> list[FaceSlot]:
        slots = super()._face_slots(frame)
        if not slots:
            return slots
        started = self._uploads.pop(frame.number, None) or self._upload(frame.image, slots, Uploader(self._device))
        device_image = None if started is None else started.get()
        return [_DeviceSlot(slot.plan, slot.alignment, frame.image, self._device, device_image) for slot in slots]

    def _mask_face(self, slot: FaceSlot, crop: Layer, restored: Layer) -> MaskedFace:
        plan = slot.plan
        restored = apply_tone(self.options, crop, restored, is_monochrome=plan.is_monochrome)
        mask = build_mask(self.options, self.mask_models, restored, is_aligned=False)
        layers = [_downscale(restored, plan.downscale)]
        if mask is not None and self.mask_models.face_parser is not None:
            layers, mask = [*layers, mask], None
        crop = _downscale(crop, plan.downscale)
        if self.options.color != "match":  # then only the flow needs it
            crop = self._flow_guide(crop)
        return MaskedFace(slot, crop, layers, mask)

    def _new_filter(self) -> TrackFilter:
        return TorchTrackFilter(self.temporal_smoothing, self.filter_radius)

    def _flow_guide(self, crop: Layer) -> Layer:
        return _downscale(crop, max(1, crop.shape[-1] // GUIDE_SIZE))

    def _filter_frames(
        self, frames: Iterable[RestoredFaces[FrameT]]
    ) -> Iterator[tuple[RestoredFaces[FrameT], list[FilteredFace]]]:
        with oom_context("filtering this video's faces on the device", f"{SMALLER_MODEL_HINT}, or use the CPU"):
            yield from super()._filter_frames(frames)

    def _composite(
        self, one: RestoredFrame[FrameT], faces: Sequence[FilteredFace], weight: float, region_mask: FloatImage | None
    ) -> RestoredFrame[FrameT]:
        slot, canvas = faces[0].face.slot, Canvas(one.frame.image, region_mask)
        assert isinstance(slot, _DeviceSlot)
        device_image = slot.device_image
        device_canvas = None if device_image is None else make_if_fits(lambda: TorchCanvas(canvas, device_image))
        if device_canvas is None:
            self.is_too_large = True
            return super()._composite(one, [_on_cpu(face) for face in faces], weight, region_mask)
        for paste in self._pastes(one, faces, weight, _recolor):
            device_canvas.paste(*paste)
        if self.prefers_planes and isinstance(one.frame, DecodedFrame) and isinstance(one.frame.native, Planes):
            uploaded = device_image.planes if isinstance(device_image, DeviceFrame) else None
            planes = apply_difference(one.frame.native, device_canvas, uploaded)
            return replace(one, tracks=()) if planes is None else replace(one, planes=planes)
        device_canvas.close()
        if canvas.result is canvas.original:
            return replace(one, tracks=())
        return replace(one, image=canvas.result, mask=canvas.mask)


def _run_filter(device: torch.device) -> torch.Tensor:
    """[N]: a small track after the filter, with a crop and a mask of each frame."""
    noise = torch.rand((3, 16, 16), generator=torch.Generator().manual_seed(7), **CPU_FLOAT32)
    smooth = F.interpolate(noise[None], size=(64, 64), mode="bilinear", align_corners=False)[0]
    track = TorchTrackFilter(1.0, 2)
    for number in range(4):
        crop = (smooth.roll(number, 2) + 0.02 * noise.roll(number, 1).repeat(1, 4, 4)).clamp(0, 1).to(device)
        track.add(number, crop, [crop, crop[0]])
    return torch.cat([layer.flatten() for one in track.pop_ready() for layer in one.layers])


FILTER = device_check.DeviceCheck(
    _run_filter,
    tolerance=4e-3,  # one 8-bit level
    warning="Using the CPU instead of %s to filter, crop and paste the faces of videos: %s",
)
"""Flow, warping and filtering. If a device fails, OpenCV is used."""


def _downscale(layer: torch.Tensor, factor: int) -> torch.Tensor:
    return layer if factor == 1 else downsample(layer, factor)


def _recolor(options: RestoreOptions, one: FilteredFace) -> Layer:
    restored = match_color(options, one.face.crop, one.restored, one.mask)
    return blur_small_face(restored, one.face.slot.plan.typical_face)


def _on_cpu(one: FilteredFace) -> FilteredFace:
    """Return the face with arrays."""
    face = replace(one.face, crop=to_array(one.face.crop), mask=None if one.face.mask is None else to_array(one.face.mask))
    return FilteredFace(face, replace(one.filtered, layers=[to_array(layer) for layer in one.filtered.layers]))
