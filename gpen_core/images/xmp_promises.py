"""XMP that promises what a new file does not hold: gain maps, a phone's videos, and further images behind the image.

A viewer that believes it looks for a video or a gain map at the end of the file, and shows an error or wrong colors.
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
"""Which properties of a namespace are about what lies behind the image, and what that is."""
EXTENSION_NAMESPACE = b"http://ns.adobe.com/xmp/note/"  # XMP 3, 1.1.3.1
MAX_PREFIXES = 20
PREFIX = re.compile(rb"""\sxmlns:([\w.-]{1,40})\s{0,9}=\s{0,9}["']([^"'<>]{1,100})["']""")
NOTHING = re.compile(rb"[\s0]{0,9}")
"""A value that says that there is none, as phones write MotionPhoto="0"."""


def without_promises(xmp: bytes) -> tuple[bytes, tuple[str, ...]]:
    """The packet without those properties, and what they promised, in words."""
    promised: dict[str, None] = {}
    for prefix, namespace in _prefixes(xmp, frozenset(NAMESPACES)):
        names, thing = NAMESPACES[namespace]
        xmp, values = _removed(xmp, re.escape(prefix) + b":" + names)
        if thing is not None and any(not NOTHING.fullmatch(value) for value in values):
            promised[thing] = None
    return xmp, tuple(promised)


def without_extension(xmp: bytes) -> bytes:
    """The packet without the mark that the rest of it is in further segments, which only a JPEG has."""
    for prefix, _ in _prefixes(xmp, frozenset({EXTENSION_NAMESPACE})):
        xmp, _ = _removed(xmp, re.escape(prefix) + b":HasExtendedXMP")
    return xmp


def _prefixes(xmp: bytes, namespaces: frozenset[bytes]) -> list[tuple[bytes, bytes]]:
    """The prefixes that stand for these namespaces, with theirs; no more of them than an ordinary packet has."""
    found = dict.fromkeys((prefix, space) for prefix, space in PREFIX.findall(xmp) if space in namespaces)
    return list(islice(found, MAX_PREFIXES))


def _removed(xmp: bytes, name: bytes) -> tuple[bytes, list[bytes]]:
    """Without attributes and elements of these names, and the values that they had."""
    values: list[bytes] = []
    parts, at = [], 0
    for start, end in _elements(xmp, name):
        parts.append(xmp[at:start])
        values.append(re.sub(rb"<[^<>]*>", b"", xmp[start:end]) or xmp[start:end])
        at = end
    xmp = b"".join((*parts, xmp[at:]))

    def attribute(match: re.Match[bytes]) -> bytes:
        values.append(match[1][1:-1])
        return b""

    return re.sub(rb"""\s%s\s{0,9}=\s{0,9}("[^"<>]*"|'[^'<>]*')""" % name, attribute, xmp), values


def _elements(xmp: bytes, name: bytes) -> Iterator[tuple[int, int]]:
    """From where to where each reaches; one that does not end is left. None of them holds another one of its name."""
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
