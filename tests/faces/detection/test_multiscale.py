"""Every face once, at every size and angle, in a real photograph with a real detector; and what that costs."""

import cv2
import helpers
import numpy as np
import pytest
import torch
from helpers import detection_row

from gpen_core import RestoreOptions
from gpen_core.faces.detection.image_source import BORDER, with_border
from gpen_core.faces.detection.multiscale import MIN_CONFIDENCE, detect_faces
from gpen_core.faces.detection.pyramid import SCALE_RANGE
from gpen_core.faces.detection.refine import MIN_SCORE
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.images.image import apply_orientation, to_image_data
from gpen_core.tools.demo import images as demo_pictures

CPU = torch.device("cpu")
FACE = 95  # px of the astronaut's box


@pytest.fixture(scope="module")
def detector(detector_weights):
    return Detector.from_state_dict(detector_weights, CPU)


@pytest.fixture(scope="module")
def truth(detector, astronaut):
    (face,) = detector.detect([to_image_data(astronaut)])[0]
    return face


def textured(image, factor, seed=1):
    """Enlarged, with the detail that an enlargement lacks; or reduced by area."""
    height, width = (round(side * factor) for side in image.shape[:2])
    if factor < 1:
        return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    out = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    rng = np.random.default_rng(seed)
    for octave in range(int(np.ceil(np.log2(factor))) + 1):
        noise = rng.standard_normal((height >> octave, width >> octave)).astype(np.float32)
        out += 3 * cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.rint(np.clip(out + rng.normal(0, 2.5, out.shape), 0, 255)).astype(np.uint8)


def off(face, box, landmarks):
    """The largest error of the box's corners and the mean one of the landmarks, in widths of the face."""
    width = box[2] - box[0]
    corners = np.abs(np.array(face.box) - box).max() / width
    return corners, np.hypot(*(face.landmarks - landmarks).T).mean() / width


def counted(detector, monkeypatch):
    """The pixels of each pass of the network from now on."""
    passes = []
    see = detector.forward

    def counting(batch, confidence, min_size):
        passes.append(batch.shape[:3])
        return see(batch, confidence, min_size)

    monkeypatch.setattr(detector, "forward", counting)
    return passes


@pytest.mark.parametrize(
    "size", [24, 32, 45, 90, 150, 256, *(pytest.param(size, marks=pytest.mark.slow) for size in (400, 700, 1100))]
)
def test_a_face_of_any_size_is_found_once(detector, astronaut, truth, size):
    factor = size / FACE
    image = textured(astronaut, factor)
    faces = detector.detect([to_image_data(image)])[0]
    assert len(faces) == 1
    scale = image.shape[0] / 512
    box, landmarks = (np.array(truth.box) + 0.5) * scale - 0.5, (truth.landmarks + 0.5) * scale - 0.5
    corners, points = off(faces[0], box, landmarks)
    assert corners < 0.15 and points <= max(0.04, 1.5 / size)


@pytest.mark.slow
def test_a_face_that_fills_the_image_is_found_once(detector, astronaut, truth):
    x0, y0, x1, y1 = truth.box
    side = (y1 - y0) / 0.9
    left, top = round((x0 + x1 - side) / 2), round((y0 + y1 - side) / 2)
    close = astronaut[top : top + round(side), left : left + round(side)]
    for factor in (1, 4, 12):
        image = textured(close, factor)
        faces = detector.detect([to_image_data(image)])[0]
        assert len(faces) == 1
        assert off(faces[0], np.array([x0 - left, y0 - top, x1 - left, y1 - top]) * factor, faces[0].landmarks)[0] < 0.15


@pytest.mark.slow
def test_tiny_and_huge_faces_in_one_image_are_each_found_once(detector, astronaut):
    canvas = np.full((1800, 2600, 3), 110, np.uint8)
    head = astronaut[0:280, 60:340]
    places = {(40, 40): 6.0, (1750, 60): 2.5, (1760, 900): 1.0, (2150, 900): 0.6, (2150, 1200): 0.3, (1800, 1250): 1.2}
    for n, ((x, y), factor) in enumerate(places.items()):
        tile = textured(head, factor, n)
        canvas[y : y + tile.shape[0], x : x + tile.shape[1]] = tile
    faces = detector.detect([to_image_data(canvas)], RestoreOptions(detection_size=2600))[0]
    assert len(faces) == len(places)
    for (x, y), factor in places.items():
        inside = [f for f in faces if x < f.center[0] < x + 280 * factor and y < f.center[1] < y + 280 * factor]
        assert len(inside) == 1
        assert inside[0].shorter_side == pytest.approx(FACE * factor, rel=0.15)


@pytest.mark.parametrize("angles", ["auto", "all"])
@pytest.mark.parametrize("degrees", range(0, 360, 15))
@pytest.mark.slow
def test_a_photograph_may_be_turned_by_any_angle(detector, astronaut, truth, degrees, angles):
    matrix = cv2.getRotationMatrix2D((255.5, 255.5), -degrees, 1)  # clockwise
    matrix[:, 2] += 107
    image = cv2.warpAffine(astronaut, matrix, (726, 726), borderValue=(117, 117, 117))
    faces = detector.detect([to_image_data(image)], RestoreOptions(angles=angles))[0]
    assert len(faces) == 1
    landmarks = truth.landmarks @ matrix[:, :2].T + matrix[:, 2]
    error = np.hypot(*(faces[0].landmarks - landmarks).T).mean() / FACE
    assert error < (0.12 if degrees % 90 == 45 else 0.06)


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_an_image_turned_by_quarters_gives_the_turned_landmarks(detector, astronaut, truth, quarters):
    faces = detector.detect([to_image_data(np.ascontiguousarray(np.rot90(astronaut, quarters)))])[0]
    x, y = truth.landmarks.T
    expected = np.stack(((y, 511 - x), (511 - x, 511 - y), (511 - y, x))[quarters - 1], axis=1)
    assert len(faces) == 1
    assert np.hypot(*(faces[0].landmarks - expected).T).mean() < 0.04 * FACE


def test_upright_never_turns(detector, astronaut, monkeypatch):
    image = to_image_data(np.ascontiguousarray(astronaut[::-1, ::-1]))
    (face,) = detector.detect([image])[0]
    assert face.landmarks[0, 0] > face.landmarks[1, 0] + 10  # upside down, the left eye is on the right
    passes = counted(detector, monkeypatch)
    detector.detect([image], RestoreOptions(angles="upright"))
    assert [shape[1] - 2 * BORDER for shape in passes if shape[1] != 160] == [512, 171]


def to_first_orientation(orientation, shape):
    """[2, 3]: pixels of an image in that EXIF orientation -> pixels of the image as it was, whose shape is given."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    places = apply_orientation(np.dstack((x, y)), orientation)
    corner = places[0, 0]
    return np.column_stack((places[0, 1] - corner, places[1, 0] - corner, corner)).astype(float)


@pytest.mark.parametrize("side", ["left", "top", "bottom"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_face_cut_off_by_the_border_is_found_in_every_orientation(detector, astronaut, truth, orientation, side):
    """By 40 to 60 %; each border is in turn each of the image's four."""
    x, y = (round(v) for v in truth.center)
    part = {"left": np.s_[:260, x - 14 : 420], "top": np.s_[y - 15 : 320, 100:360], "bottom": np.s_[: y + 10, 60:400]}[side]
    image = astronaut[part]
    turned = np.ascontiguousarray(apply_orientation(image, orientation))
    (face,) = detector.detect([to_image_data(turned)])[0]
    matrix = to_first_orientation(orientation, image.shape)
    corners = np.array(face.box).reshape(2, 2) @ matrix[:, :2].T + matrix[:, 2]
    corners += [part[1].start or 0, part[0].start or 0]
    found = np.clip(np.concatenate((corners.min(0), corners.max(0))), [part[1].start or 0, part[0].start or 0] * 2, None)
    expected = np.clip(truth.box, [part[1].start or 0, part[0].start or 0] * 2, None)
    if side == "bottom":
        found[3] = expected[3] = 0
    assert np.abs(found - expected).max() < 0.35 * FACE


@pytest.mark.parametrize("scale", [0.8, 1])
def test_a_face_mostly_cut_off_is_found_in_the_image_and_in_its_mirror_image(detector, astronaut, truth, scale):
    """The network alone finds it at the right only."""
    low = truth.box[0] + 0.65 * (truth.box[2] - truth.box[0])
    x, width, height = round(scale * low), round(scale * 250), round(scale * 300)
    image = (astronaut if scale == 1 else cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))[
        :height, x : x + width
    ]
    seen, mirrored = (
        detector.detect([to_image_data(np.ascontiguousarray(one))], RestoreOptions(angles="upright"))[0]
        for one in (image, image[:, ::-1])
    )
    assert len(seen) == len(mirrored) == 1
    visible = [np.clip([face.box[0], face.box[2]], 0, image.shape[1]) for face in (seen[0], mirrored[0])]
    assert np.abs(visible[0] - (image.shape[1] - visible[1][::-1])).max() < 0.15 * FACE
    assert all(face.landmarks[0, 0] < face.landmarks[1, 0] for face in (seen[0], mirrored[0]))


def test_a_strip_is_reduced_as_an_image_of_as_many_pixels(detector, astronaut):
    """Three faces of 60 px: as they are 12 px would be left of them by the longer side, 30 px by the area."""
    strip = np.full((250, 3000, 3), 110, np.uint8)
    small = textured(astronaut[:320], 60 / FACE)[:250]
    for x in (100, 1400, 2600):
        strip[: small.shape[0], x : x + small.shape[1]] = small
    for image in (strip, np.ascontiguousarray(strip.swapaxes(0, 1)[::-1])):
        faces = detector.detect([to_image_data(image)], RestoreOptions(detection_size=500))[0]
        assert len(faces) == 3 and all(45 < face.shorter_side < 75 for face in faces)


@pytest.mark.parametrize("light", [0.01, 0.03])
def test_a_face_in_the_dark_is_found_with_contrast_stretched(detector, astronaut, truth, light):
    dark = np.rint(astronaut * light).astype(np.uint8)
    (face,) = detector.detect([to_image_data(dark)])[0]
    assert face.score > 0.9 and max(off(face, truth.box, truth.landmarks)) < 0.2


def test_only_a_dark_image_without_a_face_is_looked_at_twice(detector, monkeypatch):
    passes = counted(detector, monkeypatch)
    count = {}
    for white in (0, 5, 12, 13, 255):
        image = np.full((600, 800, 3), white, np.uint8)
        passes.clear()
        assert detector.detect([to_image_data(image)], RestoreOptions(angles="upright")) == [[]]
        count[white] = len(passes)
    assert count == {0: 3, 5: 6, 12: 6, 13: 3, 255: 3}


def test_heads_among_others_may_lie(detector, astronaut):
    canvas = np.full((600, 1200, 3), 117, np.uint8)
    for n, quarters in enumerate((0, 1, 2)):
        canvas[100:380, 80 + 380 * n : 360 + 380 * n] = np.rot90(astronaut[0:280, 60:340], quarters)
    faces = sorted(detector.detect([to_image_data(canvas)])[0], key=lambda face: face.center[0])
    assert len(faces) == 3
    ups = [face.landmarks[:2].mean(0) - face.landmarks[3:].mean(0) for face in faces]  # mouth to eyes
    assert ups[0][1] < -30 and ups[1][0] < -30 and ups[2][1] > 30


@pytest.mark.slow
def test_images_without_a_face_have_none_and_cost_half_as_much_again(detector, monkeypatch):
    passes = counted(detector, monkeypatch)
    for seed, shape in enumerate([(1500, 2000), (1080, 1920), (700, 1000)]):
        image = np.rint(helpers.texture(*shape, seed=seed, sigma=2) * 255).astype(np.uint8)
        cost = {}
        for angles in ("upright", "auto", "all"):
            passes.clear()
            assert detector.detect([to_image_data(image)], RestoreOptions(angles=angles)) == [[]]
            cost[angles] = sum(np.prod(shape) for shape in passes)
        assert cost["auto"] <= 1.5 * cost["upright"]
        assert 3.5 < cost["all"] / cost["upright"] < 4.5


@pytest.mark.slow
def test_the_levels_below_the_first_cost_an_eighth(detector, monkeypatch, astronaut):
    passes = counted(detector, monkeypatch)
    image = textured(astronaut, 4)
    assert len(detector.detect([to_image_data(image)], RestoreOptions())[0]) == 1
    first, *below = [(height - 2 * BORDER) * (width - 2 * BORDER) for _, height, width in passes]
    assert 0.1 < sum(below) / first < 0.15


@pytest.mark.slow
def test_images_of_one_size_go_together_through_every_level(detector, monkeypatch):
    passes = counted(detector, monkeypatch)
    collage = demo_pictures.collage()
    pictures = [to_image_data(p) for p in (collage, np.ascontiguousarray(collage[:, ::-1]), collage[:700])]
    together = detector.detect(pictures, RestoreOptions(detection_size=600))
    levels = [(n, h - 2 * BORDER, w - 2 * BORDER) for n, h, w in passes if (h, w) != (160, 160)]
    assert sorted(levels) == [(1, 118, 254), (1, 355, 761), (2, 141, 212), (2, 424, 636)]
    for picture, faces in zip(pictures, together):
        alone = detector.detect([picture], RestoreOptions(detection_size=600))[0]
        assert len(alone) == len(faces) >= 3
        for one, other in zip(alone, faces):
            np.testing.assert_allclose(one.box, other.box, atol=0.05)
            np.testing.assert_allclose(one.landmarks, other.landmarks, atol=0.05)


# Around expected faces


def test_a_small_face_is_the_same_in_a_window(detector, monkeypatch, astronaut):
    canvas = np.full((1000, 1500, 3), 110, np.uint8)
    canvas[450:757, 800:1107] = textured(astronaut, 0.6)
    picture = to_image_data(canvas)
    (expected,) = detector.detect([picture])[0]
    x0, y0, x1, y1 = expected.box
    passes = counted(detector, monkeypatch)
    (found,) = detector.detect([picture], near=[(x0 - 10, y0 + 15, x1 - 10, y1 + 15)])[0]  # it has moved
    np.testing.assert_allclose(found.box, expected.box, atol=0.02 * 57)
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=0.01 * 57)
    assert abs(found.score - expected.score) < 0.01
    assert max(height * width for _, height, width in passes) < 0.2 * 1000 * 1500
    assert detector.detect([picture], RestoreOptions(angles="upright"), near=[(100, 100, 180, 190)]) == [[]]


def test_a_large_face_needs_no_expectation(detector, monkeypatch, astronaut):
    picture = to_image_data(textured(astronaut, 2.5))
    (expected,) = detector.detect([picture])[0]
    passes = counted(detector, monkeypatch)
    (found,) = detector.detect([picture], near=[])[0]
    np.testing.assert_allclose(found.landmarks, expected.landmarks, atol=0.01 * 2.5 * FACE)
    assert max(height for _, height, _ in passes) < 512  # not the first level


def test_where_no_face_is_expected_nothing_is_turned(detector, monkeypatch, astronaut):
    picture = to_image_data(np.ascontiguousarray(textured(astronaut, 2)[::-1]))
    passes = counted(detector, monkeypatch)
    detector.detect([picture], near=[])
    assert [height for _, height, _ in passes if height != 160] == [341 + 2 * BORDER, 114 + 2 * BORDER]


# Boxes that lead


def tiny(astronaut, size=8):
    """A face too small to be found, and its box."""
    small = textured(astronaut, size / FACE)
    canvas = np.full((600, 800, 3), 110, np.uint8)
    canvas[200 : 200 + small.shape[0], 300 : 300 + small.shape[1]] = small
    return canvas, small.shape[0] / 512


@pytest.mark.parametrize("wider", [0, 8])
@pytest.mark.slow
def test_where_a_box_is_given_it_is_looked_into(detector, astronaut, truth, wider):
    canvas, scale = tiny(astronaut)
    box = np.array(truth.box) * scale + [300, 200, 300, 200] + [-wider, -wider, wider, wider]
    picture = to_image_data(canvas)
    assert detector.detect([picture]) == [[]]
    (face,) = detector.detect([picture], boxes=[[tuple(box)]])[0]
    assert np.abs(face.landmarks - (truth.landmarks * scale + [300, 200])).max() < 2
    assert detector.detect([picture], boxes=[[(20, 20, 60, 70)]]) == [[]]


def test_a_box_may_hold_a_head_that_lies(detector, astronaut, truth):
    canvas, scale = tiny(astronaut, 10)
    x0, y0, x1, y1 = np.array(truth.box) * scale + [300, 200, 300, 200]
    box = (y0, 800 - x1, y1, 800 - x0)  # after a turn by a quarter, counter-clockwise
    picture = to_image_data(np.ascontiguousarray(np.rot90(canvas)))
    (face,) = detector.detect([picture], boxes=[[box]])[0]
    assert face.landmarks[:2, 0].mean() < face.landmarks[3:, 0].mean() - 2
    assert detector.detect([picture], RestoreOptions(angles="upright"), boxes=[[box]])[0] != [face]


@pytest.mark.parametrize("box", [(5, 5, 5, 50), (50, 5, 5, 50), (900, 900, 950, 950), (-80, -80, -20, -20), (0, 0, 0, 0)])
def test_a_box_that_can_hold_nothing_holds_nothing(detector, box):
    assert detector.detect([to_image_data(np.full((100, 120, 3), 110, np.uint8))], boxes=[[box]]) == [[]]


# What is believed, with a detector that says what it is told


def told(answers):
    """A `see` that answers the passes in turn, rows above the least score; the rest is empty."""
    asked = []

    def see(batch, confidence, min_size):
        asked.append((batch.shape, confidence, min_size))
        rows = answers.get(len(asked) - 1, [])
        rows = np.array([one for one in rows if one[4] > confidence]).reshape(-1, 15)
        return [rows for _ in batch]

    return see, asked


def searched(answers, shape=(250, 250), boxes=None, **options):
    picture = to_image_data(np.full((*shape, 3), 110, np.uint8))
    see, asked = told(answers)
    options = RestoreOptions(**options)
    (rows,) = detect_faces(see, SCALE_RANGE, [picture], options, [boxes])
    return rows, asked


def test_a_clear_face_is_not_looked_at_again():
    rows, asked = searched({1: [detection_row(50, 50, 80, score=0.999)]}, shape=(600, 600))
    assert len(rows) == 1 and [shape[1] - 2 * BORDER for shape, *_ in asked] == [600, 200]
    assert {least for _, least, _ in asked} == {MIN_SCORE}


def test_a_pass_is_started_before_the_answer_of_the_one_before_is_read():
    told = []

    def see(batch, confidence, min_size):
        told.append(f"start {batch.shape[2] - 2 * BORDER}")
        return answer(batch.shape[2] - 2 * BORDER)

    def answer(width):
        told.append(f"read {width}")
        yield np.zeros((0, 15))

    picture = to_image_data(np.full((675, 900, 3), 110, np.uint8))
    options = RestoreOptions(angles="upright", detection_size=900)
    assert len(detect_faces(see, SCALE_RANGE, [picture], options, [None])[0]) == 0
    assert told == ["start 900", "start 300", "read 900", "start 100", "read 300", "read 100"]


@pytest.mark.parametrize(("again", "is_face"), [(0.98, False), (0.995, True)])
def test_a_faint_face_has_to_be_clear_when_looked_at_again(again, is_face):
    first, look = detection_row(100, 100, 80, score=0.5), detection_row(32, 20, 96, score=again)
    rows, asked = searched({0: [first], 1: [], 2: [look]}, shape=(600, 600))
    assert [shape[1] for shape, *_ in asked][:3] == [600 + 2 * BORDER, 200 + 2 * BORDER, 160]
    assert (len(rows) == 1) == is_face


def test_what_is_not_seen_again_goes():
    assert len(searched({0: [detection_row(100, 100, 40, score=0.95)]}, shape=(600, 600), angles="upright")[0]) == 0


def test_a_candidate_beyond_the_image_is_no_trouble():
    rows, asked = searched(
        {0: [detection_row(700, 700, 20, score=0.95), detection_row(-300, 5, 30, score=0.95)]}, shape=(600, 600)
    )
    assert len(rows) == 0 and len(asked) > 2


def test_a_confidence_below_the_faintest_is_asked_for():
    _, asked = searched({}, confidence=0.05)
    assert asked[0][1] == 0.05


def test_a_confidence_of_0_does_not_ask_for_every_anchor():
    """Each has a score above 0."""
    _, asked = searched({}, confidence=0)
    assert asked[0][1] == MIN_CONFIDENCE > 0


def test_small_faces_are_searched_in_the_first_level_only():
    """Each pass says below which size faces may be missed: the first level and boxes show small ones, crops one of 96 px."""
    face = detection_row(100, 100, 80, score=0.5)
    _, asked = searched({0: [face]}, shape=(600, 600), angles="upright")
    assert [(shape[1] - 2 * BORDER, least) for shape, _, least in asked[:2]] == [(600, 0), (200, 36)]
    assert [(shape[1], least) for shape, _, least in asked[2:]] == [(160, 48)]
    _, asked = searched({}, boxes=[(10, 10, 60, 60)], angles="upright", shape=(600, 600))
    assert [least for shape, _, least in asked if shape[1] == 224] == [0]
    _, asked = searched({}, shape=(600, 600))
    assert [least for shape, _, least in asked if shape[1] == 200 + 2 * BORDER] == [36, 0, 0, 0]  # upright, then rotated


@pytest.mark.parametrize("shape", [(1, 30, 40, 3), (2, 7, 5, 3), (1, 1, 1, 3)])
def test_a_border_repeats_the_edge_of_each_image_or_window(shape):
    batch = np.random.default_rng(1).random((shape[0], shape[1] + 9, shape[2] + 9, 3), np.float32)[:, 3:-6, 4:-5]
    expected = np.pad(batch, ((0, 0), (BORDER, BORDER), (BORDER, BORDER), (0, 0)), mode="edge")
    np.testing.assert_array_equal(with_border(batch), expected)
