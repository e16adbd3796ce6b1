"""Images broken by lot where each format keeps what describes the rest: sizes, counts, lengths, chunks, tags, metadata."""

from __future__ import annotations

import functools
import struct
import zlib

from gpen_core.images.formats import missing_reader

from .. import image_files as made
from .damage import damaged, dice, number_for, put_number, rearranged
from .image_bases import XMP, bases

FORMATS = ("png", "jpeg", "webp", "tiff", "bmp", "gif", "jp2")
FORMATS += ("avif",) * (missing_reader("AVIF") is None) + ("heif",) * (missing_reader("HEIF") is None)
BOMB = 32 << 20  # bytes that a few kilobytes claim to unpack to


def case(format_name, seed, number):
    """The bytes of one broken image."""
    lot = dice(f"picture/{format_name}", seed, number)
    data = lot.choice(bases()[format_name])
    ways = BY_FORMAT[format_name]
    for _ in range(lot.choice((1, 1, 2, 3))):
        data = lot.choice(ways)(lot, data)
    return damaged(lot, data) if lot.random() < 0.1 else data


# Metadata


def broken_exif(lot):
    """A TIFF structure, its directories changed, perhaps with a thumbnail's directory behind."""
    data = made.exif_block(lot.choice("<>"), lot.choice((None, 1, 6, 9)))[6:]
    for _ in range(lot.choice((1, 2))):
        data = lot.choice((tag_field, tag_field, tag_order, damaged))(lot, data)
    return data


def broken_icc(lot):
    """A profile with its lengths, places of tags or signature changed."""
    data = lot.choice((made.gray_profile, made.cmyk_profile))()
    at = lot.choice((0, 12, 16, 36, 128, 132, 136, 140, 148, 152, 200))
    return lot.choice((put_number(lot, data, at, 4, ">"), damaged(lot, data), b"", bytes(20), data * 40))


def broken_xmp(lot):
    attribute = b' tiff:Orientation="%d"' % number_for(lot, 4)
    choices = (damaged(lot, XMP), XMP[:-9], attribute * lot.choice((1, 2000)), b"\0", b" tiff:Orientation" + b" " * 99_999)
    return lot.choice((*choices, XMP.replace(b"<rdf", b"<" * 30 + b"rdf"), b"<x>" * 9999, b"\xff\xfe" + XMP))


@functools.cache
def bomb():
    return zlib.compress(bytes(BOMB), 1)


def packed(lot, data):
    """Deflated, now and then with much more than a file should unpack to, or with its end missing."""
    if lot.random() < 0.1:
        return bomb()
    out = zlib.compress(data)
    return lot.choice((out, out, out[:-3], out + b"more"))


def long(lot, start=b""):
    """Metadata at and beyond what formats and their readers hold."""
    lengths = (65_519, 65_533, 65_534, 70_000, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 1_300_000)
    return start.ljust(lot.choice(lengths), lot.choice((b"\0", b"a")))


def long_icc(lot):
    return long(lot, made.gray_profile())


def long_exif(lot):
    length = len(value := long(lot))
    return b"II*\0\x08\0\0\0" + struct.pack("<HHHLLL", 1, 0x9286, 7, length, 26, 0) + value


# PNG (PNG 1.2, sections 3 and 4): chunks of length, name, payload and checksum


def png_of(lot, chunks):
    data = b"\x89PNG\r\n\x1a\n" + b"".join(made.png_chunk(*chunk) for chunk in chunks)
    return data if lot.random() < 0.9 else damaged(lot, data)


def png_parts(data):
    """What can still be read as chunks."""
    at, out = 8, []
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">L", data, at)
        out.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return out or [(b"IEND", b"")]


def png_header(lot, data):
    at, width = lot.choice(((16, 4), (20, 4), (24, 1), (25, 1), (26, 1), (27, 1), (28, 1)))
    return made.fix_checksums(put_number(lot, data, at, width, ">"))


def png_length(lot, data):
    starts, at = [], 8
    for _, payload in png_parts(data):
        starts.append(at)
        at += 12 + len(payload)
    return made.fix_checksums(put_number(lot, data, lot.choice(starts), 4, ">"))


def png_order(lot, data):
    return png_of(lot, rearranged(lot, png_parts(data)))


def png_payload(lot, data):
    chunks = png_parts(data)
    at = lot.randrange(len(chunks))
    kind, payload = chunks[at]
    if kind == b"IDAT" and lot.random() < 0.5:
        payload = packed(lot, damaged(lot, bytes(lot.randrange(2000))))
    chunks[at] = (kind, damaged(lot, payload))
    return png_of(lot, chunks)


def png_metadata(lot, data):
    text = packed(lot, b"a text " * 9)
    new = lot.choice(
        (
            (b"eXIf", broken_exif(lot)),
            (b"iCCP", b"a\0" + bytes((number_for(lot, 1) % 3,)) + packed(lot, broken_icc(lot))),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + broken_xmp(lot)),
            (b"iTXt", b"workflow\0\1\0" + damaged(lot, b"en\0schl\xc3\xbcssel\0") + text),
            (b"zTXt", damaged(lot, b"workflow\0\0") + text),
            (
                b"tEXt",
                b"Raw profile type exif\0\n\n%d\n" % number_for(lot, 8) + damaged(lot, broken_exif(lot).hex().encode()),
            ),
            (b"tEXt", damaged(lot, b"parameters\0a cat") * lot.choice((1, 400))),
            (
                lot.choice((b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tRNS", b"PLTE", b"bKGD")),
                lot.randbytes(lot.randrange(40)),
            ),
            (b"eXIf", long_exif(lot)),
            (b"iCCP", b"a\0\0" + zlib.compress(long_icc(lot), 1)),
            (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + long(lot)),
            (lot.choice((b"zTXt", b"iCCP")), b"workflow\0\0" + zlib.compress(long(lot), 1)),
            (b"acTL", struct.pack(">LL", number_for(lot, 4), number_for(lot, 4))),
            (b"fcTL", struct.pack(">LLLLLHHBB", 0, *(number_for(lot, 4) for _ in range(4)), 1, 1, 0, 0)),
        )
    )
    chunks = png_parts(data)
    chunks.insert(lot.randrange(1, len(chunks) + 1), new)
    return png_of(lot, chunks)


# JPEG (ITU-T T.81, annex B): markers with a length, then what is coded


def jpeg_parts(data):
    """The segments before what is coded, each whole, and the rest."""
    at, out = 2, []
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        length = 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
        out.append(data[at : at + length])
        at += length
    return out, data[at:]


def jpeg_of(segments, rest):
    return b"\xff\xd8" + b"".join(segments) + rest


def jpeg_segment(lot, data):
    """A number in one segment: lengths, the frame's sizes and sampling, tables' numbers."""
    segments, rest = jpeg_parts(data)
    if segments:
        frames = [n for n, one in enumerate(segments) if one[1] in (0xC0, 0xC1, 0xC2)]
        at = lot.choice(frames) if frames and lot.random() < 0.4 else lot.randrange(len(segments))
        place, width = lot.choice(((1, 1), (2, 2), (4, 1), (5, 2), (7, 2), (9, 1), (10, 1), (11, 1), (12, 1), (14, 1)))
        segments[at] = put_number(lot, segments[at], place, width, ">")
    return jpeg_of(segments, rest)


def jpeg_payload(lot, data):
    segments, rest = jpeg_parts(data)
    if segments:
        at = lot.randrange(len(segments))
        payload = damaged(lot, segments[at][4:])[:65533]
        segments[at] = made.jpeg_segment(segments[at][1], payload)
    return jpeg_of(segments, rest)


def jpeg_order(lot, data):
    segments, rest = jpeg_parts(data)
    return jpeg_of(rearranged(lot, segments), rest)


def jpeg_coded(lot, data):
    """What is coded: damaged, cut, or with markers in it; the scan's header too."""
    segments, rest = jpeg_parts(data)
    at = lot.randrange(len(rest) + 1)
    marker = bytes((0xFF, lot.choice((0xD0, 0xD7, 0xD8, 0xD9, 0xDA, 0xDD, 0xC0, 0xC4, 0xFE, 0x00))))
    changed = (
        damaged(lot, rest),
        rest[:at] + marker + rest[at:],
        put_number(lot, rest, lot.randrange(12), 1, ">"),
        rest * 3,
    )
    return jpeg_of(segments, lot.choice(changed))


EMPTY_SCAN = b"\xff\xda\0\x08\1\1\0\1\x3f\0"


def jpeg_scans(lot, data):
    """Scans without pixels before the end: each makes a decoder work on the whole image."""
    at = data.rfind(b"\xff\xd9")
    at = len(data) if at < 0 else at
    header = lot.choice((EMPTY_SCAN, EMPTY_SCAN, damaged(lot, EMPTY_SCAN)))
    return data[:at] + header * lot.choice((1, 80, 99, 101, 2_000, 100_000)) + data[at:]


def jpeg_profile(lot, data):
    """A profile in as many segments as it takes, perhaps more than there can be numbers for, or one missing."""
    profile = long_icc(lot)
    step = lot.choice((65_519, 60_000, 4_000))
    pieces = [profile[at : at + step] for at in range(0, len(profile), step)]
    numbered = [b"ICC_PROFILE\0" + bytes(((n + 1) % 256, len(pieces) % 256)) + one for n, one in enumerate(pieces)]
    if lot.random() < 0.2:
        del numbered[lot.randrange(len(numbered))]
    segments, rest = jpeg_parts(data)
    return jpeg_of([*segments, *(made.jpeg_segment(0xE2, one) for one in numbered)], rest)


def jpeg_metadata(lot, data):
    icc = b"ICC_PROFILE\0" + bytes((number_for(lot, 1), number_for(lot, 1))) + broken_icc(lot)
    new = lot.choice(
        (
            (0xE1, b"Exif\0\0" + broken_exif(lot)),
            (0xE1, made.XMP_HEADER + broken_xmp(lot)),
            (0xE1, b"http://ns.adobe.com/xmp/extension/\0" + lot.randbytes(60)),
            (0xE2, icc),
            (0xE2, b"MPF\0" + broken_exif(lot)),
            (0xE0, damaged(lot, b"JFIF\0\1\1\1\1\x2c\1\x2c\0\0")),
            (
                0xED,
                b"Photoshop 3.0\0" + damaged(lot, b"8BIM\4\4\0\0\0\0\0\5hello\0" + b"8BIM\3\xed\0\0\0\0\0\x10" + bytes(16)),
            ),
            (0xEE, damaged(lot, b"Adobe\0\x64\0\0\0\0\2")),
            (0xFE, lot.randbytes(lot.randrange(300))),
            (0xDD, struct.pack(">H", number_for(lot, 2))),
        )
    )
    segments, rest = jpeg_parts(data)
    segments.insert(lot.randrange(len(segments) + 1), made.jpeg_segment(new[0], new[1][:65533]))
    return jpeg_of(segments, rest)


# WebP (RFC 9649): RIFF chunks


def webp_parts(data):
    at, out = 12, []
    while at + 8 <= len(data):
        (length,) = struct.unpack_from("<L", data, at + 4)
        out.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return out or [(b"VP8 ", b"")]


def webp_of(chunks):
    body = b"".join(kind + struct.pack("<L", len(part)) + part + bytes(len(part) % 2) for kind, part in chunks)
    return b"RIFF" + struct.pack("<L", 4 + len(body)) + b"WEBP" + body


def webp_length(lot, data):
    at = 12
    starts = [4]
    for _, payload in webp_parts(data):
        starts.append(at + 4)
        at += 8 + len(payload) + len(payload) % 2
    return put_number(lot, data, lot.choice(starts), 4, "<")


def webp_order(lot, data):
    return webp_of(rearranged(lot, webp_parts(data)))


def webp_payload(lot, data):
    """One chunk: its first bytes hold flags and sizes of the canvas, of a frame or of the image."""
    chunks = webp_parts(data)
    at = lot.randrange(len(chunks))
    kind, payload = chunks[at]
    changed = put_number(lot, payload, lot.randrange(12), lot.choice((1, 2)), "<")
    chunks[at] = (kind, lot.choice((changed, damaged(lot, payload))))
    return webp_of(chunks)


def webp_metadata(lot, data):
    canvas = bytes((number_for(lot, 1),)) + bytes(3) + lot.choice((bytes(6), lot.randbytes(6), b"\x08\0\0\x0b\0\0"))
    frame = damaged(lot, bytes(16)) + b"VP8L" + struct.pack("<L", 20) + lot.randbytes(20)
    exif = lot.choice((b"", b"Exif\0\0")) + broken_exif(lot)
    new = [(b"EXIF", exif), (b"XMP ", broken_xmp(lot)), (b"ICCP", broken_icc(lot)), (b"VP8X", canvas), (b"ANMF", frame)]
    new += [(b"EXIF", long_exif(lot)), (b"XMP ", long(lot)), (b"ICCP", long_icc(lot))]
    chunks = webp_parts(data)
    chunks.insert(lot.randrange(len(chunks) + 1), lot.choice(new))
    return webp_of(chunks)


# TIFF (TIFF 6.0, section 2): a header, then directories of tags; EXIF is one


def tags(data):
    """(byte order, positions of the first directory's entries, length of one, whether it is a BigTIFF)."""
    order = "<" if data[:2] == b"II" else ">"
    big = len(data) > 15 and 43 in data[2:4]
    form, at, size = ("Q", 8, 20) if big else ("L", 4, 12)
    count_form = order + ("Q" if big else "H")
    if len(data) < 16:
        return order, [], size, big
    (first,) = struct.unpack_from(order + form, data, at)
    if first + 8 > len(data):
        return order, [], size, big
    (count,) = struct.unpack_from(count_form, data, first)
    start = first + struct.calcsize(count_form)
    return order, [start + size * n for n in range(min(count, 60)) if start + size * (n + 1) <= len(data)], size, big


def tag_field(lot, data):
    """A tag's number, type, count or value; the count of tags; the next directory; the header."""
    order, entries, size, big = tags(data)
    if not entries or lot.random() < 0.1:
        return put_number(lot, data, lot.choice((2, 4, 8)), lot.choice((2, 4)), order)
    if lot.random() < 0.15:
        counter, following = entries[0] - (8 if big else 2), entries[-1] + size
        return put_number(lot, data, lot.choice((counter, following)), 8 if big else 2, order)
    at = lot.choice(entries)
    count_width = 8 if big else 4
    value = at + 4 + count_width
    fields = ((at, 2), (at + 2, 2), (at + 4, count_width), (value, count_width), (value, 2), (value, count_width))
    out = put_number(lot, data, *lot.choice(fields), order)
    (where,) = struct.unpack_from(order + "L", data, value)
    return out if lot.random() < 0.7 else put_number(lot, data, where, lot.choice((2, 4)), order)


def tag_order(lot, data):
    """Whole entries left out, repeated or moved, or an entry of another tag in one's place; as many as there were."""
    order, entries, size, _ = tags(data)
    if not entries:
        return data
    table = [data[at : at + size] for at in entries]
    if lot.random() < 0.4:
        at = lot.randrange(len(table))
        strange = (254, 258, 259, 262, 266, 273, 274, 277, 278, 279, 284, 317, 320, 322, 324, 330, 338, 339, 347, 530, 700)
        new = struct.pack(order + "HH", lot.choice((*strange, 0x8769, 0x8825, 34675)), lot.choice((1, 3, 4, 5, 12, 13, 16)))
        table[at] = new + table[at][4:]
    else:
        table = rearranged(lot, table)
    joined = b"".join(table)[: size * len(entries)].ljust(size * len(entries), b"\0")
    return data[: entries[0]] + joined + data[entries[-1] + size :]


def tiff_metadata(lot, data):
    """The whole EXIF, XMP or ICC block at the file's end, pointed to by one of the entries."""
    order, entries, size, big = tags(data)
    if not entries:
        return damaged(lot, data)
    blocks = [(0x8769, 4, broken_exif(lot)), (700, 1, broken_xmp(lot)), (34675, 7, broken_icc(lot))]
    blocks += [(700, 1, long(lot)), (34675, 7, long_icc(lot)), (0x9286, 7, long(lot))]
    tag, kind, block = lot.choice(blocks)
    count, position = (1, len(data) + 8) if tag == 0x8769 else (len(block), len(data))
    entry = struct.pack(order + ("HHQQ" if big else "HHLL"), tag, kind, count, position)
    at = lot.choice(entries)
    return data[:at] + entry + data[at + size :] + block


# BMP: a header of 14 bytes, one of 40 or more, a palette


def bmp_header(lot, data):
    fields = (2, 4), (10, 4), (14, 4), (18, 4), (22, 4), (26, 2), (28, 2), (30, 4), (34, 4), (38, 4), (46, 4), (50, 4)
    masks = ((54, 4), (58, 4), (62, 4), (66, 4), (70, 4))
    return put_number(lot, data, *lot.choice((*fields, *fields, *masks)), "<")


# GIF (GIF89a): a screen, blocks of extensions, images of a descriptor and codes


def gif_header(lot, data):
    """The screen's sizes and flags, or those of a block that begins somewhere."""
    starts = [at for at in range(13, min(len(data), 2000)) if data[at : at + 1] in (b"\x2c", b"\x21")]
    at = lot.choice(starts) if starts and lot.random() < 0.7 else 0
    fields = ((6, 2), (8, 2), (10, 1), (11, 1)) if at == 0 else ((1, 1), (1, 2), (2, 1), (3, 2), (5, 2), (7, 2), (9, 1))
    place, width = lot.choice(fields)
    return put_number(lot, data, at + place, width, "<")


def gif_codes(lot, data):
    """Codes and lengths of their blocks, behind the descriptor."""
    at = data.rfind(b"\x2c")
    at = max(0, at) + 10
    rest = data[at:]
    changed = (
        damaged(lot, rest),
        put_number(lot, rest, lot.randrange(max(1, len(rest))), 1, "<"),
        rest[:1] + b"\0;",
        rest * 3,
    )
    return data[:at] + lot.choice(changed)


def gif_extension(lot, data):
    """A block in front of the first image: controls, comments, XMP, or of nobody's."""
    at = data.find(b"\x2c")
    control = b"\x21\xf9\4" + lot.randbytes(4) + b"\0"
    comment = b"\x21\xfe" + (b"\xff" + bytes(255)) * lot.choice((1, 8000)) + b"\0"
    packet = b"\x21\xff\x0bXMP DataXMP" + broken_xmp(lot) + bytes(range(255, -1, -1)) + b"\0"
    block = lot.choice((control, comment, packet, b"\x21" + lot.randbytes(9), b"\x21\xff\x0bNETSCAPE2.0\3\1\0\0\0"))
    return data[: max(13, at)] + block * lot.choice((1, 1, 1 if len(block) > 1000 else 30_000)) + data[max(13, at) :]


# HEIC, AVIF and JPEG 2000: boxes of length, kind and content, some of which hold boxes again

HOLDERS = (b"meta", b"iprp", b"ipco", b"jp2h", b"iinf", b"moov", b"trak", b"mdia", b"minf", b"stbl")


def box_places(data, start=0, end=None, depth=0):
    """(position, length, kind) of every box, also of those within others."""
    end = len(data) if end is None else end
    out = []
    while start + 8 <= end and len(out) < 200:
        length, kind = int.from_bytes(data[start : start + 4], "big"), data[start + 4 : start + 8]
        if length < 8 or start + length > end:
            break
        out.append((start, length, kind))
        if kind in HOLDERS and depth < 6:
            inner = start + 8 + {b"meta": 4, b"iinf": 6}.get(kind, 0)
            out += box_places(data, inner, start + length, depth + 1)
        start += length
    return out or [(0, len(data), b"")]


def box_length(lot, data):
    at, _, _ = lot.choice(box_places(data))
    return put_number(lot, data, at, 4, ">")


def box_number(lot, data):
    """A number in a box that describes: sizes, counts, offsets, properties, configurations."""
    small = [one for one in box_places(data) if one[2] not in (b"mdat", b"jp2c")]
    at, length, _ = lot.choice(small or [(0, len(data), b"")])
    place = at + 8 + lot.randrange(max(1, length - 8))
    return put_number(lot, data, place, lot.choice((1, 2, 4)), ">")


def box_order(lot, data):
    """Boxes of the outermost level left out, repeated or moved."""
    parts = [data[at : at + length] for at, length, _ in box_places(data) if length]
    return b"".join(rearranged(lot, parts[:8]))


def box_inserted(lot, data):
    """A box with metadata or of nobody's, somewhere among the outermost ones."""
    content = lot.choice((broken_xmp(lot), broken_exif(lot), broken_icc(lot), lot.randbytes(40), long(lot)))
    kind = lot.choice((b"uuid", b"free", b"mpvd", b"moov", b"meta", b"xml ", b"jp2h"))
    if kind == b"uuid":
        content = lot.choice((bytes.fromhex("be7acfcb97a942e89c71999491e3afac"), lot.randbytes(16))) + content
    box = struct.pack(">L", 8 + len(content)) + kind + content
    at, length, _ = lot.choice([one for one in box_places(data) if one[2] not in HOLDERS])
    return data[: at + length] + box * lot.choice((1, 1, 1 if len(box) > 1000 else 30_000)) + data[at + length :]


def box_coded(lot, data):
    """What is coded, behind all boxes that describe it."""
    at = max(data.find(b"mdat"), data.find(b"jp2c"), data.find(b"\xff\x4f\xff\x51"), 0) + 4
    return data[:at] + damaged(lot, data[at:])


def j2k_segment(lot, data):
    """A number in the codestream's main header (15444-1, A.5): sizes, tiles, components, levels, code blocks."""
    at = data.find(b"\xff\x4f\xff\x51")
    return put_number(lot, data, at + 4 + lot.randrange(100), lot.choice((1, 2, 4)), ">") if at >= 0 else damaged(lot, data)


BOXES = (box_length, box_number, box_number, box_number, box_order, box_inserted, box_coded, damaged)
BY_FORMAT = {
    "png": (png_header, png_header, png_length, png_order, png_payload, png_payload, png_metadata, png_metadata, damaged),
    "jpeg": (
        *(jpeg_segment, jpeg_segment, jpeg_payload, jpeg_order, jpeg_coded, jpeg_metadata, jpeg_metadata, damaged),
        *(jpeg_scans, jpeg_profile),
    ),
    "webp": (webp_length, webp_order, webp_payload, webp_payload, webp_metadata, webp_metadata, damaged),
    "tiff": (tag_field, tag_field, tag_field, tag_order, tiff_metadata, damaged),
    "bmp": (bmp_header, bmp_header, damaged),
    "gif": (gif_header, gif_header, gif_codes, gif_extension, damaged),
    "jp2": (j2k_segment, j2k_segment, j2k_segment, *BOXES),
    "avif": BOXES,
    "heif": BOXES,
}
