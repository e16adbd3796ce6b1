"""However a file says that it is turned, its pixels come out upright, once, and nothing says so any more."""

import io

import image_files as made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from gpen_core.images.codecs import decode, encode
from gpen_core.pipeline.source_file import load_encoded

SQUARES = made.blocks()
TURNED = {
    "jpeg": lambda p, o: made.encode_image(p, "JPEG", quality=98, subsampling=0, exif=made.exif_block(">", o)),
    "png": lambda p, o: made.encode_image(p, "PNG", exif=made.exif_block("<", o)),
    "png 16": lambda p, o: made.png(p.astype(np.uint16) * 257, (b"eXIf", made.exif_block(">", o)[6:])),
    "webp": lambda p, o: made.encode_image(p, "WEBP", lossless=True, exif=made.exif_block("<", o)),
    "tiff": lambda p, o: made.tiff_rgb(p, extratags=[(274, "H", 1, o, True)]),
    "tiff gray": lambda p, o: made.tiff(p[..., 0], photometric="minisblack", extratags=[(274, "H", 1, o, True)]),
    "tiff big-endian": lambda p, o: made.tiff_rgb(p, byteorder=">", extratags=[(274, "H", 1, o, True)]),
    "tiff lzw": lambda p, o: made.encode_image(p, "TIFF", compression="tiff_lzw", tiffinfo={274: o}),
    "tiff deflate": lambda p, o: made.encode_image(p, "TIFF", compression="tiff_adobe_deflate", tiffinfo={274: o}),
    "tiff jpeg": lambda p, o: made.encode_image(p, "TIFF", compression="jpeg", quality=98, tiffinfo={274: o}),
    "tiff 16": lambda p, o: made.tiff_rgb(p.astype(np.uint16) * 257, extratags=[(274, "H", 1, o, True)]),
    "tiff 16 gray": lambda p, o: made.tiff(
        p[..., 0].astype(np.uint16) * 257, photometric="minisblack", extratags=[(274, "H", 1, o, True)]
    ),
    "tiff 16 deflate": lambda p, o: made.tiff_rgb(
        p.astype(np.uint16) * 257, compression="zlib", extratags=[(274, "H", 1, o, True)]
    ),
    "tiff 16 big-endian": lambda p, o: made.tiff_rgb(
        p.astype(np.uint16) * 257, byteorder=">", extratags=[(274, "H", 1, o, True)]
    ),
    "tiff written as LONG": lambda p, o: made.tiff_rgb(p, extratags=[(274, "I", 1, o, True)]),
    "bigtiff": lambda p, o: made.tiff_rgb(p, bigtiff=True, extratags=[(274, "H", 1, o, True)]),
    "bigtiff 16": lambda p, o: made.tiff_rgb(p.astype(np.uint16) * 257, bigtiff=True, extratags=[(274, "H", 1, o, True)]),
}
XMP_ONLY = {
    "jpeg": lambda xmp: made.jpeg_with(made.jpeg_segment(0xE1, made.XMP_HEADER + xmp), SQUARES),
    "png": lambda xmp: made.png(SQUARES, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
    "png 16": lambda xmp: made.png(SQUARES.astype(np.uint16) * 257, (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp)),
    "webp": lambda xmp: made.encode_image(SQUARES, "WEBP", lossless=True, xmp=xmp),
    "tiff": lambda xmp: made.tiff_rgb(SQUARES, extratags=[(700, "B", len(xmp), xmp, True)]),
    "tiff 16": lambda xmp: made.tiff_rgb(SQUARES.astype(np.uint16) * 257, extratags=[(700, "B", len(xmp), xmp, True)]),
}


def assert_shown(data, orientation, tolerance=0, pixels=SQUARES):
    """The pixels are upright, now and after another round, and no tag tells the next program to turn them again."""
    first = decode(data)
    shown = made.ORIENTED[orientation](pixels if first.image.pixels.shape[2] == 3 else pixels[..., 0])
    for got in (first, decode(encode(first, first.format))):
        values = got.image.to_input_type() / (got.image.max_value / 255)
        assert values.shape == shown.shape
        assert np.abs(values - shown).max() <= tolerance
    written = encode(first, first.format)
    image = Image.open(io.BytesIO(written))
    assert image.size == shown.shape[1::-1]
    assert 0x0112 not in image.getexif()
    assert b"Orientation" not in written and b"Orientation" not in (first.metadata.xmp or b"")


@pytest.mark.parametrize(("kind", "orientation"), [(kind, 1 + number % 8) for number, kind in enumerate(TURNED)])
def test_a_file_is_turned_upright_exactly_once(kind, orientation):
    assert_shown(TURNED[kind](SQUARES, orientation), orientation, tolerance=8 if "jpeg" in kind else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "tiff 16"])  # one that Pillow reads, and one that it does not
def test_every_orientation_is_turned_upright(kind, orientation):
    assert_shown(TURNED[kind](SQUARES, orientation), orientation, tolerance=8 if "jpeg" in kind else 0)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kind=st.sampled_from(list(TURNED)),
    orientation=st.integers(1, 8),
    size=st.tuples(*[st.integers(1, 5).map(lambda blocks: 8 * blocks)] * 2),
    seed=st.integers(0, 99),
)
def test_an_image_of_any_size_is_turned_upright_exactly_once(kind, orientation, size, seed):
    pixels = made.blocks(*size, seed=seed)
    assert_shown(TURNED[kind](pixels, orientation), orientation, 8 if "jpeg" in kind else 0, pixels)


@pytest.mark.parametrize("orientation", (1, 3, 6))
@pytest.mark.parametrize("kind", XMP_ONLY)
def test_where_exif_is_silent_xmp_says_how_an_image_is_turned(kind, orientation):
    assert_shown(XMP_ONLY[kind](made.XMP_WITH_ORIENTATION % orientation), orientation, 8 if kind == "jpeg" else 0)


@pytest.mark.parametrize(
    "xmp",
    [
        made.XMP_WITH_ORIENTATION % 6,
        made.XMP_WITH_ORIENTATION.replace(b'tiff:Orientation="%d"', b"tiff:Orientation = '6'"),
        b"<x:xmpmeta><rdf:Description><tiff:Orientation>6</tiff:Orientation></rdf:Description></x:xmpmeta>",
        b"<x:xmpmeta><rdf:Description><tiff:Orientation>\n 6\n </tiff:Orientation></rdf:Description></x:xmpmeta>",
    ],
)
def test_exif_counts_more_than_xmp_and_both_tags_go(xmp):
    exif = made.exif_block("<", 8)
    assert_shown(made.jpeg_with(made.jpeg_segment(0xE1, made.XMP_HEADER + xmp), SQUARES, exif=exif), 8, tolerance=8)
    assert_shown(made.encode_image(SQUARES, "WEBP", lossless=True, exif=exif, xmp=xmp), 8)
    assert_shown(made.tiff_rgb(SQUARES, extratags=[(274, "H", 1, 8, True), (700, "B", len(xmp), xmp, True)]), 8)


def test_exif_that_an_older_program_hid_in_png_text_is_found():
    block = made.exif_block("<", 6)
    text = b"Raw profile type exif\0\nexif\n%8d\n" % len(block) + block.hex().encode() + b"\n"
    data = made.png(SQUARES, (b"tEXt", text))
    assert_shown(data, 6)
    assert b"Raw profile" not in encode(decode(data), "PNG")
    assert decode(data).metadata.exif is not None


@pytest.mark.parametrize("value", (0, 9, 65535))
@pytest.mark.parametrize("kind", ("jpeg", "png", "tiff", "tiff 16"))
def test_an_orientation_that_does_not_exist_turns_nothing(kind, value):
    got = decode(TURNED[kind](SQUARES, value)).image
    assert np.abs(got.to_input_type() / (got.max_value / 255) - SQUARES).max() <= (8 if kind == "jpeg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("read", [decode, lambda data: load_encoded(Image.open(io.BytesIO(data)))], ids=["file", "pil"])
def test_exif_and_xmp_tell_the_size_of_the_upright_pixels(read, orientation):
    xmp = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:ImageWidth="24" tiff:ImageLength="16"/>'
    exif = made.exif_of_size(24, 16, orientation)
    got = read(made.jpeg_with(made.jpeg_segment(0xE1, made.XMP_HEADER + xmp), SQUARES, exif=exif))
    width, height = got.image.size
    written = Image.open(io.BytesIO(encode(got, "JPEG"))).getexif()
    assert written.get_ifd(made.EXIF)[0xA002] == written[0x0100] == width
    assert written.get_ifd(made.EXIF)[0xA003] == written[0x0101] == height
    assert b'tiff:ImageWidth="%d" tiff:ImageLength="%d"' % (width, height) in got.metadata.xmp
