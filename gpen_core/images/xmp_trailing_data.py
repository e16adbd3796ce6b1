"""Removing XMP that declares trailing data the output does not have: gain maps, motion videos and further images.

A viewer that trusts it would look for a video or gain map at the end of the file and show an error or wrong colors.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

GAIN_MAP, MOTION_VIDEO = "the gain map for HDR displays", "the video of a motion photo"
NAMESPACES = {
    b"http://ns.adobe.com/hdr-gain-map/1.0/": (rb"\w+", GAIN_MAP),  # Ultra HDR 1.0
    b"http://ns.apple.com/HDRGainMap/1.0/": (rb"\w+", GAIN_MAP),
    b"http://ns.google.com/photos/1.0/container/": (rb"\w+", None),  # motion photo 1.0: Directory
    b"http://ns.google.com/photos/dd/1.0/container/": (rb"\w+", None),  # dynamic depth 1.0
    b"http://ns.google.com/photos/1.0/camera/": (rb"(?:MotionPhoto|MicroVideo)\w*", MOTION_VIDEO),
    b"http://ns.oppo.com/photos/1.0/camera/": (rb"(?:MotionPhoto|OLivePhoto|VideoLength)\w*", MOTION_VIDEO),
}
"""Properties of each namespace that declare trailing data, and what those data are."""
EXTENSION_NAMESPACE = b"http://ns.adobe.com/xmp/note/"  # XMP 3, 1.1.3.1
MAX_PREFIXES = 20
PREFIX = re.compile(rb"""\sxmlns:([\w.-]{1,40})\s{0,9}=\s{0,9}["']([^"'<>]{1,100})["']""")
NOTHING = re.compile(rb"[\s0]{0,9}")
"""A value that declares no data, such as MotionPhoto="0"."""


def without_trailing_data(xmp: bytes) -> tuple[bytes, tuple[str, ...]]:
    """Return the packet without properties that declare trailing data, and the names of those data."""
    declared: dict[str, None] = {}
    for prefix, namespace in namespace_prefixes(xmp, frozenset(NAMESPACES)):
        names, thing = NAMESPACES[namespace]
        xmp, values = _removed(xmp, re.escape(prefix) + b":" + names)
        if thing is not None and any(not NOTHING.fullmatch(value) for value in values):
            declared[thing] = None
    return xmp, tuple(declared)


def without_extension(xmp: bytes) -> bytes:
    """Return the packet without the mark for extended XMP, which only JPEG supports."""
    for prefix, _ in namespace_prefixes(xmp, frozenset({EXTENSION_NAMESPACE})):
        xmp, _ = _removed(xmp, re.escape(prefix) + b":HasExtendedXMP")
    return xmp


def namespace_prefixes(xmp: bytes, namespaces: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """Return (prefix, namespace) pairs for these namespaces, at most `MAX_PREFIXES`."""
    found = dict.fromkeys((prefix, space) for prefix, space in PREFIX.findall(xmp) if space in namespaces)
    return list(islice(found, MAX_PREFIXES))


def _removed(xmp: bytes, name: bytes) -> tuple[bytes, list[bytes]]:
    """Return the packet without attributes and elements of these names, and their values."""
    values: list[bytes] = []
    parts, at = [], 0
    for start, end in iter_elements(xmp, name):
        parts.append(xmp[at:start])
        values.append(re.sub(rb"<[^<>]*>", b"", xmp[start:end]) or xmp[start:end])
        at = end
    xmp = b"".join((*parts, xmp[at:]))

    def attribute(match: re.Match[bytes]) -> bytes:
        values.append(match[1][1:-1])
        return b""

    return re.sub(rb"""\s%s\s{0,9}=\s{0,9}("[^"<>]*"|'[^'<>]*')""" % name, attribute, xmp), values


def iter_elements(xmp: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of each element, ignoring unclosed ones. Elements do not nest in others of the same name."""
    start_tag, at = re.compile(rb"<(%s)(?=[\s/>])[^<>]*>" % name), 0
    while found := start_tag.search(xmp, at):
        at = found.end()
        if not found[0].endswith(b"/>"):
            close = b"</" + found[1] + b">"
            end = xmp.find(close, at)
            if end < 0:
                return
            at = end + len(close)
        yield found.start(), at
