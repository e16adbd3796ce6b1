"""Restore Video (GPEN)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..gpen_core import CHOICES, MissingExtra, ProgressEvent, RestoreOptions, VideoOptions
from . import inputs, outputs, tensors, video_io
from .comfy import GpenModelType, NodeOutput, folded, io, schema, ui
from .host_progress import Reporter
from .model import GpenModel, require
from .restore_base import RestoringNode

if TYPE_CHECKING:
    from ..gpen_core import VideoResult

PYAV = "PyAV is among ComfyUI's own requirements: install its requirements.txt into its Python environment again."


class RestoreVideo(RestoringNode):
    """Restores the faces of a film from file to file, steadily."""

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
                    default=inputs.VIDEO.temporal_smoothing,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much restored faces are evened out over time, where nothing moves but the camera or the "
                    "whole face; 0 takes every frame by itself.",
                ),
                io.Combo.Input(
                    "faces",
                    options=[*CHOICES, inputs.BY_INDEX],
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
                    default=inputs.VIDEO.min_duration,
                    min=0.0,
                    max=3600.0,
                    step=0.1,
                    tooltip="Who is in the video for less seconds is left alone.",
                    **folded(io.Float),
                ),
                *inputs.more_selection(),
                *inputs.more_appearance(),
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
        min_duration: float = inputs.VIDEO.min_duration,
        **values: Any,
    ) -> NodeOutput:
        """`values` are those of the other inputs. Raises `GpenError` for what cannot be, see `restore_video`, torch's out of
        memory error, on which ComfyUI makes room, and ComfyUI's own when interrupted; then no file is left."""
        options = inputs.options(order=inputs.DEFAULTS.order, **values)
        if options.strength == 0:
            return _output(video, "The strength is 0: nothing was done.")
        region = tensors.one_limit(region_mask, "video")
        with video_io.folder() as made, video_io.read_once(video_io.source_of(video, made), made) as source:
            asked = VideoOptions(temporal_smoothing, source.start, source.end, min_duration)
            try:
                result = _restored(require(model), source.path, made, options, asked, region, Reporter(cls.hidden.unique_id))
            except MissingExtra as error:
                raise MissingExtra(f"{error}\n{PYAV}") from error
        text = "\n".join([outputs.film_summary(result), *outputs.remarks(region_mask)])
        if any(result.restored):
            return _output(video_io.video_of(result.target), text)
        video_io.delete(made)
        return _output(video, f"{text}\nNothing was restored: the video is passed on as it came.")


def _restored(
    model: GpenModel,
    source: Path,
    made: Path,
    options: RestoreOptions,
    asked: VideoOptions,
    region: Any,
    reporter: Reporter,
) -> VideoResult:
    from ..gpen_core import restore_video, suffix_for  # bring OpenCV, which ComfyUI's start is spared

    target = made / f"restored{suffix_for(source, asked)}"
    with model.at_work(options, reporter) as max_memory:
        result = restore_video(
            source, target, model.restorer, options, asked, region_mask=region, progress=reporter, max_memory=max_memory
        )
    count = len(result.restored)
    reporter(ProgressEvent("join", count, count, "frame", "Done"))  # the last text stays on the node
    return result


def _output(video: Any, text: str) -> NodeOutput:
    """The text is an output, and shown on the node itself."""
    return NodeOutput(video, text, ui=ui.PreviewText(text))
