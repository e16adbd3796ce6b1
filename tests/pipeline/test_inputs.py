"""What goes with an image: a background, a mask, boxes, the image before a swap; and several images at once."""

import math
from dataclasses import replace

import helpers
import numpy as np
import pytest
import torch

from gpen_core import Interrupted, RestoreOptions
from gpen_core.errors import InputError
from gpen_core.faces.align import align_face
from gpen_core.faces.face import Face
from gpen_core.faces.select import skip_outside_boxes
from gpen_core.pipeline.devices import BatchPlan
from gpen_core.pipeline.inputs import RestoreInput
from gpen_core.pipeline.model_set import GPENRunner

pytestmark = pytest.mark.usefixtures("compositor_backend")

LEFT, RIGHT = helpers.make_face((90, 100), 80), helpers.make_face((310, 100), 80)


@pytest.fixture(scope="module")
def red():
    return helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [LEFT, RIGHT])


@pytest.fixture(scope="module")
def identity():
    return helpers.restorer(helpers.identity_weights(256), [LEFT, RIGHT])


@pytest.fixture
def picture():
    return helpers.texture(200, 400, sigma=1.5)


def is_red(image):
    return np.abs(image - np.float32([1, 0, 0])).max(-1) < 1e-6  # interpolation's weights add up to 1 but for rounding


def center_of(face, scale=1.0):
    x, y = face.center
    return round(y * scale), round(x * scale)


def test_faces_go_into_the_background_at_its_scale(identity, picture):
    import cv2

    background = cv2.resize(picture, (1200, 600), interpolation=cv2.INTER_CUBIC).clip(0, 1)
    untouched = background.copy()
    result = identity.restore(picture, background=background)
    assert result.image.shape == background.shape and result.mask.shape == (600, 1200)
    assert (result.image[result.mask == 0] == untouched[result.mask == 0]).all() and (background == untouched).all()
    assert all(face.restored for face in result.faces) and result.mask[center_of(LEFT, 3)] == 1
    # The network gives its input back: the face, enlarged, lies where it should, to a fraction of a pixel.
    assert helpers.psnr(result.image[result.mask == 1], untouched[result.mask == 1]) > 40
    shifted = np.roll(untouched, 2, axis=1)
    assert helpers.psnr(result.image[result.mask == 1], shifted[result.mask == 1]) < 35


def test_the_background_decides_kind_and_depth(red, picture):
    background = np.zeros((401, 800, 4), np.uint16)
    background[..., 3] = 777
    image = red.restore(picture, background=background).image
    assert image.dtype == np.uint16 and (image[..., 3] == 777).all()
    assert tuple(image[center_of(LEFT, 2)]) == (65535, 0, 0, 777)


@pytest.mark.parametrize("size", [(199, 399), (199, 400), (200, 396), (100, 200)])
def test_a_smaller_background_is_refused(red, picture, size):
    with pytest.raises(InputError, match="must not be smaller"):
        red.restore(picture, background=np.zeros((*size, 3), np.uint8))


def test_a_face_that_a_stretched_background_makes_no_face_of_is_left_alone_and_says_why(picture, monkeypatch):
    """By 2 %, which is allowed; its landmarks are at the edge of what counts as a face."""
    points = helpers.make_face((200, 100), 80).landmarks
    middle = points.mean(0)

    def fits(width, stretch):
        return not isinstance(align_face(((points - middle) * (width, 1) + middle) * (stretch, 1), 256), str)

    width = next(w for w in np.linspace(0, -1, 2000) if fits(w, 1) and not fits(w, 1.019))
    face = replace(helpers.make_face((200, 100), 80), landmarks=(points - middle) * (width, 1) + middle)
    monkeypatch.setattr("gpen_core.pipeline.session.flag_implausible", list)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [face])
    assert restorer.restore(picture).faces[0].restored
    background = np.zeros((2000, 4076, 3), np.uint8)
    result = restorer.restore(picture, background=background)
    assert result.faces[0].reason.startswith("in the background its landmarks are not those of a face")
    assert not result.mask.any()


def test_a_background_of_other_proportions_is_refused(red, picture):
    with pytest.raises(InputError, match="400x400, the image 400x200"):
        red.restore(picture, background=np.zeros((400, 400, 3), np.uint8))


def test_a_mask_limits_pixels(red, picture):
    region_mask = np.zeros((200, 400), np.float32)
    region_mask[:, :90] = 1
    result = red.restore(picture, region_mask=region_mask)
    assert (result.image[:, 90:] == picture[:, 90:]).all() and is_red(result.image)[100, 85]
    assert [face.restored for face in result.faces] == [True, False]
    assert result.faces[1].reason == "outside the mask"
    assert (result.mask <= region_mask).all()


def test_a_mask_of_another_size_and_half_strength(red, picture):
    result = red.restore(picture, region_mask=np.full((10, 20), 0.5))
    assert result.mask.max() == 0.5 and all(face.restored for face in result.faces)


def test_faces_outside_the_mask_are_not_run(red, picture, monkeypatch):
    monkeypatch.setattr("gpen_core.pipeline.gpen_runner.GPENRunner.restore", None)
    result = red.restore(picture, region_mask=np.zeros((200, 400)))
    assert (result.image == picture).all() and not result.is_changed


@pytest.mark.parametrize("region_mask", [np.ones((3, 3, 3)), np.full((4, 4), np.nan), np.ones((0, 4))])
def test_what_is_no_mask_is_refused(red, picture, region_mask):
    with pytest.raises(InputError, match="Expected a mask"):
        red.restore(picture, region_mask=region_mask)


@pytest.mark.parametrize(
    ("boxes", "restored"),
    [
        ([LEFT.box], [True, False]),
        ([(0, 0, 400, 200)], [True, True]),  # both lie in it
        ([(80, 90, 100, 110)], [True, False]),  # a box inside the face
        ([(130, 60, 260, 140)], [False, False]),  # beside both
        ([(5, 5, 5, 5)], [False, False]),
        ([], [False, False]),
    ],
)
def test_boxes_choose_among_the_faces_found(red, picture, boxes, restored):
    result = red.restore(picture, boxes=boxes)
    assert [face.restored for face in result.faces] == restored
    assert all(face.restored or face.reason == "outside the given boxes" for face in result.faces)


def test_boxes_without_a_face_are_named_by_number(red, picture):
    result = red.restore(picture, boxes=[(5, 5, 25, 30), LEFT.box, (3, 3, 3, 3)])
    assert result.notes == (
        "no face was found in box 0 (5, 5, 25, 30)",
        "no face was found in box 2 (3, 3, 3, 3), which is empty: expected x0, y0, x1, y1 with x0 < x1 and y0 < y1",
    )
    assert red.restore(picture).notes == () and red.restore(picture, boxes=[]).notes == ()


@pytest.mark.parametrize("box", [(math.nan, 0, 9, 9), (0, 0, math.inf, 9), (0, 0, 9), (1, 2, 3, 4, 5), "abcd", None])
def test_a_box_that_is_none_is_refused_by_number(red, picture, box):
    with pytest.raises(InputError, match=r"Box 1 is .*four finite numbers"):
        red.restore(picture, boxes=[LEFT.box, box])


def test_landmarks_that_no_head_shows_are_left_alone_with_a_reason(picture):
    lying = Face(LEFT.box, 0.99, LEFT.landmarks[[3, 4, 2, 0, 1]])  # upside down, as if upright
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [lying, RIGHT])
    result = restorer.restore(picture)
    assert [face.restored for face in result.faces] == [False, True]
    assert "not those of a head" in result.faces[0].reason
    assert restorer.detect([picture])[0][0].reason == result.faces[0].reason


def test_landmarks_that_no_head_shows_are_left_alone_although_the_swap_changed_them(picture):
    landmarks = LEFT.landmarks.copy()
    landmarks[2, 0] += 50  # the nose; an alignment still accepts it
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [Face(LEFT.box, 0.99, landmarks), RIGHT])
    result = restorer.restore(picture, before_swap=helpers.texture(200, 400, seed=9, sigma=1.5))
    assert [face.restored for face in result.faces] == [False, True]
    assert "not those of a head" in result.faces[0].reason and result.faces[0].change > 0


def test_largest_is_chosen_among_the_boxed():
    small, large = helpers.make_face((50, 50), 40), helpers.make_face((150, 50), 80)
    restorer = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [small, large])
    result = restorer.restore(np.zeros((100, 200, 3), np.uint8), RestoreOptions(faces="largest"), boxes=[small.box])
    assert [face.restored for face in result.faces] == [True, False]


def test_a_reason_is_kept():
    (face,) = skip_outside_boxes(skip_outside_boxes([LEFT], []), [LEFT.box])
    assert face.reason == "outside the given boxes"


def test_only_changed_faces_are_restored(red, picture):
    before_swap = picture.copy()
    before_swap[60:140, 50:130] = helpers.texture(80, 80, seed=9, sigma=1.5)
    result = red.restore(picture, before_swap=before_swap)
    assert [face.restored for face in result.faces] == [True, False]
    assert result.faces[0].change > result.faces[1].change
    assert "not changed by the swap" in result.faces[1].reason and result.faces[1].to_json()["change"] == 0


@pytest.mark.slow
def test_several_images_at_once_equal_one_by_one(red, picture, monkeypatch):
    frames = [
        RestoreInput(picture),
        RestoreInput(picture[:, ::-1].copy(), region_mask=np.ones((1, 1))),
        RestoreInput((picture * 255).astype(np.uint8)),
    ]
    singly = [red.restore_batch([frame])[0] for frame in frames]
    sizes = []
    run = GPENRunner.run

    def watched(self, x, *args):
        sizes.append(len(x))
        return run(self, x, *args)

    monkeypatch.setattr(GPENRunner, "run", watched)
    monkeypatch.setattr(GPENRunner, "plan_batches", lambda self, max_memory: BatchPlan(4, None))
    together = red.restore_batch(frames, keep_crops=True)
    assert sizes == [4, 2]  # faces are batched across images
    for one, other in zip(singly, together):
        assert (one.image == other.image).all() and (one.mask == other.mask).all()
        assert one.image.dtype == other.image.dtype
    assert [len(result.crops) for result in together] == [2, 2, 2] and not singly[0].crops
    assert together[0].crops[0].shape == (256, 256, 3) and is_red(together[0].crops[0]).all()


def test_what_comes_back_is_never_the_input_itself(identity, picture):
    nothing = helpers.restorer(helpers.identity_weights(256), [])
    result = nothing.restore(picture)
    assert not result.is_changed and np.array_equal(result.image, picture)
    assert not np.shares_memory(result.image, picture) and result.image is result.image


def test_no_images(red):
    assert red.restore_batch([]) == []


def test_detect_gives_faces_in_order(red, picture):
    (faces,) = red.detect([picture], RestoreOptions(order="left-right"))
    assert [face.box for face in faces] == [LEFT.box, RIGHT.box]


def test_progress_is_told_within_a_face_and_can_stop_it_there(red, picture):
    told = []

    def stop_in_the_second(event):
        told.append((event.done, event.total))
        if event.done == 1 and told.count((1, 2)) == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        red.restore(picture, progress=stop_in_the_second)
    assert told[0] == (0, None) and told.count((0, 2)) > 5
    result = red.restore(picture)
    assert all(face.restored for face in result.faces)


def test_modules_may_wait_elsewhere():
    network = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), []).network
    detector = helpers.FakeDetector([])
    detector.network = torch.nn.Identity()
    restorer = helpers.build_restorer(network, detector, offload_device=torch.device("meta"))
    assert restorer.network.constant.is_meta and restorer.modules() == (restorer.network, detector.network)


def test_choose_gives_the_faces_that_would_be_restored(red, picture):
    for options in (RestoreOptions(), RestoreOptions(faces=(7,)), RestoreOptions(min_face_size=1000)):
        result = red.restore(picture, options)
        chosen = red.select_faces(RestoreInput(picture), options)
        assert [face.reason for face in chosen] == [face.reason for face in result.faces]
        assert [face.reason is None for face in chosen] == [face.restored for face in result.faces] and chosen
        assert not any(face.restored for face in chosen)
