"""`POST /gpen/v1/restore` and `GET /gpen/v1/models`, beside the host's own API and behind its password."""

from __future__ import annotations

import base64
import binascii
import io
import secrets
from typing import Any, Optional

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import HTTPBasic, HTTPBasicCredentials
from modules import shared
from modules.call_queue import queue_lock
from PIL import Image
from pydantic import BaseModel, Field

from gpen_core import GpenError, InputError, Interrupted, OptionsError, OutOfMemory, RestoreOptions, WeightsError, find_in

from . import controls, engine, host

LARGEST_BASE64 = 128 << 20  # characters
LARGEST_PICTURE = 64_000_000  # pixels
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF")  # other plugins are not for strangers' files: EPS starts Ghostscript
DEFAULTS = RestoreOptions()
STATUS: tuple[tuple[type[GpenError], int], ...] = (
    (OptionsError, 422),
    (InputError, 400),
    (Interrupted, 409),
    (WeightsError, 503),
    (OutOfMemory, 507),
)


class RestoreRequest(BaseModel):
    """What to restore and how; see `RestoreOptions` of gpen_core."""

    image: str = Field(description="PNG, JPEG, WebP, BMP or TIFF as base64, with or without a data: prefix.")
    original: Optional[str] = Field(None, description="The picture before a face swap: only faces that differ are restored.")
    model: Optional[str] = Field(None, description="One of /gpen/v1/models; default: the setting.")
    strength: float = Field(DEFAULTS.strength, ge=0, le=1)
    faces: str = Field(str(DEFAULTS.faces), description="all, largest, center, or numbers from 0 such as 0,2-4.")
    order: str = Field(DEFAULTS.order, description="reading, left-right or large-small.")
    min_face: float = Field(DEFAULTS.min_face, ge=0, description="Pixels.")
    max_faces: Optional[int] = Field(None, ge=0)
    confidence: float = Field(DEFAULTS.confidence, ge=0, le=1)
    detect_size: int = Field(DEFAULTS.detect_size, ge=32, le=8192, description="Pixels of the longer side.")
    template: str = Field(DEFAULTS.template, description="gpen or ffhq.")
    mask: str = Field(DEFAULTS.mask, description="auto, feather or parse.")
    color: str = Field(DEFAULTS.color, description="none or match.")
    angles: str = Field(DEFAULTS.angles, description="auto, upright or all.")
    boxes: Optional[list[list[float]]] = Field(
        None, description="x0, y0, x1, y1 of each in pixels: only faces there, looked for closely."
    )


class RestoreReply(BaseModel):
    """The restored picture and its faces."""

    image: str = Field(description="PNG as base64.")
    faces: list[dict[str, Any]] = Field(description="box, score, landmarks, restored, reason, note, change of each.")
    notes: list[str] = Field([], description="What else is to be said, such as boxes without a face.")
    model: str


class ModelReply(BaseModel):
    """A model's file name, and whether it is there or would be downloaded."""

    name: str
    there: bool


def add_routes(app: FastAPI) -> None:
    """Only with --api; behind --api-auth where that is set."""
    if not getattr(shared.cmd_opts, "api", False):
        return
    accounts = _accounts(getattr(shared.cmd_opts, "api_auth", None))
    guards = [Depends(_guard(accounts))] if accounts else []
    common: dict[str, Any] = {"dependencies": guards, "tags": ["GPEN"]}
    app.add_api_route("/gpen/v1/restore", restore, methods=["POST"], response_model=RestoreReply, **common)
    app.add_api_route("/gpen/v1/models", models, methods=["GET"], response_model=list[ModelReply], **common)


def models() -> list[ModelReply]:
    """The GPEN models that can be asked for."""
    there = host.models_dirs()
    return [ModelReply(name=name, there=find_in(name, there) is not None) for name in engine.choices()]


def restore(request: RestoreRequest) -> RestoreReply:
    """Restores the faces of one picture."""
    model = request.model or controls.default_model()
    if model not in engine.choices():
        raise HTTPException(404, f"There is no model {model!r}. /gpen/v1/models lists them.")
    try:
        options = _options(request)
        image = _decode(request.image, "image")
        original = None if request.original is None else _decode(request.original, "original")
        with queue_lock:
            shared.state.begin(job="gpen")
            try:
                result = engine.restore(image, model, options, original=original, boxes=request.boxes)
            finally:
                shared.state.end()
    except GpenError as error:
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
        raise HTTPException(status, str(error)) from error
    faces = [face.to_json() for face in result.faces]
    return RestoreReply(image=_encode(result.image), faces=faces, notes=list(result.notes), model=model)


def _options(request: RestoreRequest) -> RestoreOptions:
    names = RestoreOptions.__dataclass_fields__
    return RestoreOptions(**{name: getattr(request, name) for name in names})


def _decode(text: str, what: str) -> Image.Image:
    if len(text) > LARGEST_BASE64:
        raise HTTPException(413, f"{what} has more than {LARGEST_BASE64 >> 20} million characters.")
    try:
        data = base64.b64decode(text.partition(",")[2] or text, validate=True)
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise HTTPException(413, f"{what} has too many pixels; {LARGEST_PICTURE} are allowed.") from error
    except (binascii.Error, OSError, ValueError) as error:
        raise HTTPException(400, f"{what} is no picture in base64 ({error}).") from error
    if image.width * image.height > LARGEST_PICTURE:
        raise HTTPException(413, f"{what} has {image.width}x{image.height} pixels; {LARGEST_PICTURE} are allowed.")
    return image


def _encode(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode("ascii")


def _accounts(given: str | None) -> dict[str, str]:
    pairs = (account.partition(":") for account in given.split(",")) if given else ()
    return {name: password for name, _, password in pairs}


def _guard(accounts: dict[str, str]) -> Any:
    def check(credentials: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:  # noqa: B008  FastAPI's way
        known = accounts.get(credentials.username, "")
        right = secrets.compare_digest(credentials.password.encode(), known.encode())
        if credentials.username not in accounts or not right:
            raise HTTPException(401, "Incorrect username or password", headers={"WWW-Authenticate": "Basic"})

    return check
