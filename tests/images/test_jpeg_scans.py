"""A JPEG of thousands of empty scans is refused before it is decoded: each takes 10 bytes and works on all pixels."""

import struct
import time

import image_files as made
import pytest
from PIL import Image

from gpen_core.errors import InputError
from gpen_core.images.codecs import decode

EMPTY = bytes.fromhex("ffda 0008 01 01 00 01 3f 00")


def jpeg(more=0, mode="RGB", side=640):
    """Progressive, with so many empty scans more than libjpeg's own."""
    plain = made.encode_image(Image.new(mode, (side, side), 99 if mode == "L" else (9, 99, 9)), "JPEG", progressive=True)
    assert plain.endswith(b"\xff\xd9")
    return plain[:-2] + EMPTY * more + plain[-2:]


def in_tiff(data, side=640):
    tags = {256: side, 257: side, 258: 8, 259: 7, 262: 1, 273: 0, 277: 1, 278: side, 279: len(data)}
    start = 8 + 2 + 12 * len(tags) + 4
    entries = (struct.pack("<HHLL", tag, 4, 1, start if tag == 273 else value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHLH", b"II", 42, 8, len(tags)) + b"".join(entries) + bytes(4) + data


def test_as_many_scans_as_any_image_needs_are_read():
    scans = jpeg().count(b"\xff\xda")
    assert decode(jpeg(100 - scans)).image.size == (640, 640)
    with pytest.raises(InputError, match=r"the JPEG has more than 100 scans\. Save it again as PNG"):
        decode(jpeg(101 - scans))


@pytest.mark.parametrize("wrap", [lambda data: data, in_tiff], ids=["jpeg", "tiff"])
def test_thousands_of_scans_are_refused_at_once(wrap):
    data = wrap(jpeg(20_000, "L"))
    began = time.process_time()
    with pytest.raises(InputError):
        decode(data)
    assert time.process_time() - began < 1  # 3 s where all are decoded


def test_a_jpeg_in_a_tiff_is_read():
    assert int(decode(in_tiff(jpeg(0, "L"))).image.pixels.mean()) == 99


def test_markers_in_metadata_and_behind_the_image_are_no_scans():
    thumbnail = made.jpeg_segment(0xE1, b"Exif\0\0" + EMPTY * 200)
    whole = jpeg()
    data = whole[:2] + thumbnail + whole[2:] + EMPTY * 200
    assert decode(data).image.size == (640, 640)


def test_every_scan_is_counted_whatever_stands_between():
    whole = jpeg()
    padded = whole[:-2] + (b"\xff\xff\xff" + EMPTY[1:] + b"\x12\xff\x00\xff\xd0" + b"\xff\xfe\0\4ab") * 200 + whole[-2:]
    for data in (padded, whole[:-2] + EMPTY * 200):  # the second without an end
        with pytest.raises(InputError, match="more than 100 scans"):
            decode(data)
