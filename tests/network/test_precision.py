"""Faces whose output in half precision is not finite, and memory that runs out in one piece."""

import gc
import json
from concurrent.futures import ThreadPoolExecutor

import helpers
import numpy as np
import pytest
import synthetic
import torch

from gpen_core.faces.detection.retinaface import Detector
from gpen_core.network import GPEN
from gpen_core.pipeline.restorer import FaceRestorer

pytestmark = pytest.mark.usefixtures("compositor_backend")

FACES = [helpers.make_face((80, 80), 60), helpers.make_face((220, 220), 60)]


def half_restorer(load_fp32, faces=FACES):
    return helpers.restorer(helpers.red_weights(256), faces, torch.bfloat16, load_fp32)


def spoil(restorer, monkeypatch, value, faces=(1,)):
    """In place of the network, which takes seconds in bfloat16: what it gives, for those faces with `value` in one pixel."""
    count = iter(range(99))

    def spoiled(x, on_tick, strip_bytes):
        y = x.clone()
        y[:, 0] += 0.5  # as `helpers.red_weights` do
        if next(count) in faces:
            y[0, 1, 7, 9] = value
        return y

    monkeypatch.setattr(restorer.network, "forward", spoiled)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.slow
def test_a_face_that_is_not_finite_is_redone_in_float32_and_that_is_said(monkeypatch, value):
    loaded = []

    def load_fp32():
        loaded.append(GPEN.from_state_dict(helpers.red_weights(256)))
        return loaded[0]

    image = helpers.texture(300, 300, sigma=1)
    restorer = half_restorer(load_fp32)
    expected = helpers.restorer(helpers.red_weights(256), FACES).restore(image).image
    spoil(restorer, monkeypatch, value, faces=())
    assert np.abs(restorer.restore(image).image - expected).max() < 0.02 and not loaded
    spoil(restorer, monkeypatch, value, faces=(0, 1))
    result = restorer.restore(image)
    assert [face.restored for face in result.faces] == [True, True]
    note = "restored in float32 because the bfloat16 output was not finite"
    assert {face.note for face in result.faces} == {note}
    assert json.loads(json.dumps(result.faces[0].to_json()))["note"] == note
    assert len(loaded) == 1  # for both faces
    assert np.abs(result.image - expected).max() < 0.02 and np.isfinite(result.image).all()


@pytest.mark.parametrize("kind", ["no network in float32", "not finite in float32 either"])
@pytest.mark.slow
def test_a_face_that_cannot_be_redone_is_left_alone(monkeypatch, kind):
    def load_fp32():
        exact = GPEN.from_state_dict(helpers.red_weights(256))
        monkeypatch.setattr(exact, "forward", lambda x, on_tick, strip_bytes: torch.full_like(x, torch.nan))
        return exact

    image = helpers.texture(300, 300, sigma=1)
    restorer = half_restorer(None if kind.startswith("no ") else load_fp32)
    spoil(restorer, monkeypatch, torch.nan)
    faces = restorer.restore(image).faces
    assert [face.restored for face in faces] == [True, False]
    assert faces[1].reason == "the network's output is not finite in bfloat16" and faces[0].note is None


@pytest.mark.slow
def test_load_gives_the_way_to_redo(models, monkeypatch):
    restorer = FaceRestorer.load("red-256", "retinaface_mobile0.25", models, "cpu", "bf16")
    monkeypatch.setattr(Detector, "detect", helpers.FakeDetector(FACES).detect)
    spoil(restorer, monkeypatch, torch.nan)
    assert [face.restored for face in restorer.restore(helpers.texture(300, 300, sigma=1)).faces] == [True, True]


def tensor_bytes():
    """Of all tensors in this process."""
    gc.collect()
    tensors = (one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter))
    storages = [one.untyped_storage() for one in tensors if one.layout == torch.strided]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


@pytest.mark.slow
def test_memory_kept_for_the_next_face_can_be_given_back():
    restorer = helpers.restorer(helpers.identity_weights(256), FACES)
    image = helpers.texture(300, 300)
    before = tensor_bytes()
    first = restorer.restore(image).image
    assert tensor_bytes() > before + (8 << 20)
    restorer.release_memory()
    assert tensor_bytes() < before + (2 << 20)  # masks stay
    assert np.array_equal(restorer.restore(image).image, first)


@pytest.mark.slow
def test_two_threads_in_one_network_do_not_share_memory():
    network = GPEN.from_state_dict(helpers.random_weights(256))
    x = [torch.from_numpy(synthetic.random_input(256, seed)) for seed in range(4)]
    expected = [network(one) for one in x]
    with ThreadPoolExecutor(4) as pool:
        for one, right in zip(pool.map(network, x), expected):
            assert torch.equal(one, right)
