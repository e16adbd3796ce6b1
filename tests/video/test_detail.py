"""The mean over time keeps the luma's detail that frames have in common, and still reduces noise."""

import cv2
import numpy as np
import pytest
from video_filters import FILTERS

from gpen_core.images.image import Region
from gpen_core.video import detail

SIDE = 192
INNER = (slice(24, -24), slice(24, -24))
FINE = 1.4  # px


def texture(seed=0):
    """[SIDE, SIDE, 3] in [0, 1], with detail of all sizes from a pixel on."""
    rng = np.random.default_rng(seed)
    layers = [cv2.GaussianBlur(rng.normal(size=(SIDE, SIDE, 3)), (0, 0), sigma) * sigma for sigma in (0.7, 1.5, 3, 6)]
    return (0.5 + 0.06 * sum(layers)).astype(np.float32)


def noise(seed, deviation=0.02):
    return np.random.default_rng(100 + seed).normal(0, deviation, (SIDE, SIDE, 3)).astype(np.float32)


def bent(image, phase):
    """The image, bent by 1.5 px in waves of 64 px, as skin moves."""
    y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
    across, down = 1.5 * np.sin(2 * np.pi * y / 64 + phase), 1.5 * np.sin(2 * np.pi * x / 64 - phase)
    return cv2.remap(image, x + across.astype(np.float32), y + down.astype(np.float32), cv2.INTER_LANCZOS4)


def fine(image):
    return (image - cv2.GaussianBlur(image, (0, 0), FINE))[INNER]


def luma(image):
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def chroma(image):
    return image - luma(image)[..., None]


def kept(image, clean):
    return float((fine(image) * fine(clean)).sum() / (fine(clean) ** 2).sum())


def filtered(frames, backend="OpenCV"):
    track, out = FILTERS[backend](1.0, 3), []
    for number, frame in enumerate(frames):
        track.add(number, frame, [frame])
        out += track.pop_ready(number)
    return [one.layers[0] for one in [*out, *track.pop_ready()]]


def weighted(image, weight):
    return detail.WarpedMean(image * np.float32(weight), np.full((SIDE, SIDE), weight, np.float32))


def shifted(image, x, y):
    return cv2.warpAffine(image, np.array([[1, 0, x], [0, 1, y]], np.float64), (SIDE, SIDE), flags=cv2.INTER_LANCZOS4)


@pytest.mark.parametrize("backend", list(FILTERS))
@pytest.mark.parametrize("deviation", [0.0, 0.02])
def test_a_moving_texture_keeps_its_detail_and_loses_half_its_noise(deviation, backend):
    clean = [bent(texture(), 0.6 * number) for number in range(9)]
    frames = [frame + noise(number, deviation) for number, frame in enumerate(clean)]
    for number, out in list(enumerate(filtered(frames, backend)))[3:6]:
        assert kept(luma(out), luma(clean[number])) == pytest.approx(1, abs=0.03)
        assert kept(chroma(out), chroma(clean[number])) > 0.9  # a plain mean; videos store less fine chroma
        if deviation:
            assert np.std((out - clean[number])[INNER]) < 0.5 * deviation


@pytest.mark.parametrize("deviation", [0.0, 0.02])
def test_detail_that_the_flow_missed_by_a_fraction_of_a_pixel_is_kept(deviation):
    clean = texture()
    current, one, other = (
        image + noise(seed, deviation) for seed, image in enumerate((clean, shifted(clean, 0.4, 0), shifted(clean, 0, 0.4)))
    )
    plain = (current + 1.5 * one + 1.5 * other) / 4
    out = detail.merge(current, weighted(one, 1.5), weighted(other, 1.5))
    assert kept(luma(plain), luma(clean)) < 0.95
    assert kept(luma(out), luma(clean)) == pytest.approx(1, abs=0.03)


def test_noise_without_detail_is_averaged():
    flat = np.full((SIDE, SIDE, 3), 0.5, np.float32)
    current, one, other = (flat + noise(seed) for seed in range(3))
    out = detail.merge(current, weighted(one, 1.5), weighted(other, 1.5))
    assert np.std(fine(out)) < 0.7 * np.std(fine(current))  # 0.59 for the plain mean


def test_a_place_without_neighbors_stays_as_it_is():
    current, one, other = (texture(seed) for seed in range(3))
    weight = np.zeros((SIDE, SIDE), np.float32)
    weight[:, : SIDE // 2] = 1
    before, after = (detail.WarpedMean(image * weight[..., None], weight) for image in (one, other))
    out = detail.merge(current, before, after)
    np.testing.assert_allclose(out[:, SIDE // 2 :], current[:, SIDE // 2 :], atol=1e-6)
    assert np.isfinite(out).all()


def test_masks_become_the_plain_weighted_mean():
    mask = texture()[..., 0]
    before, after = (
        detail.WarpedMean(2 * part * mask, np.full((SIDE, SIDE), 2, np.float32))
        for part in (np.float32(0.5), np.float32(0.8))
    )
    np.testing.assert_allclose(detail.merge(mask, before, after), mask * (1 + 1 + 1.6) / 5, rtol=1e-5)


@pytest.mark.parametrize("height", [SIDE, SIDE - 4])
def test_strips_do_not_change_the_result(monkeypatch, height):
    one, other, last = (texture()[:height] + noise(seed)[:height] for seed in range(3))
    weight = np.random.default_rng(0).uniform(0, 2, (height, SIDE)).astype(np.float32)
    means = [detail.WarpedMean(image * weight[..., None], weight) for image in (other, last)]
    in_strips = detail.merge(one, *means)
    monkeypatch.setattr(detail, "STRIP_ROWS", height)
    np.testing.assert_allclose(in_strips, detail.merge(one, *means), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(slice(40, 120), slice(60, 144)), (slice(0, 100), slice(44, SIDE))])
def test_only_the_part_with_neighbors_is_computed(rows, columns):
    one, other, last = (texture() + noise(seed) for seed in range(3))
    weight = np.zeros((SIDE, SIDE), np.float32)
    weight[rows, columns] = np.random.default_rng(0).uniform(0, 2, weight[rows, columns].shape)
    means = [detail.WarpedMean(image * weight[..., None], weight) for image in (other, last)]
    ends = ((side.start, side.stop) for side in (columns, rows))
    (x0, x1), (y0, y1) = ((max(0, low - detail.HALO), min(SIDE, high + detail.HALO)) for low, high in ends)
    region = Region(x0, y0, x1, y1)
    parts = [detail.WarpedMean(mean.values[region.slices].copy(), mean.weight[region.slices].copy()) for mean in means]
    found = detail.merge(one, *parts, region)
    np.testing.assert_allclose(found, detail.merge(one, *means), rtol=0, atol=1e-6)
    outside = np.ones((SIDE, SIDE), bool)
    outside[region.slices] = False
    assert np.array_equal(found[outside], one[outside])
