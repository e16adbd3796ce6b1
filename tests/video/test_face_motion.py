"""A face's motion between two frames, as the image tells it."""

import numpy as np
import pytest
import synthetic_video

from gpen_core.faces.align import invert_affine
from gpen_core.images.image import ImageData, to_image_data
from gpen_core.video.face_motion import IDENTITY, sample_patch, to_gray, track_motion, transform_points

BOX = (178.0, 62.0, 270.0, 186.0)  # the astronaut's face
SIZE = (480, 320)
REST = {"middle": (224, 124), "width": 300}
CORNERS = np.array([[190.0, 80.0], [258.0, 80.0], [190.0, 170.0], [258.0, 170.0]])


def two_frames(photo, motion, noise=0.0, before=IDENTITY):
    """Grays before and after that motion (shift, degrees, zoom) about the middle; the face's box in the first."""
    shift, degrees, zoom = motion
    rng = np.random.default_rng(5)
    rest = synthetic_video.split_frames(synthetic_video.render_video(photo, "still", 1, SIZE, **REST))[1][0]
    move = synthetic_video._about_middle((*shift, degrees, np.log(zoom)), SIZE)
    after = move @ np.vstack((rest, [0, 0, 1]))
    grays = [
        to_gray(
            to_image_data(synthetic_video.add_noise(synthetic_video.warp(photo.astype(np.float32), m, SIZE), noise, rng))
        )
        for m in (rest, after)
    ]
    x0, y0, x1, y1 = synthetic_video.transform_points(np.array(BOX).reshape(2, 2), rest).ravel()
    return (
        grays,
        (x0, y0, x1, y1),
        synthetic_video.transform_points(CORNERS, rest),
        synthetic_video.transform_points(CORNERS, after),
    )


@pytest.mark.parametrize(
    "motion",
    [((0, 0), 0, 1), ((0.4, -0.3), 0, 1), ((9, 5), 0, 1), ((30, -10), 0, 1), ((3, 2), 4, 1.05), ((0, 0), -9, 0.92)],
)
@pytest.mark.parametrize(("noise", "allowed"), [(0, 0.0008), (8, 0.003)])
def test_it_is_told_within_a_thousandth_of_the_face(astronaut, motion, noise, allowed):
    (before, after), box, start, end = two_frames(astronaut, motion, noise)
    found = track_motion(before, after, box)
    off = np.hypot(*(transform_points(found.matrix, start) - end).T)
    assert off.max() < allowed * (box[3] - box[1])
    assert found.correlation > 0.9


def test_a_guess_finds_what_has_gone_far(astronaut):
    (before, after), box, start, end = two_frames(astronaut, ((130, 0), 0, 1))
    assert track_motion(before, after, box) is None
    found = track_motion(before, after, box, np.array([[1.0, 0, 110], [0, 1, 6]]))
    assert np.hypot(*(transform_points(found.matrix, start) - end).T).max() < 0.2


@pytest.mark.parametrize("gain", [0.4, 1.3])
def test_light_that_changes_does_not_matter(astronaut, gain):
    (before, after), box, start, end = two_frames(astronaut, ((5, 3), 1, 1))
    found = track_motion(before, np.clip(after * gain, 0, 255).astype(np.uint8), box)
    assert np.hypot(*(transform_points(found.matrix, start) - end).T).max() < 0.4


def test_nothing_is_told_of_another_image_a_flat_one_or_one_out_of_sight(astronaut):
    (before, after), box, *_ = two_frames(astronaut, ((5, 3), 1, 1))
    assert track_motion(before, np.ascontiguousarray(after[::-1, ::-1]), box) is None
    assert track_motion(before, np.full_like(after, 90), box) is None
    assert track_motion(np.full_like(after, 90), after, box) is None
    assert track_motion(before, after, box, np.array([[1.0, 0, 5000], [0, 1, 0]])) is None
    assert track_motion(before, after, (-900.0, 0.0, -800.0, 100.0)) is None


def test_a_hidden_face_is_not_followed(astronaut):
    (before, after), (x0, y0, x1, y1), *_ = two_frames(astronaut, ((2, 1), 0, 1))
    hidden = after.copy()
    texture = np.random.default_rng(2).integers(0, 255, after.shape, np.uint8)
    rows, columns = slice(int(y0) - 5, int(y1) + 5), slice(int(x0) - 5, int(x1) + 5)
    hidden[rows, columns] = texture[rows, columns]
    assert track_motion(before, hidden, (x0, y0, x1, y1)) is None


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float16", "float32", "float64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_is_taken(astronaut, dtype, channels):
    pixels = astronaut[:, :, :channels].astype(np.float64) / 255
    peak = {"uint8": 255, "uint16": 65535}.get(dtype, 1)
    found = to_gray(ImageData((pixels * peak).astype(dtype)))
    assert found.shape == (512, 512)
    plain = pixels @ [0.299, 0.587, 0.114] if channels == 3 else pixels[..., 0]
    assert np.abs(found / peak - plain).max() < 0.005
    assert track_motion(found, found, BOX).correlation == pytest.approx(1, abs=1e-6)


def test_a_patch_shows_what_its_matrix_says(astronaut):
    whole = to_gray(to_image_data(astronaut))
    assert np.array_equal(sample_patch(whole, np.array([[1.0, 0, -100], [0, 1, -50]]), 64), whole[50:114, 100:164])
    assert sample_patch(whole, np.array([[1.0, 0, 1000], [0, 1, 0]]), 64) is None
    assert np.allclose(invert_affine(invert_affine(IDENTITY)), IDENTITY)
