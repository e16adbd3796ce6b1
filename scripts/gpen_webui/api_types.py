"""Schemas of the API's requests and replies. Request fields are generated from the declared options."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union

from pydantic import BaseModel, Field, create_model

from gpen_core import Option, RestoreOptions, declared_options

FRONT_END = "api"
OPTIONS = declared_options(RestoreOptions, FRONT_END)
IMAGE_FIELDS = ("image", "before_swap", "reference", "leave_out")


class BaseRequest(BaseModel, extra="forbid"):
    """Base of a request: the image and where to restore faces."""

    image: str = Field(
        description="PNG, JPEG, WebP, BMP, TIFF, GIF, JPEG 2000, AVIF or HEIC as base64, with or without line breaks and a "
        "data: prefix."
    )
    before_swap: Optional[str] = Field(
        None, description="The image before a face swap. Only faces that it changed are restored."
    )
    reference: Optional[str] = Field(
        None,
        description="A photo of one person as base64. Only faces of this person and those with a number are restored.",
    )
    leave_out: Optional[str] = Field(None, description="A photo of one person as base64. Faces of this person are skipped.")
    model: Optional[str] = Field(
        None,
        description="A model of /gpen/v1/models, e.g. gpen-bfr-512 (case-insensitive). auto picks the smallest downloaded "
        "network that fits each face. Default: the host's setting.",
    )
    boxes: Optional[list[list[float]]] = Field(
        None,
        description="Bounding boxes (x0, y0, x1, y1) in pixels. Only faces that overlap one by at least half are restored.",
    )

    def options(self) -> RestoreOptions:
        """Raises `OptionsError`."""
        return RestoreOptions.from_request(vars(self))


def _field(option: Option) -> tuple[Any, Any]:
    """Return type and field of an option, for pydantic's `create_model`."""
    spec, default = option.spec, option.default_for(FRONT_END)
    kind: Any = str
    if spec.choices:
        kind = Literal[spec.choices]
    elif spec.minimum is not None:
        kind = int if spec.is_whole else float
    if spec.multiple:
        kind, default = Union[list[kind], str], list(default)
    if default is None:
        kind = Optional[kind]
    limits: dict[str, Any] = {"ge": spec.minimum, "le": spec.maximum}
    given = {name: limit for name, limit in limits.items() if limit is not None}
    return kind, Field(default, description=f"{spec.help} Unit: {spec.unit}." if spec.unit else spec.help, **given)


_fields: dict[str, Any] = {option.name: _field(option) for option in OPTIONS}
RestoreRequest: type[BaseRequest] = create_model("RestoreRequest", __base__=BaseRequest, **_fields)
RestoreRequest.__doc__ = "What to restore and how. Unknown fields are rejected."


class RestoreReply(BaseModel):
    """The restored image and its faces."""

    image: str = Field(description="PNG as base64, with the EXIF data and color profile of the input.")
    faces: list[dict[str, Any]] = Field(
        description="For each face: box, score, landmarks, restored, reason, note, change, network, identity, similarity, "
        "similarity_restored."
    )
    notes: list[str] = Field([], description="Further remarks, e.g. boxes without a face.")
    model: str


class ModelReply(BaseModel):
    """A model's file name and whether it is downloaded."""

    name: str
    downloaded: bool
    download_bytes: Optional[int] = Field(None, description="Approximate download size in bytes; null if unknown.")


class JobReply(BaseModel):
    """Status and progress of a job."""

    id: str
    status: str = Field(description="waiting, working, done, failed or stopped.")
    position: int = Field(0, description="Number of jobs before this one.")
    stage: Optional[str] = Field(
        None,
        description="download, verify, load, read, detect, upscale or restore; null before the job begins.",
    )
    done: int = Field(0, description="Progress of the stage, in `unit`.")
    total: Optional[int] = Field(None, description="Total of the stage, in `unit`; null if unknown.")
    unit: Optional[str] = Field(None, description="byte, model, image, tile or face; null before the job begins.")
    text: str = Field("", description="Description of the stage.")
    error: Optional[str] = Field(None, description="Why the job failed, or that its result was removed.")


class ErrorReply(BaseModel):
    """What failed, why, and what to do."""

    detail: str


def request_schema() -> dict[str, Any]:
    """Return the JSON schema of a request, for OpenAPI."""
    described = getattr(RestoreRequest, "model_json_schema", None) or RestoreRequest.schema  # pydantic 2 or 1
    return dict(described())
