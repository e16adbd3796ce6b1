"""Of Photoshop's resources all arrives but the thumbnail, which would show the old image."""

import struct

import image_files as made
import pytest

from gpen_core.images.codecs import decode, encode
from gpen_core.images.photoshop import without_thumbnail

PIXELS = made.noise((9, 11, 3))


def resource(number, data, name=b""):
    name = bytes((len(name),)) + name + bytes((len(name) + 1) % 2)
    return b"8BIM" + struct.pack(">H", number) + name + struct.pack(">L", len(data)) + data + bytes(len(data) % 2)


CAPTION, PATH, PROFILE = resource(1028, b"\x1c\x02x\0\5hello"), resource(2000, b"odd", b"Path 1"), resource(1005, bytes(16))
THUMBNAIL = resource(1036, b"a picture of the old face")
ALL, KEPT = CAPTION + THUMBNAIL + PATH + resource(1033, b"the same, older") + PROFILE, CAPTION + PATH + PROFILE


def jpeg(*parts):
    return made.jpeg_with(b"".join(made.jpeg_segment(0xED, b"Photoshop 3.0\0" + part) for part in parts), PIXELS)


def tiff(resources):
    strip = PIXELS[..., 0].tobytes()
    numbers = {256: 11, 257: 9, 258: 8, 259: 1, 262: 1, 277: 1, 278: 9, 279: len(strip)}
    entries = {tag: made.number(value, 4) for tag, value in numbers.items()}
    return made.bare_tiff({**entries, 34377: (1, len(resources), resources)}, strip)


def resources_of(written):
    return b"".join(data[14:] for marker, data in made.jpeg_segments(written) if marker == 0xED)


@pytest.mark.parametrize("parts", [(ALL,), (ALL[:60], ALL[60:])], ids=["one segment", "two segments"])
def test_a_jpeg_keeps_all_but_the_thumbnail(parts):
    assert resources_of(encode(decode(jpeg(*parts)), "JPEG")) == KEPT
    assert b"old face" not in encode(decode(jpeg(THUMBNAIL)), "JPEG")


def test_a_tiff_keeps_all_but_the_thumbnail():
    first = decode(tiff(ALL))
    assert made.read_directory(encode(first, "TIFF"))[34377] == (7, len(KEPT), KEPT)
    assert all(b"old face" not in encode(first, target) for target in ("PNG", "WEBP", "JPEG"))
    assert made.read_directory(encode(decode(tiff(KEPT)), "TIFF"))[34377] == (1, len(KEPT), KEPT)
    assert decode(tiff(THUMBNAIL)).metadata.exif is None


def test_resources_longer_than_a_segment_are_split_again():
    long = resource(1058, made.noise(150_001).tobytes())
    whole = long + THUMBNAIL + CAPTION
    parts = [whole[at : at + 60_000] for at in range(0, len(whole), 60_000)]
    written = encode(decode(jpeg(*parts)), "JPEG")
    assert resources_of(written) == long + CAPTION
    assert decode(written).image.size == (11, 9)


@pytest.mark.parametrize(
    "damaged", [b"", b"8BIM", b"8BIM\4\x0c", b"8BIM\4\x0c\xff", THUMBNAIL[:-5], b"8BPS" + THUMBNAIL, bytes(40)]
)
def test_what_is_damaged_stays_as_it_is(damaged):
    assert without_thumbnail(damaged) == damaged
    assert without_thumbnail(THUMBNAIL + CAPTION + damaged) == CAPTION + damaged
