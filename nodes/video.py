"""Restore Video (GPEN)."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import InputError, MissingDependency, RestoreOptions, VideoOptions
from . import inputs, loading, outputs, tensors, video_io
from .comfy import ExecutionBlocker, NodeOutput, io, schema, ui
from .host_progress import NodeProgress
from .model import GpenModel
from .options import FaceOptions, LookOptions, merge_restore_options, merge_video_options, refuse_image_inputs
from .restore_base import RestoreNodeBase, skip_reason

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..gpen_core import VideoResult

PYAV_HELP = "PyAV is one of ComfyUI's requirements. Install ComfyUI's requirements.txt into its Python environment again."
IMAGE_ONLY = "Videos do not support bounding boxes, aligned faces or a background."


class RestoreVideo(RestoreNodeBase):
    """Restore the faces of a video steadily over time, from file to file or from frames in memory."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_RestoreVideo",
            display_name="Restore Video (GPEN)",
            category="image/face",
            description="Restores the faces of a video with GPEN and keeps them steady over time. A video of any length is "
            "read and written frame by frame, and keeps its sound, subtitles and timestamps. A batch of frames works, too.",
            search_aliases=[
                "video face restoration",
                "restore video",
                "video",
                "film",
                "old film",
                "flicker",
                "deflicker",
                "gpen",
                "fix faces",
            ],
            inputs=[
                inputs.model(),
                inputs.strength(),
                inputs.faces(),
                *inputs.option_inputs(VideoOptions, names=("temporal_smoothing",)),
                io.Video.Input(
                    "video", optional=True, tooltip="A video, e.g. from Load Video. Connect either this or image."
                ),
                io.Image.Input(
                    "image", optional=True, tooltip="Frames of a video as a batch, in order. Connect either this or video."
                ),
                inputs.video_region_mask(),
                inputs.gpen_model(),
                inputs.face_options(),
                inputs.look_options(),
                inputs.mask_video(),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The restored video, in ComfyUI's temp folder. Use Save Video to keep it. If the input is "
                    "frames, nodes connected here do not run.",
                ),
                io.Image.Output(
                    display_name="image",
                    tooltip="The restored frames. If the input is a video, nodes connected here do not run.",
                ),
                io.Mask.Output(
                    display_name="face_mask",
                    tooltip="Blend mask of the restored faces in each frame. If the input is a video, nodes connected here "
                    "do not run.",
                ),
                io.String.Output(
                    display_name="summary",
                    tooltip="Number of people found and restored, and why others were skipped.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: str,
        temporal_smoothing: float,
        video: Any = None,
        image: torch.Tensor | None = None,
        gpen_model: GpenModel | None = None,
        region_mask: torch.Tensor | None = None,
        mask_video: Any = None,
        face_options: FaceOptions | None = None,
        look_options: LookOptions | None = None,
        **values: Any,
    ) -> NodeOutput:
        """`values` holds the other inputs. Raises the errors of `restore_video`, torch's out of memory error, which makes
        ComfyUI free memory, and ComfyUI's own exception when interrupted. After an error no file is left."""
        if (video is None) == (image is None):
            connected = "Both video and image are" if image is not None else "Neither video nor image is"
            raise InputError(f"{connected} connected. Connect one: a video from Load Video, or a batch of frames as image.")
        if region_mask is not None and mask_video is not None and not tensors.is_placeholder(region_mask):
            raise InputError("Both region_mask and mask_video are connected. Connect one of them.")
        face, look = face_options or FaceOptions(), look_options or LookOptions()
        refuse_image_inputs(face, look, IMAGE_ONLY)
        options = merge_restore_options(face, look, **values)
        video_options = merge_video_options(face, look, temporal_smoothing=temporal_smoothing)
        with NodeProgress(cls.hidden.unique_id) as reporter:

            def get_model() -> GpenModel:
                return loading.linked_or_loaded(gpen_model, model, reporter)

            if image is not None:
                return _restore_frames(get_model, image, options, video_options, region_mask, mask_video, reporter)
            return _restore_video(get_model, video, options, video_options, region_mask, mask_video, reporter)


def _restore_video(
    get_model: Callable[[], GpenModel],
    video: Any,
    options: RestoreOptions,
    video_options: VideoOptions,
    region_mask: torch.Tensor | None,
    mask_video: Any,
    reporter: NodeProgress,
) -> NodeOutput:
    """Restore the video from file to file."""
    if options.strength == 0:
        return _video_output(video, "Strength is 0: nothing was restored.")
    if tensors.is_empty(region_mask):
        return _video_output(video, outputs.EMPTY_MASK)
    with (
        video_io.temp_folder() as work_folder,
        video_io.delete_after_use(video_io.get_source(video, work_folder), work_folder) as source,
        video_io.mask_clip(mask_video, work_folder) as clip,
    ):
        region = clip or tensors.video_mask(region_mask)
        trimmed = replace(video_options, start=source.start, end=source.end)
        try:
            result = _restore_file(get_model(), source.path, work_folder, options, trimmed, region, reporter)
        except MissingDependency as error:
            raise MissingDependency(f"{error}\n{PYAV_HELP}") from error
    text = "\n".join([outputs.video_summary(result), *outputs.mask_notes(region_mask)])
    if any(result.restored):
        return _video_output(video_io.video_from_file(result.target), text)
    video_io.delete_folder(work_folder)
    return _video_output(video, f"{text}\nNothing was restored. The video is passed on unchanged.")


def _restore_file(
    model: GpenModel,
    source: Path,
    work_folder: Path,
    options: RestoreOptions,
    video_options: VideoOptions,
    region: Any,
    reporter: NodeProgress,
) -> VideoResult:
    from ..gpen_core import output_suffix, restore_video  # import OpenCV; imported late to keep ComfyUI's startup fast

    model.restorer.require_restoration("videos")
    target = work_folder / f"restored{output_suffix(source, video_options)}"
    with model.device_session(options, reporter) as max_memory:
        return restore_video(
            source,
            target,
            model.restorer,
            options,
            video_options,
            region_mask=region,
            progress=reporter,
            max_memory=max_memory,
        )


def _restore_frames(
    get_model: Callable[[], GpenModel],
    image: torch.Tensor,
    options: RestoreOptions,
    video_options: VideoOptions,
    region_mask: torch.Tensor | None,
    mask_video: Any,
    reporter: NodeProgress,
) -> NodeOutput:
    """Restore a batch of frames with `restore_sequence`."""
    from ..gpen_core import people_text, restore_sequence  # import OpenCV; imported late to keep ComfyUI's startup fast

    tensors.check_image(image)
    if reason := skip_reason(options, image, region_mask):
        return _frames_output(image, outputs.zero_mask(image), reason)
    region: Any = tensors.video_mask(region_mask, len(image))
    model = get_model()
    model.restorer.require_restoration("videos")
    passes = itertools.count()
    notes: list[str] = []

    def read_frames() -> Iterator[NDArray[Any]]:
        return tensors.iter_frames(image, "video", "frame", is_warned=next(passes) > 0)

    with contextlib.ExitStack() as stack:
        if mask_video is not None:
            folder = stack.enter_context(video_io.temp_folder())
            stack.callback(video_io.delete_folder, folder)
            region = stack.enter_context(video_io.mask_clip(mask_video, folder))
        max_memory = stack.enter_context(model.device_session(options, reporter))
        results = restore_sequence(
            model.restorer,
            read_frames,
            options,
            video_options,
            region_mask=region,
            progress=reporter,
            max_memory=max_memory,
            on_note=notes.append,
        )
        restored, mask, people = outputs.sequence_output(results, image)
    text = "\n".join([people_text(len(image), people), *notes, *outputs.mask_notes(region_mask)])
    return _frames_output(restored, mask, text)


def _video_output(video: Any, text: str) -> NodeOutput:
    """The text is an output. web/gpen_nodes.js also shows it on the node."""
    return NodeOutput(video, ExecutionBlocker(None), ExecutionBlocker(None), text, ui=ui.PreviewText(text))


def _frames_output(image: torch.Tensor, mask: torch.Tensor, text: str) -> NodeOutput:
    return NodeOutput(ExecutionBlocker(None), image, mask, text, ui=ui.PreviewText(text))
