"""A file that cannot be read, or only wrongly, is an InputError that says why; never another exception."""

import io
import struct

import image_files as made
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from gpen_core.errors import InputError, OutputError
from gpen_core.images import codecs, decoders
from gpen_core.images.codecs import EncodedImage, decode, encode
from gpen_core.images.formats import OUTPUT_FORMATS
from gpen_core.images.image import ImageData, from_array


def refused(data):
    with pytest.raises(InputError) as error:
        decode(data)
    return str(error.value)


def several(count, format_name, **kwargs):
    pages = [Image.fromarray(made.noise((8, 8, 3), seed=n)) for n in range(count)]
    return made.encode_image(pages[0], format_name, save_all=True, append_images=pages[1:], **kwargs)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing here\.png cannot be read: No such file"):
        codecs.read(tmp_path / "nothing here.png")


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        codecs.read(tmp_path)


def test_an_empty_file_is_called_empty(tmp_path):
    path = tmp_path / "empty.png"
    path.touch()
    with pytest.raises(InputError, match=r"empty\.png: the file is empty"):
        codecs.read(path)


@pytest.mark.parametrize("data", [b"\0", b"hello, I am a text\n" * 20, bytes(made.noise(5000)), b"%PDF-1.7\n"])
def test_what_is_no_image_is_an_input_error_that_names_the_file(tmp_path, data):
    path = tmp_path / "an picture.png"
    path.write_bytes(data)
    with pytest.raises(
        InputError,
        match=r"an picture\.png: the file.* is .*(unknown|not supported)\. Supported formats: PNG, JPEG, WebP, .*HEIC",
    ):
        codecs.read(path)


@pytest.mark.parametrize(
    "start",
    [
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8\xff\xe0",
        b"RIFF\x10\0\0\0WEBP",
        b"II*\0",
        b"MM\0*",
        b"BM",
        b"GIF89a",
        b"\xff\x4f\xff\x51",
    ],
)
def test_a_bare_signature_is_told_from_a_file_of_another_kind(start):
    assert "damaged or of a rare kind" in refused(start)
    assert "damaged" in refused(start + bytes(100))


@pytest.mark.parametrize("limit", ("Pillow's", None), ids=str)
def test_a_header_that_claims_huge_dimensions_is_refused_before_memory_is_taken(monkeypatch, limit):
    if limit is None:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)  # as some hosts do
    header = struct.pack(">LLBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n" + made.png_chunk(b"IHDR", header) + made.png_chunk(b"IDAT", b"") + made.png_chunk(b"IEND", b"")
    )
    assert "too" in refused(data) and "3600000000" in refused(data).replace(" x ", "").replace("6000060000", "3600000000")


@pytest.mark.parametrize("tag", (256, 257))
def test_a_tiff_that_claims_huge_dimensions_is_refused(tag):
    entries = {256: made.number(8), 257: made.number(8), 258: made.number(16), 259: made.number(1), 262: made.number(1)}
    entries |= {277: made.number(1), 278: made.number(8), 279: made.number(128), tag: made.number(2**31, 4)}
    assert "too" in refused(made.bare_tiff(entries, bytes(128)))


def bmp_in_runs(width, height, runs):
    sizes = struct.pack("<LllHHLLllLL", 40, width, height, 1, 8, 1, len(runs), 2835, 2835, 16, 0)
    colors = bytes(value for n in range(16) for value in (n, 2 * n, 3 * n, 0))  # blue, green, red
    start = 14 + len(sizes) + len(colors)
    return b"BM" + struct.pack("<LLL", start + len(runs), 0, start) + sizes + colors + runs


def test_a_bmp_in_runs_is_read_unless_it_claims_more_pixels_than_can_be_unpacked_in_time():
    rows = b"\3\1\0\0" + b"\3\2\0\1"  # three pixels and the row's end, from below
    assert decode(bmp_in_runs(3, 2, rows)).image.to_input_type().tolist() == [[[6, 4, 2]] * 3, [[3, 2, 1]] * 3]
    assert "too large (1048576 x 20 pixels)" in refused(bmp_in_runs(1 << 20, 20, b"\1\1\0\0" * 2))


def test_of_a_16_bit_png_opencv_is_given_nothing_but_its_pixels(monkeypatch):
    """It takes 4 GB for 1,800 bytes in which a chunk claims as much, and believes the first of two headers."""
    given, imdecode = [], decoders.cv2.imdecode
    monkeypatch.setattr(decoders.cv2, "imdecode", lambda data, flags: given.append(bytes(data)) or imdecode(data, flags))
    pixels = made.noise((8, 9, 3), np.uint16)
    whole = made.png(pixels, (b"tRNS", bytes(6)), (b"tEXt", b"parameters\0a cat"))
    huge = made.png_chunk(b"IHDR", struct.pack(">LLBBBBB", 20_000, 20_000, 16, 2, 0, 0, 0))
    claim = struct.pack(">L", (1 << 31) - 1) + b"\1\2\3\4" + bytes(60)  # where Pillow has stopped reading
    data = whole[:8] + huge + whole[8:-12] + claim
    assert np.array_equal(decode(data).image.pixels, pixels)
    (got,) = given
    assert [kind for kind, _ in made.png_chunks(got)] == [b"IHDR", b"tRNS", b"IDAT", b"IEND"]
    assert struct.unpack_from(">LL", got, 16) == (9, 8)


def test_a_webp_whose_canvas_is_wider_than_any_webp_is_refused_before_it_is_painted():
    """An animation of one image has a canvas of any size, and 300 bytes could take minutes."""
    still = made.encode_image(made.noise((8, 8, 3)), "WEBP")[12:]
    canvas = bytes((2, 0, 0, 0)) + (16_000_000 - 1).to_bytes(3, "little") + (8 - 1).to_bytes(3, "little")
    frame = bytes(6) + bytes((7, 0, 0, 7, 0, 0)) + bytes(4) + still
    chunks = (b"VP8X", canvas), (b"ANIM", bytes(6)), (b"ANMF", frame)
    body = b"WEBP" + b"".join(kind + struct.pack("<L", len(part)) + part for kind, part in chunks)
    assert "16000000 x 8 pixels are too many: a side may have at most 16383" in refused(
        b"RIFF" + struct.pack("<L", len(body)) + body
    )


def test_a_side_of_millions_of_pixels_is_refused():
    header = struct.pack(">LLBBBBB", 1 << 21, 8, 8, 2, 0, 0, 0)
    data = made.png(made.noise((8, 8, 3)))
    assert "2097152 x 8 pixels" in refused(data[:8] + made.png_chunk(b"IHDR", header) + data[33:])


def test_a_file_of_several_images_is_refused_since_the_others_would_be_lost():
    assert "contains 3 images" in refused(several(3, "TIFF"))


def test_a_phones_photograph_with_previews_behind_it_is_read():
    first = decode(several(2, "MPO", quality=98))
    assert (first.format, first.lossy) == ("JPEG", True)
    assert np.array_equal(first.image.to_input_type(), np.asarray(Image.open(io.BytesIO(several(2, "MPO", quality=98)))))


@pytest.mark.parametrize(
    "data, said",
    [
        (made.tiff(made.noise((8, 8), np.uint32), photometric="minisblack"), "32 bits"),
        (made.tiff(np.zeros((8, 8), np.uint32), photometric="minisblack"), "32 bits"),
        (made.tiff(made.noise((8, 8), np.float32), photometric="minisblack"), "32 bits"),
        (made.tiff(made.noise((8, 8), np.int16) // 2, photometric="minisblack"), "16-bit TIFF"),
        (made.tiff(made.noise((8, 8), np.float16), photometric="minisblack"), "rare kind"),
        (made.tiff(made.noise((8, 8, 3), np.float32), photometric="rgb"), "rare kind"),
        (made.tiff(made.noise((8, 8, 4), np.uint16), photometric="separated"), "16-bit TIFF"),
        (made.tiff(made.noise((3, 8, 8), np.uint16), photometric="rgb", planarconfig="separate"), "interleaved"),
    ],
)
def test_a_tiff_that_would_be_read_wrongly_is_refused_with_a_way_out(data, said):
    assert said in refused(data) and "Save" in refused(data)


def test_12_bit_gray_is_refused_and_not_read_as_a_dark_16_bit_image():
    entries = {256: made.number(8), 257: made.number(8), 258: made.number(12), 259: made.number(1), 262: made.number(1)}
    entries |= {277: made.number(1), 278: made.number(8), 279: made.number(96)}
    assert "12 bits" in refused(made.bare_tiff(entries, bytes(made.noise(96))))


WHOLE = {
    "png": made.png(made.noise((40, 40, 3))),
    "png 16": made.png(made.noise((40, 40, 3), np.uint16)),
    "jpeg": made.encode_image(made.noise((40, 40, 3)), "JPEG"),
    "webp": made.encode_image(made.noise((40, 40, 3)), "WEBP"),
    "webp lossless": made.encode_image(made.noise((40, 40, 3)), "WEBP", lossless=True),
    "tiff": made.tiff_rgb(made.noise((40, 40, 3))),
    "tiff lzw": made.encode_image(made.noise((40, 40, 3)), "TIFF", compression="tiff_lzw"),
    "tiff 16": made.tiff_rgb(made.noise((40, 40, 3), np.uint16)),
    "tiff 16 deflate": made.tiff_rgb(made.noise((40, 40, 3), np.uint16), compression="zlib"),
    "bmp": made.encode_image(made.noise((40, 40, 3)), "BMP"),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_that_is_cut_off_is_an_input_error(kind):
    data = WHOLE[kind]
    for part in (*range(16), *(len(data) * n // 24 for n in range(1, 23))):
        assert len(refused(data[:part])) > 20


@pytest.mark.parametrize("missing", (1, 2, 5, 12, 30))
@pytest.mark.parametrize("kind", WHOLE)
def test_a_file_with_its_end_missing_is_a_whole_image_or_an_input_error(kind, missing):
    try:
        got = decode(WHOLE[kind][:-missing])
    except InputError as error:
        assert len(str(error)) > 20
    else:
        assert got.image.to_input_type().shape == (40, 40, 3)


def rich_files():
    """Small files with much in them that can break."""
    small, exif, xmp = made.noise((8, 9, 3)), made.exif_block(">", 6), made.XMP_WITH_ORIENTATION % 6
    deep = made.noise((8, 9, 4), np.uint16)
    jpeg = made.jpeg_with(
        made.jpeg_segment(0xE1, made.XMP_HEADER + xmp), small, exif=exif, comment=b"a comment", dpi=(300, 300)
    )
    text = (b"tEXt", b"parameters\0a cat"), (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp), (b"eXIf", exif[6:])
    carrier = decode(jpeg)
    return {
        "jpeg": jpeg,
        "jpeg cmyk": made.encode_image(Image.fromarray(small).convert("CMYK"), "JPEG", icc_profile=made.cmyk_profile()),
        "png": made.png(small, *text),
        "png 16": made.png(deep, *text),
        "png palette": made.palette(made.noise((16, 3)), made.noise((8, 9)) % 16, transparency=3),
        "webp": made.encode_image(small, "WEBP", lossless=True, exif=exif, xmp=xmp),
        "webp lossy": made.encode_image(small, "WEBP"),
        "tiff": encode(carrier, "TIFF"),
        "tiff 16": encode(EncodedImage(from_array(deep), carrier.metadata, "TIFF", False), "TIFF"),
        "tiff lzw": made.encode_image(small, "TIFF", compression="tiff_lzw", tiffinfo={274: 6}),
        "bigtiff": made.tiff_rgb(small, bigtiff=True),
        "bmp": made.encode_image(small, "BMP"),
    }


RICH = rich_files()
damage = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from((0, 1, 2, 127, 255)) | st.integers(0, 255)), max_size=6
)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(kind=st.sampled_from(sorted(RICH)), bytes_to_set=damage, head=st.booleans(), cut=st.integers(0, 400))
@pytest.mark.slow
def test_a_damaged_file_is_an_image_that_can_be_written_or_an_input_error(kind, bytes_to_set, head, cut):
    data = bytearray(RICH[kind])
    for where, value in bytes_to_set:
        data[int(where * (min(200, len(data)) if head else len(data)))] = value
    if kind.startswith("png"):
        data = made.fix_checksums(data)  # else nothing behind the checksums is reached
    try:
        got = decode(bytes(data[: len(data) - max(0, cut - 350)]))
    except InputError as error:
        assert str(error)
        return
    assert isinstance(got, EncodedImage) and isinstance(got.image, ImageData)
    if got.image.width * got.image.height > 10**6:
        return
    for format_name in OUTPUT_FORMATS:
        try:
            again = decode(encode(got, format_name))
        except OutputError:
            continue
        assert (again.image.width, again.image.height) == (got.image.width, got.image.height)
