"""GPEN's other networks, with hand-made weights: one that colors gray faces and one that fills a marked region."""

import helpers
import numpy as np
import onnx_files as made
import pytest
import torch
from helpers import FakeDetector, make_face
from PIL import Image

from gpen_core import FaceRestorer, InputError, OptionsError, RestoreInput, RestoreOptions, find_entry
from gpen_core.images.image import LUMA
from gpen_core.network import GPEN
from gpen_core.pipeline.gpen_runner import GPENRunner
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.pipeline.needed_weights import needed_networks
from gpen_core.tools.compare import CompareGrid, contact_sheet
from gpen_core.weights.catalog import COLORIZE, INPAINT, RESTORE, find_operation
from gpen_core.weights.folders import list_networks, present_sizes

pytest_plugins = ["cli_fixtures"]

CPU = torch.device("cpu")
FACE = make_face((128.0, 128.0), 110.0)
SKIN = (0.9, 0.6, 0.5)
NAMES = {COLORIZE: "gpen-colorization-1024", INPAINT: "gpen-inpainting-1024"}


def restorer(weights, operation, faces=(FACE,)):
    runner = GPENRunner(GPEN.from_state_dict(weights), CPU, operation=operation)
    return FaceRestorer(ModelSet([runner], FakeDetector(faces), CPU))


@pytest.fixture(scope="module")
def photo():
    """[256, 256, 3] uint8."""
    return np.rint(helpers.texture(256, 256, sigma=2) * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def gray(photo):
    """[256, 256, 3] uint8 in gray."""
    return np.repeat(np.rint(photo @ LUMA).astype(np.uint8)[..., None], 3, axis=2)


def chroma(rgb):
    return rgb - (rgb @ LUMA)[..., None]


# Coloring


def test_a_gray_face_gets_the_networks_colors_and_keeps_its_luminance(gray, compositor_backend):
    result = restorer(helpers.constant_weights(256, SKIN), COLORIZE).restore(gray)
    out = result.image.astype(np.float32)
    inside = result.mask == 1
    assert inside.sum() > 10_000
    assert np.abs(out @ LUMA - gray[..., 0])[result.mask > 0].max() <= 1
    colors, expected = chroma(out)[inside], chroma(np.array(SKIN, np.float32) * 255)
    size = np.linalg.norm(colors, axis=1)
    assert (colors @ expected >= 0.999 * size * np.linalg.norm(expected))[size > 20].all()  # where there is room, that hue
    assert (np.abs(colors - expected).max(axis=1) <= 2).mean() > 0.5
    assert np.array_equal(result.image[result.mask == 0], gray[result.mask == 0])


def test_the_network_gets_the_face_in_gray(photo, gray):
    """One that returns its input leaves a gray face as it was, and of a color face it leaves the luminance."""
    identity = restorer(helpers.identity_weights(256), COLORIZE)
    assert np.abs(identity.restore(gray).image.astype(int) - gray).max() <= 1
    result = identity.restore(photo)
    inside = result.mask == 1
    assert np.abs(chroma(result.image.astype(np.float32))[inside]).max() <= 2
    assert np.abs(result.image.astype(np.float32) @ LUMA - photo @ LUMA)[inside].max() <= 1


def test_an_image_without_colors_gets_channels_for_them(gray, tmp_path):
    source = tmp_path / "gray.png"
    Image.fromarray(gray[..., 0]).save(source)
    network = restorer(helpers.constant_weights(256, SKIN), COLORIZE)
    flat, file = network.restore(gray[..., 0]), network.restore(source)
    for result in (flat, file):
        assert result.image.shape == gray.shape and np.array_equal(result.image, network.restore(gray).image)
    file.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as written:
        assert written.mode == "RGB" and np.array_equal(np.asarray(written), file.image)


def test_a_gray_image_without_a_face_stays_as_it_is(gray):
    result = restorer(helpers.constant_weights(256, SKIN), COLORIZE, faces=()).restore(gray[..., 0])
    assert result.image.shape == gray.shape[:2] and not result.is_changed


@pytest.mark.parametrize("options", [{"color": "match"}, {"color": "auto"}, {"fidelity": 1.0}, {"preserve": "occluders"}])
def test_options_that_would_take_the_colors_away_have_no_effect(gray, options):
    network = restorer(helpers.constant_weights(256, SKIN), COLORIZE)
    plain = network.restore(gray, RestoreOptions(color="none"))
    assert np.array_equal(network.restore(gray, RestoreOptions(**options)).image, plain.image)


# Filling


@pytest.fixture(scope="module")
def region():
    mask = np.zeros((256, 256), np.float32)
    mask[110:140, 100:150] = 1
    return mask


def test_the_region_is_painted_white_for_the_network(photo, region, compositor_backend):
    """One that returns its input gives back the paint."""
    result = restorer(helpers.identity_weights(256), INPAINT).restore(photo, region_mask=region)
    changed = region > 0
    assert np.array_equal(result.image[~changed], photo[~changed])
    inner = np.zeros_like(changed)
    inner[114:136, 104:146] = True
    assert result.image[inner].min() >= 250 and result.mask[inner].min() == 1


def test_only_the_region_changes(photo, region):
    result = restorer(helpers.constant_weights(256, SKIN), INPAINT).restore(photo, region_mask=region / 2)
    changed = region > 0
    assert np.array_equal(result.image[~changed], photo[~changed])
    expected = (photo[changed] + np.array(SKIN) * 255) / 2
    assert np.abs(result.image[changed] - expected).max() <= 1


def test_the_region_lies_at_the_backgrounds_scale(photo, region):
    background = np.asarray(Image.fromarray(photo).resize((512, 512)))
    network = restorer(helpers.identity_weights(256), INPAINT)
    result = network.restore(photo, background=background, region_mask=region)
    assert result.image[230:270, 210:290].min() >= 250 and np.array_equal(result.image[:200], background[:200])


def test_without_a_region_nothing_can_be_filled(photo):
    network = restorer(helpers.identity_weights(256), INPAINT)
    with pytest.raises(InputError, match="A network that fills a region needs a region mask"):
        network.restore_batch([RestoreInput(photo)])


# The catalog


@pytest.mark.parametrize(("operation", "name"), NAMES.items())
def test_the_name_of_the_file_says_what_the_network_does(operation, name):
    entry = find_entry(name)
    files = (entry.file, f"/models/{entry.file}", name.upper(), entry.file.replace(".pth", ".safetensors"))
    assert {find_operation(one) for one in files} == {operation}
    assert entry.size == 1024 and entry.sha256 is None and find_operation("gpen-bfr-1024") == RESTORE


def test_auto_never_takes_them_and_the_lists_have_them(tmp_path):
    for name in NAMES.values():
        (tmp_path / find_entry(name).file).write_bytes(b"x")
    assert present_sizes([tmp_path]) == () and needed_networks("auto", tmp_path) == ("gpen-bfr-2048",)
    listed = list_networks([tmp_path])
    assert listed[-2:] == [find_entry(name).file for name in NAMES.values()] and listed[0] == "GPEN-BFR-2048.pth"


def test_the_released_layout_is_loaded_by_its_name(tmp_path, models):
    files = {find_entry(name).file: made.narrow_weights(1024) for name in NAMES.values()}
    helpers.write_weights(tmp_path, files)
    for operation, name in NAMES.items():
        loaded = FaceRestorer.load(name, models / helpers.DETECTOR_FILE, tmp_path, "cpu", "fp32")
        assert loaded.models.operation == operation and loaded.sizes == (1024,)


def test_videos_and_comparisons_want_a_network_that_restores(gpen, photo, tmp_path):
    ran = gpen("video", tmp_path / "a.mp4", "-o", tmp_path / "b.mp4", "--model", NAMES[COLORIZE])
    assert ran.status != 0 and "This is a network that colors faces. It cannot be used for videos." in ran.err
    network = restorer(helpers.identity_weights(256), INPAINT)
    with pytest.raises(OptionsError, match=r"a network that fills a region\. It cannot be used for a comparison"):
        contact_sheet(network, photo, CompareGrid(("one",), (1.0,), ("feather",)))
