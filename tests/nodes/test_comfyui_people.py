"""People chosen by photos in ComfyUI."""

import fake_comfyui
import helpers
import numpy as np
import pytest
import torch

pytest_plugins = ["cli_fixtures", "people"]

BLUE = torch.tensor([0.3, 0.5, 1.6])  # gives the same face another embedding: it is the layout of its colors


@pytest.fixture
def models(tmp_path, detector_weights):
    files = {
        f"facedetection/{helpers.DETECTOR_FILE}": detector_weights,
        "GPEN/gpen-red-256.pth": helpers.constant_weights(256, (1, 0, 0)),
    }
    helpers.write_weights(tmp_path / "models", files)
    return tmp_path / "models"


@pytest.fixture
def host(models, monkeypatch, pin_embedder):
    made = fake_comfyui.Host(models, monkeypatch)
    pin_embedder(models / "facedetection", catalog=made.module("gpen_core.weights.catalog"))
    return made


@pytest.fixture
def loaded(host):
    detector = "detection_mobilenet0.25_Final.pth"
    return host.run("GPEN_LoadModel", model="gpen-red-256.pth", precision="fp32", detector=detector)[0]


@pytest.fixture
def photos(portrait):
    """A person, the same person elsewhere in the image, and somebody else: [1, H, W, 3] each."""
    image = torch.from_numpy(np.asarray(portrait))[None].float() / 255
    return image, image[:, 8:], (image * BLUE).clamp(0, 1)


def restored(host, loaded, image, **options):
    (face_options,) = host.run("GPEN_FaceOptions", **{"reference": None, "leave_out": None, **options})
    result = host.run("GPEN_RestoreFaces", image=image, model="auto", gpen_model=loaded, face_options=face_options)
    return bool((result[0] != image).any())


def test_a_person_is_restored_or_left_out(host, loaded, photos):
    image, same, other = photos
    assert restored(host, loaded, image, reference=same) and not restored(host, loaded, other, reference=same)
    assert not restored(host, loaded, image, leave_out=same) and restored(host, loaded, other, leave_out=same)
    batch = torch.cat([same, same * 0.9])
    assert restored(host, loaded, image, reference=batch)


def test_frames_of_a_video_are_compared_too(host, loaded, photos):
    image, same, other = photos
    for frames, expected in ((image, True), (other, False)):
        (face_options,) = host.run("GPEN_FaceOptions", reference=same, min_duration=0.0)
        batch = frames.repeat(3, 1, 1, 1)
        result = host.run("GPEN_RestoreVideo", image=batch, model="auto", gpen_model=loaded, face_options=face_options)
        assert bool((result[1] != batch).any()) is expected


def test_frames_of_a_video_keep_their_identity_or_are_skipped(host, loaded, photos):
    batch = photos[0].repeat(3, 1, 1, 1)
    (face_options,) = host.run("GPEN_FaceOptions", min_duration=0.0)
    (look_options,) = host.run("GPEN_LookOptions", min_identity=1.0)
    more = {"face_options": face_options, "look_options": look_options}
    result = host.run("GPEN_RestoreVideo", image=batch, model="auto", gpen_model=loaded, **more)
    assert torch.equal(result[1], batch) and "skipped (frames 0 to 2" in result[3]
    assert "its identity would not be kept: " in result[3]


def test_a_reference_with_another_number_of_faces_is_refused(host, loaded, photos):
    image, _, other = photos
    for photo, text in (
        (torch.zeros(1, 90, 90, 3), "no face was found in it"),
        (torch.cat([image, other], 2), "it has 2 faces"),
    ):
        with pytest.raises(Exception, match=f"^reference is not a photo of one person: {text}"):
            restored(host, loaded, image, reference=photo)


@pytest.mark.parametrize("faces", ["like:/etc/passwd", "not:photo.jpg", "0,like:photo.jpg"])
@pytest.mark.parametrize("node", ["GPEN_RestoreFaces", "GPEN_RestoreVideo"])
def test_a_path_in_a_graph_is_refused_and_never_opened(host, photos, monkeypatch, node, faces):
    monkeypatch.setattr("builtins.open", lambda *args, **kwargs: pytest.fail(f"opened {args}"))
    with pytest.raises(Exception, match="a path can be given only on the command line and in Python"):
        host.run(node, image=photos[0], model="gpen-red-256.pth", faces=faces)


def test_a_person_has_one_number_in_all_shots(host, loaded, photos):
    image, _, other = photos
    pad = torch.nn.functional.pad
    first, second = pad(image, (0, 0, 0, 144), value=0.1), pad(other.flip(2), (0, 0, 144, 0), value=0.8)
    half = torch.nn.functional.avg_pool2d(torch.cat([first, second]).movedim(3, 1), 2).movedim(1, 3)
    batch = half.repeat_interleave(4, 0).repeat(2, 1, 1, 1)
    for choice, counted in (
        ("auto", "16 frames, 2 people: 1 restored, 1 skipped"),
        ("off", "16 frames, 4 people: 1 restored"),
    ):
        (options,) = host.run("GPEN_FaceOptions", min_duration=0.0, join_people=choice)
        more = {"face_options": options, "faces": "0", "temporal_smoothing": 0.0}
        text = host.run("GPEN_RestoreVideo", image=batch, model="auto", gpen_model=loaded, **more)[3]
        assert text.startswith(counted)
        assert ("4 faces were joined to 2 people by SFace" in text) is (choice == "auto")
