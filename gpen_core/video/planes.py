"""The planes of a decoded frame as arrays: rotated upright, converted to RGB, and changed only where the image changed.

A change is added to the planes as a difference. Unchanged pixels stay bit for bit as decoded, and changed ones keep the
precision that RGB of 8 bits does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import ImageData, Pixels, Region, apply_orientation, join_overlapping
from .containers import import_av

PLANAR_NAME = re.compile(r"(?P<kind>yuv|gray|gbr)(?P<alpha>a)?j?(?P<chroma>4\d\d)?p?(?P<bits>9|10|12|14|16)?(?:le)?")
CHROMA_SUBSAMPLING = {
    "444": (1, 1),
    "422": (2, 1),
    "420": (2, 2),
    "440": (1, 2),
    "411": (4, 1),
    "410": (4, 4),
}  # pixels across and down per chroma sample
PLANAR_EQUIVALENTS = {
    **dict.fromkeys(("nv12", "nv21"), "yuv420p"),
    **dict.fromkeys(("nv16", "yuyv422", "uyvy422", "yvyu422"), "yuv422p"),
    **dict.fromkeys(("p010le", "p010be"), "yuv420p10le"),
    **dict.fromkeys(("p210le", "p210be", "nv20le"), "yuv422p10le"),
    **dict.fromkeys(("rgb24", "bgr24", "bgr0", "rgb0", "0bgr", "0rgb"), "gbrp"),
    **dict.fromkeys(("rgb48le", "bgr48le"), "gbrp16le"),
    **dict.fromkeys(("rgba", "bgra", "argb", "abgr"), "gbrap"),
    **dict.fromkeys(("rgba64le", "bgra64le"), "gbrap16le"),
    "p012le": "yuv420p12le",
    "xyz12le": "gbrp12le",
    "p016le": "yuv420p16le",
    "p216le": "yuv422p16le",
}
"""Planar formats with the same content, by packed or semi-planar format."""
PACKED_RGBA = {"bgra": (1, 0, 2, 3), "rgba": (1, 2, 0, 3), "argb": (2, 3, 1, 0), "abgr": (2, 1, 3, 0)}
"""Positions of green, blue, red and alpha in a pixel of four bytes."""
# ITU-T H.273, table 4: the red and blue coefficients of luma, by the number of the matrix.
LUMA_COEFFICIENTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
LUMA_COEFFICIENTS |= {9: (0.2627, 0.0593)}
BT709, BT601, UNSPECIFIED, BT2020, BT2020_CONSTANT_LUMINANCE = 1, 6, 2, 9, 10
CONVERTIBLE_MATRICES = (0, UNSPECIFIED, BT2020_CONSTANT_LUMINANCE, *LUMA_COEFFICIENTS)
"""FFmpeg 8 refuses frames with other tags, even if it is told which matrix to use."""
OTHER_COLORS = {8: "YCgCo", 11: "YDzDx", 13: "constant luminance", 14: "ICtCp", 15: "IPT-C2", 16: "YCgCo-Re", 17: "YCgCo-Ro"}
"""Matrices of colors that are not Y Cb Cr of `LUMA_COEFFICIENTS`."""
LIMITED, FULL = 1, 2
MAX_BOXES = 32  # per frame; more changed parts are merged into one box
SWS_FLAGS = 0x4 | 0x2000 | 0x4000 | 0x40000  # swscale: bicubic, full chroma interpolation, accurate rounding


@dataclass(frozen=True)
class ColorSpec:
    """A video's color tags as numbers of ITU-T H.273, where 2 is unspecified. `range` is FFmpeg's: 1 limited, 2 full."""

    range: int = 0
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @property
    def is_full_range(self) -> bool:
        return self.range == FULL

    def effective_matrix(self, size: tuple[int, int]) -> int:
        """Return the matrix, or for an unspecified one BT.709 from 720p on and BT.601 below, as players do.

        BT.2020 with constant luminance counts as BT.2020, because FFmpeg would convert it with BT.601."""
        if self.matrix == BT2020_CONSTANT_LUMINANCE:
            return BT2020
        if self.matrix in LUMA_COEFFICIENTS:
            return self.matrix
        return BT709 if size[0] >= 1280 or size[1] >= 720 else BT601


@dataclass(frozen=True)
class PixelFormat:
    """The properties of a planar pixel format."""

    kind: str
    """yuv, gray or gbrp."""
    subsampling_x: int
    """Pixels across per chroma sample; `subsampling_y` is the same vertically."""
    subsampling_y: int
    bits: int
    has_alpha: bool = False

    @classmethod
    def parse(cls, name: str) -> PixelFormat | None:
        """Parse FFmpeg's name. None for formats without a planar equivalent and for big-endian ones."""
        match = PLANAR_NAME.fullmatch(PLANAR_EQUIVALENTS.get(name, name))
        if match is None or (match["kind"] == "yuv" and match["chroma"] not in CHROMA_SUBSAMPLING):
            return None
        across, down = CHROMA_SUBSAMPLING[match["chroma"] or "444"]
        kind = "gbrp" if match["kind"] == "gbr" else match["kind"]
        return cls(kind, across, down, int(match["bits"] or 8), match["alpha"] is not None)

    @classmethod
    def of(cls, name: str) -> PixelFormat:
        """Parse the name of a format that `parse` knows."""
        layout = cls.parse(name)
        assert layout is not None, name
        return layout

    @property
    def name(self) -> str:
        """FFmpeg's name."""
        chroma = {sampling: number for number, sampling in CHROMA_SUBSAMPLING.items()}[
            self.subsampling_x, self.subsampling_y
        ]
        alpha = "a" if self.has_alpha else ""
        stem = {"yuv": f"yuv{alpha}{chroma}p", "gray": "gray", "gbrp": f"gbr{alpha}p"}[self.kind]
        return stem if self.bits == 8 else f"{stem}{self.bits}le"

    @property
    def color_planes(self) -> int:
        """The number of planes without alpha."""
        return 1 if self.kind == "gray" else 3

    def subsampling(self, number: int) -> tuple[int, int]:
        """Return the pixels across and down per sample of plane `number`, counted from 0."""
        return (self.subsampling_x, self.subsampling_y) if self.kind == "yuv" and number in (1, 2) else (1, 1)

    @property
    def rotated(self) -> PixelFormat:
        """The format after a rotation by 90 degrees. Without a matching format, chroma is repeated: 4:2:2 -> 4:4:4."""
        return self if self.subsampling_x == self.subsampling_y else replace(self, subsampling_x=1, subsampling_y=1)


def planar_format(name: str, bits: int, is_rgb: bool, has_alpha: bool = False) -> str:
    """Return the planar format for a decoder's format."""
    layout = PixelFormat.parse(name)
    if layout is not None:
        return layout.name
    deep = 16 if is_rgb else 12
    return PixelFormat("gbrp" if is_rgb else "yuv", 1, 1, 8 if bits <= 8 else deep, has_alpha).name


@dataclass(frozen=True, eq=False)
class Planes:
    """A frame in the codec's format: arrays [h, w] of uint8 or uint16 (Y Cb Cr, G B R or gray), then alpha if present."""

    arrays: tuple[Pixels, ...]
    format: str
    colors: ColorSpec

    @cached_property
    def layout(self) -> PixelFormat:
        return PixelFormat.of(self.format)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return int(self.arrays[0].shape[1]), int(self.arrays[0].shape[0])

    @property
    def alpha(self) -> Pixels | None:
        """[h, w], where the largest value is opaque; None without alpha."""
        return self.arrays[-1] if self.layout.has_alpha else None

    def without_alpha(self) -> Planes:
        if not self.layout.has_alpha:
            return self
        return Planes(self.arrays[:-1], replace(self.layout, has_alpha=False).name, self.colors)

    def to_limited_range(self, bits: int) -> Planes:
        """Convert Y Cb Cr of full range to limited range with this bit depth (ITU-T H.273, 8.3)."""
        had, step = self.layout.bits, 2 ** (bits - 8)
        arrays = []
        for number, one in enumerate(self.arrays):
            if number == self.layout.color_planes:
                arrays.append(scale_depth(one, had, bits))
                continue
            levels, zero, new_zero = (219, 0, 16) if number == 0 else (224, 2 ** (had - 1), 128)
            scaled = (one.astype(np.float32) - zero) * (levels * step / (2**had - 1)) + new_zero * step
            arrays.append(np.rint(scaled).astype(np.uint8 if bits == 8 else np.uint16))
        return Planes(tuple(arrays), replace(self.layout, bits=bits).name, replace(self.colors, range=LIMITED))

    @classmethod
    def from_frame(cls, frame: Any, name: str, colors: ColorSpec) -> Planes:
        """Copy a PyAV frame into the planar format `name`."""
        if frame.format.name in PACKED_RGBA and name == "gbrap":
            return cls(_unpack(frame), name, colors)
        if frame.format.name.replace("yuvj", "yuv") != name:
            frame = frame.reformat(format=name)
        bits = PixelFormat.of(name).bits
        return cls(tuple(_plane_view(plane, bits).copy() for plane in frame.planes), name, colors)

    def to_frame(self) -> Any:
        """Return a PyAV frame with a copy of the planes."""
        frame = import_av().VideoFrame(*self.size, self.format)
        for plane, array in zip(frame.planes, self.arrays):
            _plane_view(plane, self.layout.bits)[...] = array
        return frame

    def apply_orientation(self, orientation: int) -> Planes:
        """Apply an EXIF orientation (1 to 8)."""
        if orientation == 1:
            return self
        layout = self.layout
        turned = layout.rotated if orientation >= 5 else layout
        arrays = self.arrays
        if turned != layout:
            chroma = (_upsample_chroma(one, layout, arrays[0].shape) for one in arrays[1:3])
            arrays = (arrays[0], *chroma, *arrays[3:])
        return Planes(
            tuple(np.ascontiguousarray(apply_orientation(one, orientation)) for one in arrays), turned.name, self.colors
        )

    def pad(self, size: tuple[int, int]) -> Planes:
        """Pad to a width and height that are no smaller, by repeating the border."""
        if self.size == size:
            return self
        arrays = []
        for number, one in enumerate(self.arrays):
            across, down = self.layout.subsampling(number)
            grow = ((0, -(-size[1] // down) - one.shape[0]), (0, -(-size[0] // across) - one.shape[1]))
            arrays.append(np.pad(one, grow, mode="edge"))
        return replace(self, arrays=tuple(arrays))

    def apply_difference(
        self, before: ImageData, after: ImageData, mask: NDArray[np.bool_], region: Region | None = None
    ) -> Planes:
        """Add the difference of two images of the same size where `mask` [h, w] is true.

        `region`: the part of the frame that they show, with corners of chroma samples; None: all of it. Luma changes only in
        the pixels of the mask, and chroma in the samples that cover any of them. All else stays identical."""
        layout, arrays = self.layout, list(self.arrays)
        rows = rgb_to_plane_matrix(layout, self.colors, self.size)
        region = region or Region(0, 0, *self.size)
        for inside in aligned_boxes(_outlined(mask), layout, before.size):
            if arrays[0] is self.arrays[0]:
                arrays = [one.copy() for one in arrays]
            difference = _masked_difference(before, after, mask, inside)
            box = inside.absolute_in(region)
            # One plane after the other: `cv2.split` would take longer than all of this.
            changes = [np.asarray(cv2.transform(difference, row[None]), np.float32) for row in rows]
            fine = len(changes) if layout.kind != "yuv" else 1
            for number in range(fine):
                _add_rounded(arrays[number][box.slices], changes[number], layout)
            for number in range(fine, len(changes)):
                chroma = _downsample_chroma(changes[number], layout)
                y, x = box.y0 // layout.subsampling_y, box.x0 // layout.subsampling_x
                _add_rounded(arrays[number][y : y + chroma.shape[0], x : x + chroma.shape[1]], chroma, layout)
        return replace(self, arrays=tuple(arrays))


def _unpack(frame: Any) -> tuple[Pixels, ...]:
    """Return green, blue, red and alpha [h, w]. FFmpeg 7.1's own conversion would change alpha by one."""
    plane = frame.planes[0]
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * frame.height].reshape(frame.height, plane.line_size)
    pixels = rows[:, : 4 * frame.width].reshape(frame.height, frame.width, 4)
    return tuple(pixels[..., place].copy() for place in PACKED_RGBA[frame.format.name])


def is_opaque(alpha: Pixels | None, bits: int) -> bool:
    """Whether alpha of this depth is opaque everywhere, or missing."""
    return alpha is None or bool((alpha == 2**bits - 1).all())


def scale_depth(plane: Pixels, bits: int, to_bits: int) -> Pixels:
    """Convert values to another bit depth, rounded."""
    if bits == to_bits:
        return plane
    scaled = np.rint(plane.astype(np.float32) * ((2**to_bits - 1) / (2**bits - 1)))
    return np.asarray(scaled.astype(np.uint8 if to_bits <= 8 else np.uint16))


def _plane_view(plane: Any, bits: int) -> Pixels:
    """Return a view [h, w] of a PyAV plane's memory."""
    kind = np.uint8 if bits <= 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
    return rows.view(kind)[:, : plane.width]


def _upsample_chroma(chroma: Pixels, layout: PixelFormat, shape: Sequence[int]) -> Pixels:
    return chroma.repeat(layout.subsampling_y, 0).repeat(layout.subsampling_x, 1)[: shape[0], : shape[1]]


def aligned_boxes(regions: Iterable[Region], layout: PixelFormat, size: tuple[int, int]) -> list[Region]:
    """Return disjoint rectangles of a frame of this (width, height) that contain all regions, aligned to chroma samples."""
    step, frame = (layout.subsampling_x, layout.subsampling_y), Region(0, 0, *size)
    return join_overlapping(region.aligned(*step).intersection(frame) for region in regions)


def _outlined(mask: NDArray[np.bool_]) -> Iterator[Region]:
    """Yield rectangles that contain all pixels of the mask."""
    outlines, _ = cv2.findContours(mask.view(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    parts = outlines if len(outlines) <= MAX_BOXES else [np.concatenate(outlines)]
    for x, y, width, height in map(cv2.boundingRect, parts):
        yield Region(x, y, x + width, y + height)


def _masked_difference(before: ImageData, after: ImageData, mask: NDArray[np.bool_], box: Region) -> NDArray[np.float32]:
    """Return the difference [h, w, 3] in [-1, 1], zero outside the mask."""
    one, other = (image.pixels[box.slices] for image in (after, before))
    if one.dtype == other.dtype == np.uint8 and one.shape[2] == other.shape[2] == 3:
        difference, white = np.subtract(one, other, dtype=np.int16), np.float32(255)
    else:
        difference, white = after.crop_rgb(box) - before.crop_rgb(box), np.float32(1)
    if not mask[box.slices].all():
        difference = cv2.copyTo(difference, mask[box.slices].view(np.uint8))  # faster than a subtraction with a mask
    return np.divide(difference, white, dtype=np.float32)


def _downsample_chroma(change: NDArray[np.float32], layout: PixelFormat) -> NDArray[np.float32]:
    """Reduce [h, w] to [h / down, w / across]. Odd edges are padded with their last pixels."""
    height, width = change.shape
    bottom, right = -height % layout.subsampling_y, -width % layout.subsampling_x
    whole = cv2.copyMakeBorder(change, 0, bottom, 0, right, cv2.BORDER_REPLICATE) if bottom or right else change
    size = (whole.shape[1] // layout.subsampling_x, whole.shape[0] // layout.subsampling_y)
    return np.asarray(cv2.resize(whole, size, interpolation=cv2.INTER_AREA), np.float32)


def rgb_to_plane_matrix(layout: PixelFormat, colors: ColorSpec, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the matrix [planes, 3] from RGB to steps of each plane (ITU-T H.273, 8.3)."""
    top = 2**layout.bits - 1
    if layout.kind == "gbrp":
        return np.array([[0, top, 0], [0, 0, top], [top, 0, 0]], np.float32)
    red, blue = LUMA_COEFFICIENTS[colors.effective_matrix(size)]
    luma = np.array([red, 1 - red - blue, blue])
    steps = 2 ** (layout.bits - 8)
    if layout.kind == "gray":  # which `to_rgb` takes for full range, whatever its tag
        return np.asarray((luma * top)[None], np.float32)
    y, c = (top, top) if colors.is_full_range else (219 * steps, 224 * steps)
    blueness = (np.array([0, 0, 1]) - luma) / (2 - 2 * blue)
    redness = (np.array([1, 0, 0]) - luma) / (2 - 2 * red)
    return np.asarray(np.stack((luma * y, blueness * c, redness * c)), np.float32)


def _add_rounded(array: Pixels, change: NDArray[np.float32], layout: PixelFormat) -> None:
    """Add to a part of a plane in place, rounded."""
    cv2.add(array, change, dst=array, dtype=cv2.CV_8U if array.dtype == np.uint8 else cv2.CV_16U)  # rounds and saturates
    if layout.bits not in (8, 16):
        np.minimum(array, 2**layout.bits - 1, out=array)


def copy_part(frame: Any, region: Region, part: Any) -> None:
    """Copy a region into a PyAV frame of its size. Both have the same planar format.

    The region's upper left corner is that of a chroma sample."""
    layout = PixelFormat.of(frame.format.name)
    for number, (source, target) in enumerate(zip(frame.planes, part.planes)):
        across, down = layout.subsampling(number)
        y, x = region.y0 // down, region.x0 // across
        samples = _plane_view(source, layout.bits)[y : y + target.height, x : x + target.width]
        _plane_view(target, layout.bits)[...] = samples


def to_rgb(frame: Any, colors: ColorSpec, bits: int, size: tuple[int, int] | None = None) -> Pixels:
    """Convert a PyAV frame to RGB [H, W, 3] of uint8, or of uint16 for more than 8 `bits`, without rotating it.

    `size`: width and height of the whole frame, if this is a part of it."""
    matrix = colors.effective_matrix(size or (frame.width, frame.height))
    is_full_range = colors.is_full_range or frame.format.name.startswith("gray")  # FFmpeg 8 takes all gray for full range
    rgb = frame.reformat(
        format="gbrp" if bits <= 8 else "gbrp16le",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if is_full_range else LIMITED,
        dst_color_range=LIMITED if is_full_range else FULL,  # RGB is full anyway, and PyAV 14 ignores two equal ranges
        interpolation=SWS_FLAGS,
    )
    green, blue, red = (_plane_view(plane, bits) for plane in rgb.planes)
    return np.asarray(cv2.merge((red, green, blue)))
