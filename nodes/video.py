"""Restore Video (GPEN)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import FACE_CHOICES, MissingDependency, ProgressEvent, RestoreOptions, VideoOptions
from . import inputs, outputs, tensors, video_io
from .comfy import GpenModelType, NodeOutput, advanced_optional, io, schema, ui
from .host_progress import NodeProgress
from .model import GpenModel, require_model
from .restore_base import RestoreNodeBase

if TYPE_CHECKING:
    from ..gpen_core import VideoResult

PYAV_HELP = "PyAV is among ComfyUI's own requirements: install its requirements.txt into its Python environment again."


class RestoreVideo(RestoreNodeBase):
    """Restores the faces of a video from file to file, steadily."""

    @classmethod
    def define_schema(cls) -> Any:
        return schema(
            node_id="GPEN_RestoreVideo",
            display_name="Restore Video (GPEN)",
            category="image/face",
            description="Restores the faces of a video with GPEN and keeps them steady over time. It is read and written "
            "frame by frame, however long it is; sound, subtitles and timestamps are kept.",
            search_aliases=["video face restoration", "video", "film", "flicker", "deflicker", "gpen", "fix faces", "keep"],
            inputs=[
                GpenModelType.Input("model", lazy=True, tooltip="From Load GPEN Model."),
                io.Video.Input("video", tooltip="From Load Video; of any length."),
                inputs.strength(1.0),
                io.Float.Input(
                    "temporal_smoothing",
                    default=inputs.VIDEO_DEFAULTS.temporal_smoothing,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much restored faces are evened out over time, where nothing moves but the camera or the "
                    "whole face; 0 takes every frame by itself.",
                ),
                io.Combo.Input(
                    "faces",
                    options=[*FACE_CHOICES, inputs.BY_INDEX],
                    default=inputs.DEFAULTS.faces,
                    tooltip="Which faces are restored, of each shot: all, the largest, or the one nearest to the middle. "
                    "For 'by index', the summary of a run says the numbers.",
                ),
                io.String.Input(
                    "indices",
                    default="0",
                    tooltip="With 'by index': numbers from 0 by first appearance in the video, such as 0,2 or 1-3.",
                ),
                inputs.confidence(),
                inputs.min_face_size(),
                *inputs.appearance(),
                io.Mask.Input(
                    "region_mask",
                    optional=True,
                    tooltip="Only here is anything restored: one mask for all frames, of any size. An empty one counts as "
                    "none.",
                ),
                io.Float.Input(
                    "min_duration",
                    default=inputs.VIDEO_DEFAULTS.min_duration,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    tooltip="Who is in the video for less seconds is left alone.",
                    **advanced_optional(io.Float),
                ),
                *inputs.advanced_selection(),
                *inputs.advanced_appearance(),
            ],
            outputs=[
                io.Video.Output(
                    display_name="video",
                    tooltip="The video with the restored faces, a file in ComfyUI's temp folder; Save Video keeps it.",
                ),
                io.String.Output(
                    display_name="summary",
                    tooltip="Faces followed through the video, restored, and left alone with the reason.",
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        video: Any,
        temporal_smoothing: float,
        model: GpenModel | None = None,
        region_mask: torch.Tensor | None = None,
        min_duration: float = inputs.VIDEO_DEFAULTS.min_duration,
        **values: Any,
    ) -> NodeOutput:
        """`values` are those of the other inputs. Raises `GpenError` for what cannot be, see `restore_video`, torch's out of
        memory error, on which ComfyUI makes room, and ComfyUI's own when interrupted; then no file is left."""
        options = inputs.restore_options(order=inputs.DEFAULTS.order, **values)
        if options.strength == 0:
            return _output(video, "The strength is 0: nothing was done.")
        region = tensors.mask_for(region_mask, "video")
        with (
            video_io.temp_folder() as work_folder,
            video_io.delete_after_use(video_io.get_source(video, work_folder), work_folder) as source,
        ):
            video_options = VideoOptions(
                temporal_smoothing=temporal_smoothing, start=source.start, end=source.end, min_duration=min_duration
            )
            try:
                result = _restore_file(
                    require_model(model),
                    source.path,
                    work_folder,
                    options,
                    video_options,
                    region,
                    NodeProgress(cls.hidden.unique_id),
                )
            except MissingDependency as error:
                raise MissingDependency(f"{error}\n{PYAV_HELP}") from error
        text = "\n".join([outputs.video_summary(result), *outputs.format_notes(region_mask)])
        if any(result.restored):
            return _output(video_io.video_from_file(result.target), text)
        video_io.delete_folder(work_folder)
        return _output(video, f"{text}\nNothing was restored: the video is passed on as it came.")


def _restore_file(
    model: GpenModel,
    source: Path,
    work_folder: Path,
    options: RestoreOptions,
    video_options: VideoOptions,
    region: Any,
    reporter: NodeProgress,
) -> VideoResult:
    from ..gpen_core import output_suffix, restore_video  # bring OpenCV, which ComfyUI's start is spared

    target = work_folder / f"restored{output_suffix(source, video_options)}"
    with model.device_session(options, reporter) as max_memory:
        result = restore_video(
            source,
            target,
            model.restorer,
            options,
            video_options,
            region_mask=region,
            progress=reporter,
            max_memory=max_memory,
        )
    count = len(result.restored)
    reporter(ProgressEvent("join", count, count, "frame", "Done"))  # the last text stays on the node
    return result


def _output(video: Any, text: str) -> NodeOutput:
    """The text is an output, and shown on the node itself."""
    return NodeOutput(video, text, ui=ui.PreviewText(text))
