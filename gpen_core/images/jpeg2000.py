"""JPEG 2000 details that Pillow does not expose (ISO/IEC 15444-1): bits, color space, profile, XMP, completeness."""

from __future__ import annotations

from PIL import Image

from ..errors import InputError
from . import bmff

CODESTREAM = b"\xff\x4f\xff\x51"  # SOC, SIZ: A.4.1, A.5.1
END_OF_CODESTREAM = b"\xff\xd9"
CMYK = 12  # enumerated color space, 15444-2, M.11.7.3.1
XMP_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
MAX_COMPONENTS, MAX_TILES = 4, 10_000


def bit_depth(data: bytes) -> int:
    """Return the highest bit depth of the components, 1 to 128; 8 if the file is damaged before that field."""
    size = _size_segment(data)
    count = int.from_bytes(size[36:38], "big")
    depths = [(value & 0x7F) + 1 for value in size[38 : 38 + 3 * min(count, MAX_COMPONENTS) : 3]]
    return max(depths, default=8)


def _size_segment(data: bytes) -> bytes:
    at = data.find(CODESTREAM) + len(CODESTREAM)
    return data[at : at + 38 + 3 * MAX_COMPONENTS] if at >= len(CODESTREAM) else b""


def check(image: Image.Image, source: bytes, bits: int) -> None:
    """Raise `InputError` for files that Pillow would read incorrectly."""
    if bits > 16 or (bits > 8 and not image.mode.startswith("I")):
        raise InputError(f"the JPEG 2000 has colors of {bits} bits, of which Pillow reads 8. Save it as TIFF or PNG.")
    spaces = [int.from_bytes(source[at + 3 : at + 7], "big") for at, _, method in _colors(source) if method == 1]
    if CMYK in spaces and image.mode != "CMYK":
        raise InputError("the JPEG 2000 is in CMYK, which this Pillow reads as RGB. Save it as TIFF or PNG.")


def check_complete(source: bytes) -> None:
    """Raise `ValueError` for a truncated file, or one with more tiles than `MAX_TILES`."""
    if not source.startswith(CODESTREAM):
        bmff.check_complete(source)
    streams = [(at, end) for kind, at, end in bmff.iter_boxes(source) if kind == b"jp2c"]
    start, end = (0, len(source)) if source.startswith(CODESTREAM) else streams[0] if streams else (0, 0)
    if not source[start:end].rstrip(b"\0").endswith(END_OF_CODESTREAM):
        raise ValueError("its codestream does not end")
    numbers = _size_segment(source)[4:36]
    width, height, _, _, tile_width, tile_height, tile_x, tile_y = (
        int.from_bytes(numbers[at : at + 4], "big") for at in range(0, 32, 4)
    )
    tiles = -(-(width - tile_x) // max(1, tile_width)) * -(-(height - tile_y) // max(1, tile_height))
    if tiles > MAX_TILES:
        raise ValueError(f"it consists of {tiles:,} tiles")


def embedded(source: bytes) -> dict[str, bytes]:
    """Return the profile and XMP packet from the boxes, under the keys that Pillow uses for other formats."""
    out = {}
    for at, end, method in _colors(source):
        if method == 2:  # restricted ICC
            out["icc_profile"] = source[at + 3 : end]
    for kind, at, end in bmff.iter_boxes(source):
        if kind == b"uuid" and source[at : at + 16] == XMP_UUID:
            out["xmp"] = source[at + 16 : end]
    return out


def _colors(source: bytes) -> list[tuple[int, int, int]]:
    """Return start, end and method of each color box."""
    boxes = bmff.find_boxes(source, b"jp2h", b"colr")
    return [(at, end, source[at]) for _, at, end in boxes if at + 7 <= len(source)]
