"""The network's layout, who builds it, and what is refused."""

import importlib.util
import sys

import pytest
import rrdb
import torch

from gpen_core.errors import MissingDependency, WeightsError
from gpen_core.pipeline import rrdb as ours
from gpen_core.pipeline.rrdb import RRDBLayout
from gpen_core.weights.catalog import find_entry


def has(package):
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.mark.parametrize(("shuffle", "scale"), [(1, 4), (2, 2), (4, 1)])
def test_the_layout_is_derived_from_the_tensors(shuffle, scale):
    state_dict = rrdb.random_weights(8, 3, shuffle)
    unwrapped, layout = ours.validate_state_dict({"params": {}, "params_ema": state_dict})
    assert layout == RRDBLayout(8, 3, shuffle) and layout.scale == scale
    assert unwrapped.keys() == state_dict.keys()


def test_the_published_network_has_as_many_bytes_as_its_file():
    """realesrnet_x2.pth holds it twice, and 0.5 MB of names."""
    numbers = sum(torch.Size(shape).numel() for shape in RRDBLayout(32, 23, 2).parameter_shapes().values())
    assert 0 < find_entry("realesrnet_x2").bytes - 2 * 4 * numbers < 600_000


@has("spandrel")
@has("basicsr")
@pytest.mark.parametrize("shuffle", [1, 2, 4])
@pytest.mark.slow
def test_both_packages_compute_the_same(shuffle):
    state_dict = rrdb.random_weights(16, 2, shuffle, gain=1.0)
    layout = RRDBLayout(16, 2, shuffle)
    x = torch.rand(2, 3, 20, 28, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        one, other = (build(state_dict, layout)(x) for build in ours.LOADERS.values())
    assert one.shape == (2, 3, 20 * layout.scale, 28 * layout.scale)
    assert (one - other).abs().max() < 1e-5 and one.std() > 1e-3


@pytest.mark.parametrize("package", [pytest.param(name, marks=has(name)) for name in ours.LOADERS])
def test_building_leaves_random_numbers_and_the_state_dict_alone(package):
    state_dict = rrdb.random_weights()
    torch.manual_seed(3)
    before, keys = torch.random.get_rng_state(), list(state_dict)
    network = ours.LOADERS[package](state_dict, RRDBLayout(8, 1, 1))
    assert torch.equal(torch.random.get_rng_state(), before) and list(state_dict) == keys
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    assert "torchvision.transforms.functional_tensor" not in sys.modules


def without(monkeypatch, *packages):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in packages else find(name, *more))


def test_without_either_package_both_are_named(monkeypatch):
    without(monkeypatch, "spandrel", "basicsr")
    with pytest.raises(MissingDependency, match=r"spandrel or basicsr, .* install spandrel\), or use the upscaler lanczos"):
        ours.load_rrdbnet(rrdb.random_weights(), RRDBLayout(8, 1, 1))


@pytest.mark.parametrize("there", [pytest.param(name, marks=has(name)) for name in ours.LOADERS])
def test_either_package_will_do(monkeypatch, there):
    without(monkeypatch, *({"spandrel", "basicsr"} - {there}))
    assert there in type(ours.load_rrdbnet(rrdb.random_weights(), RRDBLayout(8, 1, 1))).__module__


@has("basicsr")
def test_a_package_that_cannot_be_imported_makes_way_for_the_other(monkeypatch):
    monkeypatch.setitem(sys.modules, "spandrel.architectures.ESRGAN", None)
    assert "basicsr" in type(ours.load_rrdbnet(rrdb.random_weights(), RRDBLayout(8, 1, 1))).__module__
    monkeypatch.setitem(sys.modules, "basicsr.archs.rrdbnet_arch", None)
    with pytest.raises(MissingDependency, match=r"importing failed: spandrel \(.+\), basicsr \(.+\)"):
        ours.load_rrdbnet(rrdb.random_weights(), RRDBLayout(8, 1, 1))


def test_another_architecture_is_refused_by_its_tensors():
    compact = {f"body.{n}.weight": torch.zeros(3, 3, 3, 3) for n in range(5)}  # SRVGGNetCompact's names
    with pytest.raises(WeightsError, match=r"not an RRDBNet .* 5 tensors \(body\.0\.weight, .*RealESRGAN_x4plus"):
        ours.validate_state_dict(compact)


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda sd: sd.pop("conv_hr.bias"), "conv_hr.bias is missing"),
        (lambda sd: sd.update(extra=torch.zeros(1)), "extra is unexpected"),
        (lambda sd: sd.update({"conv_up1.weight": torch.zeros(8, 9, 3, 3)}), r"conv_up1.weight has shape \[8, 9, 3, 3\]"),
        (lambda sd: sd["conv_body.bias"].fill_(torch.nan), "conv_body.bias has non-finite values"),
        (lambda sd: sd.update({"conv_hr.bias": torch.zeros(8, dtype=torch.int8)}), "conv_hr.bias is int8"),
        (lambda sd: sd.update({"body.0.rdb1.conv1.weight": torch.zeros(16, 8, 3, 3)}), "expected .32, 8, 3, 3"),
    ],
)
def test_what_does_not_fit_is_named(damage, told):
    state_dict = rrdb.random_weights()
    damage(state_dict)
    with pytest.raises(WeightsError, match=told):
        ours.validate_state_dict(state_dict)


def test_a_file_must_enlarge_as_often_as_its_name_says():
    with pytest.raises(WeightsError, match="upscale 2x, but the file name is that of 4x weights"):
        ours.validate_state_dict(rrdb.random_weights(shuffle=2), find_entry("realesrnet_x4"))
    assert ours.validate_state_dict(rrdb.random_weights(), find_entry("realesrnet_x4"))[1].scale == 4
