"""The float32 convolution with fewer multiplications against the plain one in float64, and where it is taken."""

import helpers
import pytest
import synthetic
import torch
import torch.nn.functional as F

from gpen_core.network import GPEN, winograd
from gpen_core.network.buffer_pool import BufferPool
from gpen_core.network.memory_estimate import CACHE_STRIP_BYTES

TOLERANCE = 2e-5  # largest error in units of the output's standard deviation; points 0, +-1, +-2 and infinity have 5e-5


def filters_of(weight, memory):
    taps = winograd.weight_buffer(weight, memory)
    return winograd.transform_weights(taps.copy_(weight), memory)


def convolved(x, weight, bias, height, memory):
    """x [1, I, S, S], a border of zeros around it, `height` rows at a time."""
    outputs, side = len(weight), x.shape[3]
    convolve = winograd.WinogradConv(filters_of(weight, memory), bias, side, height, memory)
    out = torch.full((1, 2 * outputs, side, side), torch.nan).contiguous(memory_format=torch.channels_last)
    bordered = F.pad(x, (0, 0, 1, 1))
    for top in range(0, side, height):
        convolve.input_buffer(height + 2).copy_(winograd.split_width(bordered[:, :, top : top + height + 2]))
        convolve(out[:, :outputs, top : top + height])
    assert out[:, outputs:].isnan().all()  # the level's features belong there
    return out[:, :outputs]


def random_layer(inputs, outputs, side):
    generator = torch.Generator().manual_seed(inputs + side)
    x = F.leaky_relu(torch.randn(1, inputs, side, side, generator=generator), 0.2)
    weight = torch.randn(outputs, inputs, 3, 3, generator=generator) / (3 * inputs**0.5)
    return x.contiguous(memory_format=torch.channels_last), weight, torch.randn(outputs, generator=generator)


def error(out, x, weight, bias):
    exact = F.leaky_relu(F.conv2d(x.double(), weight.double(), bias.double(), padding=1), 0.2)
    return ((out - exact).abs().max() / exact.std()).item()


@pytest.mark.parametrize(
    ("inputs", "outputs", "side", "height"),
    [
        (1024, 512, 32, 32),
        pytest.param(512, 256, 128, 32, marks=pytest.mark.slow),
        (256, 128, 64, 8),
        (3, 5, 8, 8),
        (1, 1, 4, 4),
        (16, 8, 512, 8),
    ],
)
def test_result_is_the_convolutions(inputs, outputs, side, height):
    x, weight, bias = random_layer(inputs, outputs, side)
    assert error(convolved(x, weight, bias, height, BufferPool()), x, weight, bias) <= TOLERANCE


def test_memory_of_the_last_convolution_does_not_show():
    memory = BufferPool()
    for inputs, outputs, side in ((64, 32, 64), (16, 8, 128), (64, 32, 64), (32, 64, 16)):
        x, weight, bias = random_layer(inputs, outputs, side)
        assert error(convolved(x, weight, bias, 8, memory), x, weight, bias) <= TOLERANCE


def test_nan_stays_where_a_tile_sees_it():
    x, weight, bias = random_layer(8, 8, 32)
    x[0, 0, 17, 18] = torch.nan
    nan = convolved(x, weight, bias, 32, BufferPool()).isnan().any(1)[0]
    assert nan[16:19, 17:20].all()  # as in any convolution
    assert not nan[:16].any() and not nan[20:].any() and not nan[:, :16].any() and not nan[:, 20:].any()


def test_half_precision_small_layers_and_other_devices_take_the_plain_one(monkeypatch):
    monkeypatch.setattr(winograd, "IS_X86", True)
    wide = torch.empty(8, winograd.MIN_CHANNELS, 3, 3)
    assert winograd.is_faster(wide, 64)
    assert not winograd.is_faster(wide.bfloat16(), 64) and not winograd.is_faster(wide.half(), 64)
    assert not winograd.is_faster(wide[:, 1:], 64) and not winograd.is_faster(wide, winograd.MIN_SIDE // 2)
    assert not winograd.is_faster(wide.to("meta"), 64)
    monkeypatch.setattr(winograd, "IS_X86", False)
    assert not winograd.is_faster(wide, 64)


@pytest.mark.parametrize("kind", ["random", "sharpen"])
@pytest.mark.parametrize("strip_bytes", [None, CACHE_STRIP_BYTES])
@pytest.mark.slow
def test_network_gives_the_same_without_it(monkeypatch, kind, strip_bytes):
    state_dict = helpers.random_weights(512, 7) if kind == "random" else helpers.sharpening_weights(512, 0.5)
    x = torch.from_numpy(synthetic.random_input(512, 7))
    network = GPEN.from_state_dict(state_dict)
    sides, convolve = [], winograd.WinogradConv.__call__
    monkeypatch.setattr(
        winograd.WinogradConv, "__call__", lambda self, out: (sides.append(out.shape[3]), convolve(self, out))
    )
    monkeypatch.setattr(winograd, "IS_X86", True)
    with_it = network(x, strip_bytes=strip_bytes)
    assert set(sides) == {32, 64, 128, 256, 512}
    sides.clear()
    monkeypatch.setattr(winograd, "IS_X86", False)
    without = network(x, strip_bytes=strip_bytes)
    assert not sides
    assert (with_it - without).abs().max() <= TOLERANCE * without.std()
