"""Metadata that tells an image's size."""

import struct

import image_files as made
import pytest
from PIL import Image

from gpen_core.images.metadata import EXIF_HEADER, Metadata, read_metadata
from gpen_core.images.resized_metadata import with_dimensions

XMP = (
    b'<rdf:Description xmlns:exif="http://ns.adobe.com/exif/1.0/" exif:PixelXDimension="64" exif:Other="64"'
    b" tiff:ImageLength = '48'><exif:PixelYDimension> 48 </exif:PixelYDimension><dc:title>64</dc:title></rdf:Description>"
)


def camera_file(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 48)).save(path, exif=made.exif_of_size(64, 48))
    return path


def test_exif_tells_the_new_size_and_all_else_as_before(tmp_path):
    path = camera_file(tmp_path)
    with Image.open(path) as image:
        image.load()
        before = read_metadata(image, path.read_bytes())
    after = with_dimensions(before, (70_000, 96))
    assert len(after.exif) == len(before.exif) and after.exif != before.exif
    exif = Image.Exif()
    exif.load(after.exif)
    assert (exif[0x0100], exif[0x0101], exif[0x010F]) == (70_000, 96, "Maker")
    assert dict(exif.get_ifd(made.EXIF)) == {0xA002: 70_000, 0xA003: 96, 0x9000: b"0230"}


@pytest.mark.parametrize("order", ["<", ">"])
def test_exif_of_either_byte_order_and_its_innermost_directory(order):
    def block(width, height, kind):
        tags = made.camera_tags(order)
        inside = tags[made.EXIF][2]
        inside[0xA002], inside[0xA003] = made.number(width, kind, order), made.number(height, kind, order)
        inside[made.INTEROP][2][0x1001] = made.number(width, kind, order)
        inside[made.INTEROP][2][0x1002] = made.number(height, kind, order)
        return b"Exif\0\0" + made.tiff_start(order) + made.tiff_ifd(tags, order, 8)

    assert with_dimensions(Metadata(exif=block(64, 48, 3)), (320, 240)).exif == block(320, 240, 4)


def test_xmp_tells_the_new_size_and_nothing_else_is_touched():
    after = with_dimensions(Metadata(xmp=XMP), (320, 240)).xmp
    expected = XMP.replace(b'PixelXDimension="64"', b'PixelXDimension="320"').replace(b"'48'", b"'240'")
    assert after == expected.replace(b"> 48 <", b"> 240 <")


@pytest.mark.parametrize(
    "exif", [None, b"", b"Exif\0\0", b"Exif\0\0II*\0", b"Exif\0\0" + bytes(40), b"Exif\0\0II*\0\xff\xff\xff\xff" + bytes(9)]
)
def test_what_is_damaged_stays_as_it_is(exif):
    assert with_dimensions(Metadata(exif=exif, comment=b"c"), (3, 4)) == Metadata(exif=exif, comment=b"c")


def test_a_directory_that_names_itself_ends():
    loop = struct.pack("<2sHLHHHLLL", b"II", 42, 8, 1, 0x8769, 4, 1, 8, 0)
    assert with_dimensions(Metadata(exif=EXIF_HEADER + loop), (3, 4)).exif == EXIF_HEADER + loop


def test_sizes_of_another_type_are_left_alone():
    entry = struct.pack("<2sHLHHHL4sL", b"II", 42, 8, 1, 0x0100, 2, 4, b"64 \0", 0)
    assert with_dimensions(Metadata(exif=EXIF_HEADER + entry), (3, 4)).exif == EXIF_HEADER + entry
