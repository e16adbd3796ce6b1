"""Image files: what is read is what they show, what is written holds it, and a broken file is an InputError."""

import io
import os
import stat
import struct

import cv2
import image_files as made
import numpy as np
import pytest
import tifffile
from PIL import Image, JpegImagePlugin

from gpen_core.errors import ImageTooLarge, InputError, OutputError
from gpen_core.files.atomic_write import atomic_write, write_bytes
from gpen_core.images import codecs, formats
from gpen_core.images.codecs import EncodedImage, decode, encode
from gpen_core.images.formats import OUTPUT_FORMATS
from gpen_core.images.image import from_array
from gpen_core.images.metadata import Metadata
from gpen_core.images.tiff import TiffField, parse_tiff_header, read_directory, write_directory
from gpen_core.pipeline.source_file import load_encoded


def photo(array, format_name="PNG", lossy=False):
    return EncodedImage(from_array(array), Metadata(), format_name, lossy)


def opencv_tiff(array, compression):
    """OpenCV's numbers: 1 none, 5 LZW, 8 deflate; the last two with differences between neighbors."""
    array = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array
    return cv2.imencode(".tif", array, [cv2.IMWRITE_TIFF_COMPRESSION, compression])[1].tobytes()


GRAY8, GRAY16 = made.noise((13, 17)), made.noise((13, 17), np.uint16)
DEEP = {channels: made.noise((13, 17, channels), np.uint16, channels) for channels in (2, 3, 4)}
FLAT = {channels: made.noise((13, 17, channels), np.uint8, channels) for channels in (2, 3, 4)}
BITS = (GRAY8 > 127).astype(np.uint8)
COLORS, INDICES = made.noise((16, 3), seed=5), GRAY8 % 16
SEE_THROUGH = np.dstack((COLORS[INDICES], np.where(INDICES == 3, 0, 255).astype(np.uint8)))

# name: (the file, its pixels)
LOSSLESS = {
    "png gray": (made.png(GRAY8), GRAY8),
    "png gray alpha": (made.png(FLAT[2]), FLAT[2]),
    "png rgb": (made.png(FLAT[3]), FLAT[3]),
    "png rgba": (made.png(FLAT[4]), FLAT[4]),
    "png 1 bit": (made.png(BITS, bits=1), BITS * 255),
    "png 2 bits": (made.png(GRAY8 % 4, bits=2), GRAY8 % 4 * 85),
    "png 4 bits": (made.png(GRAY8 % 16, bits=4), GRAY8 % 16 * 17),
    "png palette": (made.palette(COLORS, INDICES), COLORS[INDICES]),
    "png palette alpha": (made.palette(COLORS, INDICES, transparency=3), SEE_THROUGH),
    "png 16 gray": (made.png(GRAY16), GRAY16),
    "png 16 gray alpha": (made.png(DEEP[2]), DEEP[2]),
    "png 16 rgb": (made.png(DEEP[3]), DEEP[3]),
    "png 16 rgba": (made.png(DEEP[4]), DEEP[4]),
    "bmp gray": (made.encode_image(GRAY8, "BMP"), GRAY8),
    "bmp rgb": (made.encode_image(FLAT[3], "BMP"), FLAT[3]),
    "bmp palette": (made.palette(COLORS, INDICES, format_name="BMP"), COLORS[INDICES]),
    "webp rgb": (made.encode_image(FLAT[3], "WEBP", lossless=True), FLAT[3]),
    "webp rgba": (made.encode_image(FLAT[4], "WEBP", lossless=True, exact=True), FLAT[4]),
    "tiff gray": (made.tiff(GRAY8, photometric="minisblack"), GRAY8),
    "tiff white is zero": (made.tiff(255 - GRAY8, photometric="miniswhite"), GRAY8),
    "tiff 1 bit": (made.encode_image(Image.fromarray(BITS * 255).convert("1"), "TIFF", compression="group4"), BITS * 255),
    "tiff gray alpha": (
        made.tiff(FLAT[2], photometric="minisblack", extrasamples=["unassalpha"], planarconfig="contig"),
        FLAT[2],
    ),
    "tiff rgb": (made.tiff_rgb(FLAT[3]), FLAT[3]),
    "tiff rgb big-endian": (made.tiff_rgb(FLAT[3], byteorder=">"), FLAT[3]),
    "tiff rgba": (made.tiff_rgb(FLAT[4]), FLAT[4]),
    "tiff rgb lzw": (made.encode_image(FLAT[3], "TIFF", compression="tiff_lzw"), FLAT[3]),
    "tiff rgb deflate": (made.encode_image(FLAT[3], "TIFF", compression="tiff_adobe_deflate"), FLAT[3]),
    "tiff rgb packbits": (made.encode_image(FLAT[3], "TIFF", compression="packbits"), FLAT[3]),
    "tiff rgb tiles": (made.tiff_rgb(FLAT[3], tile=(16, 16)), FLAT[3]),
    "tiff rgb planes": (made.tiff(FLAT[3].transpose(2, 0, 1), photometric="rgb", planarconfig="separate"), FLAT[3]),
    "tiff palette": (made.palette(COLORS, INDICES, format_name="TIFF"), COLORS[INDICES]),
    "tiff 16 gray": (made.tiff(GRAY16, photometric="minisblack"), GRAY16),
    "tiff 16 gray big-endian": (made.tiff(GRAY16, photometric="minisblack", byteorder=">"), GRAY16),
    "tiff 16 gray lzw": (opencv_tiff(GRAY16, 5), GRAY16),
    "tiff 16 white is zero": (made.tiff(65535 - GRAY16, photometric="miniswhite"), GRAY16),
    "tiff 16 rgb": (made.tiff_rgb(DEEP[3]), DEEP[3]),
    "tiff 16 rgb big-endian": (made.tiff_rgb(DEEP[3], byteorder=">"), DEEP[3]),
    "tiff 16 rgb lzw": (opencv_tiff(DEEP[3], 5), DEEP[3]),
    "tiff 16 rgb deflate": (made.tiff_rgb(DEEP[3], compression="zlib", predictor=True), DEEP[3]),
    "tiff 16 rgb strips": (made.tiff_rgb(DEEP[3], rowsperstrip=4), DEEP[3]),
    "tiff 16 rgb tiles": (made.tiff_rgb(DEEP[3], tile=(16, 16)), DEEP[3]),
    "tiff 16 rgb bigtiff": (made.tiff_rgb(DEEP[3], bigtiff=True), DEEP[3]),
    "tiff 16 rgba": (made.tiff_rgb(DEEP[4]), DEEP[4]),
    "tiff 16 rgba big-endian": (made.tiff_rgb(DEEP[4], byteorder=">"), DEEP[4]),
    "tiff 16 rgba from OpenCV": (opencv_tiff(DEEP[4], 1), DEEP[4]),
}

# --- pixels ---


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_is_read_bit_for_bit(name):
    data, pixels = LOSSLESS[name]
    got = decode(data)
    assert got.format == name.split()[0].upper() and not got.lossy
    assert got.image.to_input_type().dtype == pixels.dtype
    assert np.array_equal(got.image.to_input_type(), pixels)


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_file_is_written_bit_for_bit(name):
    data, pixels = LOSSLESS[name]
    first = decode(data)
    again = decode(encode(first, first.format))
    assert again.format == first.format and not again.lossy
    assert again.image.to_input_type().dtype == pixels.dtype
    assert np.array_equal(again.image.to_input_type(), pixels)


@pytest.mark.parametrize("name", [name for name in LOSSLESS if name.startswith("tiff")])
def test_other_programs_read_our_tiff(name):
    data, pixels = LOSSLESS[name]
    written = encode(decode(data), "TIFF")
    with tifffile.TiffFile(io.BytesIO(written)) as file:
        assert len(file.pages) == 1
        page = file.pages[0]
        assert np.array_equal(page.asarray(), pixels)
        assert page.photometric.name == ("RGB" if pixels.ndim == 3 and pixels.shape[2] > 2 else "MINISBLACK")
        assert [e.name for e in page.extrasamples] == (
            ["UNASSALPHA"] if pixels.ndim == 3 and pixels.shape[2] in (2, 4) else []
        )
    if pixels.dtype == np.uint8:
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(written))), pixels)


@pytest.mark.parametrize("name", [name for name in LOSSLESS if name.startswith("png 16")])
def test_opencv_reads_our_16_bit_png(name):
    data, pixels = LOSSLESS[name]
    seen = cv2.imdecode(np.frombuffer(encode(decode(data), "PNG"), np.uint8), cv2.IMREAD_UNCHANGED)
    pixels = (
        pixels
        if pixels.ndim == 2
        else pixels[..., [0, 0, 0, 1] if pixels.shape[2] == 2 else [2, 1, 0, 3][: pixels.shape[2]]]
    )
    assert seen.dtype == np.uint16 and np.array_equal(seen, pixels)


def test_16_bit_gray_with_alpha_becomes_rgba_in_a_tiff_since_hardly_anything_reads_it_otherwise():
    again = decode(encode(photo(DEEP[2]), "TIFF")).image.to_input_type()
    assert np.array_equal(again, DEEP[2][..., [0, 0, 0, 1]])


@pytest.mark.parametrize("bits, key", [(1, 1), (1, 0), (2, 2), (4, 9), (8, 200)])
def test_a_transparent_shade_of_a_gray_png_becomes_alpha(bits, key):
    values = (np.arange(64).reshape(8, 8) % 2**bits).astype(np.uint8)
    values[0, 0] = key
    data = made.png(values, (b"tRNS", struct.pack(">H", key)), bits=None if bits == 8 else bits)
    got = decode(data).image.to_input_type()
    assert np.array_equal(got[..., 0], values * (255 // (2**bits - 1)))
    assert np.array_equal(got[..., 1] == 0, values == key) and set(got[..., 1].flat) <= {0, 255}


def test_a_transparent_shade_of_a_16_bit_gray_png_becomes_alpha():
    key = int(GRAY16[4, 5])
    got = decode(made.png(GRAY16, (b"tRNS", struct.pack(">H", key)))).image.to_input_type()
    assert got.dtype == np.uint16 and np.array_equal(got[..., 0], GRAY16)
    assert np.array_equal(got[..., 1] == 0, key == GRAY16) and set(got[..., 1].flat) == {0, 65535}


@pytest.mark.parametrize("pixels", [FLAT[3], DEEP[3]], ids=("8 bits", "16 bits"))
def test_a_transparent_color_of_a_png_becomes_alpha(pixels):
    got = decode(made.png(pixels, (b"tRNS", pixels[4, 5].astype(">u2").tobytes()))).image.to_input_type()
    assert got.dtype == pixels.dtype and np.array_equal(got[..., :3], pixels)
    assert np.argwhere(got[..., 3] == 0).tolist() == [[4, 5]]


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_a_channel_of_a_tiff_that_is_not_alpha_makes_nothing_transparent_and_is_named(dtype):
    """Photoshop stores a selection so."""
    pixels = made.noise((13, 17, 4), dtype)
    got = decode(made.tiff(pixels, photometric="rgb", extrasamples=["unspecified"]))
    assert np.array_equal(got.image.to_input_type(), pixels[..., :3])
    assert got.metadata.dropped == ("1 further channel (TIFF ExtraSamples)",)
    assert decode(encode(got, "TIFF")).metadata.dropped == ()


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_colors_that_were_multiplied_by_alpha_are_divided_again(dtype):
    white = np.iinfo(dtype).max
    straight = made.noise((13, 17, 4), dtype) // 2 * 2
    straight[..., 3] = np.maximum(straight[..., 3], white // 2)
    straight[0, 0, 3] = 0
    multiplied = straight.copy()
    multiplied[..., :3] = np.rint(straight[..., :3].astype(np.float64) * straight[..., 3:] / white)
    got = decode(made.tiff(multiplied, photometric="rgb", extrasamples=["assocalpha"])).image.to_input_type().astype(int)
    assert np.array_equal(got[..., 3], straight[..., 3])
    seen = got[..., 3] > 0
    assert np.abs(got[seen] - straight[seen]).max() <= 2


@pytest.mark.parametrize("format_name", ("JPEG", "TIFF"))
def test_cmyk_becomes_rgb(format_name):
    rgb = made.blocks()
    data = made.encode_image(
        Image.fromarray(rgb).convert("CMYK"), format_name, **({"quality": 98} if format_name == "JPEG" else {})
    )
    got = decode(data).image.to_input_type()
    assert got.shape == rgb.shape and np.abs(got.astype(int) - rgb).max() <= 4


@pytest.mark.parametrize("read", [decode, lambda data: load_encoded(Image.open(io.BytesIO(data)))], ids=["file", "pil"])
@pytest.mark.parametrize("format_name", ("JPEG", "TIFF"))
def test_cmyk_goes_through_its_profile_which_is_then_left_out(format_name, read):
    cyan = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    first = read(made.encode_image(cyan, format_name, icc_profile=made.cmyk_profile()))
    red, green, blue = first.image.pixels[8, 8]
    assert red > 230 and green < 30 and blue < 30
    for target in OUTPUT_FORMATS:
        written = encode(first, target)
        assert made.cmyk_profile()[:20] not in written
        assert Image.open(io.BytesIO(written)).info.get("icc_profile") is None


def test_a_jpeg_is_read_as_pillow_shows_it():
    data = made.encode_image(made.noise((40, 50, 3)), "JPEG")
    got = decode(data)
    assert (got.format, got.lossy) == ("JPEG", True)
    assert np.array_equal(got.image.to_input_type(), np.asarray(Image.open(io.BytesIO(data))))


def test_webp_says_whether_it_loses():
    assert decode(made.encode_image(FLAT[3], "WEBP", quality=80)).lossy
    assert decode(made.encode_image(FLAT[4], "WEBP", quality=80)).lossy
    assert not decode(made.encode_image(FLAT[4], "WEBP", lossless=True)).lossy


@pytest.mark.parametrize("channels", (1, 3))
@pytest.mark.parametrize("source", ("PNG", "JPEG"))
def test_jpeg_is_written_at_quality_95_or_more_without_subsampling(source, channels):
    pixels = made.noise((40, 50, channels))
    image = Image.open(io.BytesIO(encode(photo(pixels, source, source == "JPEG"), "JPEG")))
    limit = Image.open(io.BytesIO(made.encode_image(pixels.squeeze(), "JPEG", quality=95)))
    assert image.mode == {1: "L", 3: "RGB"}[channels]
    assert JpegImagePlugin.get_sampling(image) == (0 if channels == 3 else -1)
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * channels
    assert len(image.quantization) == (2 if channels == 3 else 1)
    for number, table in image.quantization.items():
        assert all(a <= b for a, b in zip(table, limit.quantization[number]))


def test_a_lossy_webp_stays_lossy_and_any_other_image_becomes_a_lossless_one():
    pixels = made.noise((20, 30, 4))
    assert decode(encode(photo(pixels, "WEBP", lossy=True), "WEBP")).lossy
    for source in ("PNG", "JPEG"):
        again = decode(encode(photo(pixels, source, source == "JPEG"), "WEBP"))
        assert not again.lossy
        assert np.array_equal(again.image.to_input_type(), pixels), "colors below alpha 0 too"


@pytest.mark.parametrize("format_name", ("PNG", "JPEG", "TIFF", "BMP"))
def test_gray_stays_gray_in_the_file(format_name):
    assert decode(encode(photo(made.noise((16, 16))), format_name)).image.to_input_type().shape == (16, 16)


@pytest.mark.parametrize("format_name", ("JPEG", "WEBP", "BMP"))
def test_16_bits_are_rounded_where_the_format_has_eight(format_name):
    gray = np.array([0, 128, 129, 257 * 100 + 128, 257 * 100 + 129, 65535], np.uint16)
    pixels = np.broadcast_to(gray[:, None, None, None, None], (6, 8, 8, 1, 3)).reshape(48, 8, 3)
    got = decode(encode(photo(pixels), format_name)).image.to_input_type()
    assert got.dtype == np.uint8
    assert got[4::8, 4, 0].tolist() == [0, 0, 1, 100, 101, 255]


@pytest.mark.parametrize("format_name", OUTPUT_FORMATS)
def test_float_pixels_are_rounded_to_eight_bits(format_name):
    gray = np.array([-0.1, 0.499 / 255, 100.6 / 255, 1.0, 1.2])
    pixels = np.broadcast_to(gray[:, None, None, None, None], (5, 8, 8, 1, 3)).reshape(40, 8, 3)
    got = decode(encode(photo(pixels), format_name)).image.to_input_type()
    assert got.dtype == np.uint8 and got[4::8, 4, 1].tolist() == [0, 0, 101, 255, 255]


def test_float_alpha_does_not_wrap_around():
    pixels = np.full((4, 4, 4), 1.002, np.float32)
    assert decode(encode(photo(pixels), "PNG")).image.to_input_type().min() == 255


@pytest.mark.parametrize("format_name", ("JPEG", "BMP"))
def test_alpha_is_not_thrown_away_in_secret(format_name):
    with pytest.raises(OutputError, match=r"alpha.*png"):
        encode(photo(FLAT[4]), format_name)


@pytest.mark.parametrize("format_name, side", [("WEBP", 16384), ("JPEG", 65501)])
@pytest.mark.parametrize("upright", (True, False))
def test_an_image_too_long_for_the_format_is_refused_with_a_way_out(format_name, side, upright):
    pixels = np.zeros((side, 1) if upright else (1, side), np.uint8)
    with pytest.raises(OutputError, match=rf"{side - 1} pixels per side.*\.png"):
        encode(photo(pixels), format_name)
    fitting = pixels[:-1] if upright else pixels[:, :-1]
    assert decode(encode(photo(fitting), format_name)).image.to_input_type().shape[:2] == fitting.shape


@pytest.mark.parametrize(
    "name, format_name",
    [
        ("a.png", "PNG"),
        ("a.JPG", "JPEG"),
        ("a.jpeg", "JPEG"),
        ("a.b.webp", "WEBP"),
        ("a.TIF", "TIFF"),
        ("a.tiff", "TIFF"),
        ("a.bmp", "BMP"),
        ("a", "TIFF"),
        ("a.png.txt", "TIFF"),
    ],
)
def test_the_suffix_names_the_format_whatever_its_case(tmp_path, name, format_name):
    assert formats.output_format(tmp_path / name, "TIFF") == format_name


# --- whole or not at all ---


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_written_whole(tmp_path):
    target = tmp_path / "new folder" / "ünïcödé 中 name .png"
    write_bytes(target, b"abc")
    assert target.read_bytes() == b"abc" and names(target.parent) == [target.name]


def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path):
    target = tmp_path / ("x" * 251 + ".png")
    write_bytes(target, b"abc")
    assert names(tmp_path) == [target.name]


def test_a_name_that_is_too_long_is_an_output_error(tmp_path):
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / ("x" * 300), b"abc")
    assert names(tmp_path) == []


@pytest.mark.parametrize("exists", (True, False))
@pytest.mark.parametrize("error", (ZeroDivisionError, KeyboardInterrupt, OSError(28, "No space left on device")))
def test_after_a_failure_the_file_is_as_it_was_and_nothing_else_is_left(tmp_path, error, exists):
    target = tmp_path / "a.png"
    if exists:
        target.write_bytes(b"before")
    expected = OutputError if isinstance(error, OSError) else error
    with pytest.raises(expected) as raised, atomic_write(target) as part:
        part.write_bytes(b"half of it")
        raise error
    assert ("It was not changed" in str(raised.value)) == (exists and isinstance(error, OSError))
    assert names(tmp_path) == (["a.png"] if exists else [])
    assert not exists or target.read_bytes() == b"before"


def test_a_full_disk_is_told_as_such(tmp_path):
    with pytest.raises(OutputError, match="No space left"), atomic_write(tmp_path / "a.png"):
        raise OSError(28, "No space left on device")


def test_until_the_end_the_old_file_is_there(tmp_path):
    target = tmp_path / "a.png"
    target.write_bytes(b"before")
    with atomic_write(target) as part:
        part.write_bytes(b"after")
        assert target.read_bytes() == b"before"
        assert part.parent == tmp_path, "a rename across file systems would not be whole"
    assert target.read_bytes() == b"after"


def test_a_folder_is_not_replaced(tmp_path):
    target = tmp_path / "a.png"
    target.mkdir()
    with pytest.raises(OutputError, match="folder"):
        write_bytes(target, b"abc")
    assert target.is_dir() and names(tmp_path) == ["a.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_or_a_device_is_not_replaced(tmp_path):
    target = tmp_path / "pipe"
    os.mkfifo(target)
    with pytest.raises(OutputError, match="device"):
        write_bytes(target, b"abc")
    assert stat.S_ISFIFO(target.stat().st_mode) and names(tmp_path) == ["pipe"]


@pytest.mark.parametrize("step", ("os.open", "os.replace"))
def test_a_refusal_of_the_file_system_is_an_output_error_at_every_step(tmp_path, monkeypatch, step):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "a.png").write_bytes(b"before")
    monkeypatch.setattr(step, refuse)
    with pytest.raises(OutputError, match=r"a\.png cannot be written: Permission denied"):
        write_bytes(tmp_path / "a.png", b"abc")
    assert names(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"before"


def test_the_umask_is_never_switched(tmp_path, monkeypatch):
    """It is the whole process's: a thread that makes a file meanwhile would make it for everybody."""
    monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the umask was set"))
    write_bytes(tmp_path / "a.png", b"abc")
    assert (tmp_path / "a.png").read_bytes() == b"abc"


def test_a_file_where_a_folder_should_be_is_an_output_error(tmp_path):
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bytes(tmp_path / "a" / "b.png", b"abc")
    assert (tmp_path / "a").read_bytes() == b"before"


@pytest.mark.skipif(os.name != "posix", reason="permissions as Unix has them")
def test_a_folder_that_may_not_be_written_to_is_an_output_error(tmp_path):
    tmp_path.chmod(0o555)
    try:
        if os.access(tmp_path, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(OutputError, match="cannot be written"):
            write_bytes(tmp_path / "a.png", b"abc")
    finally:
        tmp_path.chmod(0o755)


@pytest.mark.skipif(os.name != "posix", reason="permissions as Unix has them")
@pytest.mark.parametrize("mode", (0o600, 0o640, 0o444, 0o755))
def test_a_replaced_file_keeps_its_permissions(tmp_path, mode):
    target = tmp_path / "a.png"
    target.write_bytes(b"before")
    target.chmod(mode)
    write_bytes(target, b"after")
    assert target.read_bytes() == b"after" and stat.S_IMODE(target.stat().st_mode) == mode


@pytest.mark.skipif(os.name != "posix", reason="permissions as Unix has them")
@pytest.mark.parametrize("umask", (0o022, 0o077, 0o002))
def test_a_new_file_gets_the_permissions_that_new_files_get(tmp_path, umask):
    before = os.umask(umask)
    try:
        write_bytes(tmp_path / "a.png", b"abc")
        assert os.umask(umask) == umask, "the umask was changed"
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a.png").stat().st_mode) == 0o666 & ~umask


@pytest.mark.skipif(os.name != "posix", reason="links need no right of their own there")
@pytest.mark.parametrize("exists", (True, False))
def test_a_link_keeps_pointing_where_it_did(tmp_path, exists):
    (tmp_path / "elsewhere").mkdir()
    real, link = tmp_path / "elsewhere" / "real.png", tmp_path / "link.png"
    link.symlink_to(real)
    if exists:
        real.write_bytes(b"before")
    write_bytes(link, b"after")
    assert link.is_symlink() and real.read_bytes() == b"after" and not real.is_symlink()
    assert names(tmp_path) == ["elsewhere", "link.png"] and names(real.parent) == ["real.png"]


def test_an_image_with_a_strange_name_goes_from_file_to_file(tmp_path):
    path = tmp_path / "ein Bild, größer 写真.png"
    path.write_bytes(made.png(FLAT[3]))
    write_bytes(path, encode(codecs.read(path), "PNG"))
    assert np.array_equal(codecs.read(path).image.to_input_type(), FLAT[3])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "zero.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "zero.png"):
        with pytest.raises(InputError, match="not a regular file"):
            codecs.read(tmp_path / name)


def test_a_file_larger_than_an_image_can_be_is_not_read(tmp_path):
    with open(tmp_path / "sparse.png", "wb") as out:
        out.truncate(30 << 30)
    with pytest.raises(InputError, match=r"32,212,254,720 bytes, and the limit is 2,147,483,648"):
        codecs.read(tmp_path / "sparse.png")


def test_a_directory_of_many_tags_is_written_as_it_is_read():
    entries = {tag: TiffField(7, 7 + tag % 3, bytes([tag % 256]) * (7 + tag % 3)) for tag in range(2000, 22_000)}
    entries[34665] = TiffField(4, 1, {1: TiffField(2, 6, b"inside")})
    data = struct.pack("<2sHL", b"II", 42, 8) + write_directory(entries, "<", 8)
    assert read_directory(data, parse_tiff_header(data), 8) == entries


def test_a_bigtiff_of_more_entries_than_can_be_is_refused():
    data = struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + struct.pack("<Q", 1 << 40) + bytes(1000)
    with pytest.raises(InputError, match="1,099,511,627,776 entries"):
        decode(data)


@pytest.mark.skipif(not hasattr(os, "listxattr"), reason="there are no extended attributes here")
def test_what_is_replaced_keeps_mode_owner_and_attributes_and_other_names_are_told_of(tmp_path, caplog):
    path = tmp_path / "picture.png"
    path.write_bytes(b"before")
    path.chmod(0o640)
    try:
        os.setxattr(path, "user.note", b"kept")
    except OSError:
        pytest.skip("this file system has no extended attributes")
    if os.getuid() == 0:
        os.chown(path, 1234, 4321)
    owner = path.stat().st_uid, path.stat().st_gid
    os.link(path, tmp_path / "other name.png")
    write_bytes(path, b"after")
    assert path.read_bytes() == b"after" and (tmp_path / "other name.png").read_bytes() == b"before"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and os.getxattr(path, "user.note") == b"kept"
    assert (path.stat().st_uid, path.stat().st_gid) == owner
    assert "has 2 hard links" in caplog.text


# --- the public way ---


def test_a_photo_from_bytes_and_back():
    data = made.encode_image(FLAT[3], "PNG")
    photo = EncodedImage.from_bytes(data, max_pixels=FLAT[3].shape[0] * FLAT[3].shape[1])
    assert (EncodedImage.from_bytes(photo.to_bytes("TIFF")).image.pixels == FLAT[3]).all() and photo.dropped_note == ()


def test_more_pixels_than_allowed_are_told_by_the_header():
    with pytest.raises(ImageTooLarge, match="too many"):
        EncodedImage.from_bytes(made.encode_image(FLAT[3], "PNG")[:-30], max_pixels=FLAT[3].shape[0] * FLAT[3].shape[1] - 1)
