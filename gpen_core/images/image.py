"""Image data of any supported type, with access to regions as float32 RGB HWC in [0, 1].

`ImageData` keeps pixels in their original dtype, so that untouched pixels stay bit-identical to the input.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, TiffImagePlugin

from ..errors import InputError, is_out_of_memory
from .image_warnings import warn
from .resize import resize, scaled_size

Pixels = NDArray[Any]
FloatImage = NDArray[np.float32]
RGB8 = NDArray[np.uint8]
"""[H, W, 3] RGB of 8 bits."""

log = logging.getLogger(__name__)

MAX_VALUES = {np.dtype(np.uint8): 255.0, np.dtype(np.uint16): 65535.0}
FLOAT_DTYPES = (np.dtype(np.float16), np.dtype(np.float32), np.dtype(np.float64))
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as Pillow's convert("L")
ORIENTATION_TAG = 0x0112  # EXIF 2.3, 4.6.4 A
SIDEWAYS = (5, 6, 7, 8)  # orientations that swap width and height
# Raised by Pillow and OpenCV for broken files.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
    cv2.error,
)


@dataclass(frozen=True)
class Region:
    """A rectangle of whole pixels: rows y0 to y1, columns x0 to x1 (ends excluded)."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def empty(self) -> bool:
        return self.x1 <= self.x0 or self.y1 <= self.y0

    @property
    def slices(self) -> tuple[slice, slice]:
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def intersection(self, other: Region) -> Region:
        """Return the intersection; may be empty."""
        low, high = (max(self.x0, other.x0), max(self.y0, other.y0)), (min(self.x1, other.x1), min(self.y1, other.y1))
        return Region(*low, *high)

    def grown(self, margin: int) -> Region:
        """Return the region with a margin of pixels on each side."""
        return Region(self.x0 - margin, self.y0 - margin, self.x1 + margin, self.y1 + margin)

    def aligned(self, across: int, down: int) -> Region:
        """Return the smallest region that contains this one and whose edges are multiples of `across` and `down` pixels."""
        low = (self.x0 - self.x0 % across, self.y0 - self.y0 % down)
        return Region(*low, self.x1 + -self.x1 % across, self.y1 + -self.y1 % down)

    def contains(self, other: Region) -> bool:
        return self.intersection(other) == other

    def relative_to(self, outer: Region) -> Region:
        """Return the region in coordinates of `outer`."""
        return Region(self.x0 - outer.x0, self.y0 - outer.y0, self.x1 - outer.x0, self.y1 - outer.y0)

    def absolute_in(self, outer: Region) -> Region:
        """Return a region in coordinates of `outer` in those of the whole image. This is the inverse of `relative_to`."""
        return Region(self.x0 + outer.x0, self.y0 + outer.y0, self.x1 + outer.x0, self.y1 + outer.y0)

    def union(self, other: Region) -> Region:
        """Return the smallest rectangle that contains both; empty ones are ignored."""
        if self.empty or other.empty:
            return other if self.empty else self
        low, high = (min(self.x0, other.x0), min(self.y0, other.y0)), (max(self.x1, other.x1), max(self.y1, other.y1))
        return Region(*low, *high)


def join_overlapping(regions: Iterable[Region]) -> list[Region]:
    """Return disjoint rectangles that contain all regions. Empty ones are dropped."""
    joined: list[Region] = []
    for region in regions:
        while overlapping := [one for one in joined if not one.intersection(region).empty]:
            joined = [one for one in joined if one not in overlapping]
            region = reduce(Region.union, overlapping, region)
        if not region.empty:
            joined.append(region)
    return joined


ASPECT_TOLERANCE = 0.02


def same_aspect_ratio(size: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two (width, height) have the same aspect ratio within 2 % and rounding (half a pixel per side)."""
    stretch = math.log(size[0] / other[0]) - math.log(size[1] / other[1])
    return abs(stretch) <= math.log1p(ASPECT_TOLERANCE) + 0.5 / min(size) + 0.5 / min(other)


@dataclass(frozen=True, eq=False)
class ImageData:
    """Color or gray pixels of 8 or 16 bits or float, optionally with alpha."""

    pixels: Pixels
    """[H, W, 3] RGB or [H, W, 1] gray; uint8, uint16, float16, float32 or float64 (floats in [0, 1])."""
    alpha: Pixels | None = None
    """[H, W] of the same dtype; never modified."""
    input_type: Literal["array", "flat array", "pil"] = "array"
    """The type that `to_input_type` returns."""

    def __repr__(self) -> str:
        kind = "RGB" if self.pixels.shape[2] == 3 else "gray"
        alpha = "" if self.alpha is None else " with alpha"
        return f"ImageData({self.width}x{self.height} {kind}{alpha}, {self.pixels.dtype})"

    @property
    def height(self) -> int:
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        return int(self.pixels.shape[1])

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.width, self.height

    @property
    def full_region(self) -> Region:
        return Region(0, 0, self.width, self.height)

    def region_with_margin(self, region: Region, margin: int) -> Region:
        """Return the region grown by `margin` pixels on each side, clipped to the image."""
        return region.grown(margin).intersection(self.full_region)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the pixels."""
        return self.pixels.dtype

    @property
    def max_value(self) -> float:
        """The value of white."""
        return MAX_VALUES.get(self.dtype, 1.0)

    def part(self, region: Region) -> ImageData:
        """Return the region as an image of its own, without alpha. It shares the pixels."""
        return ImageData(self.pixels[region.slices])

    def crop_rgb(self, region: Region) -> FloatImage:
        """Return the region's pixels as float32 RGB [h, w, 3] in [0, 1]."""
        return self._to_rgb(self.pixels[region.slices], 1.0)

    def paste(self, region: Region, rgb: FloatImage, mask: NDArray[np.bool_]) -> None:
        """Write `rgb` [h, w, 3] in [0, 1], rounded, where `mask` [h, w] is true. Only for a `writable` image."""
        if self.pixels.shape[2] == 1:
            rgb = (rgb @ LUMA)[..., None]
        target = self.pixels[region.slices]
        if self.pixels.dtype in MAX_VALUES:
            depth = cv2.CV_8U if self.pixels.dtype == np.uint8 else cv2.CV_16U
            samples = cv2.addWeighted(rgb, self.max_value, rgb, 0, 0, dtype=depth)  # rounds and saturates
            cv2.copyTo(samples, mask.view(np.uint8), target)  # 100 times as fast as NumPy's indexing by a mask
        else:
            np.copyto(target, rgb, casting="unsafe", where=mask[..., None])

    def writable(self) -> ImageData:
        """Return a copy with writable pixels."""
        return replace(self, pixels=self.pixels.copy())

    def to_bgr255(self, longest: int) -> FloatImage:
        """Return the whole image as float32 BGR in [0, 255], its longer side downscaled (by area) to at most `longest`
        pixels."""
        pixels = resize(self.pixels, scaled_size(self.size, min(longest, max(self.size))))
        if pixels.shape[2] == 3 and pixels.dtype in (np.uint8, np.uint16):  # before they become larger floats
            return self._to_rgb(np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)), 255.0)
        return np.asarray(cv2.cvtColor(self._to_rgb(pixels, 255.0), cv2.COLOR_RGB2BGR), np.float32)

    def to_input_type(self) -> Any:
        """Return an array or PIL image with the input's type, dtype and channels."""
        if self.input_type == "pil":
            return to_pil(self)
        if self.alpha is not None:
            return np.dstack((self.pixels, self.alpha))
        return self.pixels[..., 0] if self.input_type == "flat array" else self.pixels

    def _to_rgb(self, pixels: Pixels, white: float) -> FloatImage:
        rgb = pixels.astype(np.float32)
        if white != self.max_value:
            rgb /= np.float32(self.max_value / white)
        if pixels.dtype in FLOAT_DTYPES:
            rgb = np.clip(rgb, 0, np.float32(white))
        return rgb if rgb.shape[2] == 3 else np.repeat(rgb, 3, axis=2)


def to_image_data(image: object, expected: str = "a PIL image or a numpy array") -> ImageData:
    """Convert an array, PIL image or `ImageData` to `ImageData`.

    Arrays are [H, W], or [H, W, C] with gray, gray + alpha, RGB or RGBA; uint8, uint16 or float in [0, 1]. PIL images may
    have any mode and are turned upright by their EXIF orientation. Raises `InputError` for anything else."""
    if isinstance(image, ImageData):
        return image
    if isinstance(image, Image.Image):
        return from_pil(image)
    if isinstance(image, np.ndarray):
        return from_array(image)
    advice = " Convert it to a numpy array [H, W, 3] first." if hasattr(image, "__array__") else ""  # a tensor
    raise InputError(f"Expected {expected}, got {type(image).__name__}.{advice}")


def from_array(array: Pixels) -> ImageData:
    """Convert an array (see `to_image_data`). It is neither copied nor modified."""
    array = np.asarray(array)  # drops subclasses
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in MAX_VALUES and array.dtype not in FLOAT_DTYPES:
        raise InputError(
            f"Expected uint8, uint16, float16, float32 or float64 pixels, got {array.dtype}. Convert them to one of these."
        )
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 2, 3, 4)) or 0 in array.shape:
        raise InputError(
            f"Expected [H, W] or [H, W, 1 to 4 channels] with no side of zero, got {list(array.shape)}. "
            "Pass one image, with its channels last."
        )
    if array.dtype in FLOAT_DTYPES:
        _check_float_range(array)
    if array.ndim == 2:
        return ImageData(array[..., None], None, "flat array")
    color_channels = 1 if array.shape[2] < 3 else 3
    return ImageData(array[..., :color_channels], array[..., color_channels] if array.shape[2] in (2, 4) else None)


def _check_float_range(array: Pixels) -> None:
    low, high = float(array.min()), float(array.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("The image contains values that are not finite (NaN or infinity).")
    if low < -0.5 or high > 1.5:
        raise InputError(f"Expected float pixels in [0, 1], got {low:g} to {high:g}. Divide by 255 or 65535 first.")


def from_pil(image: Image.Image) -> ImageData:
    """Convert a PIL image (see `to_image_data`). Palette, CMYK and similar modes become RGB; a CMYK profile is applied."""
    try:
        image.load()  # reads a lazily opened file
        array = pil_to_array(image)
    except DECODE_ERRORS as error:
        if is_out_of_memory(error):
            raise
        raise InputError(f"The PIL image of mode {image.mode!r} cannot be read ({error}).") from error
    return replace(from_array(apply_orientation(array, pil_orientation(image))), input_type="pil")


def pil_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation with which `to_image_data` turns a PIL image upright."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1  # Pillow has applied it while loading; before version 11 the tag remains
    try:
        return int(image.getexif().get(ORIENTATION_TAG, 1))
    except DECODE_ERRORS as error:
        log.warning("The EXIF block of the PIL image is damaged (%s); its orientation is not known.", error)
        return 1


def pil_to_array(image: Image.Image) -> Pixels:
    """Return [H, W] or [H, W, C] uint8, or uint16 for 16-bit gray. Raises `InputError` for modes without such an
    equivalent."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode == "I":
        values = np.asarray(image)
        if values.size and values.min() >= 0 and values.max() <= 65535:
            return values.astype(np.uint16)
    if image.mode in ("I", "F"):
        raise InputError(f"Pixels of PIL mode {image.mode!r} have no defined white. Convert to 8 or 16 bits first.")
    return np.asarray(_to_simple_mode(image))


def _to_simple_mode(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency") if image.mode in ("1", "L", "P", "RGB") else None
    if image.mode in ("L", "RGB", "LA", "RGBA") and key is None:
        return image
    if image.mode == "CMYK":
        return _cmyk_to_rgb(image)
    if image.mode == "1":
        image = image.convert("L")
        if key is not None:
            image.info["transparency"] = 255 if key else 0  # 1 stands for white in a file
    if image.mode in ("L", "La"):
        target = "L" if key is None and image.mode == "L" else "LA"
    else:
        has_alpha = key is not None or image.mode in ("PA", "RGBa") or _palette_mode(image) == "RGBA"
        target = "RGBA" if has_alpha else "RGB"
    return image.convert(target)


def _palette_mode(image: Image.Image) -> str | None:
    return image.palette.mode if image.mode == "P" and image.palette is not None else None


def _cmyk_to_rgb(image: Image.Image) -> Image.Image:
    profile = image.info.get("icc_profile")
    if profile:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError) as error:
            warn(f"The CMYK profile cannot be used ({error}); colors are converted without it.")
    return image.convert("RGB")


def to_pil(image: ImageData) -> Image.Image:
    """Return a PIL image of mode L, LA, RGB or RGBA; I;16 for 16-bit gray. Raises `InputError` for other 16-bit images
    and float."""
    array = image.pixels if image.alpha is None else np.dstack((image.pixels, image.alpha))
    if image.pixels.dtype == np.uint16 and array.shape[2] == 1:
        return Image.fromarray(np.ascontiguousarray(array[..., 0]))
    if image.pixels.dtype != np.uint8:
        raise InputError(f"PIL has no mode for {array.shape[2]} channels of {array.dtype}.")
    return Image.fromarray(np.ascontiguousarray(array[..., 0] if array.shape[2] == 1 else array))


def to_rgb8(image: ImageData) -> RGB8:
    """Return a copy in 8-bit RGB [H, W, 3], rounded, without alpha."""
    if image.dtype == np.uint8 and image.pixels.shape[2] == 3:
        return np.array(image.pixels, order="C")
    whole = image.full_region
    return to_uint8(image.crop_rgb(whole))


def to_uint8(image: FloatImage) -> RGB8:
    """Convert floats in [0, 1] to 8 bits, rounded."""
    return np.asarray(np.rint(image * 255), np.uint8)


def to_luminance(image: ImageData) -> FloatImage:
    """Return luminance [H, W] in [0, 1] as on a black background: transparent pixels are 0, whatever color they hide."""
    luminance = image.crop_rgb(image.full_region) @ LUMA
    return luminance if image.alpha is None else luminance * (image.alpha.astype(np.float32) / np.float32(image.max_value))


def apply_orientation(array: Pixels, orientation: int) -> Pixels:
    """Apply an EXIF orientation (1 to 8; other values count as 1) to [H, W] or [H, W, C]."""
    if orientation in SIDEWAYS:
        array = array.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    return array
