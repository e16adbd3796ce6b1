"""The whole pipeline with networks whose answer is known, so that no step can fool us."""

import helpers
import numpy as np
import pytest
import torch

from gpen_core import FaceRestorer, Interrupted, RestoreOptions
from gpen_core.faces.align import align_face, crop_face
from gpen_core.faces.blend import Canvas
from gpen_core.faces.mask import square_mask
from gpen_core.images.image import to_image_data
from gpen_core.network import GPEN

pytestmark = pytest.mark.usefixtures("compositor_backend")


@pytest.fixture(scope="module")
def identities():
    """A restorer with identity weights per size, made once; each test gives it faces of its own."""
    made = {}

    def get(size, faces):
        if size not in made:
            made[size] = helpers.restorer(helpers.identity_weights(size), [])
        made[size].detector.faces = list(faces)
        return made[size]

    return get


def assert_given_back(restorer_of, size, side, record_property):
    """A face whose box is `side` wide comes back through a network of that size as it was."""
    scale = helpers.crop_scale(helpers.make_face((0, 0), side), size)
    span = int(size / scale * 1.2) + 16
    face = helpers.make_face((span / 2 + 0.3, span / 2 - 0.2), side, tilt=12)
    image = helpers.texture(span, span, sigma=max(1, 1 / scale))
    result = restorer_of(size, [face]).restore(image)
    inside, outside = result.mask > 0, result.mask == 0
    assert inside.mean() > 0.2 and outside.mean() > 0.05
    quality = helpers.psnr(result.image[inside], image[inside])
    record_property("psnr", quality)
    assert quality >= 45
    assert np.array_equal(result.image[outside], image[outside])


def test_identity_weights_give_the_photograph_back(identities, record_property):
    assert_given_back(identities, 256, 125, record_property)


@pytest.mark.parametrize("compositor_backend", ["OpenCV"], indirect=True)
@pytest.mark.slow
def test_identity_weights_of_the_largest_network_give_it_back_too(identities, record_property):
    assert_given_back(identities, 2048, 900, record_property)


@pytest.mark.parametrize("side", [40, 70, 120, 250, 500, 900])
@pytest.mark.parametrize("size", [512, 2048])
@pytest.mark.slow
def test_a_crop_of_any_scale_goes_back_where_it_came_from(identities, monkeypatch, size, side, record_property):
    """As with identity weights, whose network takes most of the time; here one that does nothing stands in for it."""

    def restorer_of(size, faces):
        restorer = identities(size, faces)
        monkeypatch.setattr(restorer.network, "forward", lambda x, on_tick, strip_bytes: x.clone())
        return restorer

    assert_given_back(restorer_of, size, side, record_property)


def test_the_images_of_that_check_are_hard():
    """Unblurred, they do not come back through an antialiased path: they have detail down to the pixel."""
    face = helpers.make_face((150, 150), 90, tilt=12)
    image = helpers.texture(300, 300)
    result = helpers.restorer(helpers.identity_weights(256), [face]).restore(image)
    assert helpers.psnr(result.image[result.mask > 0], image[result.mask > 0]) < 40


@pytest.mark.slow
def test_several_faces_are_all_restored_and_the_rest_is_left(identities):
    image = helpers.texture(600, 900, sigma=1)
    faces = [helpers.make_face(center, side, tilt) for center, side, tilt in FACES]
    result = identities(256, faces).restore(image, RestoreOptions(faces="0,2"))
    assert [face.restored for face in result.faces] == [True, False, True]
    assert result.faces[1].reason == "not asked for"
    x, y = map(int, result.faces[1].center)
    assert result.mask[y, x] == 0


FACES = (((150, 200), 90, 0), ((450, 250), 120, 15), ((760, 400), 70, -20))


def halved(x):
    """The encoder's path down: FIR with pad 2, then every second value from the first on. [S, S] -> [S / 2, S / 2]"""
    for axis in (0, 1):
        padded = np.pad(x, [(2, 2) if a == axis else (0, 0) for a in (0, 1)])
        x = along(padded, axis, [1 / 8, 3 / 8, 3 / 8, 1 / 8])
    return x[1::2, 1::2]


def doubled(x):
    """Zeros in between, then FIR with gain 2 per axis and pad (2, 1). [S, S] -> [2 * S, 2 * S]"""
    for axis in (0, 1):
        spread = np.zeros([2 * n if a == axis else n for a, n in enumerate(x.shape)])
        spread[(slice(None, None, 2), slice(None)) if axis == 0 else (slice(None), slice(None, None, 2))] = x
        spread = np.pad(spread, [(2, 1) if a == axis else (0, 0) for a in (0, 1)])
        x = along(spread, axis, [1 / 4, 3 / 4, 3 / 4, 1 / 4])
    return x


def along(x, axis, taps):
    return np.apply_along_axis(lambda line: np.convolve(line, taps, "valid"), axis, x)


def sharpened(crop, gain):
    """The checkpoint's filter in numpy, float64; its shift by 2 makes its borders those of an image raised by 2."""
    raised = crop.astype(np.float64) * 2 - 1 + 2
    low = np.dstack([doubled(halved(raised[..., c]) - 2) for c in range(3)])
    return np.clip(((raised - 2) * (1 + gain) - gain * low + 1) / 2, 0, 1)


@pytest.mark.slow
def test_sharpening_at_512_is_the_filter_done_in_numpy(side=250):
    span = side * 3
    image = (helpers.texture(span, span, sigma=0.5) * 255).astype(np.uint8)
    face = helpers.make_face((span / 2, span / 2), side, tilt=-7)
    alignment = align_face(face.landmarks, 512)
    expected_crop = sharpened(crop_face(to_image_data(image), alignment), 0.5).astype(np.float32)
    canvas = Canvas(to_image_data(image))
    canvas.paste(expected_crop, square_mask(), alignment)
    result = helpers.restorer(helpers.sharpening_weights(512, 0.5), [face]).restore(image)
    difference = np.abs(result.image.astype(int) - canvas.result.pixels.astype(int))
    assert difference.max() <= 2
    assert np.abs(result.image.astype(int) - image.astype(int)).max() > 10  # it did sharpen


@pytest.mark.parametrize("scale", [1.0, 255.0, 65535.0])
def test_red_weights_turn_the_face_red_and_nothing_else(scale):
    image = helpers.texture(300, 400, sigma=1) * np.float32(0.5)
    dtype = {1.0: np.float32, 255.0: np.uint8, 65535.0: np.uint16}[scale]
    image = np.rint(image * scale).astype(dtype) if scale > 1 else image
    face = helpers.make_face((180, 150), 120, tilt=10)
    result = helpers.restorer(helpers.red_weights(256, 0.5), [face]).restore(image)
    change = (result.image.astype(np.float64) - image) / scale
    inside, outside = result.mask == 1, result.mask == 0
    assert change[inside][:, 0].mean() == pytest.approx(0.25, abs=0.01)
    assert np.abs(change[inside][:, 1:].mean(0)).max() < 0.005
    assert not change[outside].any()


def test_what_is_not_finite_is_not_pasted():
    restorer = helpers.restorer(helpers.identity_weights(256), [helpers.make_face((100, 100), 80)])
    restorer.network.forward = lambda x, on_tick, strip_bytes: torch.full_like(x, float("nan"))
    image = helpers.texture(200, 200)
    result = restorer.restore(image)
    assert np.array_equal(result.image, image) and not result.faces[0].restored
    assert result.faces[0].reason == "the network's output is not finite in float32"


@pytest.mark.slow
def test_progress_counts_faces_and_can_stop_the_work():
    faces = [helpers.make_face(center, side) for center, side, _ in FACES]
    restorer = helpers.restorer(helpers.identity_weights(256), faces)
    image = helpers.texture(600, 900)
    seen = []
    restorer.restore(image, progress=lambda event: seen.append((event.stage, event.unit, event.done, event.total)))
    assert list(dict.fromkeys(seen)) == [("detect", "image", 0, None), *(("restore", "face", n, 3) for n in range(4))]

    def stop(event):
        if event.done == 1:
            raise Interrupted("stopped")

    with pytest.raises(Interrupted):
        restorer.restore(image, progress=stop)


def test_input_is_not_changed_and_no_face_leaves_all_as_it_was():
    image = helpers.texture(64, 64)
    image.setflags(write=False)
    result = helpers.restorer(helpers.identity_weights(256), []).restore(image)
    assert np.array_equal(result.image, image) and not result.is_changed and result.faces == ()
    assert result.smallest_face == 16


def test_load_goes_from_names_to_a_restored_photograph(models, astronaut):
    restorer = FaceRestorer.load("red-256", "retinaface_mobile0.25", models, device="cpu")
    result = restorer.restore(astronaut)
    assert [face.restored for face in result.faces] == [True] and isinstance(restorer.network, GPEN)
    x, y = map(int, result.faces[0].center)
    change = result.image[y - 20 : y + 20, x - 20 : x + 20].astype(int) - astronaut[y - 20 : y + 20, x - 20 : x + 20]
    assert change[..., 0].mean() > 20 and np.abs(change[..., 1:].mean((0, 1))).max() < 2
    assert np.array_equal(result.image[result.mask == 0], astronaut[result.mask == 0])
