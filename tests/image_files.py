"""Image files made byte by byte, and readers for them that share nothing with gpen_core."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import tifffile
from PIL import Image, ImageCms

# What an image stored with each EXIF orientation looks like when it is shown (EXIF 2.3, 4.6.4 A).
ORIENTED = {
    1: lambda a: a,
    2: lambda a: np.fliplr(a),
    3: lambda a: np.rot90(a, 2),
    4: lambda a: np.flipud(a),
    5: lambda a: np.fliplr(np.rot90(a, -1)),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.fliplr(np.rot90(a)),
    8: lambda a: np.rot90(a),
}
XMP_WITH_ORIENTATION = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"'
    b' xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="caf\xc3\xa9"/></rdf:RDF></x:xmpmeta>'
)
XMP_HEADER = b"http://ns.adobe.com/xap/1.0/\x00"
EXIF, GPS, INTEROP = 0x8769, 0x8825, 0xA005
TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}


def noise(shape, dtype=np.uint8, seed=0):
    """Every value of the type is as likely as any other; floats lie in [0, 1)."""
    rng = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return rng.random(shape).astype(dtype)
    return rng.integers(0, np.iinfo(dtype).max + 1, shape).astype(dtype)


def blocks(height=16, width=24, side=8, seed=1):
    """[H, W, 3] uint8 that JPEG hardly changes: squares of one color each, as its blocks are."""
    return noise((height // side, width // side, 3), seed=seed).repeat(side, 0).repeat(side, 1)


def encode_image(image, format_name, **kwargs):
    out = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(out, format_name, **kwargs)
    return out.getvalue()


def tiff(array, **kwargs):
    out = io.BytesIO()
    tifffile.imwrite(out, array, **kwargs)
    return out.getvalue()


def tiff_rgb(array, **kwargs):
    alpha = {"extrasamples": ["unassalpha"]} if array.shape[2] == 4 else {}
    return tiff(array, photometric="rgb", **alpha, **kwargs)


def heif(image, **kwargs):
    """A HEIC of colors in full resolution, nearly without loss. Needs pillow-heif, and registers nothing with Pillow."""
    import pillow_heif

    heif_file = pillow_heif.from_pillow(image)
    others = kwargs.pop("append_images", ())
    for one in others:
        heif_file.add_from_pillow(one)
    out = io.BytesIO()
    best = {"quality": -1, "chroma": 444, "matrix_coefficients": 0}
    heif_file.save(out, **best, **kwargs)
    return out.getvalue()


def deep_heif(array):
    """A HEIC of 10 bits per channel from uint16 [H, W, 3]."""
    import pillow_heif

    size = array.shape[1], array.shape[0]
    out = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", size, array.tobytes()).save(out, quality=-1, chroma=444)
    return out.getvalue()


def rgb_profile():
    """sRGB, as Pillow makes it, without the time at which it was made."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[24:36] = bytes(12)
    return bytes(profile)


def png_chunk(kind, payload):
    return struct.pack(">L", len(payload)) + kind + payload + struct.pack(">L", zlib.crc32(kind + payload))


def png(array, *chunks, bits=None):
    """A PNG of the array's channels; `bits` below 8 for gray values that are below 2 ** bits."""
    height, width = array.shape[:2]
    channels = 1 if array.ndim == 2 else array.shape[2]
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if bits is None:
        bits = 8 * array.itemsize
        rows = array.astype(f">u{array.itemsize}").reshape(height, -1).view(np.uint8)
    else:
        rows = np.packbits(np.unpackbits(array[..., None], axis=2)[..., -bits:].reshape(height, -1), axis=1)
    rows = np.insert(rows, 0, 0, axis=1)
    header = struct.pack(">LLBBBBB", width, height, bits, color_type, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, payload) for kind, payload in body)


def png_chunks(data):
    """(type, payload) of all chunks."""
    at, out = 8, []
    while at < len(data):
        (length,) = struct.unpack_from(">L", data, at)
        out.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return out


def fix_checksums(data):
    """A PNG whose chunks were changed, with the checksums that they have now, as far as chunks can be found."""
    data, at = bytearray(data), 8
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, at)
        if at + 12 + length > len(data):
            break
        struct.pack_into(">L", data, at + 8 + length, zlib.crc32(data[at + 4 : at + 8 + length]))
        at += 12 + length
    return bytes(data)


def jpeg_segment(marker, payload):
    return bytes((0xFF, marker)) + struct.pack(">H", 2 + len(payload)) + payload


def jpeg_segments(data):
    """(marker, payload) up to the pixels."""
    at, out = 2, []
    while data[at + 1] != 0xDA:
        (length,) = struct.unpack_from(">H", data, at + 2)
        out.append((data[at + 1], data[at + 4 : at + 2 + length]))
        at += 2 + length
    return out


def jpeg_with(segments, pixels, **kwargs):
    """A JPEG of good quality with more segments behind JFIF's."""
    data = encode_image(pixels, "JPEG", quality=98, subsampling=0, **kwargs)
    return data[:20] + segments + data[20:]


def palette(colors, indices, format_name="PNG", **kwargs):
    """An image of palette entries."""
    image = Image.frombytes("P", indices.shape[::-1], indices.tobytes())
    image.putpalette(colors.tobytes())
    return encode_image(image, format_name, **kwargs)


def tiff_ifd(entries, order, at, following=0):
    """A TIFF directory: {tag: (type, count, bytes or a nested directory's entries)}."""
    end = at + 6 + 12 * len(entries)
    table, behind = struct.pack(order + "H", len(entries)), b""
    for tag, (kind, count, value) in sorted(entries.items()):
        if isinstance(value, dict):
            inner = tiff_ifd(value, order, end + len(behind))
            value = struct.pack(order + "L", end + len(behind))
            behind += inner
        elif len(value) > 4:
            padded = value + bytes(len(value) % 2)
            value, behind = struct.pack(order + "L", end + len(behind)), behind + padded
        table += struct.pack(order + "HHL", tag, kind, count) + value.ljust(4, b"\0")
    return table + struct.pack(order + "L", following) + behind


def tiff_start(order):
    return (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "L", 8)


def camera_tags(order, orientation=None):
    """What a camera and a photographer write, with values of every kind."""

    def rationals(*values):
        return struct.pack(f"{order}{len(values)}L", *values)

    comment = b"UNICODE\0" + "a café 中".encode("utf-16-le" if order == "<" else "utf-16-be")
    tags = {
        0x010E: (2, 6, "café".encode() + b"\0"),
        0x010F: (2, 6, b"Maker\0"),
        EXIF: (
            4,
            1,
            {
                0x829A: (5, 1, rationals(1, 125)),
                0x9000: (7, 4, b"0232"),
                0x9204: (10, 1, struct.pack(order + "2l", -2, 3)),
                0x927C: (7, 11, b"maker\0notes"),
                0x9286: (7, len(comment), comment),
                INTEROP: (4, 1, {1: (2, 4, b"R98\0")}),
            },
        ),
        GPS: (4, 1, {0: (1, 4, b"\2\3\0\0"), 1: (2, 2, b"N\0"), 2: (5, 3, rationals(48, 1, 51, 1, 2999, 100))}),
    }
    if orientation is not None:
        tags[0x0112] = (3, 1, struct.pack(order + "H", orientation))
    return tags


def exif_block(order="<", orientation=None):
    return b"Exif\0\0" + tiff_start(order) + tiff_ifd(camera_tags(order, orientation), order, 8)


def read_directory(data, order=None, at=None, nested=(EXIF, GPS, INTEROP)):
    """{tag: (type, count, bytes or a nested directory)}."""
    data = data.removeprefix(b"Exif\0\0")
    order = order or {b"II": "<", b"MM": ">"}[data[:2]]
    at = struct.unpack_from(order + "L", data, 4)[0] if at is None else at
    out = {}
    for n in range(struct.unpack_from(order + "H", data, at)[0]):
        tag, kind, count, where = struct.unpack_from(order + "HHLL", data, at + 2 + 12 * n)
        length = count * TYPE_BYTES[kind]
        start = at + 2 + 12 * n + 8 if length <= 4 else where
        out[tag] = (kind, count, read_directory(data, order, where) if tag in nested else data[start : start + length])
    return out


def bare_tiff(entries, strip, order="<"):
    """A TIFF of given tags; the strip's offset is filled in."""
    for _ in range(2):
        body = tiff_start(order) + tiff_ifd(entries, order, 8)
        entries = {**entries, 273: (4, 1, struct.pack(order + "L", len(body)))}
    return body + strip


def exif_of_size(width, height, orientation=1):
    """EXIF that tells a width and a height, each as SHORT. Pillow before 10 writes no sub-IFD that it did not read."""
    inside = {0x9000: (7, 4, b"0230"), 0xA002: number(width), 0xA003: number(height)}
    tags = {0x0100: number(width), 0x0101: number(height), 0x010F: (2, 6, b"Maker\0"), EXIF: (4, 1, inside)}
    tags[0x0112] = number(orientation)
    return b"Exif\0\0" + tiff_start("<") + tiff_ifd(tags, "<", 8)


def number(value, kind=3, order="<"):
    return kind, 1, struct.pack(order + {1: "B", 3: "H", 4: "L"}[kind], value)


def cmyk_profile():
    """An ICC profile in which cyan ink looks red, black ink black, and magenta and yellow are invisible."""
    red, white = (0x8798, 0xD000, 0xC300), (0xFF00, 0x8000, 0x8000)  # Lab (53, 80, 67) and (100, 0, 0)
    black = (0, 0x8000, 0x8000)
    grid = [black if corner & 1 else red if corner & 8 else white for corner in range(16)]  # cyan varies slowest
    identity = struct.pack(">9l", *(65536 * (i % 4 == 0) for i in range(9)))
    ramp = struct.pack(">2H", 0, 65535)
    table = b"mft2" + bytes(4) + bytes((4, 3, 2, 0)) + identity + struct.pack(">2H", 2, 2) + ramp * 4
    table += b"".join(struct.pack(">3H", *color) for color in grid) + ramp * 3
    tags = {
        b"desc": b"desc" + bytes(4) + struct.pack(">L", 5) + b"test\0" + bytes(78),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3l", 63190, 65536, 54061),
        b"A2B0": table,
    }
    return icc_profile(b"prtr", b"CMYK", tags)


def gray_profile():
    gamma = b"curv" + bytes(4) + struct.pack(">LH", 1, 0x0233) + bytes(2)
    return icc_profile(
        b"mntr", b"GRAY", {b"kTRC": gamma, b"wtpt": b"XYZ " + bytes(4) + struct.pack(">3l", 63190, 65536, 54061)}
    )


def icc_profile(device, space, tags):
    table, body = struct.pack(">L", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">2L", 128 + 4 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    size = 128 + len(table) + len(body)
    head = struct.pack(">L", size) + bytes(4) + struct.pack(">L", 0x02400000) + device + space
    head += b"Lab " if space == b"CMYK" else b"XYZ "
    head += struct.pack(">6H", 2020, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + struct.pack(">3l", 63190, 65536, 54061)
    return head.ljust(128, b"\0") + table + body
