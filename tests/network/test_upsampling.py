"""The upsampling convolution in strips against torch's transposed convolution and the filter, and which way is taken."""

import helpers
import pytest
import synthetic
import torch
import torch.nn.functional as F

from gpen_core.network import GPEN, upsampling
from gpen_core.network.fused_fir import fused_up_weight, pixel_shuffle_view
from gpen_core.network.layers import depthwise_fir
from gpen_core.network.memory_estimate import CACHE_STRIP_BYTES

WAYS = ("carried", "phases", "squares")


@pytest.fixture
def as_with_amx(monkeypatch):
    monkeypatch.setattr(upsampling, "has_amx", lambda: True)


def layer(inputs, outputs, side):
    """x, the weights [O, I, 3, 3], the filter and the bias, in float64."""
    generator = torch.Generator().manual_seed(side)
    x, weight = (
        torch.randn(1, inputs, side, side, generator=generator),
        torch.randn(outputs, inputs, 3, 3, generator=generator),
    )
    bias = torch.randn(outputs, generator=generator)
    fir = depthwise_fir(4.0, outputs)
    return x.double().contiguous(memory_format=torch.channels_last), weight.double(), fir.double(), bias.double()


def upsampler(way, x, weight, fir, bias):
    if way == "carried":
        return upsampling.CarriedRows(x, weight.transpose(0, 1), fir, bias)
    if way == "phases":
        return upsampling.PhaseRows(x, upsampling.phase_weights(weight), fir, bias)
    return upsampling.SquareRows(x, fused_up_weight(weight.float().transpose(0, 1), torch.float64), bias)


def unshuffled(rows, channels):
    """2x2 squares as rows of pixels."""
    if rows.shape[1] == channels:
        return rows
    _, _, height, width = rows.shape
    out = torch.empty(1, channels, 2 * height, 2 * width, dtype=rows.dtype).contiguous(memory_format=torch.channels_last)
    pixel_shuffle_view(out, channels).copy_(pixel_shuffle_view(rows.contiguous(memory_format=torch.channels_last), channels))
    return out


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("bottoms", [(16,), (10, 16), (6, 10, 16), (4, 16)])
def test_each_way_gives_the_transposed_convolution_and_its_filter(way, bottoms):
    x, weight, fir, bias = layer(5, 3, 8)
    full = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    expected = F.conv2d(full, fir, bias, padding=1, groups=3)
    rows = upsampler(way, x, weight, fir, bias)
    result = torch.cat([unshuffled(rows(bottom), 3) for bottom in bottoms], 2)
    assert (result - expected).abs().max() <= 1e-6 * expected.std()


def test_the_weights_of_phases_give_those_of_the_transposed_convolution_back():
    weight = torch.randn(3, 5, 3, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(upsampling.transposed_weight(*upsampling.phase_weights(weight)), weight.transpose(0, 1))


@pytest.mark.slow
@pytest.mark.usefixtures("as_with_amx")
def test_with_amx_the_network_in_bfloat16_stays_within_fifty_decibels():
    state_dict, x = helpers.random_weights(256), torch.from_numpy(synthetic.random_input(256, 3))
    exact = GPEN.from_state_dict(state_dict)(x)
    network = GPEN.from_state_dict(state_dict, torch.bfloat16)
    for strip_bytes in (None, CACHE_STRIP_BYTES, 1 << 18):
        half = network(x, strip_bytes=strip_bytes)
        assert helpers.psnr(exact, half, peak=float(exact.max() - exact.min())) >= 50


def test_only_bfloat16_with_amx_takes_other_ways(monkeypatch):
    wide, narrow = torch.empty(8, 512, 3, 3), torch.empty(8, 256, 3, 3)
    monkeypatch.setattr(upsampling, "has_amx", lambda: True)
    assert upsampling.use_phases(wide, torch.bfloat16) and upsampling.has_fast_convolutions(torch.bfloat16)
    assert not upsampling.use_phases(narrow, torch.bfloat16)
    assert not upsampling.has_fast_convolutions(torch.float32) and not upsampling.has_fast_convolutions(torch.float16)
    monkeypatch.setattr(upsampling, "has_amx", lambda: False)
    assert not upsampling.use_phases(wide, torch.bfloat16) and not upsampling.has_fast_convolutions(torch.bfloat16)
