"""What GPEN's released networks do to a face: restore it, color a gray one, or fill a marked region.

All have the same layout. The catalog says by a file's name what its network does. Coloring keeps the input's luminance, and
filling changes only the region, so some options have no effect; see `adapt_options`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, OptionsError
from ..faces.blend import Canvas
from ..images.image import LUMA, FloatImage, ImageData, Region
from ..options import RestoreOptions
from ..weights.catalog import COLORIZE, INPAINT, RESTORE
from .inputs import RestoreInput, resize_mask
from .session import RestoreSession

ROWS_PER_STEP = 256
NAMES = {COLORIZE: "a network that colors faces", INPAINT: "a network that fills a region"}


def require_restoration(operation: str, use: str) -> None:
    """Raise `OptionsError` for a network that colors or fills faces. `use` is what it cannot be used for."""
    if operation != RESTORE:
        raise OptionsError(
            f"This is {NAMES[operation]}. It cannot be used for {use}. Choose a network that restores faces, such as auto."
        )


def adapt_options(options: RestoreOptions, operation: str) -> RestoreOptions:
    """Return the options without those that would undo the operation: `color` becomes `none`, `fidelity` 0, and `preserve`
    empty."""
    return options if operation == RESTORE else replace(options, color="none", fidelity=0.0, preserve=())


def check_input(restore_input: RestoreInput, operation: str) -> None:
    """Raise `InputError` if the operation needs a region mask and there is none."""
    if operation == INPAINT and restore_input.region_mask is None:
        raise InputError("A network that fills a region needs a region mask, which marks the pixels to fill.")


def prepare(session: RestoreSession, operation: str) -> None:
    """Prepare a session after detection. A gray image gets colors, or the region is painted white in the faces' crops."""
    canvas = session.canvas
    if all(face.reason is not None for face in session.faces):
        return
    if operation == COLORIZE and canvas.original.pixels.shape[2] == 1:
        session.canvas = Canvas(to_color(canvas.original), canvas.region_mask)
    if operation == INPAINT and canvas.region_mask is not None:
        session.crop_image = paint_white(session.image, resize_mask(canvas.region_mask, session.image.size) > 0)


def finish(session: RestoreSession, operation: str) -> None:
    """Finish a session after its last face. Coloring keeps the luminance of the original."""
    canvas = session.canvas
    if all(face.reason is not None for face in session.faces):
        return
    if operation == COLORIZE and canvas.result is not canvas.original:
        keep_luminance(canvas.result, canvas.original, canvas.mask)


def to_color(image: ImageData) -> ImageData:
    """Return a gray image with three equal channels."""
    kind = "array" if image.input_type == "flat array" else image.input_type
    return replace(image, pixels=np.repeat(image.pixels, 3, axis=2), input_type=kind)


def paint_white(image: ImageData, region: NDArray[np.bool_]) -> ImageData:
    """Return a copy in which the pixels of `region` [H, W] are white."""
    painted = image.writable()
    painted.pixels[region] = image.max_value
    return painted


def keep_luminance(result: ImageData, original: ImageData, mask: FloatImage) -> None:
    """Give the pixels of `result` (which is `writable`) the luminance of `original` where `mask` [H, W] is above 0.

    Colors that no RGB value has at that luminance lose saturation."""
    for top in range(0, result.height, ROWS_PER_STEP):
        region = Region(0, top, result.width, min(top + ROWS_PER_STEP, result.height))
        changed = mask[region.slices] > 0
        if changed.any():
            luminance = (original.crop_rgb(region) @ LUMA)[..., None]
            rgb = result.crop_rgb(region)
            result.paste(region, _with_luminance(rgb, luminance), changed)


def _with_luminance(rgb: FloatImage, luminance: FloatImage) -> FloatImage:
    """Return the colors [h, w, 3] with this luminance [h, w, 1], all in [0, 1]."""
    chroma = rgb - (rgb @ LUMA)[..., None]
    room = np.where(chroma > 0, 1 - luminance, luminance)
    size = np.maximum(np.abs(chroma), np.finfo(np.float32).tiny)
    saturation = np.minimum(1, (room / size).min(axis=2, keepdims=True))
    return np.asarray(np.clip(luminance + saturation * chroma, 0, 1), np.float32)
