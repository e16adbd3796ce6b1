"""Faces restored in an image that is enlarged: by the Python interface."""

import helpers
import numpy as np
import pytest
import rrdb
import torch
from PIL import Image

from gpen_core import RestoreInput, RestoreOptions
from gpen_core.errors import Interrupted, MissingWeights, OptionsError, OutOfMemory
from gpen_core.images.image import to_image_data
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.pipeline.rrdb import RRDBLayout, load_rrdbnet
from gpen_core.pipeline.upscale import Upscaler, upscale
from gpen_core.progress import no_progress

FACES = [helpers.make_face((60, 55), 40)]
PICTURE = (helpers.texture(110, 130) * 255).astype(np.uint8)
LARGER = RestoreOptions(upscale=2.5)


@pytest.fixture
def red():
    return helpers.restorer(helpers.red_weights(256), FACES)


@pytest.mark.parametrize("kind", ["rgb", "rgba", "pil", "sixteen", "gray", "float"])
def test_what_is_not_restored_is_the_enlarged_image_bit_for_bit(red, kind):
    image = {
        "rgb": PICTURE,
        "rgba": np.dstack((PICTURE, PICTURE[..., 0])),
        "pil": Image.fromarray(PICTURE),
        "sixteen": PICTURE.astype(np.uint16) * 257,
        "gray": PICTURE[..., 0],
        "float": (PICTURE / 255).astype(np.float32),
    }[kind]
    result = red.restore(image, LARGER)
    expected = upscale(to_image_data(image), 2.5, None, no_progress).to_input_type()
    assert type(result.image) is type(expected) and result.mask.shape == (275, 325)
    got, expected = np.asarray(result.image), np.asarray(expected)
    assert got.dtype == expected.dtype and got.shape == expected.shape
    outside = result.mask == 0
    assert np.array_equal(got[outside], expected[outside]) and outside.mean() > 0.5
    assert (got[~outside] != expected[~outside]).any() and result.faces[0].restored
    if kind == "rgba":
        assert np.array_equal(got[..., 3], expected[..., 3])
    assert result.faces[0].box == FACES[0].box  # in pixels of the image that was given


def test_faces_are_those_of_the_image_as_it_was(red):
    """As with a background: the published demo cuts them from the image that is not enlarged, too."""
    larger = red.restore(PICTURE, LARGER)
    beside = red.restore(PICTURE, background=upscale(to_image_data(PICTURE), 2.5, None, no_progress))
    assert np.array_equal(larger.image, beside.image) and np.array_equal(larger.mask, beside.mask)
    assert larger.seconds["upscale"] > 0 and "upscale" not in beside.seconds


@pytest.mark.parametrize("factor", [1, 2])
def test_without_a_face_it_is_enlarged_all_the_same(factor):
    result = helpers.restorer(helpers.red_weights(256), []).restore(PICTURE, RestoreOptions(upscale=factor))
    assert not result.is_changed and result.image.shape == (110 * factor, 130 * factor, 3)
    assert result.image is not result.image_data.pixels and result.image is not PICTURE


def test_several_images_and_a_limit(red):
    region_mask = np.ones((11, 13), np.float32)
    region_mask[:, :6] = 0
    frames = [RestoreInput(PICTURE, region_mask=region_mask), RestoreInput(PICTURE[:, ::-1].copy())]
    one, other = red.restore_batch(frames, LARGER)
    assert one.image.shape == other.image.shape == (275, 325, 3)
    assert not one.mask[:, :130].any() and one.mask.any() and other.mask[:, :130].any()


def test_a_background_contradicts(red):
    with pytest.raises(OptionsError, match=r"upscale is 2\.5, but a background is given"):
        red.restore(PICTURE, LARGER, background=PICTURE.repeat(2, 0).repeat(2, 1))


def test_an_image_that_was_given_by_its_path(red, tmp_path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    assert np.array_equal(red.restore(tmp_path / "a.png", LARGER).image, red.restore(PICTURE, LARGER).image)


def test_what_is_too_large_is_refused_before_a_face_is_looked_for(red, monkeypatch):
    monkeypatch.setattr(red.models, "detector", None)
    with pytest.raises(OutOfMemory, match="Upscaled to 1040 x 880 pixels"):
        red.restore(PICTURE, RestoreOptions(upscale=8), max_memory=10**7)


def test_the_work_is_stopped_while_it_is_enlarged(red):
    def stop(event):
        if event.stage == "upscale":
            raise Interrupted

    with pytest.raises(Interrupted):
        red.restore(PICTURE, LARGER, progress=stop)


# Networks


def models_with(load_upscaler):
    base = helpers.restorer(helpers.red_weights(256), FACES).models
    return FaceRestorer(ModelSet(base.runners, base.detector, base.device, load_upscaler=load_upscaler))


@pytest.mark.slow
def test_the_network_is_loaded_when_it_is_needed_and_kept():
    pytest.importorskip("spandrel")
    loaded = []

    def load(name, progress):
        loaded.append(name)
        weights = rrdb.nearest_weights()
        layout = RRDBLayout.from_state_dict(weights)
        return Upscaler(load_rrdbnet(weights, layout), layout, torch.device("cpu"))

    restorer = models_with(load)
    for options in (RestoreOptions(upscaler="mine"), RestoreOptions(upscale=2)):
        restorer.prepare(options)
    assert loaded == []
    options = RestoreOptions(upscale=4, upscaler="mine", strength=0)
    restorer.prepare(options)
    for _ in range(2):
        assert np.array_equal(restorer.restore(PICTURE, options).image, PICTURE.repeat(4, 0).repeat(4, 1))
    assert loaded == ["mine"]
    with pytest.raises(MissingWeights, match="'mine' cannot be loaded"):
        helpers.restorer(helpers.red_weights(256), FACES).prepare(options)


@pytest.fixture
def folder(models, tmp_path):
    """A models folder that can be written to."""
    for path in models.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    helpers.write_weights(tmp_path, {"realesrnet_x4.safetensors": rrdb.nearest_weights()})
    return tmp_path


def load(folder, **more):
    return FaceRestorer.load("red-256", "retinaface_mobile0.25", folder, "cpu", **more)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.slow
def test_from_the_models_folder_in_the_precision_of_the_others(folder, astronaut, dtype):
    pytest.importorskip("spandrel")
    photo = np.ascontiguousarray(astronaut[50:180, 160:290])
    restorer = load(folder, dtype="fp32" if dtype == torch.float32 else "bf16")
    options = RestoreOptions(upscale=4, upscaler="realesrnet_x4", strength=0)
    error = np.abs(restorer.restore(photo, options).image.astype(int) - photo.repeat(4, 0).repeat(4, 1))
    assert error.max() <= (0 if dtype == torch.float32 else 1)
    upscaler = restorer.models.upscaler(options, no_progress)
    assert upscaler.dtype == dtype and restorer.modules()[-1] is upscaler.network


def test_it_is_missing_with_the_others(folder, monkeypatch):
    """Before anything is loaded; and no file is asked for that nothing could read."""
    pytest.importorskip("spandrel")
    (folder / "red-256.pth").unlink()
    with pytest.raises(
        MissingWeights, match=r"(?s)2 files are missing, 361 MB in total:.*GPEN-BFR-512.pth.*realesrnet_x2.pth"
    ):
        FaceRestorer.load("gpen-bfr-512", "retinaface_mobile0.25", folder, "cpu", upscaler="realesrnet_x2")
    with pytest.raises(MissingWeights, match=r"Unknown upscaler 'x9'.*Available: realesrnet_x2, realesrnet_x4\."):
        FaceRestorer.load("gpen-bfr-512", "retinaface_mobile0.25", folder, "cpu", upscaler="x9")
