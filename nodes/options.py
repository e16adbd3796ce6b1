"""Outputs of Face Options (GPEN) and Look Options (GPEN), and their conversion to gpen_core's options."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch

from ..gpen_core import OptionsError, RestoreOptions, VideoOptions, with_references
from . import tensors
from .boxes import FORMATS

Kind = TypeVar("Kind", RestoreOptions, VideoOptions)


@dataclass(frozen=True, eq=False)
class FaceOptions:
    """Which faces are restored and how they are found."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Values by option name."""
    bboxes: Any = None
    """See `boxes.parse_boxes`."""
    box_format: str = FORMATS[0]
    aligned: bool = False
    reference: torch.Tensor | None = None
    """Photos of one person to restore."""
    leave_out: torch.Tensor | None = None
    """Photos of one person to leave out."""

    def with_references(self, faces: Any) -> Any:
        """Return the option `faces` with the photos. Raises `InputError` for one that is not an IMAGE."""
        photos = {"reference": self.reference, "leave_out": self.leave_out}
        given = {name: tensors.iter_frames(image, name) for name, image in photos.items() if image is not None}
        return with_references(faces, **given)


@dataclass(frozen=True, eq=False)
class LookOptions:
    """How restored faces look."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Values by option name."""
    background: torch.Tensor | None = None


def merge_restore_options(face: FaceOptions, look: LookOptions, **values: Any) -> RestoreOptions:
    """Merge the options with `values` of the node's own inputs. Raises `OptionsError`, and `InputError` for an invalid
    reference."""
    options = _merge(RestoreOptions, face, look, values)
    return replace(options, faces=face.with_references(options.faces))


def merge_video_options(face: FaceOptions, look: LookOptions, **values: Any) -> VideoOptions:
    """Merge the options for videos. Raises `OptionsError`."""
    return _merge(VideoOptions, face, look, values)


def refuse_image_inputs(face: FaceOptions, look: LookOptions, reason: str) -> None:
    """Raise `OptionsError` for connected inputs that only single images support. `reason` starts the message."""
    given = {
        "bboxes of Face Options (GPEN)": face.bboxes is not None,
        "aligned of Face Options (GPEN)": face.aligned,
        "background of Look Options (GPEN)": look.background is not None,
    }
    names = [name for name, is_given in given.items() if is_given]
    if names:
        raise OptionsError(f"{reason} Disconnect or switch off {' and '.join(names)}.")


def _merge(kind: type[Kind], face: FaceOptions, look: LookOptions, values: Mapping[str, Any]) -> Kind:
    return kind.from_request({**face.values, **look.values, **values})
