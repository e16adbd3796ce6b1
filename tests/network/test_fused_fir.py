"""The GPU's way through a level: filters folded into weights or as banded products, and what is fused there."""

import helpers
import pytest
import synthetic
import torch
import torch.nn.functional as F

from gpen_core.network import GPEN, fused_fir
from gpen_core.network.layers import depthwise_fir


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(3)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    monkeypatch.setattr(fused_fir, "is_supported", lambda x: x.is_contiguous(memory_format=torch.channels_last))


def ordered(*shape, generator):
    return torch.randn(*shape, generator=generator).contiguous(memory_format=torch.channels_last)


def near(result, expected):
    return (result - expected).abs().max() <= 1e-5 * expected.std()


@pytest.mark.parametrize(("inputs", "outputs", "side"), [(5, 3, 8), (8, 4, 16), (2, 7, 4)])
def test_one_convolution_does_what_a_transposed_one_and_its_filter_do(generator, inputs, outputs, side):
    x, weight = ordered(2, inputs, side, side, generator=generator), torch.randn(inputs, outputs, 3, 3, generator=generator)
    full = F.conv_transpose2d(x, weight, stride=2)
    expected = F.conv2d(full, depthwise_fir(4.0, outputs), padding=1, groups=outputs)
    own = F.conv2d(x, fused_fir.fused_up_weight(weight, torch.float32), padding=1)
    own = own.contiguous(memory_format=torch.channels_last)
    result = torch.empty_like(expected, memory_format=torch.channels_last)
    fused_fir.pixel_shuffle_view(result, outputs).copy_(fused_fir.pixel_shuffle_view(own, outputs))
    assert near(result, expected)


@pytest.mark.parametrize(("inputs", "outputs", "side"), [(5, 3, 8), (3, 8, 16)])
def test_one_convolution_does_what_a_filter_and_a_strided_one_do(generator, inputs, outputs, side):
    x, weight = ordered(2, inputs, side, side, generator=generator), torch.randn(outputs, inputs, 3, 3, generator=generator)
    blurred = F.conv2d(x, depthwise_fir(1.0, inputs), padding=2, groups=inputs)
    expected = F.conv2d(blurred, weight, stride=2)
    assert near(fused_fir.fused_down_conv(x, weight), expected)


@pytest.mark.parametrize(("gain", "padding", "side"), [(4.0, 1, 9), (1.0, 2, 8), (1.0, 2, 4)])
def test_banded_products_do_what_the_filter_does(generator, gain, padding, side):
    x = ordered(2, 6, side, side, generator=generator)
    result = fused_fir.apply_fir(x, gain, padding)
    assert near(result, F.conv2d(x, depthwise_fir(gain, 6), padding=padding, groups=6))
    assert result.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("size", "largest_banded"), [(256, 1), (256, 128), pytest.param(512, 128, marks=pytest.mark.nightly)]
)
@pytest.mark.slow
def test_the_network_gives_what_it_gives_on_a_cpu(monkeypatch, request, size, largest_banded):
    network = GPEN.from_state_dict(helpers.random_weights(size))
    x = torch.cat([torch.from_numpy(synthetic.random_input(size, seed)) for seed in range(2)])
    expected = network(x)
    request.getfixturevalue("as_on_a_gpu")
    monkeypatch.setattr(fused_fir, "MAX_BANDED_SIZE", largest_banded)
    assert (network(x) - expected).abs().max() <= 5e-5 * expected.std()
    assert (network(x[1:]) - expected[1:]).abs().max() <= 5e-5 * expected.std()


@pytest.mark.usefixtures("as_on_a_gpu")
def test_on_a_gpu_it_calls_at_each_level_too():
    network, calls = GPEN.from_state_dict(helpers.random_weights(256)), []
    network(torch.from_numpy(synthetic.random_input(256, 0)), lambda: calls.append(None))
    assert len(calls) == 2 * network.config.levels  # each level of the encoder and of the decoder


@pytest.mark.parametrize("squared", [False, True])
def test_what_is_compiled_gives_what_is_not(generator, squared):
    network = GPEN.from_state_dict(helpers.random_weights(256))
    level = network.decoder[-1]
    channels, side = level.up.channels, 16
    features = ordered(1, channels, side, side, generator=generator)
    layer = level.up if squared else level.conv
    shape = (1, 4 * channels, side // 2, side // 2) if squared else (1, channels, side, side)
    own = ordered(*shape, generator=generator)
    assert near(layer.finish_fused(own, features), layer.finish(own, features))
    rgb, below = ordered(1, 3, side, side, generator=generator), torch.randn(1, 3, side // 2, side // 2, generator=generator)
    assert near(level.to_rgb.add_fused(rgb.clone(), below), level.to_rgb.add(rgb.clone(), below))
    assert near(level.to_rgb.add_fused(rgb.clone(), None), level.to_rgb.add(rgb.clone(), None))
