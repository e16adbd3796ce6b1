"""Embeddings of faces, and whom they match."""

import cv2
import embedder_files
import helpers
import numpy as np
import people
import pytest

from gpen_core.errors import WeightsError
from gpen_core.faces.identity import Person, SFace, embed_face, match_person
from gpen_core.images.image import from_array


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("sface") / "sface.onnx"
    path.write_bytes(people.ONNX)
    return cv2.FaceRecognizerSF.create(str(path), "")


@pytest.mark.parametrize("side", [40, 62, 90, 200, 420])
def test_a_face_is_aligned_and_embedded_as_opencvs_recognizer_does(recognizer, side):
    """Where the face is larger than 112 px, ours averages instead of skipping pixels."""
    face = helpers.make_face((260, 250), side, tilt=12)
    rgb = np.rint(helpers.texture(520, 540, sigma=side / 20) * 255).astype(np.uint8)
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    row = np.array([[*face.box, *face.landmarks.ravel(), face.score]], np.float32)
    aligned = recognizer.alignCrop(bgr, row)
    assert aligned.shape == (112, 112, 3)
    theirs = recognizer.feature(aligned).ravel()
    ours = embed_face(SFace(people.ONNX), from_array(rgb), face.landmarks)
    assert np.linalg.norm(ours) == pytest.approx(1, abs=1e-6)
    assert float(ours @ theirs / np.linalg.norm(theirs)) > (0.9999 if side < 70 else 0.999)


def test_colors_reach_the_network_in_its_order_and_range():
    """SFace takes RGB from 0 to 255."""
    content = embedder_files.linear(np.eye(3, dtype=np.float32), np.array([0, 0, 255], np.float32), 112)
    red = np.zeros((112, 112, 3), np.float32)
    red[..., 0] = 1
    assert SFace(content).embed(red) == pytest.approx([0.5**0.5, 0, 0.5**0.5], abs=1e-5)


@pytest.mark.parametrize("landmarks", [np.full((5, 2), np.nan), np.full((5, 2), 7.0), None])
def test_a_face_without_an_alignment_has_no_embedding(landmarks):
    points = helpers.make_face((-900, -900), 50).landmarks if landmarks is None else landmarks
    assert embed_face(SFace(people.ONNX), from_array(np.zeros((64, 64, 3), np.float32)), points) is None


@pytest.mark.parametrize("content", [b"", b"no graph", people.ONNX[:200]])
def test_what_opencv_cannot_read_is_refused(content):
    with pytest.raises(WeightsError, match=f"OpenCV {cv2.__version__} cannot run it"):
        SFace(content)


def person(name, angle, is_excluded=False):
    return Person(name, np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))], np.float32), is_excluded)


def test_the_most_similar_person_decides():
    anna, bob = person("anna", 0), person("bob", 60, is_excluded=True)
    near_anna, between, near_bob, nobody = (person("", angle).embedding for angle in (10, 35, 50, 180))
    by_face = [match_person(one, [anna, bob], 0.363) for one in (near_anna, between, near_bob, nobody)]
    assert [(match.name, match.is_same, match.is_excluded) for match in by_face] == [
        ("anna", True, False),
        ("bob", True, True),
        ("bob", True, True),
        ("bob", False, True),
    ]
    assert by_face[1].wanted_similarity == pytest.approx(np.cos(np.radians(35)), abs=1e-6)
    assert match_person(near_bob, [bob], 0.363).wanted_similarity is None
    assert match_person(None, [anna], 0.363) is None
