"""Which faces a swap changed. The faces are those of the demonstration's collage, found by its geometry."""

import itertools

import cv2
import helpers
import numpy as np
import pytest

from gpen_core.errors import InputError
from gpen_core.faces import swap_detection as changed
from gpen_core.faces.align import align_face, crop_face, landmark_template
from gpen_core.faces.face import Face
from gpen_core.faces.swap_detection import THRESHOLD, face_differences
from gpen_core.images.image import to_image_data
from gpen_core.tools.demo import images as demo_pictures

# In the astronaut's image, as the demonstration's detector finds them.
LANDMARKS = np.array([[204.8, 100.8], [247.4, 103.4], [223.6, 129.2], [202.5, 138.1], [244.2, 140.6]])
SWAPPED = 4  # the fifth of the six
SIZE = 192


def face_of(landmarks):
    (x0, y0), (x1, y1) = landmarks.min(0) - 20, landmarks.max(0) + 20
    return Face((x0, y0, x1, y1), 0.99, landmarks)


@pytest.fixture(scope="module")
def original():
    image = demo_pictures.collage()
    image.flags.writeable = False
    return image


@pytest.fixture(scope="module")
def faces():
    x0, y0, x1, _ = demo_pictures.HEAD_BOX
    middle = (x1 - x0) / 2
    found = []
    for center, side, tilt, _ in demo_pictures.COLLAGE:
        matrix = cv2.getRotationMatrix2D((middle, middle), tilt, side / (x1 - x0))
        found.append(face_of((LANDMARKS - (x0, y0) - middle) @ matrix[:, :2].T + center))
    return found


def paste(image, face, crop, amount=1.0):
    """Puts a crop [SIZE, SIZE, 3] into the inner face, with a soft edge."""
    y, x = (np.mgrid[:SIZE, :SIZE] + 0.5) / SIZE
    mask = np.clip((1 - np.hypot((x - 0.5) / 0.25, (y - 0.6) / 0.29)) / 0.25, 0, 1).astype(np.float32)
    back, size = align_face(face.landmarks, SIZE).inverse, image.shape[1::-1]
    weight = amount * cv2.warpAffine(mask, back, size)[..., None]
    pasted = cv2.warpAffine(crop, back, size, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.rint(np.clip(image + weight * (pasted - image), 0, 255)).astype(np.uint8)


def someone_else(number):
    """A crop of another person: a 25 px face of LFW with its eyes and mouth where the template has them."""
    data = pytest.importorskip("skimage.data")
    small = (data.lfw_subset()[number] * 255).astype(np.float32)
    scale = SIZE / 40  # LFW's eyes are 8.5 px apart
    matrix = np.array([[scale, 0, (0.5 - 12 / 40) * SIZE], [0, scale, (0.475 - 8.7 / 40) * SIZE]])
    gray = cv2.warpAffine(small, matrix, (SIZE, SIZE), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.repeat(gray[..., None], 3, axis=2)


def crop_of(image, face):
    return crop_face(to_image_data(image), align_face(face.landmarks, SIZE)) * 255


def in_the_light_of(crop, like):
    """The crop with the mean and standard deviation of each channel of another's inner face."""
    inner = (slice(80, 155), slice(55, 137))
    (m0, s0), (m1, s1) = cv2.meanStdDev(crop[inner]), cv2.meanStdDev(like[inner])
    return ((crop - m0.ravel()) * (s1 / s0).ravel() + m1.ravel()).astype(np.float32)


def swap(image, face, number=3, amount=1.0):
    return paste(image, face, in_the_light_of(someone_else(number), crop_of(image, face)), amount)


@pytest.fixture(scope="module")
def swapped(original, faces):
    return swap(original, faces[SWAPPED])


def jpeg(image, quality):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def resized(image, factor):
    interpolation = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=interpolation)


def scaled(faces, x, y=None):
    factor = (x, x if y is None else y)
    return [face_of((face.landmarks + 0.5) * factor - 0.5) for face in faces]


def measured(original, swapped, faces):
    return face_differences(to_image_data(original), to_image_data(swapped), faces)


def judged(original, swapped, faces):
    return [n for n, change in enumerate(measured(original, swapped, faces)) if change >= THRESHOLD]


def warmer(image):
    return np.rint(255 * np.clip(image / 255 * (1.05, 1, 0.95), 0, 1) ** (1 / 1.08)).astype(np.uint8)


def restored(image):
    """More detail and less noise, everywhere."""
    smooth = cv2.bilateralFilter(image, 0, 20, 3).astype(np.float32)
    fine, coarse = cv2.GaussianBlur(smooth, (0, 0), 2), cv2.GaussianBlur(smooth, (0, 0), 5)
    return np.rint(np.clip(smooth + 0.8 * (smooth - fine) + 0.3 * (smooth - coarse), 0, 255)).astype(np.uint8)


STEPS = {
    "nothing": lambda image: image,
    "JPEG 95": lambda image: jpeg(image, 95),
    "JPEG 75": lambda image: jpeg(image, 75),
    "JPEG 60": lambda image: jpeg(image, 60),
    "one level brighter": lambda image: np.minimum(image, 254) + np.uint8(1),
    "colors": warmer,
    "darker": lambda image: np.rint(image * 0.9).astype(np.uint8),
    "less contrast": lambda image: np.rint(image * 0.9 + 12).astype(np.uint8),
    "blurred": lambda image: cv2.GaussianBlur(image, (0, 0), 1),
    "restored": restored,
    "restored, colors, JPEG 60": lambda image: jpeg(warmer(restored(image)), 60),
    "shifted by half a pixel": lambda image: cv2.warpAffine(
        image, np.array([[1.0, 0, 0.5], [0, 1, 0.5]]), image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE
    ),
}


def test_identical_images_have_no_change_at_all(original, faces):
    assert measured(original, original.copy(), faces) == [0.0] * 6


def test_no_faces_no_changes(original):
    assert measured(original, original, []) == []


@pytest.mark.parametrize("step", STEPS)
def test_the_swapped_face_is_told_from_the_others(original, swapped, faces, step):
    assert judged(original, STEPS[step](swapped), faces) == [SWAPPED]


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.4, 2])
def test_after_resizing(original, swapped, faces, factor):
    assert judged(original, jpeg(resized(swapped, factor), 75), scaled(faces, factor)) == [SWAPPED]


@pytest.mark.parametrize("factor", [0.5, 2])
def test_an_original_of_another_size(original, swapped, faces, factor):
    assert judged(resized(original, factor), swapped, faces) == [SWAPPED]


def test_restored_and_doubled_as_a_pipeline_does(original, swapped, faces):
    assert judged(original, jpeg(resized(restored(swapped), 2), 75), scaled(faces, 2)) == [SWAPPED]


@pytest.mark.parametrize("number", range(0, 60, 4))
def test_many_persons(original, faces, number):
    face = faces[number % 6]
    change = measured(original, jpeg(swap(original, face, number), 75), [face])[0]
    assert change > 2 * THRESHOLD


@pytest.mark.parametrize("number", range(6))
def test_the_same_face_mirrored(original, faces, number):
    mirrored = np.ascontiguousarray(crop_of(original, faces[number])[:, ::-1])
    assert judged(original, paste(original, faces[number], mirrored), faces) == [number]


@pytest.mark.parametrize("number", range(6))
def test_a_face_mixed_in_by_half(original, faces, number):
    assert judged(original, swap(original, faces[number], number, 0.5), faces) == [number]


def test_a_face_painted_over(original, faces):
    flat = np.full((SIZE, SIZE, 3), crop_of(original, faces[0])[80:150, 60:130].mean((0, 1)), np.float32)
    assert judged(original, paste(original, faces[0], flat), faces) == [0]


def test_a_new_face_is_a_large_change(original, faces):
    empty = original.copy()
    empty[500:, :480] = 96  # the fourth head
    values = measured(empty, original, faces)
    assert values[3] > 1
    assert max(values[:3] + values[4:]) == 0


def test_a_vanished_face_is_not_asked_about(original, faces):
    without = original.copy()
    without[500:, :480] = 96
    assert measured(original, without, faces[:3] + faces[4:]) == [0.0] * 5


def test_flat_images_have_no_change():
    gray = np.full((100, 100, 3), 96, np.uint8)
    assert measured(gray, gray + np.uint8(4), [helpers.make_face((50, 50), 40)]) == pytest.approx([0], abs=1e-4)


def test_sizes_scaled_in_x_and_y_on_their_own(original, swapped, faces):
    size = (750, 494)  # 1.2 % flatter
    smaller = cv2.resize(swapped, size, interpolation=cv2.INTER_AREA)
    assert judged(original, smaller, scaled(faces, size[0] / 1500, size[1] / 1000)) == [SWAPPED]


@pytest.mark.parametrize("size", [(1500, 1031), (1500, 969), (1000, 1500), (980, 980)])
def test_another_shape_is_refused(original, faces, size):
    with pytest.raises(InputError, match=rf"{size[0]}x{size[1]}.*1500x1000"):
        measured(cv2.resize(original, size), original, faces)


@pytest.mark.parametrize("size", [(13, 9), (27, 18), (133, 89)])
def test_whole_pixels_are_no_other_shape(original, faces, size):
    assert len(measured(cv2.resize(original, size, interpolation=cv2.INTER_AREA), original, faces)) == 6


KINDS = {
    "gray": lambda image: cv2.cvtColor(image, cv2.COLOR_RGB2GRAY),
    "gray and alpha": lambda image: np.dstack((cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), image[..., 0])),
    "alpha": lambda image: np.dstack((image, image[..., 1])),
    "uint16": lambda image: image.astype(np.uint16) * 257,
    "float32": lambda image: (image / 255).astype(np.float32),
    "float64": lambda image: image / 255,
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_of_any_kind(original, swapped, faces, kind):
    convert, plain = KINDS[kind], measured(original, swapped, faces)
    for pair in ((original, convert(swapped)), (convert(original), swapped), (convert(original), convert(swapped))):
        assert measured(*pair, faces) == pytest.approx(plain, abs=0.01)


@pytest.mark.parametrize("cut", [(0, 190, 1000, 1500), (0, 0, 1000, 415), (310, 0, 1000, 1500), (215, 350, 1000, 1500)])
def test_a_face_at_the_border(original, faces, cut):
    """The first face, swapped, with a part of it outside; and the same unswapped."""
    y0, x0, y1, x1 = cut
    moved = [face_of(faces[0].landmarks - (x0, y0))]
    changed, same = (np.ascontiguousarray(i[y0:y1, x0:x1]) for i in (swap(original, faces[0]), original))
    assert measured(same, jpeg(changed, 75), moved)[0] > THRESHOLD
    assert measured(same, jpeg(same, 75), moved)[0] < THRESHOLD / 2


@pytest.mark.parametrize(
    "landmarks",
    [
        np.full((5, 2), np.nan),
        np.full((5, 2), 100.0),
        LANDMARKS[[1, 0, 2, 4, 3]],
        LANDMARKS - (-9000, 0),
        LANDMARKS - (9000, 9000),
    ],
    ids=["nan", "one point", "mirrored", "far to the right", "far to the left"],
)
def test_landmarks_without_a_face(original, faces, landmarks):
    broken, whole = measured(original, original, [Face((0, 0, 9, 9), 0.9, landmarks), faces[0]])
    assert np.isnan(broken)
    assert whole == 0


def test_too_small_in_the_original(original, faces):
    tiny = cv2.resize(original, (15, 10), interpolation=cv2.INTER_AREA)
    assert np.isnan(measured(tiny, original, faces)[SWAPPED + 1])


def test_nothing_is_written_to(original, swapped, faces):
    first, second = original.copy(), swapped.copy()
    points = [face.landmarks.copy() for face in faces]
    measured(first, second, faces)
    assert np.array_equal(first, original)
    assert np.array_equal(second, swapped)
    assert all(np.array_equal(face.landmarks, kept) for face, kept in zip(faces, points))


def test_the_same_numbers_every_time(original, swapped, faces):
    assert measured(original, swapped, faces) == measured(original, swapped, faces)


def test_innocent_changes_are_allowed_for_to_their_limits_and_no_further():
    """The bounded optimum, found here by trying which of the limits hold."""
    size = changed.SIZE
    before = cv2.GaussianBlur(helpers.texture(size, size)[..., 0].astype(np.float64), (0, 0), 2) / 20
    before += np.sin(np.arange(size) * 0.5)[None]  # nearly its own Laplacian: the two may stand for each other
    moved = cv2.warpAffine(before, np.float64([[1, 0, 2], [0, 1, 1]]), (size,) * 2, borderMode=cv2.BORDER_REFLECT)
    pictures = [(0.5 + 0.2 * (one - one.mean())).astype(np.float32) for one in (before, 2.2 * moved)]
    face = Face((0, 0, size, size), 0.99, landmark_template(size))  # its crop is the whole image
    (told,) = changed.face_differences(*(to_image_data(np.dstack([one] * 3)) for one in pictures), [face])
    before, after = (
        cv2.GaussianBlur(one.astype(np.float64), (0, 0), changed.SIGMA, borderType=cv2.BORDER_REPLICATE) for one in pictures
    )
    y, x = (np.mgrid[:size, :size] + 0.5) / size
    (cx, cy), (ax, ay) = changed.CENTER, changed.HALF_AXES
    inside = np.hypot((x - cx) / ax, (y - cy) / ay) <= 1
    gradients = [cv2.Sobel(before, cv2.CV_64F, x, 1 - x, ksize=1, scale=0.5) for x in (1, 0)]
    columns = np.stack(
        [one[inside] - one[inside].mean() for one in (before, *gradients, cv2.Laplacian(before, cv2.CV_64F))], 1
    )
    target = after[inside] - after[inside].mean() - columns[:, 0]
    best = np.inf
    for held in itertools.product((None, -1, 1), repeat=4):
        fixed = [n for n in range(4) if held[n] is not None]
        free = [n for n in range(4) if held[n] is None]
        x = np.zeros(4)
        x[fixed] = [held[n] * changed.FACTOR_LIMITS[n] for n in fixed]
        x[free] = np.linalg.lstsq(columns[:, free], target - columns @ x, rcond=None)[0]
        if (np.abs(x) <= changed.FACTOR_LIMITS + 1e-9).all():
            best = min(best, ((target - columns @ x) ** 2).mean())
    contrast = (before[inside].var() + after[inside].var()) / 2 + changed.MIN_CONTRAST**2
    assert told == pytest.approx(np.sqrt(best / contrast), rel=1e-5)
