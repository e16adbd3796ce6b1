"""Turning the regions in XMP, such as tagged faces, with the pixels.

Programs write them for the pixels as they are stored (Metadata Working Group, Guidelines 2.0, 5.9), before the orientation.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .image import SIDEWAYS
from .xmp_trailing_data import iter_elements, namespace_prefixes

Values = dict[bytes, float]
REGIONS, AREA, DIMENSIONS = (
    b"http://www.metadataworkinggroup.com/schemas/regions/",
    b"http://ns.adobe.com/xmp/sType/Area#",
    b"http://ns.adobe.com/xap/1.0/sType/Dimensions#",
)
NUMBER = rb"""((?:%s):%s(?:\s{0,9}=\s{0,9}["']|>)\s{0,9})([0-9]{0,9}\.?[0-9]{1,20})"""
"""A property as an attribute or an element: prefixes, and the name."""


def turn_regions(xmp: bytes, orientation: int, size: tuple[int, int]) -> bytes:
    """Return the packet for pixels to which an EXIF orientation was applied. `size`: their width and height after it.

    Regions whose own size shows that they are already for the upright pixels do not change."""
    areas, dimensions = _alternatives(xmp, AREA), _alternatives(xmp, DIMENSIONS)
    if orientation == 1 or not areas:
        return xmp
    for prefix, _ in namespace_prefixes(xmp, frozenset({REGIONS})):
        owner = re.escape(prefix)
        if orientation in SIDEWAYS and dimensions:
            name = owner + b":AppliedToDimensions"
            applied = [_numbers(xmp[start:end], dimensions, b"wh") for start, end in iter_elements(xmp, name)]
            if any(len(one) == 2 and one[b"w"] != one[b"h"] and _is_wide(one) == (size[0] > size[1]) for one in applied):
                return xmp
            xmp = _changed(xmp, name, dimensions, b"wh", lambda found: _swapped(found, b"wh"))
        xmp = _changed(xmp, owner + b":Area", areas, b"xywh", lambda found: _turned(found, orientation))
    return xmp


def _is_wide(dimensions: Values) -> bool:
    return dimensions[b"w"] > dimensions[b"h"]


def _changed(xmp: bytes, element: bytes, prefixes: bytes, names: bytes, change: Callable[[Values], Values]) -> bytes:
    """Return the packet with these numbers changed in each of these elements."""
    parts, at = [], 0
    for start, end in iter_elements(xmp, element):
        part = xmp[start:end]
        parts += [xmp[at:start], _with_numbers(part, prefixes, change(_numbers(part, prefixes, names)))]
        at = end
    return b"".join((*parts, xmp[at:]))


def _alternatives(xmp: bytes, namespace: bytes) -> bytes:
    return b"|".join(re.escape(prefix) for prefix, _ in namespace_prefixes(xmp, frozenset({namespace})))


def _numbers(part: bytes, prefixes: bytes, names: bytes) -> Values:
    found = {bytes([name]): re.search(NUMBER % (prefixes, bytes([name])), part) for name in names}
    return {name: float(match[2]) for name, match in found.items() if match}


def _with_numbers(part: bytes, prefixes: bytes, values: Values) -> bytes:
    for name, value in values.items():
        text = f"{value:.9f}".rstrip("0").rstrip(".").encode()
        part = re.sub(NUMBER % (prefixes, name), lambda match, text=text: match[1] + text, part)  # type: ignore[misc]
    return part


def _swapped(values: Values, names: bytes) -> Values:
    first, second = (bytes([name]) for name in names)
    return {first: values[second], second: values[first]} if first in values and second in values else {}


def _turned(area: Values, orientation: int) -> Values:
    """Return a region's center, width and height, in parts of the image, as `apply_orientation` turns the pixels."""
    if orientation in SIDEWAYS:
        area = {**_swapped(area, b"xy"), **_swapped(area, b"wh")}
    if orientation in (2, 3, 6, 7) and b"x" in area:
        area = {**area, b"x": 1 - area[b"x"]}
    if orientation in (3, 4, 7, 8) and b"y" in area:
        area = {**area, b"y": 1 - area[b"y"]}
    return area
