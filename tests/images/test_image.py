"""Arrays and PIL images: in, out, and in between."""

import io

import image_files as made
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps

from gpen_core.errors import InputError
from gpen_core.images.image import ImageData, Region, to_image_data, to_luminance

DTYPES = (np.uint8, np.uint16, np.float16, np.float32, np.float64)
SHAPES = ((5, 7), (5, 7, 1), (5, 7, 2), (5, 7, 3), (5, 7, 4))
WHITE = {np.uint8: 255, np.uint16: 65535, np.float16: 1, np.float32: 1, np.float64: 1}
LUMA = np.array([0.299, 0.587, 0.114])


def whole(picture):
    return Region(0, 0, picture.width, picture.height)


def everywhere(picture):
    return np.ones((picture.height, picture.width), bool)


def read_only(array):
    array.flags.writeable = False
    return array


LAYOUTS = {
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "little-endian": lambda a: a.astype(a.dtype.newbyteorder("<")),
    "every other pixel": lambda a: a.repeat(2, 0).repeat(2, 1)[::2, ::2],
    "mirrored": lambda a: np.ascontiguousarray(a[::-1, ::-1])[::-1, ::-1],
    "columns first": lambda a: np.asfortranarray(a),
    "read-only": read_only,
    "a subclass": lambda a: np.ma.array(a),
}

# --- arrays ---


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_comes_back_bit_for_bit(dtype, shape):
    array = made.noise(shape, dtype)
    back = to_image_data(array.copy()).to_input_type()
    assert back.dtype == array.dtype and back.shape == array.shape
    assert back.tobytes() == array.tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_may_lie_in_memory_in_any_way(dtype, layout):
    array = made.noise((6, 8, 4), dtype)
    laid_out = LAYOUTS[layout](array.copy())
    picture = to_image_data(laid_out)
    plain = to_image_data(array)
    assert np.array_equal(picture.to_input_type(), array)
    assert picture.to_input_type().dtype.newbyteorder("=") == array.dtype
    assert np.array_equal(picture.crop_rgb(Region(1, 2, 5, 4)), plain.crop_rgb(Region(1, 2, 5, 4)))
    assert np.array_equal(picture.to_bgr255(4), plain.to_bgr255(4))
    assert np.array_equal(laid_out, array), "the input was written to"


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_writing_never_reaches_the_input(dtype, shape):
    array = made.noise(shape, dtype)
    before = array.copy()
    picture = to_image_data(array).writable()
    picture.paste(whole(picture), np.ones((5, 7, 3), np.float32), everywhere(picture))
    assert np.array_equal(array, before)
    assert np.all(picture.pixels == WHITE[dtype])


def test_a_read_only_array_becomes_a_writable_image():
    picture = to_image_data(read_only(np.zeros((4, 4, 3), np.uint8))).writable()
    picture.paste(Region(1, 1, 2, 2), np.ones((1, 1, 3), np.float32), np.ones((1, 1), bool))
    assert picture.to_input_type().sum() == 3 * 255


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
@pytest.mark.parametrize("fraction, expected", [(100.4, 100), (100.6, 101), (-3, 0), (0.49, 0)])
def test_put_rounds_and_stays_in_range(dtype, fraction, expected):
    picture = to_image_data(np.full((1, 1, 3), 7, dtype)).writable()
    picture.paste(whole(picture), np.full((1, 1, 3), fraction / WHITE[dtype], np.float32), everywhere(picture))
    assert picture.to_input_type().ravel().tolist() == [expected] * 3


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_put_does_not_wrap_around_above_white(dtype):
    picture = to_image_data(np.zeros((1, 1, 3), dtype)).writable()
    picture.paste(whole(picture), np.full((1, 1, 3), 1.01, np.float32), everywhere(picture))
    assert picture.to_input_type().ravel().tolist() == [WHITE[dtype]] * 3


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_put_writes_where_the_mask_is_true_and_nowhere_else(dtype, shape):
    array = made.noise(shape, dtype) // 2 if np.dtype(dtype).kind == "u" else made.noise(shape, dtype) / 2
    picture, region = to_image_data(array).writable(), Region(2, 1, 6, 4)
    where = np.zeros((3, 4), bool)
    where[0, 3] = where[2, 1] = True
    picture.paste(region, np.ones((3, 4, 3), np.float32), where)
    colors = {1: 1, 2: 1, 3: 3, 4: 3}[array[0, 0].size]
    changed = np.zeros((5, 7), bool)
    changed[1, 5] = changed[3, 3] = True
    after = picture.to_input_type().reshape(5, 7, -1)
    assert np.all(after[changed][:, :colors] == WHITE[dtype])
    assert np.array_equal(after[~changed], array.reshape(5, 7, -1)[~changed])
    assert np.array_equal(after[..., colors:], array.reshape(5, 7, -1)[..., colors:]), "alpha was written to"


@pytest.mark.parametrize("dtype", (np.uint8, np.uint16))
def test_every_value_survives_the_way_through_float(dtype):
    values = np.arange(WHITE[dtype] + 1).astype(dtype).reshape(-1, 16)
    for array in (values, np.dstack((values, values[::-1], values[:, ::-1]))):
        picture = to_image_data(array).writable()
        rgb = picture.crop_rgb(whole(picture))
        picture.pixels[:] = 0
        picture.paste(whole(picture), rgb, everywhere(picture))
        assert np.array_equal(picture.to_input_type(), array)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_region_is_float32_rgb_in_0_to_1(dtype):
    array = made.noise((5, 7, 4), dtype)
    region = to_image_data(array).crop_rgb(Region(2, 1, 6, 4))
    expected = array[1:4, 2:6, :3].astype(np.float64) / WHITE[dtype]
    assert region.dtype == np.float32 and region.shape == (3, 4, 3)
    assert np.abs(region - expected).max() < 1e-7


@pytest.mark.parametrize("shape", [(5, 7), (5, 7, 1), (5, 7, 2)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES)
def test_gray_is_shown_as_rgb_and_stays_gray(dtype, shape):
    picture = to_image_data(made.noise(shape, dtype)).writable()
    region = picture.crop_rgb(whole(picture))
    assert np.array_equal(region, np.repeat(region[..., :1], 3, axis=2))
    color = np.array([0.9, 0.4, 0.1])
    picture.paste(whole(picture), np.broadcast_to(color, (5, 7, 3)).astype(np.float32), everywhere(picture))
    assert picture.to_input_type().shape == shape
    assert np.allclose(picture.pixels / WHITE[dtype], color @ LUMA, atol=2e-3)


def test_a_region_of_float_is_clipped_while_the_image_keeps_its_values():
    array = np.array([[[-0.25, 0.5, 1.25]]], np.float32)
    picture = to_image_data(array)
    assert picture.crop_rgb(whole(picture)).ravel().tolist() == [0, 0.5, 1]
    assert picture.to_input_type().tobytes() == array.tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
def test_transparent_pixels_have_no_luminance_whatever_color_they_hide(dtype):
    pixels = np.array([[[1, 1, 1, 1], [1, 1, 1, 0], [0, 0, 0, 1]]]) * WHITE[dtype]
    got = to_luminance(to_image_data(pixels.astype(dtype)))
    assert got.dtype == np.float32 and np.allclose(got, [[1, 0, 0]])


def test_as_image_hands_an_image_back():
    picture = to_image_data(np.zeros((2, 2, 3), np.uint8))
    assert to_image_data(picture) is picture


@pytest.mark.parametrize(
    "image, said",
    [
        (np.zeros((4, 4, 3), np.int32), "int32"),
        (np.zeros((4, 4, 3), np.int8), "int8"),
        (np.zeros((4, 4, 3), np.uint32), "uint32"),
        (np.zeros((4, 4), bool), "bool"),
        (np.zeros((4, 4), np.complex64), "complex64"),
        (np.zeros((4, 4), object), "object"),
        (np.full((4, 4, 3), np.nan, np.float32), "not finite"),
        (np.array([[0, np.inf]]), "not finite"),
        (np.array([[0, -np.inf]], np.float16), "not finite"),
        (np.array([[[0.0, 100.0, 255.0]]]), "0 to 255"),
        (np.full((4, 4, 3), 2.0, np.float32), "Divide by 255"),
        (np.full((4, 4, 3), -1.0, np.float32), "-1"),
        (np.zeros((0, 4, 3), np.uint8), "0, 4, 3"),
        (np.zeros((4, 0), np.float32), "4, 0"),
        (np.zeros((4, 4, 0), np.uint8), "4, 4, 0"),
        (np.zeros((4, 4, 5), np.uint8), "4, 4, 5"),
        (np.zeros((1, 4, 4, 3), np.uint8), "1, 4, 4, 3"),
        (np.zeros(4, np.uint8), "[4]"),
        (np.uint8(3), "uint8"),
        ([[1, 2], [3, 4]], "list"),
        (b"\x89PNG", "bytes"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image_is_refused_with_what_came(image, said):
    with pytest.raises(InputError) as error:
        to_image_data(image)
    assert said in str(error.value)


# --- what the detector sees ---


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", (1, 3, 4))
def test_the_detector_sees_bgr_from_0_to_255(dtype, channels):
    array = made.noise((5, 7, channels), dtype)
    seen = to_image_data(array).to_bgr255(100)
    rgb = array[..., :3] if channels > 1 else array.repeat(3, axis=2)
    assert seen.dtype == np.float32 and seen.flags.c_contiguous
    assert np.abs(seen - rgb[..., ::-1].astype(np.float64) * (255 / WHITE[dtype])).max() < 1e-3


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(60, 42, 3), (42, 60)], ids=str)
def test_a_large_image_is_reduced_by_area_for_the_detector(dtype, shape):
    array = made.noise(shape, dtype)
    seen = to_image_data(array).to_bgr255(20)
    means = array.reshape(shape[0] // 3, 3, shape[1] // 3, 3, -1).astype(np.float64).mean((1, 3)) * (255 / WHITE[dtype])
    means = np.broadcast_to(means[..., ::-1], seen.shape)  # RGB -> BGR; gray three times
    assert max(seen.shape[:2]) == 20 and min(seen.shape[:2]) == 14
    assert np.abs(seen - means).max() < 1  # whole numbers are rounded once


def test_a_very_thin_image_can_be_reduced():
    assert to_image_data(np.zeros((1, 5000), np.uint8)).to_bgr255(100).shape == (1, 100, 3)


def test_a_region_without_pixels_says_so():
    assert Region(3, 3, 3, 9).empty and Region(0, 5, 4, 2).empty and not Region(0, 0, 1, 1).empty


def test_joined_regions_hold_both_and_an_empty_one_counts_for_nothing():
    one, other, none = Region(3, 4, 6, 8), Region(1, 5, 4, 9), Region(0, 0, 0, 9)
    assert one.union(other) == other.union(one) == Region(1, 4, 6, 9)
    assert one.union(none) == none.union(one) == one


def test_a_region_grows_on_each_side():
    assert Region(3, 4, 6, 8).grown(5) == Region(-2, -1, 11, 13)


def test_a_region_comes_back_from_the_coordinates_of_another():
    region, outer = Region(13, 24, 16, 28), Region(10, 20, 30, 40)
    assert region.relative_to(outer) == Region(3, 4, 6, 8)
    assert Region(3, 4, 6, 8).absolute_in(outer) == region


@pytest.mark.parametrize("region", [Region(3, 4, 6, 8), Region(-5, -4, 1, 9), Region(4, 6, 8, 12)])
def test_an_aligned_region_is_the_smallest_that_contains_it(region):
    aligned = region.aligned(4, 3)
    x0, x1 = max(range(-8, region.x0 + 1, 4)), min(range(8, region.x1 - 1, -4))
    y0, y1 = max(range(-9, region.y0 + 1, 3)), min(range(12, region.y1 - 1, -3))
    assert aligned == Region(x0, y0, x1, y1)


# --- PIL ---


def pil(mode, size=(6, 4), seed=0):
    channels = len(Image.new(mode, (1, 1)).getbands())
    data = made.noise((size[1], size[0], channels), np.uint8, seed)
    if mode == "1":
        return Image.fromarray(data[..., 0]).convert("1")
    image = Image.frombytes(mode, size, data.tobytes())
    if mode in ("P", "PA"):
        image.putpalette(made.noise((256, 3), seed=9).tobytes())
    return image


def listed(image):
    """The first row's pixels."""
    return np.asarray(image)[0].tolist()


@pytest.mark.parametrize(
    "mode, becomes",
    [
        ("1", "L"),
        ("L", "L"),
        ("LA", "LA"),
        ("La", "LA"),
        ("P", "RGB"),
        ("PA", "RGBA"),
        ("RGB", "RGB"),
        ("RGBA", "RGBA"),
        ("RGBa", "RGBA"),
        ("RGBX", "RGB"),
        ("CMYK", "RGB"),
        ("YCbCr", "RGB"),
        ("HSV", "RGB"),
    ],
)
def test_a_pil_image_comes_back_in_the_nearest_mode_that_loses_nothing(mode, becomes):
    image = pil(mode)
    before = image.tobytes()
    back = to_image_data(image).to_input_type()
    assert back.mode == becomes and back.size == image.size
    assert back.tobytes() == image.convert(becomes).tobytes()
    assert image.mode == mode and image.tobytes() == before


@pytest.mark.parametrize("mode", ("L", "LA", "RGB", "RGBA"))
def test_pil_pixels_are_what_numpy_sees(mode):
    image = pil(mode)
    picture = to_image_data(image)
    pixels = picture.pixels if picture.alpha is None else np.dstack((picture.pixels, picture.alpha))
    assert np.array_equal(pixels.squeeze(), np.asarray(image))
    assert picture.pixels.dtype == np.uint8


def test_lab_becomes_rgb():
    lab = Image.new("LAB", (2, 2), (136, 208, 195))  # pure red
    red, green, blue = to_image_data(lab).to_input_type().getpixel((0, 0))
    assert red > 230 and green < 30 and blue < 40


@pytest.mark.parametrize("mode", ("I;16", "I;16B", "I;16L", "I"))
def test_sixteen_bit_gray_comes_back_as_it_was(mode):
    values = made.noise((4, 6), np.uint16)
    kind = {"I;16B": ">u2", "I": "i4"}.get(mode, "<u2")
    image = Image.frombytes(mode, (6, 4), values.astype(kind).tobytes())
    picture = to_image_data(image)
    assert picture.pixels.dtype == np.uint16 and np.array_equal(picture.pixels[..., 0], values)
    assert picture.to_input_type().mode == "I;16" and np.array_equal(np.asarray(picture.to_input_type()), values)


@pytest.mark.parametrize("image", [Image.new("F", (2, 2), 0.5), Image.new("I", (2, 2), 65536), Image.new("I", (2, 2), -1)])
def test_a_mode_without_a_defined_white_is_refused(image):
    with pytest.raises(InputError, match="no defined white"):
        to_image_data(image)


def test_a_transparent_palette_entry_becomes_alpha():
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    image.info["transparency"] = 1
    assert listed(to_image_data(image).to_input_type()) == [[10, 20, 30, 255], [40, 50, 60, 0]]
    image.info["transparency"] = bytes((200, 100))
    assert listed(to_image_data(image).to_input_type()) == [[10, 20, 30, 200], [40, 50, 60, 100]]


def test_a_palette_with_alpha_of_its_own_becomes_rgba():
    image = Image.new("P", (1, 1))
    image.putpalette([1, 2, 3, 4], "RGBA")
    assert to_image_data(image).to_input_type().getpixel((0, 0)) == (1, 2, 3, 4)


@pytest.mark.parametrize(
    "mode, key, becomes", [("RGB", (1, 2, 3), "RGBA"), ("L", 9, "LA"), ("1", 255, "LA"), ("1", 0, "LA")]
)
def test_a_transparent_color_becomes_alpha(mode, key, becomes):
    image = Image.new(mode, (2, 1), (200, 200, 200) if mode == "RGB" else 255 - key)
    image.putpixel((0, 0), key)
    colors = listed(image.convert(becomes.removesuffix("A")))
    image.info["transparency"] = key
    back = to_image_data(image).to_input_type()
    assert back.mode == becomes
    assert listed(back.getchannel("A")) == [0, 255]
    assert listed(back.convert(becomes.removesuffix("A"))) == colors


def test_white_as_transparent_in_black_and_white_may_be_written_as_1():
    image = Image.new("1", (2, 1), 255)
    image.putpixel((0, 0), 0)
    image.info["transparency"] = 1  # Pillow 9.5 gives it as it stands in a PNG of one bit
    assert listed(to_image_data(image).to_input_type()) == [[0, 255], [255, 0]]


def test_a_transparent_color_beside_an_alpha_channel_changes_nothing():
    for mode in ("LA", "RGBA"):
        image = pil(mode)
        image.info["transparency"] = 0
        assert to_image_data(image).to_input_type().tobytes() == image.tobytes()


def test_cmyk_goes_through_its_profile():
    image = Image.new("CMYK", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 255, 255, 0))
    assert to_image_data(image).to_input_type().getpixel((0, 0)) == (0, 255, 255)
    image.info["icc_profile"] = made.cmyk_profile()
    (red, green, blue), white = listed(to_image_data(image).to_input_type())
    assert red > 230 and green < 30 and blue < 30
    assert white == [255, 255, 255]


@pytest.mark.parametrize("profile", [b"junk" * 50, ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()])
def test_cmyk_with_a_profile_of_no_use_is_converted_without_it_and_says_so(profile, caplog):
    image = Image.new("CMYK", (1, 1), (255, 0, 0, 0))
    image.info["icc_profile"] = profile
    assert to_image_data(image).to_input_type().getpixel((0, 0)) == (0, 255, 255)
    assert "profile" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_pil_image_is_turned_upright_by_its_exif(orientation):
    image = pil("RGB")
    image.getexif()[0x0112] = orientation
    got = np.asarray(to_image_data(image).to_input_type())
    assert np.array_equal(got, made.ORIENTED[orientation](np.asarray(image)))
    assert np.array_equal(got, np.asarray(ImageOps.exif_transpose(image)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    "format_name, arguments",
    [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("TIFF", {"compression": "tiff_lzw"})],
)
def test_a_pil_image_that_is_still_a_file_is_turned_exactly_once(format_name, arguments, orientation):
    image = pil("RGB")
    exif = Image.Exif()
    exif[0x0112] = orientation
    lazy = Image.open(io.BytesIO(made.encode_image(image, format_name, exif=exif, **arguments)))
    expected = made.ORIENTED[orientation](np.asarray(image))
    assert np.array_equal(np.asarray(to_image_data(lazy).to_input_type()), expected)
    assert np.array_equal(np.asarray(to_image_data(lazy).to_input_type()), expected), "the second time"


@pytest.mark.parametrize("value", (0, 9, 1000))
def test_an_orientation_that_does_not_exist_turns_nothing(value):
    image = pil("RGB")
    image.getexif()[0x0112] = value
    assert to_image_data(image).to_input_type().tobytes() == image.tobytes()


def test_a_damaged_exif_block_costs_the_orientation_and_not_the_image(caplog):
    image = pil("RGB")
    image.info["exif"] = b"Exif\0\0junk that is no TIFF structure"
    assert to_image_data(image).to_input_type().tobytes() == image.tobytes()
    assert "EXIF" in caplog.text


def test_a_pil_image_whose_file_is_cut_off_is_an_input_error():
    data = made.encode_image(made.noise((60, 60, 3)), "PNG")
    with pytest.raises(InputError, match="cannot be read"):
        to_image_data(Image.open(io.BytesIO(data[: len(data) // 2])))


def test_a_mode_that_pillow_cannot_convert_is_an_input_error(monkeypatch):
    def convert(*_):
        raise ValueError("conversion from BGR;15 to RGB not supported")  # as Pillow 9.5 has it; later there is no such mode

    image = pil("HSV")
    monkeypatch.setattr(image, "convert", convert)
    with pytest.raises(InputError, match=r"HSV.*conversion from BGR;15"):
        to_image_data(image)


@pytest.mark.parametrize(
    "array", [np.zeros((2, 2, 3), np.uint16), np.zeros((2, 2, 3), np.float32), np.zeros((2, 2), np.float16)]
)
def test_pixels_that_pil_has_no_mode_for_are_not_rounded_in_secret(array):
    picture = to_image_data(array)
    with pytest.raises(InputError, match="no mode"):
        ImageData(picture.pixels, None, "pil").to_input_type()
