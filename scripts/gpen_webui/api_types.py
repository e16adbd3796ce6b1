"""What the API takes and gives: its schema. The fields of a request are made from the declared options."""

from __future__ import annotations

from typing import Any, Literal, Optional, Union

from pydantic import BaseModel, Field, create_model

from gpen_core import Option, RestoreOptions, declared_options

FRONT_END = "api"
OPTIONS = declared_options(RestoreOptions, FRONT_END)
IMAGE_FIELDS = ("image", "before_swap")


class BaseRequest(BaseModel, extra="forbid"):
    """What to restore."""

    image: str = Field(description="PNG, JPEG, WebP, BMP or TIFF as base64, with or without line breaks and a data: prefix.")
    before_swap: Optional[str] = Field(
        None, description="The image before a face swap: only faces that differ are restored."
    )
    model: Optional[str] = Field(
        None,
        description="One of /gpen/v1/models in any capitals, such as gpen-bfr-512. auto restores each face with the "
        "smallest downloaded network that suits it. Default: the setting, which is auto at first.",
    )
    boxes: Optional[list[list[float]]] = Field(
        None, description="x0, y0, x1, y1 of each in pixels: only faces there, looked for closely."
    )

    def options(self) -> RestoreOptions:
        """Raises `OptionsError`."""
        return RestoreOptions.from_mapping(vars(self))


def _field(option: Option) -> tuple[Any, Any]:
    """As pydantic's `create_model` takes it: type and field."""
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
    return kind, Field(default, description=f"{spec.help} In {spec.unit}." if spec.unit else spec.help, **given)


_fields: dict[str, Any] = {option.name: _field(option) for option in OPTIONS}
RestoreRequest: type[BaseRequest] = create_model("RestoreRequest", __base__=BaseRequest, **_fields)
RestoreRequest.__doc__ = "What to restore and how. An unknown field is refused."


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
    download_bytes: Optional[int] = Field(None, description="About how much a download would be; null if unknown.")


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
