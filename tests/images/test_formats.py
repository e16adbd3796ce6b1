"""Formats that are read and not written: pixels, orientation, bits, colors and metadata, and what is said of others."""

import io
import struct

import image_files as made
import numpy as np
import pytest
from PIL import Image, features

from gpen_core.batch.input_kinds import IMAGES
from gpen_core.errors import ImageTooLarge, InputError
from gpen_core.images import bmff, codecs, formats
from gpen_core.images.codecs import EncodedImage, decode, encode

BLOCKS = made.blocks(48, 64)
needs_avif = pytest.mark.skipif(formats.missing_reader("AVIF") is not None, reason="this Pillow has no AVIF")
needs_heif = pytest.mark.skipif(formats.missing_reader("HEIF") is not None, reason="pillow-heif is not installed")
BOTH = [pytest.param("AVIF", marks=needs_avif), pytest.param("HEIF", marks=needs_heif)]


def file_of(format_name, array=BLOCKS, **kwargs):
    image = array if isinstance(array, Image.Image) else Image.fromarray(array)
    if format_name == "HEIF":
        return made.heif(image, **kwargs)
    best = {"quality": 100, "subsampling": "4:4:4"} if format_name == "AVIF" else {}
    return made.encode_image(image, format_name, **best, **kwargs)


def refused(data):
    with pytest.raises(InputError) as error:
        decode(data)
    return str(error.value)


def apart(one, other):
    """The mean difference, after which nothing is mirrored or of another color."""
    assert one.shape == other.shape
    return np.abs(one.astype(float) - other).mean()


@pytest.mark.parametrize("format_name", [*BOTH, "JPEG2000", "GIF"])
def test_an_image_is_read_and_becomes_a_png(format_name):
    array = BLOCKS[:16, :24] if format_name == "GIF" else BLOCKS  # of fewer colors than a palette has
    got = decode(file_of(format_name, array))
    assert got.format == format_name and apart(got.image.pixels, array) < (2 if format_name in ("AVIF", "HEIF") else 1e-9)
    assert np.array_equal(
        decode(encode(got, formats.output_format(formats.PurePath("a"), got.format))).image.pixels, got.image.pixels
    )


@pytest.mark.parametrize("format_name", [*BOTH, "JPEG2000", "GIF"])
def test_transparency_is_read(format_name):
    alpha = np.zeros(BLOCKS.shape[:2], np.uint8)
    alpha[:16] = 255
    if format_name == "GIF":
        palette = Image.fromarray((alpha == 255).astype(np.uint8))
        palette.putpalette([10, 20, 30, 200, 100, 50])
        data = made.encode_image(palette, "GIF", transparency=0)
    else:
        data = file_of(format_name, np.dstack((BLOCKS, alpha)))
    got = decode(data).image.alpha
    assert got is not None and apart(got, alpha) < 2


@pytest.mark.parametrize("orientation", made.ORIENTED)
@pytest.mark.parametrize("format_name", BOTH)
def test_the_orientation_is_applied_once(format_name, orientation):
    """Writers put it into the file's properties, and some leave EXIF as it was."""
    exif = made.exif_block(">", orientation)
    got = decode(file_of(format_name, exif=exif))
    assert apart(got.image.pixels, made.ORIENTED[orientation](BLOCKS)) < 2
    again = decode(encode(got, "JPEG"))
    assert apart(again.image.pixels, got.image.pixels) < 2 and again.metadata.exif is not None


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("format_name", BOTH)
def test_exif_tells_the_size_of_the_upright_pixels(format_name, orientation):
    height, width = BLOCKS.shape[:2]
    got = decode(file_of(format_name, exif=made.exif_of_size(width, height, orientation)))
    inside = Image.open(io.BytesIO(encode(got, "JPEG"))).getexif().get_ifd(made.EXIF)
    assert (inside[0xA002], inside[0xA003]) == got.image.size == ((width, height) if orientation == 1 else (height, width))


@pytest.mark.parametrize("format_name", BOTH)
def test_an_orientation_in_xmp_alone_does_not_count(format_name):
    data = file_of(format_name, xmp=(made.XMP_WITH_ORIENTATION % 6).replace(b"tiff:Orientation", b"tiff:Xrientation"))
    got = decode(data.replace(b"tiff:Xrientation", b"tiff:Orientation"))  # else an encoder may take notice of it
    assert apart(got.image.pixels, BLOCKS) < 2
    assert got.metadata.xmp is not None and b"Orientation" not in got.metadata.xmp and b"title" in got.metadata.xmp


@pytest.mark.parametrize("format_name", BOTH)
def test_profile_and_exif_arrive(format_name):
    profile = made.rgb_profile()
    got = decode(file_of(format_name, icc_profile=profile, exif=made.exif_block("<")))
    assert got.metadata.icc == profile and "café".encode() in (got.metadata.exif or b"")


def jp2_box(kind, payload):
    return struct.pack(">L", 8 + len(payload)) + kind + payload


def test_profile_and_xmp_of_a_jpeg_2000_arrive():
    data = file_of("JPEG2000")
    profile, xmp = made.rgb_profile(), made.XMP_WITH_ORIENTATION % 1
    at = data.index(b"jp2h") - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    color = jp2_box(b"colr", b"\2\0\0" + profile)
    old = data.index(b"colr", at) - 4
    header = data[at + 8 : old] + color + data[old + int.from_bytes(data[old : old + 4], "big") : end]
    packet = jp2_box(b"uuid", bytes.fromhex("be7acfcb97a942e89c71999491e3afac") + xmp)
    got = decode(data[:at] + jp2_box(b"jp2h", header) + packet + data[end:])
    assert got.metadata.icc == profile and b"title" in (got.metadata.xmp or b"")
    assert np.array_equal(got.image.pixels, BLOCKS)


def test_a_comment_in_a_gif_arrives_and_the_name_of_a_jpeg_2000_encoder_does_not():
    gif = decode(file_of("GIF", BLOCKS[:16, :24], comment=b"of 1999"))
    assert gif.metadata.comment == b"of 1999" == decode(encode(gif, "JPEG")).metadata.comment
    assert decode(file_of("JPEG2000", comment="an encoder")).metadata.comment is None


@needs_heif
def test_ten_bits_of_a_heic_are_kept():
    deep = np.linspace(0, 65535, 64 * 48).reshape(48, 64).astype(np.uint16)
    data = made.deep_heif(np.dstack((deep, deep, deep)))
    got = decode(data).image
    assert got.pixels.dtype == np.uint16 and apart(got.pixels, np.dstack((deep, deep, deep))) < 130
    assert len(np.unique(got.pixels[..., 1])) > 300


@needs_heif
@pytest.mark.parametrize("value", [0, 65535])
def test_black_and_white_of_a_heic_of_ten_bits_are_those_of_16(value):
    data = made.deep_heif(np.full((48, 64, 3), value, np.uint16))
    assert (decode(data).image.pixels == value).all()


@needs_avif
def test_where_more_bits_of_an_avif_are_not_read_that_is_said(monkeypatch, caplog):
    data = bytearray(file_of("AVIF"))
    decode(bytes(data))
    assert not caplog.text
    at = data.index(b"av1C") + 4
    for flags, bits in ((0, 8), (0x40, 10), (0x60, 12)):
        data[at + 2] = (data[at + 2] & 0x9F) | flags
        assert bmff.av1_bit_depth(bytes(data)) == bits
    monkeypatch.setattr(bmff, "av1_bit_depth", lambda data: 10)  # a decoder notices that what is coded has 8
    decode(file_of("AVIF"))
    assert "10 bits per channel, of which 8 are read" in caplog.text


def test_a_jpeg_2000_of_more_bits_is_gray_of_16_or_refused():
    gray = made.noise((16, 24), np.uint16)
    data = made.encode_image(Image.fromarray(gray), "JPEG2000")
    assert np.array_equal(decode(data).image.pixels[..., 0], gray)
    color = bytearray(file_of("JPEG2000"))
    size = color.index(b"\xff\x4f\xff\x51") + 4
    color[size + 38 : size + 47] = bytes((11, 1, 1)) * 3
    assert "colors of 12 bits" in refused(bytes(color))


@pytest.mark.parametrize("transfer, chunks", [(13, []), (16, [(b"cICP", bytes((9, 16, 0, 1)))])])
@pytest.mark.parametrize("format_name", BOTH)
def test_colors_that_no_profile_tells_go_into_a_png(format_name, transfer, chunks):
    """HDR would else be shown as if it were sRGB."""
    data = bytearray(file_of(format_name))
    at = data.find(b"colrnclx")
    if at < 0:
        pytest.skip("this encoder says nothing of colors")
    data[at + 8 : at + 12] = struct.pack(">HH", 1 if transfer == 13 else 9, transfer)
    written = encode(decode(bytes(data)), "PNG")
    assert [one for one in made.png_chunks(written) if one[0] == b"cICP"] == chunks


@pytest.mark.parametrize(
    "format_name, said",
    [
        ("GIF", "GIF is animated. To restore all frames, run `gpen video"),
        pytest.param("AVIF", "AVIF is animated. To restore all frames, run `gpen video", marks=needs_avif),
        ("WEBP", "WebP is animated. To restore all frames, run `gpen video"),
        ("PNG", "PNG is animated. To restore all frames, run `gpen video"),
    ],
)
def test_an_animation_is_refused_with_a_way_to_restore_it(format_name, said):
    frames = [Image.fromarray(made.noise((16, 16, 3), seed=n)) for n in range(3)]
    assert said in refused(made.encode_image(frames[0], format_name, save_all=True, append_images=frames[1:]))


@needs_heif
def test_of_a_heic_with_further_images_the_first_is_read_and_the_others_are_named():
    got = decode(made.heif(Image.fromarray(BLOCKS), save_all=True, append_images=[Image.new("RGB", (64, 48))]))
    assert apart(got.image.pixels, BLOCKS) < 2 and got.metadata.dropped == ("1 further image",)


@needs_heif
def test_a_sequence_of_heic_images_is_a_video():
    data = file_of("HEIF")
    assert "HEIC is animated. To restore all frames, save it as GIF or MP4" in refused(data[:8] + b"msf1" + data[12:])


@needs_heif
def test_what_a_phone_puts_behind_a_heic_is_named():
    video = jp2_box(b"mpvd", b"a video")
    assert decode(file_of("HEIF") + video).metadata.dropped == ("the video of a motion photo",)


def without(monkeypatch, format_name):
    formats.missing_reader.cache_clear()
    if format_name == "HEIF":
        monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None if name == "pillow_heif" else object())
    else:
        monkeypatch.setattr(features, "check", lambda name: None)


@pytest.fixture
def fresh():
    """What is read here is looked for anew, before and after."""
    yield
    formats.missing_reader.cache_clear()


@pytest.mark.parametrize(
    "format_name, brand, said",
    [("HEIF", b"heic", r"install .*pillow-heif"), ("AVIF", b"avif", r"Pillow 11\.3 or newer; this is Pillow \d")],
)
def test_what_is_missing_is_said(monkeypatch, fresh, format_name, brand, said):
    without(monkeypatch, format_name)
    data = struct.pack(">L4s4sL4s4s", 24, b"ftyp", b"mif1", 0, b"mif1", brand) + bytes(200)
    kind = formats.label(format_name)
    with pytest.raises(InputError, match=rf"{kind} files cannot be read here\. To read them: .*{said}"):
        decode(data)
    assert not any(formats.INPUT_SUFFIXES[one] == format_name for one in IMAGES.readable_suffixes)


def test_an_old_pillow_keeps_its_version(monkeypatch, fresh):
    without(monkeypatch, "HEIF")
    monkeypatch.setattr(formats.PIL, "__version__", "9.5.0")
    assert "pillow-heif<0.17" in (formats.missing_reader("HEIF") or "")


@pytest.mark.parametrize(
    "start, kind",
    [
        (b"\xff\x0a", "JPEG XL"),
        (b"%PDF-1.7", "PDF"),
        (b"8BPS\0\1", "Photoshop"),
        (b"\0\0\0\x18ftypisom" + bytes(12), "MP4 or MOV"),
    ],
)
def test_a_file_of_a_known_other_kind_is_named(start, kind):
    assert f"the file is {kind}, which is not supported" in refused(start + bytes(99))


@pytest.mark.parametrize("format_name", [*BOTH, "JPEG2000", "GIF"])
def test_the_limit_of_pixels_holds_in_every_format(format_name):
    data, pixels = file_of(format_name), BLOCKS.shape[0] * BLOCKS.shape[1]
    assert EncodedImage.from_bytes(data, max_pixels=pixels).format == format_name
    with pytest.raises(ImageTooLarge, match="pixels are too many: the limit is"):
        EncodedImage.from_bytes(data, max_pixels=pixels - 1)


def test_what_is_only_read_is_not_registered_with_pillow(monkeypatch):
    """Which is the host's, too."""
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)  # a library may have registered it for itself
    if formats.missing_reader("HEIF") is None:
        decode(file_of("HEIF"))
    assert "HEIF" not in Image.OPEN


def test_a_jpeg_2000_of_many_tiles_is_refused():
    data = bytearray(file_of("JPEG2000"))
    at = data.index(b"\xff\x4f\xff\x51") + 4
    struct.pack_into(">LLLLLL", data, at + 4, 4000, 4000, 0, 0, 1, 1)
    assert "16,000,000 tiles" in refused(bytes(data))


@pytest.mark.parametrize("name, format_name", [("a.heic", "PNG"), ("a.gif", "PNG"), ("a", "PNG"), ("a.jpg", "JPEG")])
def test_a_format_that_is_not_written_becomes_png_unless_the_name_says_otherwise(tmp_path, name, format_name):
    assert formats.output_format(tmp_path / name, "HEIF") == format_name


@pytest.mark.parametrize("array, expected", [(made.noise((8, 8, 4)), True), (made.noise((8, 8, 3)), False)])
def test_the_header_says_whether_there_is_alpha(tmp_path, array, expected):
    for format_name in ("PNG", "WEBP", "TIFF", "JPEG2000"):
        (tmp_path / "a").write_bytes(made.encode_image(array, format_name))
        assert codecs.has_alpha(tmp_path / "a") is expected
    palette = made.palette(made.noise((16, 3)), made.noise((8, 8)) % 16, transparency=3)
    (tmp_path / "a").write_bytes(palette)
    assert codecs.has_alpha(tmp_path / "a")


@pytest.mark.parametrize("format_name", ("JPEG", "WEBP"))
def test_quality_makes_smaller_files(format_name):
    photo = decode(made.encode_image(made.noise((64, 64, 3)), "PNG"))
    sizes = [len(encode(photo, format_name, quality)) for quality in (20, 60, 95, None)]
    assert sizes[0] < sizes[1] < sizes[2] <= sizes[3]


def test_a_file_as_an_open_stream_is_read_from_its_beginning():
    file = io.BytesIO(file_of("GIF"))
    with formats.open_header(file) as image:
        assert image.size == (64, 48)
