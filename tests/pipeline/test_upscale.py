"""Whole images enlarged: known answers, tiles, memory."""

import helpers
import numpy as np
import pytest
import rrdb
import torch
from PIL import Image

from gpen_core.errors import Interrupted, OutOfMemory, WeightsError
from gpen_core.images.image import to_image_data
from gpen_core.pipeline import upscale as module
from gpen_core.pipeline.rrdb import RRDBLayout, load_rrdbnet
from gpen_core.pipeline.upscale import MAX_TILE_SIZE, TILE_PAD, Upscaler, upscale
from gpen_core.progress import no_progress

pytest.importorskip("spandrel")
CPU = torch.device("cpu")


def upscaler(state_dict, dtype=torch.float32, load_fp32=None):
    layout = RRDBLayout.from_state_dict(state_dict)
    return Upscaler(load_rrdbnet(state_dict, layout), layout, CPU, dtype, load_fp32)


def enlarged(x, value):
    """What a network that enlarges four times gives for `x`, of one value."""
    return x.new_full((1, 3, 4 * x.shape[2], 4 * x.shape[3]), value)


def nearest(array, times):
    return array.repeat(times, 0).repeat(times, 1)


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(module, "MIN_TILE_SIZE", 8)
    monkeypatch.setattr(module, "MAX_TILE_SIZE", 16)


def kinds(height=19, width=27):
    rng = np.random.default_rng(5)
    rgb = rng.integers(0, 256, (height, width, 3), np.uint8)
    return {
        "rgb": rgb,
        "sixteen": rgb.astype(np.uint16) * 257 - rng.integers(0, 2, rgb.shape, np.uint16) * (rgb > 0),
        "float": rgb.astype(np.float32) / 255,
        "double": rgb.astype(np.float64) / 255,
        "flat gray": rgb[..., 0],
    }


@pytest.mark.parametrize("kind", kinds())
def test_a_network_that_repeats_pixels_repeats_them_exactly(kind, small_tiles):
    array = kinds()[kind]
    out = upscale(to_image_data(array), 4, upscaler(rrdb.nearest_weights()), no_progress).to_input_type()
    assert out.dtype == array.dtype and out.shape == (76, 108, *array.shape[2:])
    if kind in ("float", "double"):
        np.testing.assert_allclose(out, nearest(array, 4), rtol=0, atol=1e-7)
    else:
        assert np.array_equal(out, nearest(array, 4))


def test_pixels_become_channels_as_in_the_whole_image_in_every_tile(small_tiles):
    """The network gives the mean of each square of four, twice as large: tiles that began at odd pixels would mix squares.
    An odd side's last pixel stands for what would be behind it."""
    coarse = kinds(11, 14)["rgb"]
    array = nearest(coarse, 2)[:-1, :-1]
    out = upscale(to_image_data(array), 2, upscaler(rrdb.nearest_weights(shuffle=2)), no_progress).to_input_type()
    assert np.array_equal(out, nearest(array, 2))


def test_half_precision_loses_no_more_than_its_rounding():
    array = kinds()["rgb"]
    out = upscale(to_image_data(array), 4, upscaler(rrdb.nearest_weights(), torch.bfloat16), no_progress).to_input_type()
    assert np.abs(out.astype(int) - nearest(array, 4)).max() <= 1


def test_tiles_give_what_the_whole_gives_where_they_see_as_far(monkeypatch):
    """One block with the layers before and behind it reaches 18 pixels."""
    array = helpers.texture(72, 90)
    whole = upscaler(rrdb.random_weights(gain=1.0))
    expected = upscale(to_image_data(array), 4, whole, no_progress).to_input_type()
    assert expected.std() > 0.01
    monkeypatch.setattr(module, "MAX_TILE_SIZE", 32)
    seen = []
    tiled = upscale(to_image_data(array), 4, upscaler(rrdb.random_weights(gain=1.0)), seen.append).to_input_type()
    assert [(event.done, event.total, event.unit) for event in seen] == [(n, 9, "tile") for n in range(10)]
    np.testing.assert_allclose(tiled, expected, rtol=0, atol=1e-4)
    monkeypatch.setattr(module, "TILE_PAD", 0)
    assert (
        np.abs(
            upscale(to_image_data(array), 4, upscaler(rrdb.random_weights(gain=1.0)), no_progress).to_input_type() - expected
        ).max()
        > 1e-3
    )


@pytest.mark.parametrize("factor", [1.5, 3, 3.9, 4, 5.3, 8])
@pytest.mark.parametrize("network", [None, rrdb.nearest_weights()], ids=["lanczos", "network"])
def test_every_factor_gives_its_size_and_moves_nothing(factor, network):
    """A smooth image, looked at where the pixels' middles lie."""
    y, x = np.mgrid[0:21, 0:34].astype(np.float32)
    array = np.dstack((0.2 + x / 50, 0.2 + y / 50, 0.5 + 0 * x))
    out = upscale(to_image_data(array), factor, None if network is None else upscaler(network), no_progress).to_input_type()
    assert out.shape == (round(21 * factor), round(34 * factor), 3) and out.dtype == np.float32
    inner = slice(round(2 * factor), -round(2 * factor))
    y, x = np.mgrid[0 : out.shape[0], 0 : out.shape[1]]
    x, y = (x + 0.5) * 34 / out.shape[1] - 0.5, (y + 0.5) * 21 / out.shape[0] - 0.5
    for channel, at in ((0, x), (1, y)):
        error = (out[..., channel] - 0.2 - at / 50)[inner, inner]
        assert np.abs(error).max() < (0.002 if network is None else 0.6 / 50) and abs(error.mean()) < 1e-3


def test_less_than_the_networks_own_factor_is_its_mean_by_area():
    array = kinds()["sixteen"]
    assert np.array_equal(
        upscale(to_image_data(array), 2, upscaler(rrdb.nearest_weights()), no_progress).to_input_type(), nearest(array, 2)
    )


@pytest.mark.parametrize("how", ["lanczos", "network"])
def test_alpha_and_kind_stay(how):
    network = upscaler(rrdb.nearest_weights()) if how == "network" else None
    rgba = np.dstack((kinds()["rgb"], np.full((19, 27), 200, np.uint8)))
    rgba[:, 13:, 3] = 0
    out = upscale(to_image_data(Image.fromarray(rgba)), 4, network, no_progress).to_input_type()
    assert out.mode == "RGBA" and out.size == (108, 76)
    alpha = np.asarray(out)[..., 3]
    assert (alpha[:, :50] == 200).all() and (alpha[:, 54:] == 0).all() and (np.diff(alpha.astype(int)) <= 0).all()
    gray = np.dstack((kinds()["flat gray"], rgba[..., 3]))
    assert upscale(to_image_data(gray), 4, network, no_progress).to_input_type().shape == (76, 108, 2)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_lanczos_keeps_the_type_and_stays_in_range(dtype):
    peak = {np.uint8: 255, np.uint16: 65535}.get(dtype, 1)
    array = (np.indices((30, 30, 3))[1] // 8 % 2 * peak).astype(dtype)
    out = upscale(to_image_data(array), 2.5, None, no_progress).to_input_type()
    assert out.dtype == dtype and out.shape == (75, 75, 3) and (out.min(), out.max()) == (0, peak)


def test_it_stops_before_the_next_tile(small_tiles):
    looked_at = []

    def stop(event):
        looked_at.append((event.stage, event.done, event.unit))
        if event.done == 2:
            raise Interrupted

    network = upscaler(rrdb.nearest_weights())
    with pytest.raises(Interrupted):
        upscale(to_image_data(kinds(40, 40)["rgb"]), 4, network, stop)
    assert looked_at == [("upscale", n, "tile") for n in range(3)]


def test_tiles_are_as_large_as_the_budget_allows(monkeypatch):
    network = upscaler(rrdb.random_weights())
    pixel = network.layout.elements_per_pixel * 4
    side = 100
    monkeypatch.setattr(network.network, "forward", lambda x: enlarged(x, 0.0))
    picture = to_image_data(np.zeros((300, 500, 3), np.uint8))
    tiles = [tile for tile, _ in network.upscale_tiles(picture, no_progress, pixel * (side + 2 * TILE_PAD) ** 2)]
    assert max(tile.x1 - tile.x0 for tile in tiles) == side and len(tiles) == 15
    tiles = [tile for tile, _ in network.upscale_tiles(picture, no_progress, None)]
    assert {(tile.x1 - tile.x0, tile.y1 - tile.y0) for tile in tiles} == {(252, 152), (248, 152), (252, 148), (248, 148)}
    assert max(252, 152) <= MAX_TILE_SIZE
    with pytest.raises(
        OutOfMemory, match=r"80 x 80 pixels\) needs about 12\.\d MiB, but the budget is 1\.0 MiB\. Increase it"
    ):
        list(network.upscale_tiles(picture, no_progress, 1 << 20))


@pytest.mark.slow
def test_out_of_memory_makes_tiles_smaller_until_the_end(monkeypatch, caplog):
    network = upscaler(rrdb.nearest_weights())
    forward, room = network.network.forward, 90

    def crowded(x):
        if max(x.shape[2:]) > room:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(x)

    monkeypatch.setattr(network.network, "forward", crowded)
    array, told = kinds(130, 150)["rgb"], []
    for _ in range(3):
        caplog.clear()
        assert np.array_equal(upscale(to_image_data(array), 4, network, no_progress).to_input_type(), nearest(array, 4))
        told.append("continuing with" in caplog.text)
    assert told[0] and not told[2]  # what was learned stays
    room = 10
    with pytest.raises(OutOfMemory, match=r"not enough memory to upscale 32 x 32 pixels \(CUDA out of memory"):
        upscale(to_image_data(array), 4, network, no_progress)


def test_what_is_not_finite_in_half_precision_is_done_again(monkeypatch):
    weights = rrdb.nearest_weights()
    exact = []
    network = upscaler(weights, torch.bfloat16, lambda: exact.append(upscaler(weights)) or exact[0])
    monkeypatch.setattr(network.network, "forward", lambda x: enlarged(x, np.nan))
    array = kinds()["rgb"]
    for _ in range(2):
        assert np.array_equal(upscale(to_image_data(array), 4, network, no_progress).to_input_type(), nearest(array, 4))
    assert len(exact) == 1 and network.modules() == (network.network, exact[0].network)


def test_what_is_never_finite_is_the_weights_fault():
    weights = rrdb.nearest_weights()
    for name in ("conv_first", "conv_hr", "conv_last"):
        weights[f"{name}.weight"] *= 1e30
    with pytest.raises(WeightsError, match="output is not finite"):
        upscale(to_image_data(kinds()["rgb"]), 4, upscaler(weights), no_progress)


def test_a_result_beyond_memory_is_refused_before_anything_is_computed(monkeypatch):
    picture = to_image_data(np.zeros((2500, 2500, 3), np.uint8))
    network = upscaler(rrdb.nearest_weights())
    monkeypatch.setattr(network.network, "forward", lambda x: pytest.fail("it was computed"))
    monkeypatch.setattr("cv2.resize", lambda *_, **__: pytest.fail("it was computed"))
    told = r"Upscaled to 10000 x 10000 pixels, .* about 3\.07 GiB .* {} GiB are allowed\. Allow more"
    for one in (None, network):
        with pytest.raises(OutOfMemory, match=told.format(1.86)):
            upscale(picture, 4, one, no_progress, 2 * 10**9)
    monkeypatch.setattr(module, "host_memory", lambda: 4 * 10**9)
    with pytest.raises(OutOfMemory, match=told.format(2.98)):
        upscale(picture, 4, network, no_progress)
    with pytest.raises(OutOfMemory, match=r"about 4\.1\d GiB"):  # three times: 4 times in float32, reduced
        upscale(picture, 3, network, no_progress, 10**9)
