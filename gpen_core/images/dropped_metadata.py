"""Names of a file's blocks that are not copied to the output, for a note to the user.

Blocks that only describe how the pixels are stored, or that they are unchanged, are not named.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, TiffImagePlugin

from ..errors import summarize_problems
from ..progress import pluralize
from . import bmff
from .jpeg_segments import EXTENDED_XMP, RESOURCES
from .metadata import (
    C2PA_TAG,
    EXIF_HEADER,
    LAYERS_TAG,
    PNG_COLOR_CHUNKS,
    XMP_HEADER,
    Metadata,
    trailing_data_in_xmp,
)
from .png import PNG_SIGNATURE, iter_chunks
from .xmp_trailing_data import GAIN_MAP, MOTION_VIDEO

C2PA, JUMBF, EXTRA_IMAGES = "a C2PA manifest", "JUMBF boxes (JPEG APP11)", "further images (JPEG APP2 MPF)"
KNOWN_SEGMENTS = {
    ("APP1", b"FLIR\x00"): "FLIR data (JPEG APP1)",
    ("APP2", b"MPF\x00"): EXTRA_IMAGES,  # CIPA DC-007: previews, stereo pair, gain map
    ("APP2", b"FPXR\x00"): "FlashPix data (JPEG APP2)",
    ("APP6", b"GoPro\x00"): "GoPro data (JPEG APP6)",
    ("APP6", b"GPMF"): "GoPro data (JPEG APP6)",
    ("APP11", b"JP"): JUMBF,  # ISO 19566-5
}
# Kept by `metadata`, or only thumbnails and details of pixel storage.
IGNORED_JPEG_SEGMENTS = {
    "APP0": (b"JFIF\x00", b"JFXX\x00", b"AVI1"),
    "APP1": (EXIF_HEADER, XMP_HEADER, EXTENDED_XMP),
    "APP2": (b"ICC_PROFILE\x00",),
    "APP12": (b"Ducky",),  # quality setting of "Save for Web"
    "APP13": (RESOURCES,),
    "APP14": (b"Adobe",),
}
IGNORED_PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt", *PNG_COLOR_CHUNKS}
    # Display hints, modification time, single-frame animations, Apple's parallel decoding.
    | {b"bKGD", b"hIST", b"sBIT", b"sPLT", b"tIME", b"acTL", b"fcTL", b"fdAT", b"iDOT"}
)
IGNORED_WEBP_CHUNKS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "})
MOTION_SIGNS = (b"MotionPhoto_Data", b"ftypmp4", b"ftypisom", b"ftypqt  ")  # Samsung's marker; first bytes of a video
ALPHA_AUX = (b"auxiliary:alpha", b"auxid:1")
AUX_IMAGES = {b"gainmap": GAIN_MAP, b"depth": "a depth map", b"auxid:2": "a depth map", b"matte": "a portrait matte"}
"""Name of an auxiliary image by a part of its type."""
MAX_AUX_LENGTH = 200
MAX_NAMES = 100  # of distinct blocks in one file
MAX_NAME_LENGTH = 24
SUB_IFDS_TAG = 330  # TIFF technical note 1
UNSPECIFIED = 0  # TIFF 6.0, section 18, ExtraSamples: not alpha


def dropped_fields(image: Image.Image, source: bytes) -> tuple[str, ...]:
    """Return the names, each once, of the blocks in `source` that no output will have. `image` is opened from `source`."""
    kind = "JPEG" if image.format == "MPO" else image.format
    if kind == "JPEG":
        names = _jpeg_fields(image, source)
    elif kind in ("PNG", "WEBP"):
        names = _png_fields(source) if kind == "PNG" else _webp_fields(source)
    elif kind in ("AVIF", "HEIF"):
        names = _heif_fields(image, source)
    else:
        names = _tiff_fields(image)
    found: dict[str, None] = {}
    for name in (*trailing_data_in_xmp(image), *names):
        found[name] = None
        if len(found) == MAX_NAMES:
            break
    return tuple(found)


def dropped_note(metadata: Metadata) -> tuple[str, ...]:
    """Return one note on everything that was not copied to the output, or nothing if all was."""
    if not metadata.dropped:
        return ()
    explanation = " The manifest's signature would not fit the changed pixels." if C2PA in metadata.dropped else ""
    named = summarize_problems(list(metadata.dropped))
    return (f"Not copied to the output: {named}.{explanation} Keep the original if you need them.",)


def _jpeg_fields(image: Image.Image, source: bytes) -> Iterator[str]:
    segments = [(name, data) for name, data in getattr(image, "applist", []) if name.startswith("APP") and data]
    names = [
        _segment_name(name, data) for name, data in segments if not data.startswith(IGNORED_JPEG_SEGMENTS.get(name, ()))
    ]
    if JUMBF in names and any(name == "APP11" and b"c2pa" in data[:100] for name, data in segments):
        names = [C2PA if name == JUMBF else name for name in names]  # continuation segments do not name their owner
    yield from names
    end = _jpeg_end(source)
    if any(source.find(sign, end) >= 0 for sign in MOTION_SIGNS):
        yield MOTION_VIDEO
    elif EXTRA_IMAGES not in names and MOTION_VIDEO not in trailing_data_in_xmp(image):
        yield from _trailing_data(source, end)


def _segment_name(marker: str, data: bytes) -> str:
    known = next((name for (at, start), name in KNOWN_SEGMENTS.items() if at == marker and data.startswith(start)), None)
    if known:
        return known
    own = data[: MAX_NAME_LENGTH + 1].split(b"\x00")[0].decode("latin-1")[:MAX_NAME_LENGTH]
    return f'JPEG {marker} "{own}"' if len(own) > 2 and own.isascii() and own.isprintable() else f"JPEG {marker}"


def _jpeg_end(source: bytes) -> int:
    """Return the position after the first image's EOI marker (ITU-T T.81, B.1.1), or the file's length without one."""
    at = 2
    while (at := source.find(b"\xff", at)) >= 0 and at + 3 < len(source):
        marker = source[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker in (0x00, 0x01, *range(0xD0, 0xD8)):  # inside the pixel data, or a marker without length
            at += 2
        elif marker == 0xFF:  # padding
            at += 1
        else:
            at += 2 + int.from_bytes(source[at + 2 : at + 4], "big")
    return len(source)


def _trailing_data(source: bytes, end: int) -> Iterator[str]:
    """Yield a note on data after the image, such as a phone's video. Padding does not count."""
    if source[end:].rstrip(b"\x00\r\n "):
        yield f"{len(source) - end:,} bytes after the image"


def _png_fields(source: bytes) -> Iterator[str]:
    behind = len(PNG_SIGNATURE)
    for kind, _, end in iter_chunks(source):
        behind = end
        if kind not in IGNORED_PNG_CHUNKS:
            yield C2PA if kind == b"caBX" else _chunk_name("PNG", kind)
        if kind == b"IEND":
            break
    yield from _trailing_data(source, behind)


def _webp_fields(source: bytes) -> Iterator[str]:
    at = 12
    while at + 8 <= len(source):
        kind, length = source[at : at + 4], int.from_bytes(source[at + 4 : at + 8], "little")
        if kind not in IGNORED_WEBP_CHUNKS:
            yield C2PA if kind == b"C2PA" else _chunk_name("WebP", kind)
        at += 8 + length + length % 2


def _chunk_name(format_name: str, kind: bytes) -> str:
    name = kind.decode("latin-1")
    return f"{format_name} chunk {name}" if name.isascii() and name.isalnum() else f"{format_name} chunk {kind.hex()}"


def _heif_fields(image: Image.Image, source: bytes) -> Iterator[str]:
    """Yield the names of auxiliary images (ISO/IEC 23008-12, 6.5.8), further images and a phone's video."""
    for _, start, end in bmff.find_boxes(source, b"meta", b"iprp", b"ipco", b"auxC"):
        name = source[start + 4 : min(end, start + 4 + MAX_AUX_LENGTH)].split(b"\x00")[0].lower()
        if not name.endswith(ALPHA_AUX):
            yield next((text for part, text in AUX_IMAGES.items() if part in name), "an auxiliary image")
    if b"tmap" in bmff.brands(source):  # ISO 21496-1
        yield GAIN_MAP
    further = getattr(image, "n_frames", 1) - 1 if image.format == "HEIF" else 0
    if further:
        yield pluralize(further, "further image")
    for kind, _, _ in bmff.iter_boxes(source):
        if kind == b"mpvd":
            yield MOTION_VIDEO
        elif kind == b"uuid":
            yield "a camera-specific block"


def _tiff_fields(image: Image.Image) -> Iterator[str]:
    tags = getattr(image, "tag_v2", {})
    if C2PA_TAG in tags:
        yield C2PA
    if SUB_IFDS_TAG in tags:
        yield "further images (TIFF SubIFDs)"
    if LAYERS_TAG in tags:
        yield "layers (TIFF ImageSourceData)"
    channels = tags.get(TiffImagePlugin.EXTRASAMPLES, ()).count(UNSPECIFIED)
    if channels:
        yield f"{pluralize(channels, 'further channel')} (TIFF ExtraSamples)"
