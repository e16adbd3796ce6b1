"""What the API takes and gives: its schema."""

from __future__ import annotations

from typing import Any, Optional

from pydantic import BaseModel, Field

from gpen_core import REGIONS, RestoreOptions

DEFAULTS = RestoreOptions()
IMAGE_FIELDS = ("image", "before_swap")


class RestoreRequest(BaseModel):
    """What to restore and how; see `RestoreOptions` of gpen_core."""

    image: str = Field(description="PNG, JPEG, WebP, BMP or TIFF as base64, with or without line breaks and a data: prefix.")
    before_swap: Optional[str] = Field(
        None, description="The image before a face swap: only faces that differ are restored."
    )
    model: Optional[str] = Field(
        None,
        description="One of /gpen/v1/models in any capitals, such as gpen-bfr-512, or auto: by the size of the face; "
        "default: the setting.",
    )
    strength: float = Field(DEFAULTS.strength, ge=0, le=1)
    faces: str = Field(str(DEFAULTS.faces), description="all, largest, center, or numbers from 0 such as 0,2-4.")
    order: str = Field(DEFAULTS.order, description="reading, left-right or large-small.")
    min_face_size: float = Field(DEFAULTS.min_face_size, ge=0, description="Pixels.")
    max_faces: Optional[int] = Field(None, ge=0)
    confidence: float = Field(DEFAULTS.confidence, ge=0, le=1)
    detection_size: int = Field(DEFAULTS.detection_size, ge=32, le=8192, description="Pixels of the longer side.")
    template: str = Field(DEFAULTS.template, description="gpen or ffhq.")
    mask_type: str = Field(DEFAULTS.mask_type, description="auto, feather or parse.")
    color: str = Field(DEFAULTS.color, description="auto, none or match.")
    angles: str = Field(DEFAULTS.angles, description="auto, upright or all.")
    preserve: str = Field("", description=f"Regions that stay as they are, by commas: {', '.join(REGIONS)}.")
    mask_expand: float = Field(DEFAULTS.mask_expand, ge=-0.5, le=0.5, description="In widths of the face.")
    grain: float = Field(DEFAULTS.grain, ge=0, le=1, description="How much of the image's own.")
    boxes: Optional[list[list[float]]] = Field(
        None, description="x0, y0, x1, y1 of each in pixels: only faces there, looked for closely."
    )

    def options(self) -> RestoreOptions:
        """Raises `OptionsError`."""
        return RestoreOptions(
            **{name: value for name, value in vars(self).items() if name in RestoreOptions.__dataclass_fields__}
        )


class RestoreReply(BaseModel):
    """The restored image and its faces."""

    image: str = Field(description="PNG as base64, with the EXIF block and the color profile of the image sent.")
    faces: list[dict[str, Any]] = Field(
        description="box, score, landmarks, restored, reason, note, change, network of each."
    )
    notes: list[str] = Field([], description="What else is to be said, such as boxes without a face.")
    model: str


class ModelReply(BaseModel):
    """A model's file name, and whether it is there or would be downloaded."""

    name: str
    downloaded: bool


class JobReply(BaseModel):
    """How far a job is."""

    id: str
    status: str = Field(description="waiting, working, done, failed or stopped.")
    position: int = Field(0, description="Jobs that come before it.")
    stage: Optional[str] = Field(
        None,
        description="download, verify, load, read, detect, upscale or restore; null before the job begins.",
    )
    done: int = Field(0, description="How far the stage is, in `unit`.")
    total: Optional[int] = Field(None, description="How much there is to do, in `unit`; null if unknown.")
    unit: Optional[str] = Field(
        None, description="What is counted: byte, model, image, tile or face; null before the job begins."
    )
    text: str = Field("", description="The stage for people to read.")
    error: Optional[str] = Field(None, description="What went wrong, or that the result is gone.")


class ErrorReply(BaseModel):
    """What went wrong: what was expected, what came, what to do."""

    detail: str


def request_schema() -> dict[str, Any]:
    """Of the requests, for the description of a route."""
    described = getattr(RestoreRequest, "model_json_schema", None) or RestoreRequest.schema  # pydantic 2 or 1
    return dict(described())
