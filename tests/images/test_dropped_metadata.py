"""What is not carried into the new file is named, where there is such, and only then."""

import io
import struct

import image_files as made
import numpy as np
import pytest
from PIL import Image

from gpen_core.images.codecs import decode, encode
from gpen_core.images.dropped_metadata import dropped_note
from gpen_core.images.formats import OUTPUT_FORMATS
from gpen_core.images.metadata import Metadata

EIGHT = made.noise((9, 11, 3))
MANIFEST = (7, 8, b"abcdefgh")
LAYERS = (7, 70_036, b"Adobe Photoshop Document Data Block\0" + bytes(70_000))
C2PA_BOX = struct.pack(">L", 60) + b"jumb" + struct.pack(">L", 40) + b"jumdc2pa\0\x11\0\x10\x80\0\0\xaa\08\x9bq\3c2pa\0"
OTHER_BOX = struct.pack(">L", 60) + b"jumb" + struct.pack(">L", 40) + b"jumdjson\0\x11\0\x10\x80\0\0\xaa\08\x9bq\3data\0"


def jpeg(marker, payload, behind=b""):
    return made.jpeg_with(made.jpeg_segment(marker, payload), EIGHT) + behind


def webp(chunk, payload):
    data = made.encode_image(EIGHT, "WEBP", lossless=True)
    data += chunk + struct.pack("<L", len(payload)) + payload + bytes(len(payload) % 2)
    return data[:4] + struct.pack("<L", len(data) - 8) + data[8:]


def tiff(tag, entry, more=None):
    numbers = {256: 11, 257: 9, 259: 1, 262: 1, 277: 1, 278: 9, 279: 99}
    entries = {of: made.number(value, 4) for of, value in numbers.items()}
    return made.bare_tiff({**entries, 258: made.number(8), tag: entry, **(more or {})}, EIGHT[..., 0].tobytes())


def behind_the_pixels(png, *chunks):
    return png[:-12] + b"".join(made.png_chunk(kind, payload) for kind, payload in chunks) + png[-12:]


UNKEPT = {
    "FLIR": (jpeg(0xE1, b"FLIR\0\1\0\0data"), ("FLIR data (JPEG APP1)",)),
    "GoPro": (jpeg(0xE6, b"GoPro\0DEVC"), ("GoPro data (JPEG APP6)",)),
    "GPMF": (jpeg(0xE6, b"GPMFDEVC"), ("GoPro data (JPEG APP6)",)),
    "MPF": (jpeg(0xE2, b"MPF\0II*\0"), ("further images (JPEG APP2 MPF)",)),
    "MPF with them": (jpeg(0xE2, b"MPF\0II*\0", made.encode_image(EIGHT, "JPEG")), ("further images (JPEG APP2 MPF)",)),
    "FlashPix": (jpeg(0xE2, b"FPXR\0\0\1"), ("FlashPix data (JPEG APP2)",)),
    "C2PA in a JPEG": (jpeg(0xEB, b"JP\0\1\0\0\0\1" + C2PA_BOX), ("a C2PA manifest",)),
    "C2PA in two parts": (
        made.jpeg_with(
            made.jpeg_segment(0xEB, b"JP\0\1\0\0\0\1" + C2PA_BOX)
            + made.jpeg_segment(0xEB, b"JP\0\1\0\0\0\2" + C2PA_BOX[:8] + b"the rest"),
            EIGHT,
        ),
        ("a C2PA manifest",),
    ),
    "JUMBF": (jpeg(0xEB, b"JP\0\1\0\0\0\1" + OTHER_BOX), ("JUMBF boxes (JPEG APP11)",)),
    "unknown": (jpeg(0xE9, b"Maker_1.0\0\1\2\3"), ('JPEG APP9 "Maker_1.0"',)),
    "unknown without a name": (jpeg(0xE9, b"\x1b[31m\0\1"), ("JPEG APP9",)),
    "rest of a later Exif": (jpeg(0xE1, b"Exif\0\xffII*\0"), ('JPEG APP1 "Exif"',)),
    "a video behind": (jpeg(0xFE, b"hello", b"\0\0\0\x18ftypmp42" + bytes(40)), ("the video of a motion photo",)),
    "PNG C2PA": (made.png(EIGHT, (b"caBX", C2PA_BOX)), ("a C2PA manifest",)),
    "PNG private": (behind_the_pixels(made.png(EIGHT), (b"maKr", b"x"), (b"maKr", b"y")), ("PNG chunk maKr",)),
    "PNG public": (made.png(EIGHT, (b"oFFs", bytes(9)), (b"mDCV", bytes(24))), ("PNG chunk oFFs", "PNG chunk mDCV")),
    "PNG behind": (made.png(EIGHT) + b"PK\3\4", ("4 bytes after the image",)),
    "WebP C2PA": (webp(b"C2PA", C2PA_BOX), ("a C2PA manifest",)),
    "WebP private": (webp(b"MAKR", b"abc"), ("WebP chunk MAKR",)),
    "TIFF C2PA": (tiff(0xCD41, MANIFEST), ("a C2PA manifest",)),
    "TIFF pages within": (tiff(330, made.number(8, 4)), ("further images (TIFF SubIFDs)",)),
    "TIFF layers": (tiff(37724, LAYERS), ("layers (TIFF ImageSourceData)",)),
}


@pytest.mark.parametrize("name", UNKEPT)
def test_what_is_not_kept_is_named(name):
    data, names = UNKEPT[name]
    assert decode(data).metadata.dropped == names


ORDINARY = {
    "jpeg": made.jpeg_with(
        made.jpeg_segment(0xE1, made.XMP_HEADER + made.XMP_WITH_ORIENTATION % 1)
        + made.jpeg_segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(40))
        + made.jpeg_segment(0xED, b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\0")
        + made.jpeg_segment(0xE0, b"JFXX\0\x10")
        + made.jpeg_segment(0xEC, b"Ducky\0\1\0\4\0\0\0\x3c\0\0")
        + made.jpeg_segment(0xEE, b"Adobe\0\x64\0\0\0\0\1")
        + made.jpeg_segment(0xE5, b""),
        EIGHT,
        exif=made.exif_block(),
        comment=b"a comment",
        icc_profile=made.gray_profile(),
    )
    + b"\0\0\r\n",
    "jpeg progressive": made.encode_image(made.noise((300, 300, 3)), "JPEG", progressive=True, restart_marker_blocks=2),
    "png": behind_the_pixels(
        made.png(EIGHT, (b"bKGD", bytes(6)), (b"sBIT", b"\x08\x08\x08"), (b"pHYs", bytes(9)), (b"tEXt", b"a\0b")),
        (b"tIME", b"\x07\xe8\1\1\0\0\0"),
    ),
    "png 16": made.png(made.noise((9, 11, 3), np.uint16), (b"gAMA", struct.pack(">L", 45455))),
    "png palette": made.palette(made.noise((16, 3)), made.noise((8, 9)) % 16, transparency=3),
    "webp": made.encode_image(EIGHT, "WEBP", exif=made.exif_block(), xmp=b"<x/>", icc_profile=made.gray_profile()),
    "webp alpha": made.encode_image(made.noise((9, 11, 4)), "WEBP"),
    "tiff": made.encode_image(EIGHT, "TIFF", icc_profile=made.gray_profile(), tiffinfo={270: "words", 34377: b"8BIM"}),
    "bmp": made.encode_image(EIGHT, "BMP"),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_file_loses_nothing(name):
    assert decode(ORDINARY[name]).metadata.dropped == ()
    assert dropped_note(decode(ORDINARY[name]).metadata) == ()


@pytest.mark.parametrize("target", OUTPUT_FORMATS)
@pytest.mark.parametrize("name", UNKEPT)
def test_what_is_named_is_not_in_the_new_file(name, target, caplog):
    """And is not told twice: the caller says it, with the image's name."""
    written = encode(decode(UNKEPT[name][0]), target)
    assert decode(written).metadata.dropped == ()
    assert all(text not in caplog.text for text in UNKEPT[name][1])


def test_a_manifest_does_not_hide_in_an_exif_block():
    first = decode(tiff(0xCD41, MANIFEST))
    assert b"abcdefgh" not in (first.metadata.exif or b"")
    assert 0xCD41 not in made.read_directory(encode(first, "TIFF"))


def test_photoshops_layers_do_not_hide_in_an_exif_block_and_cost_a_jpeg_no_exif(caplog):
    first = decode(tiff(37724, LAYERS, {271: (2, 6, b"Canon\0")}))
    assert all(b"Document Data" not in encode(first, target) for target in ("TIFF", "PNG", "WEBP"))
    assert Image.open(io.BytesIO(encode(first, "JPEG"))).getexif()[271] == "Canon"
    assert "does not fit" not in caplog.text


def test_one_note_says_it_all():
    (note,) = dropped_note(Metadata(dropped=("FLIR data (JPEG APP1)", "PNG chunk maKr")))
    assert "FLIR data (JPEG APP1); PNG chunk maKr" in note and "C2PA" not in note and "original" in note


def test_a_manifest_is_said_to_fit_no_more():
    (note,) = dropped_note(decode(UNKEPT["PNG C2PA"][0]).metadata)
    assert "C2PA manifest" in note and "signature" in note


def test_thousands_of_unknown_chunks_make_no_long_note():
    chunks = [(bytes((0x61 + n // 676, 0x61 + n // 26 % 26, 0x41 + n % 26, 0x61)), b"") for n in range(3000)]
    (note,) = dropped_note(decode(made.png(EIGHT, *chunks)).metadata)
    assert len(note) < 400


def test_a_name_is_no_more_than_printable_text():
    assert decode(jpeg(0xE9, b"ab\x1b[31mcd\0")).metadata.dropped == ("JPEG APP9",)


def test_an_mpo_names_its_previews():
    pages = [Image.fromarray(made.noise((8, 8, 3), seed=n)) for n in range(2)]
    data = made.encode_image(pages[0], "MPO", save_all=True, append_images=pages[1:])
    assert decode(data).metadata.dropped == ("further images (JPEG APP2 MPF)",)
