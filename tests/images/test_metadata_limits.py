"""Metadata that is too long for a format is left out with a warning; what is written can be read."""

import io
import struct
import zlib

import image_files as made
import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from gpen_core.errors import InputError
from gpen_core.images.codecs import EncodedImage, decode, encode
from gpen_core.images.image import from_array
from gpen_core.images.metadata import Metadata

MIB = 1 << 20
MARKER = 65533


def icc(length):
    profile = made.gray_profile()
    return (profile[:16] + b"RGB " + profile[20:]).ljust(length, b"\0")


def exif(length):
    entry = struct.pack("<HHHLLL", 1, 0x9286, 7, length - 32, 26, 0)
    return b"Exif\0\0II*\0\x08\0\0\0" + entry + bytes(length - 32)


def written(metadata, format_name, dtype=np.uint8):
    """Read with Pillow, and as we do."""
    data = encode(EncodedImage(from_array(made.noise((8, 8, 3), dtype)), metadata, format_name, False), format_name)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
    return decode(data).metadata


@pytest.mark.parametrize(
    ("format_name", "field", "make", "longest"),
    [
        ("PNG", "icc", icc, MIB),
        pytest.param("JPEG", "icc", icc, 255 * (MARKER - 14), marks=pytest.mark.slow),
        ("JPEG", "exif", exif, MARKER),
        ("JPEG", "xmp", bytes, MARKER - len(made.XMP_HEADER)),
        ("JPEG", "comment", bytes, MARKER),
    ],
)
@pytest.mark.parametrize("more", [0, 1])
def test_metadata_is_kept_up_to_the_longest_and_left_out_beyond(format_name, field, make, longest, more, caplog):
    value = make(longest + more)
    kept = getattr(written(Metadata(**{field: value}), format_name), field)
    assert kept == (None if more else value)
    assert (f"({longest + 1} bytes) does not fit into a {format_name}; left out." in caplog.text) == bool(more)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_long_profile_is_left_out_of_a_png_of_any_depth(dtype, caplog):
    assert written(Metadata(icc=icc(MIB + 1)), "PNG", dtype).icc is None
    assert "The color profile (1048577 bytes) does not fit into a PNG" in caplog.text


@pytest.mark.parametrize("format_name", ["WEBP", "TIFF"])
def test_formats_without_such_limits_keep_all(format_name, caplog):
    metadata = Metadata(icc=icc(MIB + 1), exif=exif(70_000), xmp=b"x" * 70_000)
    kept = written(metadata, format_name)
    assert (kept.icc, kept.xmp) == (metadata.icc, metadata.xmp) and not caplog.text
    assert kept.exif == metadata.exif or format_name == "TIFF"  # which has its own tags among them


def test_png_text_is_kept_as_far_as_readers_read_it(monkeypatch, caplog):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 3000)
    monkeypatch.setattr("gpen_core.images.metadata_writing.MAX_FIELD_BYTES", {"PNG": {"icc": MIB, "xmp": 3000}})
    texts = tuple((name, letter * length) for name, letter, length in (("a", "x", 1500), ("b", "y", 1501), ("c", "z", 900)))
    kept = written(Metadata(text=texts, xmp=b"x" * 600), "PNG")
    assert [key for key, _ in kept.text] == ["a", "c"]
    assert "PNG text (b) is too long for a PNG; left out." in caplog.text


@pytest.mark.parametrize(
    ("chunk", "said"),
    [
        ((b"iCCP", b"a\0\0" + zlib.compress(icc(MIB + 1))), "color profile of the PNG is larger than 1 MiB"),
        ((b"zTXt", b"workflow\0\0" + zlib.compress(bytes(MIB + 1))), "text in the PNG is too long"),
    ],
)
def test_what_is_too_long_in_a_png_is_named(chunk, said):
    with pytest.raises(InputError, match=rf"the {said} .*Remove it"):
        decode(made.png(made.noise((8, 8, 3)), chunk))


def test_a_profile_that_cannot_be_used_is_told(caplog):
    lost = made.jpeg_segment(0xE2, b"ICC_PROFILE\0\1\2" + icc(400))  # the first of two
    assert decode(made.jpeg_with(lost, made.noise((8, 8, 3)))).metadata.icc is None
    assert decode(made.png(made.noise((8, 8, 3)), (b"iCCP", b"a\0\0no deflated data"))).metadata.icc is None
    assert caplog.text.count("The color profile is damaged or incomplete; left out.") == 2
