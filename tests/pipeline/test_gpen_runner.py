"""Each face by the network that suits its size."""

import logging

import cv2
import helpers
import numpy as np
import pytest
import torch

from gpen_core import FaceRestorer, RestoreOptions, present_sizes
from gpen_core.errors import MissingWeights, OptionsError, OutOfMemory
from gpen_core.network import GPEN
from gpen_core.pipeline.devices import BatchPlan
from gpen_core.pipeline.gpen_runner import GPENRunner, SizeSelector, parse_auto_model, select_size
from gpen_core.pipeline.inputs import RestoreInput
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.weights.download_options import DownloadOptions

pytestmark = pytest.mark.usefixtures("compositor_backend")

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("model", "sizes"),
    [
        ("auto", (512, 1024, 2048)),
        ("AUTO", (512, 1024, 2048)),
        ("auto:256", (256, 512, 1024, 2048)),
        ("auto:2048", (2048,)),
        ("gpen-bfr-512", ()),
        ("automatic.pth", ()),
    ],
)
def test_the_names_of_the_choice(model, sizes):
    assert parse_auto_model(model) == sizes


@pytest.mark.parametrize("model", ["auto:", "auto:300", "auto:my.pth", "auto:512:1024"])
def test_a_floor_that_is_no_size_is_refused(model):
    with pytest.raises(OptionsError, match="256, 512, 1024, 2048"):
        parse_auto_model(model)


@pytest.mark.parametrize(("side", "size"), [(10, 512), (512, 512), (512.1, 1024), (1024, 1024), (1500, 2048), (9000, 2048)])
def test_the_smallest_that_is_wide_enough(side, size):
    assert select_size(side, (512, 1024, 2048)) == size


class Tiny:
    """Stands in for a network of any size: it gives its input back, and what it has done is counted."""

    dtype = torch.float32

    def __init__(self, size):
        self.size, self.ran = size, 0

    def to(self, device):
        return self

    def __call__(self, x, on_tick, strip_bytes):
        assert x.shape[-1] == self.size
        self.ran += len(x)
        return x


class TinyLoaded(GPENRunner):
    def plan_batches(self, max_memory):
        return BatchPlan(2, None)


def by_size(missing=(), room=9, present=None):
    """All sizes, those loaded by now, and how often each was asked for."""
    asked = []

    def load(size, progress):
        asked.append(size)
        if size in missing:
            raise MissingWeights(f"no {size}")
        if len(networks.loaded_runners) >= room:
            raise OutOfMemory("full")
        return TinyLoaded(Tiny(size), CPU)

    networks = SizeSelector((256, 512, 1024, 2048), torch.float32, load, present)
    return networks, asked


def test_networks_are_loaded_when_first_needed_and_kept():
    networks, asked = by_size()
    assert networks.loaded_runners == ()
    first = networks.for_face_size(300, print)
    assert first.network.size == 512 and networks.for_face_size(400, print) is first
    networks.for_face_size(200, print)
    assert asked == [512, 256] and [one.network.size for one in networks.loaded_runners] == [256, 512]


@pytest.mark.parametrize(
    ("missing", "side", "size"),
    [((512,), 300, 1024), ((2048,), 2000, 1024), ((512, 1024, 2048), 300, 256), ((1024, 2048), 1500, 512)],
)
def test_what_cannot_be_had_is_asked_for_once_and_its_neighbor_taken(missing, side, size, caplog):
    networks, asked = by_size(missing)
    with caplog.at_level(logging.WARNING):
        assert {networks.for_face_size(side, print).network.size for _ in range(3)} == {size}
    assert len(asked) == len(set(asked)) and "is not available; using another size" in caplog.text


@pytest.mark.parametrize(
    ("present", "side", "size", "advice"),
    [
        ((512, 2048), 300, 512, None),
        ((512, 2048), 600, 2048, None),
        ((512,), 600, 512, "GPEN-BFR-1024 would suit some faces better"),
        ((4096, 256), 200, 256, None),
        ((), 300, 2048, "GPEN-BFR-512 would restore these faces faster"),
        ((), 1500, 2048, None),
        ((2048,), 300, 2048, None),
        ((1024,), 9000, 1024, "GPEN-BFR-2048 would suit"),
    ],
)
def test_of_what_is_there_the_smallest_that_suits_is_taken_and_what_is_missing_is_named(present, side, size, advice):
    networks, asked = by_size(present=present)
    assert networks.for_face_size(side, print).network.size == size and asked == [size]
    told = networks.advise(side, size)
    assert told is None if advice is None else advice in told


def test_the_note_of_an_image_names_the_network_that_its_faces_need_once():
    networks, _ = by_size(present=(256,))
    faces = [helpers.make_face((x, 300), 500) for x in (300, 900)]
    result = restorer_of(networks, faces).restore(helpers.texture(700, 1300, sigma=2), RestoreOptions(color="none"))
    assert [face.network for face in result.faces] == [256, 256] and len(result.notes) == 1
    assert "GPEN-BFR-1024" in result.notes[0]


def test_where_no_network_is_there_the_one_that_serves_every_size_is_asked_for(tmp_path, detector_weights):
    helpers.write_weights(tmp_path, {helpers.DETECTOR_FILE: detector_weights})
    offline = DownloadOptions(offline=True)
    for model in ({}, {"model": "auto"}):  # which is the default
        with pytest.raises(MissingWeights, match=r"GPEN-BFR-2048\.pth"):
            FaceRestorer.load(
                detector="retinaface_mobile0.25", models_dir=tmp_path, device="cpu", downloads=offline, **model
            )


def test_the_sizes_that_are_there(tmp_path):
    assert present_sizes([tmp_path]) == ()
    for name in ("GPEN-BFR-512.pth", "pytorch_model-2048.pt", "gpen-bfr-256.safetensors", "GPEN-BFR-1024.txt"):
        (tmp_path / name).write_bytes(b"")
    assert present_sizes([tmp_path]) == (256, 512, 2048)


def test_nothing_to_be_had_is_missing_weights_of_the_one_that_was_wanted():
    networks, _ = by_size((256, 512, 1024, 2048))
    with pytest.raises(MissingWeights, match="no 512"):
        networks.for_face_size(300, print)


def test_others_are_let_go_where_memory_does_not_allow_them(caplog):
    networks, asked = by_size(room=1)
    for side in (200, 300, 200):
        networks.for_face_size(side, print)
    assert asked == [256, 512, 512, 256, 256] and len(networks.loaded_runners) == 1
    alone, _ = by_size(room=0)
    with pytest.raises(OutOfMemory):
        alone.for_face_size(200, print)


def restorer_of(networks, faces):
    return FaceRestorer(ModelSet(networks, helpers.FakeDetector(faces), CPU))


def test_each_face_of_an_image_takes_its_own_network():
    networks, _ = by_size()
    faces = [helpers.make_face((x, 300), side) for x, side in ((100, 100), (400, 250), (900, 600))]
    image = helpers.texture(700, 1300, sigma=2)
    result = restorer_of(networks, faces).restore(image, RestoreOptions(color="none"))
    assert [face.network for face in result.faces] == [256, 512, 2048]
    assert [face.to_json()["network"] for face in result.faces] == [256, 512, 2048]
    assert {one.network.size: one.network.ran for one in networks.loaded_runners} == {256: 1, 512: 1, 2048: 1}
    assert helpers.psnr(result.image, image) > 35


def test_the_size_in_the_output_counts():
    networks, _ = by_size()
    image = helpers.texture(200, 200, sigma=2)
    large = cv2.resize(image, (800, 800), interpolation=cv2.INTER_CUBIC)
    restorer = restorer_of(networks, [helpers.make_face((100, 100), 100)])
    results = [restorer.restore_batch([RestoreInput(image, background=b)])[0] for b in (None, np.clip(large, 0, 1))]
    assert [result.faces[0].network for result in results] == [256, 1024]


def test_it_is_loaded_by_name_with_a_detector_alone_and_reports_none(tmp_path, detector_weights):
    weights = {"gpen-bfr-256.safetensors": helpers.identity_weights(256), helpers.DETECTOR_FILE: detector_weights}
    helpers.write_weights(tmp_path, weights)
    offline = DownloadOptions(offline=True)
    restorer = FaceRestorer.load("auto:256", "retinaface_mobile0.25", tmp_path, "cpu", "fp32", downloads=offline)
    assert restorer.sizes == (256,) and len(restorer.modules()) == 1
    assert restorer.activation_bytes() > 0 and restorer.dtype == torch.float32
    image = cv2.resize(helpers.texture(200, 200), (300, 300))
    result = restorer.restore_batch([RestoreInput(image, is_aligned=True)], RestoreOptions(color="none"))[0]
    assert result.faces[0].network == 256
    (note,) = result.notes
    assert "GPEN-BFR-512 would suit" in note and "GPEN-BFR-256" in note
    assert isinstance(restorer.network, GPEN) and len(restorer.modules()) == 2
