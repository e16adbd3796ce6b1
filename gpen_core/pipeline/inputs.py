"""The inputs of one image, their checks and conversions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import InputError, OptionsError
from ..faces.face import Box
from ..images.image import MAX_VALUES, FloatImage, ImageData, same_aspect_ratio
from ..images.resize import resize
from ..images.resized_metadata import with_dimensions
from ..images.size_limits import NO_LIMITS, ReadLimits
from ..options import RestoreOptions
from ..progress import Progress
from .source_file import load_encoded
from .upscale import Upscaler, upscale

MAX_FLOAT_MASK = 1.5  # more is not a rounding error, but a mask from 0 to 255
MAX_REPR = 60  # characters
MAX_CHANNELS = 4  # RGBA
Boxes = Sequence[Sequence[float]] | NDArray[Any]
"""x0, y0, x1, y1 of each box, or an array [N, 4]."""
MAX_COORDINATE = 1 << 24  # pixels, for the edges of a box: OpenCV cannot crop much larger ones


@dataclass(frozen=True, eq=False)
class RestoreInput:
    """One image to restore: a path, the bytes of a file, a file open in binary mode, a PIL image, an array or an
    `ImageData` (see `images.image.to_image_data`)."""

    image: object
    before_swap: object | None = None
    """The image before a face swap, of any size. Faces that do not differ from it are skipped."""
    background: object | None = None
    """An upscaled copy of `image`. Faces are detected in `image` and pasted into the background at its scale."""
    region_mask: NDArray[Any] | None = None
    """[H, W] of any size: how much of each pixel may be restored. Faces where it is 0 are skipped. Floats are in [0, 1].
    Integers range from 0 to the maximum of their type (uint8: 255), or are 0 and 1."""
    boxes: Boxes | None = None
    """x0, y0, x1, y1 in pixels of `image`. Faces outside all boxes are skipped. A box without a face is searched again at a
    higher resolution."""
    is_aligned: bool = False
    """Whether `image` is already an upright crop of one face, as `Alignment` makes it. Then detection is skipped."""

    def __repr__(self) -> str:
        given = [name for name in ("before_swap", "background", "region_mask", "boxes") if getattr(self, name) is not None]
        given += ["is_aligned"] if self.is_aligned else []
        return f"RestoreInput({', '.join([describe_image(self.image), *given])})"


def to_inputs(images: Iterable[object]) -> list[RestoreInput]:
    """Return a `RestoreInput` for each image, which may be one. Raises `InputError` for a single image."""
    raise_if_single(images)
    return [one if isinstance(one, RestoreInput) else RestoreInput(one) for one in images]


def raise_if_single(images: object) -> None:
    """Raise `InputError` for one image in place of several. Its letters, bytes or rows would be taken for images."""
    is_rows = isinstance(images, np.ndarray) and images.ndim == 3 and images.shape[2] <= MAX_CHANNELS
    if is_rows or isinstance(images, (str, bytes, bytearray, memoryview, PathLike, Image.Image, RestoreInput)):
        raise InputError(f"Expected a list of images, got one ({describe_image(images)}). Put it into a list.")


def describe_image(image: object) -> str:
    """Describe an image in one line: a path, or a size."""
    if isinstance(image, (str, PathLike)):
        return repr(str(image))
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"{len(image):,} bytes"
    if isinstance(image, np.ndarray):
        return f"{image.dtype} array {list(image.shape)}"
    text = repr(image)
    return text if len(text) <= MAX_REPR else type(image).__name__


def load_image(image: object) -> ImageData:
    """Do the same as `load_encoded`, but return only the pixels."""
    return load_encoded(image).image


def with_upscaled_background(
    restore_input: RestoreInput,
    options: RestoreOptions,
    upscaler: Upscaler | None,
    progress: Progress,
    limits: ReadLimits = NO_LIMITS,
) -> RestoreInput:
    """Return the input with its upscaled image as background. Faces are still cropped from the original image.

    See `pipeline.upscale`. Raises `OptionsError` if it already has a background."""
    if restore_input.background is not None:
        raise OptionsError(
            f"upscale is {options.upscale:g}, but a background is given, which is already upscaled. Use one of them."
        )
    encoded = load_encoded(restore_input.image, limits)
    upscaled = upscale(encoded.image, options.upscale, upscaler, progress, limits.max_memory)
    metadata = with_dimensions(encoded.metadata, upscaled.size)
    return replace(restore_input, image=encoded, background=replace(encoded, image=upscaled, metadata=metadata, data=b""))


def validate_box(number: int, box: Sequence[float]) -> Box:
    """Return a box as four numbers. Raises `InputError` if it is not one; `number` names it."""
    try:
        x0, y0, x1, y1 = (float(v) for v in box)
    except (TypeError, ValueError):
        x0 = y0 = x1 = y1 = math.nan
    if not all(abs(v) <= MAX_COORDINATE for v in (x0, y0, x1, y1)):  # NaN is not
        advice = " Put one box into a list, too." if isinstance(box, Real) else ""
        raise InputError(
            f"Box {number} is {box!r}; expected x0, y0, x1, y1, four finite numbers up to {MAX_COORDINATE} px.{advice}"
        )
    return x0, y0, x1, y1


def scale_factor(
    size: tuple[int, int], other_size: tuple[int, int], noun: str = "background", allow_smaller: bool = False
) -> tuple[float, float]:
    """Return the horizontal and vertical scale from an image size to another size of the same image.

    Raises `InputError` for another aspect ratio, and for a smaller size unless `allow_smaller`."""
    message = f"The {noun} is {other_size[0]}x{other_size[1]}, the image {size[0]}x{size[1]}"
    if not same_aspect_ratio(other_size, size):
        raise InputError(f"{message}: their aspect ratios differ. Use a copy of the same image.")
    if not allow_smaller and (other_size[0] < size[0] or other_size[1] < size[1]):
        raise InputError(f"{message}: a {noun} must not be smaller. Use an upscaled copy of the same image.")
    return other_size[0] / size[0], other_size[1] / size[1]


def resize_mask(mask: NDArray[Any], size: tuple[int, int]) -> FloatImage:
    """Resize a mask [h, w] to a width and height, with values in [0, 1]. Its values are as in `RestoreInput.region_mask`.

    Raises `InputError` for an invalid mask."""
    mask = np.asarray(mask)
    mask = mask.astype(mask.dtype.newbyteorder("="), copy=False)
    if mask.ndim != 2 or 0 in mask.shape or mask.dtype.kind not in "biuf" or not np.isfinite(mask).all():
        raise InputError(f"Expected a mask [H, W] of finite numbers from 0 to 1, got {mask.dtype} {list(mask.shape)}.")
    return resize(np.clip(mask.astype(np.float32) / _mask_maximum(mask), 0, 1), size)


def _mask_maximum(mask: NDArray[Any]) -> float:
    """Return the value that means 1."""
    highest = float(mask.max())
    if highest <= 1 or (mask.dtype.kind == "f" and highest <= MAX_FLOAT_MASK):
        return 1.0
    if mask.dtype not in MAX_VALUES:
        raise InputError(f"The mask's values reach {highest:g}; expected at most 1 for {mask.dtype}. Divide them first.")
    return MAX_VALUES[mask.dtype]
