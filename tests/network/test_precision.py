"""Faces whose output in half precision is not finite, and memory that runs out in one piece."""

import json
from concurrent.futures import ThreadPoolExecutor

import helpers
import numpy as np
import pytest
import synthetic
import torch

from gpen_core import restorer as restoring
from gpen_core.devices import CACHE_STRIP
from gpen_core.errors import OutOfMemory
from gpen_core.faces.detect import Detector
from gpen_core.network import GPEN
from gpen_core.restorer import FaceRestorer

FACES = [helpers.face_at((80, 80), 60), helpers.face_at((220, 220), 60)]


def half_restorer(load_exact, faces=FACES):
    network = GPEN.from_state_dict(helpers.red_weights(256), torch.bfloat16)
    return FaceRestorer(network, helpers.FakeDetector(faces), torch.device("cpu"), load_exact=load_exact)


def spoil(restorer, monkeypatch, value, faces=(1,)):
    """The network's output for those faces is `value` in one pixel."""
    forward, count = restorer.network.forward, iter(range(99))

    def spoilt(x, pulse):
        y = forward(x, pulse)
        if next(count) in faces:
            y[0, 1, 7, 9] = value
        return y

    monkeypatch.setattr(restorer.network, "forward", spoilt)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_face_that_is_not_finite_is_redone_in_float32_and_that_is_said(monkeypatch, value):
    loaded = []

    def load_exact():
        loaded.append(GPEN.from_state_dict(helpers.red_weights(256)))
        return loaded[0]

    image = helpers.texture(300, 300, sigma=1)
    restorer = half_restorer(load_exact)
    expected = restorer.restore(image).image
    assert not loaded
    spoil(restorer, monkeypatch, value, faces=(0, 1))
    result = restorer.restore(image)
    assert [face.restored for face in result.faces] == [True, True]
    assert {face.note for face in result.faces} == {"redone in float32: not finite in bfloat16"}
    assert json.loads(json.dumps(result.faces[0].to_json()))["note"] == "redone in float32: not finite in bfloat16"
    assert len(loaded) == 1  # for both faces
    assert np.abs(result.image - expected).max() < 0.02 and np.isfinite(result.image).all()


@pytest.mark.parametrize("kind", ["no network in float32", "not finite in float32 either"])
def test_a_face_that_cannot_be_redone_is_left_alone(monkeypatch, kind):
    def load_exact():
        exact = GPEN.from_state_dict(helpers.red_weights(256))
        monkeypatch.setattr(exact, "forward", lambda x, pulse: torch.full_like(x, torch.nan))
        return exact

    image = helpers.texture(300, 300, sigma=1)
    restorer = half_restorer(None if kind.startswith("no ") else load_exact)
    spoil(restorer, monkeypatch, torch.nan)
    faces = restorer.restore(image).faces
    assert [face.restored for face in faces] == [True, False]
    assert faces[1].reason == "the network's output is not finite in bfloat16" and faces[0].note is None


def test_load_gives_the_way_to_redo(models, monkeypatch):
    restorer = FaceRestorer.load("red-256", "retinaface_mobile0.25", models, "cpu", "bf16")
    monkeypatch.setattr(Detector, "detect", helpers.FakeDetector(FACES).detect)
    spoil(restorer, monkeypatch, torch.nan)
    assert [face.restored for face in restorer.restore(helpers.texture(300, 300, sigma=1)).faces] == [True, True]


class Crowded:
    """A network that has room for one face in strips only."""

    def __init__(self, room_in_strips=True):
        self.strip_bytes, self.room, self.calls = None, room_in_strips, []

    def __call__(self, x, pulse):
        self.calls.append((len(x), self.strip_bytes))
        if len(x) > 1 or self.strip_bytes is None or not self.room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return x


def test_out_of_memory_with_one_face_goes_on_in_strips():
    network, one = Crowded(), torch.zeros(1)
    assert restoring.in_strips_if_need_be(network, one, print) is one
    assert restoring.in_strips_if_need_be(network, one, print) is one
    assert network.calls == [(1, None), (1, CACHE_STRIP), (1, CACHE_STRIP)]


def test_out_of_memory_with_several_faces_is_the_batchs_matter():
    network = Crowded()
    with pytest.raises(RuntimeError, match="out of memory"):
        restoring.in_strips_if_need_be(network, torch.zeros(2), print)
    assert network.calls == [(2, None)]


def test_out_of_memory_in_strips_is_the_end(monkeypatch):
    restorer = helpers.restorer(helpers.identity_weights(256), FACES)
    monkeypatch.setattr(restorer.network, "forward", Crowded(room_in_strips=False))
    with pytest.raises(OutOfMemory, match="single face"):
        restorer.restore(helpers.texture(300, 300))


def test_memory_kept_for_the_next_face_can_be_given_back():
    restorer = helpers.restorer(helpers.identity_weights(256), FACES)
    image = helpers.texture(300, 300)
    first = restorer.restore(image).image
    assert restorer.network._memory._buffers
    restorer.release_memory()
    assert not restorer.network._memory._buffers
    assert np.array_equal(restorer.restore(image).image, first)


def test_two_threads_in_one_network_do_not_share_memory():
    network = GPEN.from_state_dict(helpers.random_weights(256))
    x = [torch.from_numpy(synthetic.random_input(256, seed)) for seed in range(4)]
    expected = [network(one) for one in x]
    with ThreadPoolExecutor(4) as pool:
        for one, right in zip(pool.map(network, x), expected):
            assert torch.equal(one, right)
