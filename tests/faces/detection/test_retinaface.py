"""RetinaFace: facexlib's numbers in one pass, on images of any size."""

import helpers
import numpy as np
import pytest
import torch
from facexlib.detection.retinaface import RetinaFace, generate_config
from facexlib.detection.retinaface_utils import PriorBox

from gpen_core import RestoreOptions
from gpen_core.errors import Interrupted, WeightsError
from gpen_core.faces.detection import retinaface_network
from gpen_core.faces.detection.anchors import anchors
from gpen_core.faces.detection.retinaface import Detector
from gpen_core.images.image import to_image_data
from gpen_core.tools.demo import images as demo_pictures

CPU = torch.device("cpu")


def seeded(kind):
    """facexlib's network with seeded weights, its heads calmed so that scores and boxes stay moderate."""
    torch.manual_seed(11)
    network = RetinaFace(kind, device=CPU)
    with torch.no_grad():
        for name, module in network.named_modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.weight.uniform_(0.2, 0.4)
                module.bias.uniform_(-0.1, 0.1)
            elif name.endswith("conv1x1"):
                module.weight.mul_(3)
    return network


class FacexlibOrder(torch.nn.Module):
    """facexlib's network, which sums in another order, so that not even the last bit differs."""

    def __init__(self, network):
        super().__init__()
        self.facexlib = network

    def forward(self, x, skip_finest=False):
        return self.facexlib((x - self.facexlib.mean_tensor).contiguous())


def picture(height, width, seed=3):
    return np.rint(helpers.texture(height, width, seed) * 255).astype(np.uint8)


@torch.no_grad()
def facexlib_rows(network, rgb, confidence):
    return network.detect_faces(np.ascontiguousarray(rgb[..., ::-1]), conf_threshold=confidence, nms_threshold=0.4)


def rows(faces):
    return np.array([[*face.box, face.score, *face.landmarks.ravel()] for face in faces])


def threshold(network, rgb, count=400):
    """A confidence that about `count` priors exceed."""
    with torch.no_grad():
        x = torch.from_numpy(rgb[..., ::-1].astype(np.float32).transpose(2, 0, 1).copy())[None] - network.mean_tensor
        scores = network(x)[1][0, :, 1]
    return float(scores.sort(descending=True).values[count])


@pytest.mark.parametrize("kind", ["resnet50", "mobile0.25"])
@pytest.mark.parametrize("shape", [(160, 120), (97, 203)])
@pytest.mark.slow
def test_decodes_exactly_as_facexlib(kind, shape):
    plain = seeded(kind)
    rgb = picture(*shape)
    confidence = threshold(plain, rgb)
    expected = facexlib_rows(plain, rgb, confidence)
    detector = Detector(FacexlibOrder(plain), f"retinaface_{kind}")
    (found,) = detector.forward(to_image_data(rgb).to_bgr255(2000)[None], confidence)
    assert 3 < len(expected) < 400  # some were suppressed, some are left
    np.testing.assert_array_equal(found.astype(np.float32), expected)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["resnet50", "mobile0.25"])
@pytest.mark.slow
def test_batch_norms_are_folded_into_the_convolutions(kind):
    network = seeded(kind)
    detector = Detector.from_state_dict(network.state_dict(), CPU)
    x = torch.from_numpy(picture(97, 203).astype(np.float32)).permute(2, 0, 1)[None]
    for found, expected in zip(detector.network(x), network(x - network.mean_tensor)):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert detector.name == f"retinaface_{kind}"
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in detector.network.modules())


@torch.no_grad()
@pytest.mark.parametrize("height", [203, 1001])
def test_strips_give_what_the_whole_image_gives(detector_weights, monkeypatch, height):
    see = Detector.from_state_dict(detector_weights, CPU).network
    x = torch.from_numpy(picture(height, 61).astype(np.float32)).permute(2, 0, 1)[None]
    found = []
    for rows_each in (10_000, 384, 40):
        monkeypatch.setattr(retinaface_network, "STRIP_ROWS", rows_each)
        found.append(see(x))
    for part in found[1:]:
        for one, whole in zip(part, found[0]):
            torch.testing.assert_close(one, whole, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["resnet50", "mobile0.25"])
def test_without_the_finest_features_the_other_anchors_are_the_same(kind):
    see = Detector.from_state_dict(seeded(kind).state_dict(), CPU).network
    x = torch.from_numpy(picture(97, 130).astype(np.float32)).permute(2, 0, 1)[None]
    finest = 13 * 17 * 2
    for coarse, whole in zip(see(x, skip_finest=True), see(x)):
        assert coarse.shape[1] == whole.shape[1] - finest
        torch.testing.assert_close(coarse, whole[:, finest:], rtol=1e-5, atol=1e-5)


def test_a_large_face_is_found_without_the_finest_features(detector_weights, astronaut):
    detector = Detector.from_state_dict(detector_weights, CPU)
    batch = to_image_data(astronaut).to_bgr255(512)[None]
    (expected,), (found,) = detector.forward(batch, 0.5), detector.forward(batch, 0.5, 36)
    np.testing.assert_allclose(found, expected, atol=1e-3)
    counted = []
    detector.network.register_forward_hook(lambda module, args, out: counted.append(out[0].shape[1]))
    for min_size in (0, 32, 33, 1000):  # the finest anchors are 16 and 32 px
        list(detector.forward(batch, 0.5, min_size))
    assert counted == [64 * 64 * 2 + 32 * 32 * 2 + 16 * 16 * 2] * 2 + [32 * 32 * 2 + 16 * 16 * 2] * 2


def test_images_of_a_batch_have_their_own_rows(detector_weights, astronaut):
    detector = Detector.from_state_dict(detector_weights, CPU)
    gray = np.full_like(astronaut, 117)
    batches = [to_image_data(one).to_bgr255(512)[None] for one in (gray, astronaut, gray, astronaut[:, ::-1])]
    together = list(detector.forward(np.concatenate(batches), 0.01))
    assert [len(found) > 1 for found in together] == [False, True, False, True]
    for batch, found in zip(batches, together):
        (alone,) = detector.forward(batch, 0.01)
        assert (found[:, 4] == -np.sort(-found[:, 4])).all()
        np.testing.assert_allclose(found, alone, atol=1e-2)


@pytest.mark.parametrize("kind", ["resnet50", "mobile0.25"])
@pytest.mark.parametrize("size", [(1080, 1920), (1500, 2000), (97, 203), (1, 1), (160, 160), (31, 2000)])
def test_priors_are_facexlibs_bit_for_bit(kind, size):
    config = generate_config(kind)
    ours = anchors(*size, tuple(map(tuple, config["min_sizes"])), tuple(config["steps"]), CPU)
    assert torch.equal(ours, PriorBox(config, image_size=size).forward())


def test_priors_are_kept_by_size():
    asked = (40, 60, ((16, 32),), (8,), CPU)
    assert anchors(*asked) is anchors(*asked) and anchors(*asked) is not anchors(60, *asked[1:])


def test_finds_the_face_of_a_photograph(detector_weights, astronaut):
    faces = Detector.from_state_dict(detector_weights, CPU).detect([to_image_data(astronaut)])[0]
    assert len(faces) == 1
    left_eye, right_eye, nose, left_mouth, right_mouth = faces[0].landmarks
    assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
    assert np.abs(nose - (223, 129)).max() < 4


@pytest.mark.parametrize("factor", [255.0, 65535.0])
def test_depth_of_the_pixels_does_not_matter(detector_weights, astronaut, factor):
    detector = Detector.from_state_dict(detector_weights, CPU)
    image = astronaut / np.float32(255)
    image = (image * factor).round().astype(np.uint16) if factor > 255 else image
    expected, found = (detector.detect([to_image_data(p)])[0] for p in (astronaut, image))
    np.testing.assert_allclose(rows(found), rows(expected), atol=1e-3)


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 4000, 3), (3000, 1, 3), (7, 5, 3)])
def test_images_of_any_shape_are_accepted(detector_weights, shape):
    assert Detector.from_state_dict(detector_weights, CPU).detect([to_image_data(np.zeros(shape, np.uint8))]) == [[]]


def test_what_is_found_goes_from_tiny_to_the_whole_image(detector_weights):
    detector = Detector.from_state_dict(detector_weights, CPU)
    large = to_image_data(np.zeros((3000, 4000), np.uint8))
    assert [detector.detectable_sizes(large, size)[0] for size in (2000, 8000)] == [32, 16]
    assert detector.detectable_sizes(large, 2000)[1] == 4000


def test_progress_is_reported_before_each_pass_and_may_stop_it(detector_weights, astronaut):
    detector = Detector.from_state_dict(detector_weights, CPU)
    called = []
    detector.network.register_forward_hook(lambda *args: called.append("pass"))
    detector.detect([to_image_data(astronaut)], on_tick=lambda: called.append("on_tick"))
    assert called == ["on_tick", "pass"] * (len(called) // 2) and len(called) >= 4

    def stop():
        raise Interrupted("enough")

    with pytest.raises(Interrupted):
        detector.detect([to_image_data(astronaut)], on_tick=stop)


@pytest.mark.slow
def test_a_resnet50_is_searched_the_same_way():
    """Its weights are not at hand: with seeded ones only that the way is gone, level by level."""
    network = seeded("resnet50")
    detector = Detector.from_state_dict(network.state_dict(), CPU)
    passes = []
    detector.network.register_forward_hook(lambda module, args, out: passes.append(args[0].shape[2:]))
    detector.detect([to_image_data(picture(300, 400))], RestoreOptions(confidence=1.0, angles="upright", detection_size=400))
    levels = [(300, 400), (100, 133)]
    assert [tuple(shape) for shape in passes[:2]] == [(height + 64, width + 64) for height, width in levels]  # borders


def test_counters_of_batch_norm_may_be_absent(detector_weights):
    assert not any("num_batches_tracked" in key for key in detector_weights)
    assert Detector.from_state_dict(detector_weights, CPU).name == "retinaface_mobile0.25"


def test_offending_tensors_are_named(detector_weights):
    bad = dict(detector_weights)
    del bad["fpn.output1.0.weight"]
    bad["extra.weight"] = torch.zeros(1)
    bad["ssh1.conv3X3.0.weight"] = torch.zeros(1)
    bad["ssh2.conv3X3.0.weight"] = torch.full_like(bad["ssh2.conv3X3.0.weight"], float("nan"))
    with pytest.raises(WeightsError) as caught:
        Detector.from_state_dict(bad, CPU)
    for key in ("fpn.output1.0.weight", "extra.weight", "ssh1.conv3X3.0.weight", "ssh2.conv3X3.0.weight"):
        assert key in str(caught.value)


def test_other_networks_are_no_detector():
    with pytest.raises(WeightsError, match="not a RetinaFace"):
        Detector.from_state_dict({"conv.weight": torch.zeros(1)}, CPU)


def test_loading_leaves_the_hosts_random_numbers_alone(detector_weights):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    Detector.from_state_dict(detector_weights, CPU)
    assert torch.equal(torch.rand(3), expected)


@torch.no_grad()
@pytest.mark.parametrize("degraded", [False, True])
@pytest.mark.parametrize("detection_size", [2000, 600])
@pytest.mark.slow
def test_bfloat16_finds_the_same_faces(detector_weights, astronaut, degraded, detection_size):
    """Measured: corners within 0.5 % of the box's shorter side (1.6 % where another prior won), scores within 0.0035."""
    exact, half = (Detector.from_state_dict(detector_weights, CPU, dtype) for dtype in (torch.float32, torch.bfloat16))
    collage = demo_pictures.collage()
    for image in (astronaut, collage, np.ascontiguousarray(collage[:, ::-1])):
        image = demo_pictures.degrade(image) if degraded else image
        expected, found = (
            rows(detector.detect([to_image_data(image)], RestoreOptions(detection_size=detection_size))[0])
            for detector in (exact, half)
        )
        assert len(found) == len(expected) >= 1
        nearest = found[[np.abs(found[:, :4] - row[:4]).sum(1).argmin() for row in expected]]
        sides = (expected[:, 2:4] - expected[:, :2]).min(1, keepdims=True)
        difference = np.abs(nearest - expected)
        assert (difference[:, :4] / sides).max() < 0.03 and (difference[:, 5:] / sides).max() < 0.03
        assert 0 < difference[:, 4].max() < 0.01


def test_float32_is_the_default(detector_weights):
    detector = Detector.from_state_dict(detector_weights, CPU)
    assert detector.dtype == torch.float32
    assert {p.dtype for p in detector.network.parameters()} == {torch.float32}
    assert not any(module._forward_pre_hooks for module in detector.network.modules())


@pytest.mark.parametrize("kind", ["resnet50", "mobile0.25"])
@pytest.mark.slow
def test_heads_stay_in_float32(kind):
    network = Detector.from_state_dict(seeded(kind).state_dict(), CPU, torch.bfloat16).network
    answers = []
    network.register_forward_hook(lambda module, args, out: answers.extend(out))
    list(
        Detector(network, f"retinaface_{kind}", torch.bfloat16).forward(
            to_image_data(picture(64, 96)).to_bgr255(96)[None], 1.0
        )
    )
    assert [answer.dtype for answer in answers] == [torch.float32] * 3
    for name, module in network.named_modules():
        if isinstance(module, torch.nn.Conv2d):
            assert module.weight.dtype == (torch.float32 if "Head." in name else torch.bfloat16)
