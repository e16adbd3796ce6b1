"""How Python calls it: what images and crops may be, options as keywords, saving, and what prints in one line."""

import copy
import io
import pickle
from dataclasses import replace
from itertools import product

import helpers
import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from gpen_core import (
    DeviceError,
    FaceCrop,
    FaceRestorer,
    ImageTooLarge,
    InputError,
    OptionsError,
    OutputError,
    RestoreInput,
    RestoreOptions,
    VideoOptions,
    crop_faces,
    draw_faces,
    missing_weights,
    paste_faces,
    restore_sequence,
    restore_video,
)
from gpen_core.images import codecs
from gpen_core.pipeline.inputs import resize_mask
from gpen_core.pipeline.source_file import SourceFile, load_encoded

SIZE = 256
FACE = helpers.make_face((120, 110), 90)


@pytest.fixture(scope="module")
def red():
    return helpers.restorer(helpers.red_weights(256), [FACE])


@pytest.fixture(scope="module")
def nobody():
    return helpers.restorer(helpers.red_weights(256), [])


@pytest.fixture
def array():
    return np.rint(helpers.texture(SIZE, SIZE, sigma=3) * 255).astype(np.uint8)


@pytest.fixture
def photo(tmp_path, array):
    """A JPEG with EXIF, a profile and a comment."""
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(array).save(path, quality=95, exif=exif, icc_profile=profile, comment=b"mine")
    return path


@pytest.fixture
def png(tmp_path, array):
    path = tmp_path / "photo.png"
    Image.fromarray(array).save(path)
    return path


def test_options_are_keywords_and_the_restorer_can_be_called(red, array):
    half = red.restore(array, RestoreOptions(strength=0.5)).image
    assert np.array_equal(red.restore(array, strength=0.5).image, half)
    assert np.array_equal(red(array, strength=0.5).image, half)
    base = RestoreOptions(strength=0.1, mask_type="feather")
    assert np.array_equal(red(array, base, strength=0.5).image, red(array, replace(base, strength=0.5)).image)
    with pytest.raises(TypeError, match="strenght"):
        red(array, strenght=0.5)
    with pytest.raises(OptionsError, match="strength"):
        red(array, strength=2)


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "before_swap", "background", "upscaled"])
def test_a_file_with_more_pixels_than_allowed_is_refused(red, photo, array, kind):
    given = {
        "path": (photo,),
        "bytes": (photo.read_bytes(),),
        "file": (io.BytesIO(photo.read_bytes()),),
        "before_swap": (array, None, photo),
        "background": (array, None, None, photo),
        "upscaled": (photo, RestoreOptions(upscale=2)),
    }[kind]
    with pytest.raises(ImageTooLarge, match="256 x 256 pixels are too many: the limit is 65,535 pixels"):
        red(*given, max_pixels=SIZE * SIZE - 1)


def test_the_limit_of_pixels_may_be_raised(nobody, photo, monkeypatch):
    monkeypatch.setattr("gpen_core.images.size_limits.MAX_PIXELS", 1000)
    monkeypatch.setattr("gpen_core.images.size_limits.host_memory", lambda: 0)
    with pytest.raises(ImageTooLarge, match=f"set max_pixels to {SIZE * SIZE}"):
        nobody(photo)
    assert nobody.restore_batch([photo], max_pixels=SIZE * SIZE)[0].image.shape == (SIZE, SIZE, 3)
    for value in (0, -1, 2.5, "many"):
        with pytest.raises(OptionsError, match=r"max_pixels is .*; expected a whole number of at least 1"):
            nobody(photo, max_pixels=value)


@pytest.mark.parametrize("value", ["4G", -1, float("nan"), float("inf")])
def test_a_limit_of_memory_is_a_number_of_bytes(red, nobody, photo, array, tmp_path, value):
    uses = {
        "image": lambda: nobody(photo, max_memory=value),
        "images": lambda: list(restore_sequence(red, lambda: [array], max_memory=value)),
        "video": lambda: restore_video("clip.mp4", tmp_path / "out.mp4", red, max_memory=value),
    }
    for use in uses.values():
        with pytest.raises(OptionsError, match=r"max_memory is .*; expected a number of at least 0"):
            use()
    with pytest.raises(OptionsError, match="frame_memory is"):
        restore_video("clip.mp4", tmp_path / "out.mp4", red, frame_memory=value)
    assert not nobody(photo, max_memory=4e9).is_changed


def test_the_device_of_waiting_weights_may_be_a_text(models):
    def load(device, offload_device):
        return FaceRestorer.load("red-256", "retinaface_mobile0.25", models, device, "fp32", offload_device=offload_device)

    assert load("cpu", "cpu").device.type == "cpu"
    for device, offload_device in (("cpu", "shelf"), ("shelf", None), (None, None)):
        with pytest.raises(DeviceError, match="Unknown device"):
            load(device, offload_device)


def test_a_batch_takes_images_and_restore_inputs(red, photo, array):
    first, second, third = red.restore_batch([str(photo), array, RestoreInput(array, boxes=[(0, 0, 5, 5)])], strength=0.5)
    assert first.is_changed and np.array_equal(second.image, red(array, strength=0.5).image) and not third.is_changed


def test_one_face_by_its_number(red, array):
    assert RestoreOptions(faces=0).faces == RestoreOptions(faces=np.int64(0)).faces == (0,)
    assert red(array, faces=0).is_changed and not red(array, faces=1).is_changed
    with pytest.raises(OptionsError, match="faces is -1"):
        RestoreOptions(faces=-1)


def test_bytes_and_open_files_are_images(red, photo):
    expected = red(photo).image
    data = photo.read_bytes()
    for image in (data, bytearray(data), memoryview(data), io.BytesIO(data)):
        assert np.array_equal(red(image).image, expected)
    with open(photo, "rb") as file:
        for _ in range(2):
            assert np.array_equal(red(file).image, expected)
    with pytest.raises(InputError, match="format is unknown"):
        red(b"nothing")
    with pytest.raises(InputError, match="the file is empty"):
        red(b"")
    with pytest.raises(InputError, match="binary mode"):
        red(io.StringIO("text"))


def test_a_url_is_named_as_it_was_given(red, array):
    with pytest.raises(InputError, match=r"^https://example\.org/a//b\.jpg is a URL"):
        red("https://example.org/a//b.jpg")
    with pytest.raises(OutputError, match=r"^s3://bucket/b\.png is a URL"):
        red(array).save("s3://bucket/b.png")


# Saving


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_saving_keeps_the_metadata(red, photo, tmp_path, suffix):
    result = red(photo)
    result.save(tmp_path / f"out{suffix}")
    saved, before = codecs.read(tmp_path / f"out{suffix}"), codecs.read(photo)
    assert b"Maker" in saved.metadata.exif and saved.metadata.icc == before.metadata.icc
    assert (saved.metadata.comment == b"mine") == (suffix == ".jpg")
    if suffix != ".jpg":
        assert np.array_equal(saved.image.to_input_type(), result.image)


def test_what_was_not_changed_is_saved_as_it_was(nobody, photo, tmp_path):
    nobody(photo).save(str(tmp_path / "same.jpeg"))
    assert (tmp_path / "same.jpeg").read_bytes() == photo.read_bytes()
    nobody(photo.read_bytes()).save(tmp_path / "without_suffix")
    assert (tmp_path / "without_suffix").read_bytes() == photo.read_bytes()
    nobody(photo).save(tmp_path / "other.png")
    assert codecs.read(tmp_path / "other.png").format == "PNG"


def test_an_array_and_a_pil_image_are_saved_too(red, array, tmp_path):
    red(array).save(tmp_path / "array.png")
    info = PngImagePlugin.PngInfo()
    info.add_text("parameters", "a prompt")
    Image.fromarray(array).save(tmp_path / "in.png", pnginfo=info, dpi=(300, 300))
    with Image.open(tmp_path / "in.png") as image:
        red(image).save(tmp_path / "pil.png")
    assert np.array_equal(codecs.read(tmp_path / "array.png").image.to_input_type(), red(array).image)
    with Image.open(tmp_path / "pil.png") as saved:
        assert saved.text["parameters"] == "a prompt" and round(saved.info["dpi"][0]) == 300
    with Image.open(tmp_path / "in.png") as image:
        image.save(tmp_path / "in.tiff")
    with Image.open(tmp_path / "in.tiff") as image:
        red(image).save(tmp_path / "from_tiff.png")
    assert np.array_equal(codecs.read(tmp_path / "from_tiff.png").image.to_input_type(), red(array).image)


def test_what_was_upscaled_is_saved_at_its_size_with_its_metadata(red, nobody, photo, tmp_path):
    for name, restorer in (("red", red), ("nobody", nobody)):
        restorer(photo, upscale=2).save(tmp_path / f"{name}.jpg")
        saved = codecs.read(tmp_path / f"{name}.jpg")
        assert saved.image.size == (2 * SIZE, 2 * SIZE) and b"Maker" in saved.metadata.exif


def test_the_background_lends_its_metadata(red, array, photo, tmp_path):
    red(array, background=photo).save(tmp_path / "out.png")
    assert b"Maker" in codecs.read(tmp_path / "out.png").metadata.exif


def test_a_type_that_is_not_written_is_refused(red, array, tmp_path):
    with pytest.raises(OutputError, match=r"\.gif cannot be written"):
        red(array).save(tmp_path / "out.gif")
    assert not list(tmp_path.iterdir())


# Masks


@pytest.mark.parametrize(("dtype", "high"), [(np.uint8, 255), (np.uint16, 65535)])
def test_a_mask_of_whole_numbers_reaches_to_its_types_maximum(red, array, dtype, high):
    soft = helpers.texture(SIZE, SIZE, sigma=20)[..., 0]
    expected = red(array, region_mask=soft.astype(np.float32)).mask
    found = red(array, region_mask=np.rint(soft * high).astype(dtype)).mask
    assert np.abs(found - expected).max() < 0.003
    assert 0.1 < found[100:120, 110:130].mean() < 0.9


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float64])
def test_a_mask_of_zeros_and_ones_is_one(dtype):
    mask = np.zeros((4, 4), dtype)
    mask[:2] = 1
    assert np.array_equal(resize_mask(mask, (4, 4)), mask.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.float32, np.int64])
def test_a_mask_up_to_255_of_another_type_is_refused(dtype):
    with pytest.raises(InputError, match="reach 255; expected at most 1"):
        resize_mask(np.full((4, 4), 255, dtype), (4, 4))


# In one line


def test_what_prints_fits_a_line(red, array, photo):
    result = red(array)
    texts = {
        repr(result): "RestoreResult(256x256 px, 1 face found, 1 restored, 0 skipped)",
        repr(result.faces[0]): "Face(",
        repr(result.image_data): "ImageData(256x256 RGB, uint8)",
        repr(codecs.read(photo)): "EncodedImage(JPEG, ImageData(256x256 RGB, uint8))",
        repr(RestoreOptions(strength=0.8, faces=1)): "RestoreOptions(strength=0.8, faces=(1,))",
        repr(RestoreOptions()): "RestoreOptions()",
        repr(RestoreInput(array, boxes=[(0, 0, 1, 1)])): "RestoreInput(uint8 array [256, 256, 3], boxes)",
        repr(RestoreInput(b"abc", is_aligned=True)): "RestoreInput(3 bytes, is_aligned)",
        repr(red): "FaceRestorer(256 px, cpu, float32)",
    }
    (crops,) = crop_faces(red, [RestoreInput(array)])
    assert isinstance(red, FaceRestorer) and isinstance(crops.crops[0], FaceCrop)
    texts |= {repr(crops): "FaceCrops(1 face found, 1 cropped, 0 skipped)", repr(crops.crops[0]): "FaceCrop(0, Face("}
    for text, start in texts.items():
        assert text.startswith(start) and len(text) <= 100 and "\n" not in text


def test_one_image_in_place_of_several_is_refused(red, png, array):
    """The letters of a path and the rows of an array are no images."""
    for image in (str(png), png, png.read_bytes(), array, Image.fromarray(array), RestoreInput(array)):
        for use in (red.restore_batch, red.detect, lambda one: crop_faces(red, one)):
            with pytest.raises(InputError, match="Expected a list of images, got one"):
                use(image)
    gray = np.stack([array[..., 0]] * 2)
    assert len(red.restore_batch(gray)) == len(red.detect(gray)) == 2


def test_faces_are_selected_and_cropped_in_all_that_is_an_image(red, png, array):
    expected = crop_faces(red, [RestoreInput(array)])[0].pixels[0]
    for image in (array, png, str(png), RestoreInput(png)):
        assert np.array_equal(crop_faces(red, [image])[0].pixels[0], expected)
        assert [face.box for face in red.select_faces(image)] == [FACE.box]


def test_an_open_file_that_cannot_be_read_is_refused(red, png, tmp_path):
    with open(png, "rb") as closed:
        pass
    with pytest.raises(InputError, match=r"The open file cannot be read: .*closed"):
        red(closed)
    with open(tmp_path / "new", "wb") as to_write, pytest.raises(InputError, match="The open file cannot be read"):
        red(to_write)
    with open(png, encoding="utf-8") as text, pytest.raises(InputError, match="Open it in binary mode"):
        red(text)
    assert red(io.BytesIO(png.read_bytes())).is_changed


@pytest.mark.parametrize("size", [0, -1, 128.5, "128", float("nan")])
def test_the_size_of_a_crop_is_checked(red, array, size):
    with pytest.raises(OptionsError, match=r"size is .*; expected a whole number of at least 1"):
        crop_faces(red, [array], size=size)


def test_crops_of_floats_are_from_0_to_1(red, array):
    """One from 0 to 255 would be pasted as white."""
    (found,) = crop_faces(red, [array], size=128)
    (crop,) = found.pixels
    edited = 1 - crop
    expected = paste_faces(array, found.crops, [edited]).image_data.pixels
    for same in (torch.from_numpy(edited), edited.astype(np.float64), np.asfortranarray(edited), edited.tolist()):
        assert np.array_equal(paste_faces(array, found.crops, [same]).image_data.pixels, expected)
    for wrong in (edited * 255, edited.astype(object)):
        with pytest.raises(InputError, match=r"Expected .*float"):
            paste_faces(array, found.crops, [wrong])
    with pytest.raises(InputError, match="Expected a square crop"):
        paste_faces(array, found.crops, [edited[:0, :0]])
    for strength in (-1, 2, float("nan"), "1"):
        with pytest.raises(OptionsError, match="strength is"):
            paste_faces(array, found.crops, [edited], strength=strength)


def test_what_is_no_image_is_refused_with_what_can_be_done(red, array, png):
    tensor = torch.from_numpy(array)
    for wrong, said in {
        "tensor": (tensor, "an open file, a PIL image or a numpy array, got Tensor. Convert it to a numpy array"),
        "several": ([array, array], "Expected one image, got a list. For several images, use restore_batch"),
        "channels first": (array.transpose(2, 0, 1), "with its channels last"),
        "dtype": (array.astype(np.int64), "got int64. Convert them"),
        "empty": ("", "The path is empty"),
    }.values():
        with pytest.raises(InputError, match=said):
            red(wrong)
    with pytest.raises(OutputError, match="The path is empty"):
        red(array).save("")
    with pytest.raises(InputError, match="Expected a PIL image or a numpy array, got str"):  # a path is none
        draw_faces(str(png), [])


def test_options_that_are_none_are_refused(red, array, tmp_path):
    """Such as a dict, one value, or the options of a video in their place."""
    uses = (
        lambda options: red(array, options),
        lambda options: red.select_faces(array, options),
        lambda options: red.detect([array], options),
        lambda options: crop_faces(red, [array], options),
        lambda options: list(restore_sequence(red, [array], options)),
        lambda options: restore_video("clip.mp4", tmp_path / "out.mp4", red, options),
        lambda options: missing_weights("auto", options),
    )
    for wrong, use in product(({"strength": 0.5}, 0.5, VideoOptions()), uses):
        with pytest.raises(OptionsError, match=r"Expected RestoreOptions, got .*: RestoreOptions\(strength=1.0\)"):
            use(wrong)
    with pytest.raises(OptionsError, match="Expected VideoOptions, got RestoreOptions"):
        restore_video("clip.mp4", tmp_path / "out.mp4", red, video=RestoreOptions())


def test_results_and_options_can_be_pickled_but_no_restorer(red, array, photo):
    """multiprocessing pickles what it hands over."""
    result = red(photo)
    (crops,) = crop_faces(red, [photo])
    for copied in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
        assert np.array_equal(copied.image, result.image) and copied.faces[0].to_json() == result.faces[0].to_json()
    assert np.array_equal(pickle.loads(pickle.dumps(crops)).pixels[0], crops.pixels[0])
    options = RestoreOptions(strength=0.5, faces=(0, "like:a.jpg"), preserve="eyes")
    assert pickle.loads(pickle.dumps(options)) == options == copy.deepcopy(options)
    assert pickle.loads(pickle.dumps(RestoreInput(array, boxes=[FACE.box]))).boxes == [FACE.box]
    for use in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError, match=r"cannot be pickled .* Call FaceRestorer\.load in each process"):
            use(red)


def test_images_may_come_from_a_generator(red, array):
    def images():
        yield array
        yield array

    assert len(red.restore_batch(images())) == len(red.detect(images())) == len(crop_faces(red, images())) == 2


def test_a_box_that_cannot_be_one_is_explained(red, array):
    with pytest.raises(InputError, match=r"Box 0 is 10; .* Put one box into a list"):
        red(array, boxes=(10, 10, 50, 50))
    (note,) = red(array, boxes=[(200, 150, 40, 50)]).notes  # with width and height
    assert note.startswith("no face was found in box 0") and "expected x0, y0, x1, y1 with x0 < x1" in note
    assert red(array, boxes=np.array([FACE.box])).is_changed


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_a_mask_may_have_either_byte_order(red, array, dtype):
    mask = np.full((SIZE, SIZE), 65535, dtype)
    assert np.array_equal(red(array, region_mask=mask).image, red(array).image)


def test_a_saved_file_that_lost_metadata_is_named(tmp_path, caplog):
    text = PngImagePlugin.PngInfo()
    text.add_text("Author", "Anna")
    Image.new("RGB", (64, 48)).save(tmp_path / "a.png", pnginfo=text)
    loaded = load_encoded(tmp_path / "a.png")
    SourceFile.of(loaded).save(tmp_path / "b.jpg", loaded.image, is_same=True)
    (record,) = caplog.records
    assert record.getMessage() == f"{tmp_path / 'b.jpg'}: JPEG cannot store PNG text (Author); left out."
