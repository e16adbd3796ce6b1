"""What a file carries that the next one will not: named, so that it can be said where an image is written anew.

What is left out because it describes how the pixels were stored, or that they were not changed since, is not named.
"""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image

from ..errors import summarize_problems
from . import bmff
from .metadata import C2PA_TAG, EXIF_HEADER, JPEG_SEGMENTS, PNG_COLOR_CHUNKS, XMP_HEADER, Metadata, promised_by_xmp
from .png import PNG_SIGNATURE, iter_chunks
from .xmp_promises import GAIN_MAP, MOTION_VIDEO

C2PA, JUMBF, EXTRA_IMAGES = "a C2PA manifest", "JUMBF boxes (JPEG APP11)", "further images (JPEG APP2 MPF)"
KNOWN_SEGMENTS = {
    ("APP1", b"FLIR\x00"): "FLIR data (JPEG APP1)",
    ("APP2", b"MPF\x00"): EXTRA_IMAGES,  # CIPA DC-007: previews, the other eye, a gain map
    ("APP2", b"FPXR\x00"): "FlashPix data (JPEG APP2)",
    ("APP6", b"GoPro\x00"): "GoPro data (JPEG APP6)",
    ("APP6", b"GPMF"): "GoPro data (JPEG APP6)",
    ("APP11", b"JP"): JUMBF,  # ISO 19566-5
}
# Kept by `metadata`, or no more than the storage of the pixels and thumbnails of them.
IGNORED_JPEG_SEGMENTS = {
    "APP0": (b"JFIF\x00", b"JFXX\x00", b"AVI1"),
    "APP1": (EXIF_HEADER, XMP_HEADER, JPEG_SEGMENTS["APP1"]),
    "APP2": (b"ICC_PROFILE\x00",),
    "APP12": (b"Ducky",),  # the quality in "Save for Web"
    "APP13": (JPEG_SEGMENTS["APP13"],),
    "APP14": (b"Adobe",),
}
IGNORED_PNG_CHUNKS = frozenset(
    {b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"iCCP", b"pHYs", b"eXIf", b"tEXt", b"zTXt", b"iTXt", *PNG_COLOR_CHUNKS}
    # Hints for displays, when the file was last changed, videos of one frame, Apple's way to decode on two cores.
    | {b"bKGD", b"hIST", b"sBIT", b"sPLT", b"tIME", b"acTL", b"fcTL", b"fdAT", b"iDOT"}
)
IGNORED_WEBP_CHUNKS = frozenset({b"VP8X", b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"EXIF", b"XMP "})
MOTION_SIGNS = (b"MotionPhoto_Data", b"ftypmp4", b"ftypisom", b"ftypqt  ")  # Samsung's name for it; a video's first bytes
ALPHA_AUX = (b"auxiliary:alpha", b"auxid:1")
AUX_IMAGES = {b"gainmap": GAIN_MAP, b"depth": "a depth map", b"auxid:2": "a depth map", b"matte": "a portrait matte"}
"""What an auxiliary image is, by a part of its type."""
MAX_AUX_LENGTH = 200
MAX_NAMES = 100  # of the kinds of blocks in one file
MAX_NAME_LENGTH = 24
SUB_IFDS_TAG = 330  # TIFF technical note 1


def dropped_fields(image: Image.Image, source: bytes) -> tuple[str, ...]:
    """The names of the blocks in `source`, as which `image` was opened, that no new file will have; each once."""
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
    for name in (*promised_by_xmp(image), *names):
        found[name] = None
        if len(found) == MAX_NAMES:
            break
    return tuple(found)


def dropped_note(metadata: Metadata) -> tuple[str, ...]:
    """One note on all that the new file is without, for an image that has been written anew; none where it has all."""
    if not metadata.dropped:
        return ()
    explanation = " The manifest's signature would not fit the changed pixels." if C2PA in metadata.dropped else ""
    named = summarize_problems(list(metadata.dropped))
    return (
        f"the new file is without what is not carried over: {named}.{explanation} Keep the original where you need them.",
    )


def _jpeg_fields(image: Image.Image, source: bytes) -> Iterator[str]:
    segments = [(name, data) for name, data in getattr(image, "applist", []) if name.startswith("APP") and data]
    names = [
        _segment_name(name, data) for name, data in segments if not data.startswith(IGNORED_JPEG_SEGMENTS.get(name, ()))
    ]
    if JUMBF in names and any(name == "APP11" and b"c2pa" in data[:100] for name, data in segments):
        names = [C2PA if name == JUMBF else name for name in names]  # its later parts do not say whose they are
    yield from names
    end = _jpeg_end(source)
    if any(source.find(sign, end) >= 0 for sign in MOTION_SIGNS):
        yield MOTION_VIDEO
    elif EXTRA_IMAGES not in names and MOTION_VIDEO not in promised_by_xmp(image):
        yield from _trailing_data(source, end)


def _segment_name(marker: str, data: bytes) -> str:
    known = next((name for (at, start), name in KNOWN_SEGMENTS.items() if at == marker and data.startswith(start)), None)
    if known:
        return known
    own = data[: MAX_NAME_LENGTH + 1].split(b"\x00")[0].decode("latin-1")[:MAX_NAME_LENGTH]
    return f'JPEG {marker} "{own}"' if len(own) > 2 and own.isascii() and own.isprintable() else f"JPEG {marker}"


def _jpeg_end(source: bytes) -> int:
    """The position behind the first image's EOI (ITU-T T.81, B.1.1); that of the file's end where none is found."""
    at = 2
    while (at := source.find(b"\xff", at)) >= 0 and at + 3 < len(source):
        marker = source[at + 1]
        if marker == 0xD9:
            return at + 2
        if marker in (0x00, 0x01, *range(0xD0, 0xD8)):  # within the pixels; without a length
            at += 2
        elif marker == 0xFF:  # padding
            at += 1
        else:
            at += 2 + int.from_bytes(source[at + 2 : at + 4], "big")
    return len(source)


def _trailing_data(source: bytes, end: int) -> Iterator[str]:
    """Such as a phone's video behind its photograph; not the zeros that fill a block."""
    if source[end:].rstrip(b"\x00\r\n "):
        yield f"{len(source) - end:,} bytes behind the image"


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
    """What lies beside the first image: by the types of auxiliary images (ISO/IEC 23008-12, 6.5.8), and a phone's video."""
    for _, start, end in bmff.find_boxes(source, b"meta", b"iprp", b"ipco", b"auxC"):
        name = source[start + 4 : min(end, start + 4 + MAX_AUX_LENGTH)].split(b"\x00")[0].lower()
        if not name.endswith(ALPHA_AUX):
            yield next((text for part, text in AUX_IMAGES.items() if part in name), "an auxiliary image")
    if b"tmap" in bmff.brands(source):  # ISO 21496-1
        yield GAIN_MAP
    if image.format == "HEIF" and getattr(image, "n_frames", 1) > 1:
        yield f"{getattr(image, 'n_frames', 1) - 1} further images"
    for kind, _, _ in bmff.iter_boxes(source):
        if kind == b"mpvd":
            yield MOTION_VIDEO
        elif kind == b"uuid":
            yield "a block of the camera's"


def _tiff_fields(image: Image.Image) -> Iterator[str]:
    tags = getattr(image, "tag_v2", {})
    if C2PA_TAG in tags:
        yield C2PA
    if SUB_IFDS_TAG in tags:
        yield "further images (TIFF SubIFDs)"
