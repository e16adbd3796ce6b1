"""A decoded frame's planes as arrays: turned upright, as RGB, and changed only where a picture was.

A change is added to the planes as a difference: what did not change in RGB stays bit for bit as it was decoded, and what
changed a little does not lose what RGB of 8 bits cannot tell apart.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..images.image import Picture, Pixels, Region, upright
from .containers import library

PLANAR = re.compile(r"(?P<kind>yuv|gray|gbrp)j?(?P<chroma>4\d\d)?p?(?P<bits>9|10|12|14|16)?(?:le)?")
SAMPLING = {"444": (1, 1), "422": (2, 1), "420": (2, 2), "440": (1, 2), "411": (4, 1), "410": (4, 4)}  # of a chroma sample
ALIKE = {
    **dict.fromkeys(("nv12", "nv21"), "yuv420p"),
    **dict.fromkeys(("nv16", "yuyv422", "uyvy422", "yvyu422"), "yuv422p"),
    **dict.fromkeys(("p010le", "p010be"), "yuv420p10le"),
    **dict.fromkeys(("p210le", "p210be", "nv20le"), "yuv422p10le"),
    **dict.fromkeys(("rgb24", "bgr24", "bgr0", "rgb0", "0bgr", "0rgb"), "gbrp"),
    **dict.fromkeys(("rgb48le", "bgr48le"), "gbrp16le"),
    "p012le": "yuv420p12le",
    "xyz12le": "gbrp12le",
    "p016le": "yuv420p16le",
    "p216le": "yuv422p16le",
}
"""Formats that are not planar by those that hold the same."""
# ITU-T H.273, table 4: the red and the blue part of luma by the number of the matrix.
LUMA_PARTS = {1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114), 7: (0.212, 0.087)}
LUMA_PARTS |= {9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
BT709, BT601, UNSPECIFIED = 1, 6, 2
LIMITED, FULL = 1, 2
MOST_BOXES = 32  # parts of a frame that are changed one by one
CAREFUL = 0x4 | 0x2000 | 0x4000 | 0x40000  # swscale: bicubic, chroma interpolated both ways, rounded exactly


@dataclass(frozen=True)
class Colours:
    """A film's colour tags by their numbers in ITU-T H.273; 2 is unspecified. `range` is FFmpeg's: 1 limited, 2 full."""

    range: int = 0
    matrix: int = UNSPECIFIED
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED

    @property
    def is_full(self) -> bool:
        return self.range == FULL

    def matrix_for(self, size: tuple[int, int]) -> int:
        """The matrix that counts: where none is said, BT.709 from 720p on and BT.601 below, as players have it."""
        if self.matrix in LUMA_PARTS:
            return self.matrix
        return BT709 if size[0] >= 1280 or size[1] >= 720 else BT601


@dataclass(frozen=True)
class Layout:
    """What a pixel format is."""

    kind: str
    """yuv, gray or gbrp."""
    across: int
    """Pixels across that one chroma sample stands for; `down` likewise."""
    down: int
    bits: int

    @classmethod
    def of(cls, name: str) -> Layout | None:
        """None for what is not planar, has alpha or is of another byte order."""
        match = PLANAR.fullmatch(ALIKE.get(name, name))
        if match is None or (match["kind"] == "yuv" and match["chroma"] not in SAMPLING):
            return None
        across, down = SAMPLING[match["chroma"] or "444"]
        return cls(match["kind"], across, down, int(match["bits"] or 8))

    @property
    def name(self) -> str:
        """FFmpeg's name."""
        chroma = {sampling: number for number, sampling in SAMPLING.items()}[self.across, self.down]
        stem = {"yuv": f"yuv{chroma}p", "gray": "gray", "gbrp": "gbrp"}[self.kind]
        return stem if self.bits == 8 else f"{stem}{self.bits}le"

    @property
    def turned(self) -> Layout:
        """After a quarter turn. Where no common format is subsampled so, chroma samples are repeated: 4:2:2 -> 4:4:4."""
        return self if self.across == self.down else replace(self, across=1, down=1)


def plain_format(name: str, bits: int, is_rgb: bool) -> str:
    """The planar format that holds what a decoder's format of that name holds."""
    layout = Layout.of(name)
    if layout is not None:
        return layout.name
    if is_rgb:
        return "gbrp" if bits <= 8 else "gbrp16le"
    return "yuv444p" if bits <= 8 else "yuv444p12le"


@dataclass(frozen=True, eq=False)
class Planes:
    """A frame as the codec has it: arrays [h, w] of uint8 or uint16, Y Cb Cr, G B R or grey."""

    arrays: tuple[Pixels, ...]
    format: str
    colours: Colours

    @cached_property
    def layout(self) -> Layout:
        layout = Layout.of(self.format)
        assert layout is not None
        return layout

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return int(self.arrays[0].shape[1]), int(self.arrays[0].shape[0])

    @classmethod
    def from_frame(cls, frame: Any, name: str, colours: Colours) -> Planes:
        """A copy of a PyAV frame, in the planar format of that name."""
        if frame.format.name.replace("yuvj", "yuv") != name:
            frame = frame.reformat(format=name)
        layout = Layout.of(name)
        assert layout is not None
        return cls(tuple(_view(plane, layout.bits).copy() for plane in frame.planes), name, colours)

    def to_frame(self) -> Any:
        """A PyAV frame with a copy of it."""
        frame = library().VideoFrame(*self.size, self.format)
        for plane, array in zip(frame.planes, self.arrays):
            _view(plane, self.layout.bits)[...] = array
        return frame

    def turned(self, orientation: int) -> Planes:
        """Turned as an EXIF orientation (1 to 8) says."""
        if orientation == 1:
            return self
        layout = self.layout
        turned = layout.turned if orientation >= 5 else layout
        arrays = self.arrays
        if turned != layout:
            arrays = (arrays[0], *(_repeated(one, layout, arrays[0].shape) for one in arrays[1:]))
        return Planes(tuple(np.ascontiguousarray(upright(one, orientation)) for one in arrays), turned.name, self.colours)

    def padded(self, size: tuple[int, int]) -> Planes:
        """Of that width and height, which are no less than its own: the border is repeated."""
        if self.size == size:
            return self
        layout = self.layout
        arrays = []
        for number, one in enumerate(self.arrays):
            across, down = (layout.across, layout.down) if number and layout.kind == "yuv" else (1, 1)
            grow = ((0, -(-size[1] // down) - one.shape[0]), (0, -(-size[0] // across) - one.shape[1]))
            arrays.append(np.pad(one, grow, mode="edge"))
        return replace(self, arrays=tuple(arrays))

    def changed(self, before: Picture, after: Picture, touched: NDArray[np.bool_]) -> Planes:
        """With the difference of two pictures of its size added where `touched` [H, W] is true.

        Luma changes in touched pixels only, chroma in the samples that stand for any; all else is the same bit for bit."""
        layout, arrays = self.layout, list(self.arrays)
        rows = _rows(layout, self.colours, self.size)
        for box in _boxes(touched, layout):
            if arrays[0] is self.arrays[0]:
                arrays = [one.copy() for one in arrays]
            change = np.asarray(cv2.transform(_difference(before, after, touched, box), rows), np.float32)
            change = change.reshape(box.y1 - box.y0, box.x1 - box.x0, -1)
            fine = change.shape[2] if layout.kind != "yuv" else 1
            for number in range(fine):
                _add(arrays[number][box.slices], change[..., number], layout)
            for number, chroma in enumerate(_block_means(change[..., fine:], layout), fine):
                y, x = box.y0 // layout.down, box.x0 // layout.across
                _add(arrays[number][y : y + chroma.shape[0], x : x + chroma.shape[1]], chroma, layout)
        return replace(self, arrays=tuple(arrays))


def _view(plane: Any, bits: int) -> Pixels:
    """[h, w] onto a PyAV plane's memory."""
    kind = np.uint8 if bits <= 8 else np.dtype("<u2")
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * plane.height].reshape(plane.height, plane.line_size)
    return rows.view(kind)[:, : plane.width]


def _repeated(chroma: Pixels, layout: Layout, shape: Sequence[int]) -> Pixels:
    return chroma.repeat(layout.down, 0).repeat(layout.across, 1)[: shape[0], : shape[1]]


def _boxes(touched: NDArray[np.bool_], layout: Layout) -> list[Region]:
    """Rectangles that have no pixel in common and hold all that is touched, from the corner of a chroma sample on."""
    count, _, stats, _ = cv2.connectedComponentsWithStats(touched.view(np.uint8), connectivity=8)
    found: list[Region] = []
    for x, y, width, height, _ in stats[1:count] if count <= MOST_BOXES else [_whole(touched)]:
        x0, y0 = x - x % layout.across, y - y % layout.down
        x1, y1 = -(-(x + width) // layout.across) * layout.across, -(-(y + height) // layout.down) * layout.down
        new = Region(int(x0), int(y0), min(int(x1), touched.shape[1]), min(int(y1), touched.shape[0]))
        while meets := [one for one in found if not one.overlap(new).empty]:
            found = [one for one in found if one not in meets]
            new = _around((new, *meets))
        found.append(new)
    return found


def _whole(touched: NDArray[np.bool_]) -> tuple[int, int, int, int, int]:
    return 0, 0, touched.shape[1], touched.shape[0], touched.size


def _around(boxes: Sequence[Region]) -> Region:
    low, high = (min(b.x0 for b in boxes), min(b.y0 for b in boxes)), (max(b.x1 for b in boxes), max(b.y1 for b in boxes))
    return Region(*low, *high)


def _difference(before: Picture, after: Picture, touched: NDArray[np.bool_], box: Region) -> NDArray[np.float32]:
    """[h, w, 3] in [-1, 1], zero where nothing is touched."""
    difference = after.region(box) - before.region(box)
    difference *= touched[box.slices][..., None]
    return difference


def _block_means(change: NDArray[np.float32], layout: Layout) -> list[NDArray[np.float32]]:
    """[h, w, planes] -> for each plane [h / down, w / across]; at an odd edge the last pixels stand for those beyond."""
    height, width, planes = change.shape
    grow = ((0, -height % layout.down), (0, -width % layout.across), (0, 0))
    whole = np.pad(change, grow, mode="edge") if grow[0][1] or grow[1][1] else change
    size = (whole.shape[1] // layout.across, whole.shape[0] // layout.down)
    parts = (np.ascontiguousarray(whole[..., plane]) for plane in range(planes))
    return [np.asarray(cv2.resize(part, size, interpolation=cv2.INTER_AREA), np.float32) for part in parts]


def _rows(layout: Layout, colours: Colours, size: tuple[int, int]) -> NDArray[np.float32]:
    """[planes, 3]: how many steps each plane rises by red, green and blue (ITU-T H.273, 8.3)."""
    top = 2**layout.bits - 1
    if layout.kind == "gbrp":
        return np.array([[0, top, 0], [0, 0, top], [top, 0, 0]], np.float32)
    red, blue = LUMA_PARTS[colours.matrix_for(size)]
    luma = np.array([red, 1 - red - blue, blue])
    steps = 2 ** (layout.bits - 8)
    y, c = (top, top) if colours.is_full else (219 * steps, 224 * steps)
    if layout.kind == "gray":
        return np.asarray((luma * y)[None], np.float32)
    blueness = (np.array([0, 0, 1]) - luma) / (2 - 2 * blue)
    redness = (np.array([1, 0, 0]) - luma) / (2 - 2 * red)
    return np.asarray(np.stack((luma * y, blueness * c, redness * c)), np.float32)


def _add(array: Pixels, change: NDArray[np.float32], layout: Layout) -> None:
    """Adds to a part of a plane in place, rounded."""
    array[...] = np.rint(array + change).clip(0, 2**layout.bits - 1)


def to_rgb(frame: Any, colours: Colours, bits: int) -> Pixels:
    """[H, W, 3] of uint8, or of uint16 where `bits` are more than 8: a PyAV frame as a picture, not turned."""
    size = (frame.width, frame.height)
    matrix = colours.matrix_for(size)
    rgb = frame.reformat(
        format="gbrp" if bits <= 8 else "gbrp16le",
        src_colorspace=matrix,
        dst_colorspace=matrix,
        src_color_range=FULL if colours.is_full else LIMITED,
        dst_color_range=FULL,
        interpolation=CAREFUL,
    )
    green, blue, red = (_view(plane, bits) for plane in rgb.planes)
    return np.asarray(cv2.merge((red, green, blue)))
