"""Outputs of the restoring nodes: image, mask, crops and a summary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import comfy.model_management as management
import torch

from ..gpen_core import faces_text
from . import tensors
from .comfy import ExecutionBlocker, NodeOutput, io, ui

if TYPE_CHECKING:
    from ..gpen_core import Face, PersonOutcome, RestoreResult, SequenceResult, VideoResult


EMPTY_MASK = "The mask is empty (zero everywhere): nothing was restored."
PLACEHOLDER_MASK = "Load Image's placeholder mask counts as no mask"


def restore_outputs() -> list[Any]:
    return [
        io.Image.Output(
            display_name="image", tooltip="The image (or the background of Look Options) with the restored faces."
        ),
        io.Mask.Output(display_name="face_mask", tooltip="Blend mask of the restored faces. It is 0 outside them."),
        io.Image.Output(
            display_name="crops",
            is_output_list=True,
            tooltip="Each restored face as an upright crop in the network's size. If no face was restored, nodes connected "
            "here do not run.",
        ),
        io.String.Output(display_name="summary", tooltip="Number of faces found and restored, and why others were skipped."),
    ]


def image_output(results: Iterable[RestoreResult], like: torch.Tensor, extra_notes: Sequence[str] = ()) -> NodeOutput:
    """Build the outputs from `results`, which are consumed one by one. The output has the size and dtype of the IMAGE
    `like`. `extra_notes` are appended to the summary."""
    batch = tensors.OutputBatch(like)
    crops, faces, notes, last_summary = [], [], [], ""
    for one in results:
        if one.is_changed:
            batch.add_changed(one.image_data.to_input_type(), one.mask)
        else:
            batch.add_unchanged()
        crops += [tensors.crop_to_image(crop, like) for crop in one.crops]
        faces.append(one.faces)
        notes.append(one.notes)
        last_summary = one.summary
    text = summary(faces, notes)
    if not any(faces):  # the summary then says which faces could be found, and what to try
        text = "\n".join([last_summary, *text.splitlines()[1:]])
    return _output(batch.image, batch.mask, crops, "\n".join([text, *extra_notes]))


def sequence_output(
    results: Iterable[SequenceResult], like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, list[PersonOutcome]]:
    """Return IMAGE and MASK of the frames of a video, and the outcome of each person."""
    from ..gpen_core import people_of_sequence  # imports OpenCV; imported late to keep ComfyUI's startup fast

    batch = tensors.OutputBatch(like)

    def add_frames() -> Iterator[SequenceResult]:
        for one in results:
            if one.mask is None:
                batch.add_unchanged()
            else:
                batch.add_changed(one.image.to_input_type(), one.mask)
            yield one

    return batch.image, batch.mask, people_of_sequence(add_frames())


def passthrough(image: torch.Tensor, reason: str) -> NodeOutput:
    """Return the image unchanged, a mask of zeros and no crops."""
    return _output(image, zero_mask(image), [], reason)


def zero_mask(image: torch.Tensor) -> torch.Tensor:
    return torch.zeros(image.shape[:3], device=management.intermediate_device())


def _output(image: torch.Tensor, mask: torch.Tensor, crops: list[torch.Tensor], text: str) -> NodeOutput:
    """The text is an output. web/gpen_nodes.js also shows it on the node."""
    return NodeOutput(image, mask, crops or [ExecutionBlocker(None)], text, ui=ui.PreviewText(text))


def mask_notes(mask: torch.Tensor | None) -> list[str]:
    return [PLACEHOLDER_MASK] if tensors.is_placeholder(mask) else []


def summary(frames: Sequence[Sequence[Face]], notes: Sequence[Sequence[str]] = (), verb: str = "restored") -> str:
    """Return a line with the totals, then one line per face, then the notes."""
    faces = [face for frame in frames for face in frame]
    lines = [faces_text(len(faces), sum(face.restored for face in faces), done=verb)]
    prefixes = [f"image {number}, " if len(frames) > 1 else "" for number in range(len(frames))]
    lines += [
        f"{at}face {n}: {face.outcome_text(verb)}" for at, frame in zip(prefixes, frames) for n, face in enumerate(frame)
    ]
    lines += [f"{at}{note}" for at, some in zip(prefixes, notes) for note in some]
    return "\n".join(lines)


def video_summary(result: VideoResult) -> str:
    """Return a line with the totals, then one line per person, then the notes."""
    from ..gpen_core import people_of_video, people_text  # import OpenCV; imported late to keep ComfyUI's startup fast

    return "\n".join([people_text(len(result.restored), people_of_video(result)), *result.notes])
