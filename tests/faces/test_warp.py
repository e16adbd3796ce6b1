"""Resampling: exact where it can be, without aliasing where it reduces."""

import math

import helpers
import numpy as np
import pytest

from gpen_core.faces.align import align_face
from gpen_core.faces.blend import Canvas
from gpen_core.faces.warp import warp
from gpen_core.images.image import to_image_data


def similarity_matrix(scale, degrees, x, y):
    a, b = scale * math.cos(math.radians(degrees)), scale * math.sin(math.radians(degrees))
    return np.array([[a, -b, x], [b, a, y]])


@pytest.mark.parametrize("scale", [0.07, 0.31, 0.499, 0.5, 0.9, 1.0, 1.7, 4.0])
def test_a_slope_stays_where_it_is(scale):
    height, width = 230, 310
    x = np.mgrid[0:height, 0:width][1].astype(np.float32)
    matrix = similarity_matrix(scale, 25, 40, -10)
    out = warp(x / width, matrix, (120, 90))
    v, u = np.mgrid[0:90, 0:120]
    inverse = np.linalg.inv(np.vstack((matrix, [0, 0, 1])))
    sx, sy = (np.dstack((u, v, np.ones_like(u))) @ inverse.T)[..., :2].transpose(2, 0, 1)
    reach = 3 + 3 / scale
    inside = (sx > reach) & (sx < width - reach) & (sy > reach) & (sy < height - reach)
    assert inside.sum() > 20
    assert np.abs(out - sx / width)[inside].max() < 2e-3


def test_identity_changes_nothing():
    image = helpers.texture(40, 50)
    np.testing.assert_allclose(warp(image, similarity_matrix(1, 0, 0, 0), (50, 40)), image, atol=1e-6)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_whole_factors_are_area_means(factor):
    image = helpers.texture(factor * 20, factor * 30)
    shift = -(factor - 1) / 2 / factor
    out = warp(image, similarity_matrix(1 / factor, 0, shift, shift), (30, 20), cubic=False)
    means = image.reshape(20, factor, 30, factor, 3).mean((1, 3))
    np.testing.assert_allclose(out, means, atol=2e-4)


@pytest.mark.parametrize("size", [512, 2048])
@pytest.mark.parametrize("scale", [2.0, 2.6, 3.95, 5.5, 13.0])
@pytest.mark.parametrize("tilt", [0, 17])
@pytest.mark.slow
def test_noise_of_the_crop_does_not_alias_into_the_image(size, scale, tilt):
    side = size / scale * 0.55
    span = int(size / scale * 1.6) + 8
    face = helpers.make_face((span / 2 + 0.37, span / 2 - 0.21), side, tilt)
    alignment = align_face(face.landmarks, size)
    assert alignment.scale == pytest.approx(scale, rel=1e-3)
    noise = np.random.default_rng(4).normal(0.5, 0.05, (size, size, 3)).astype(np.float32)
    canvas = Canvas(to_image_data(np.full((span, span, 3), 0.5, np.float32)))
    canvas.paste(noise, np.ones((512, 512), np.float32), alignment)
    arrived = canvas.result.pixels[canvas.mask == 1].std() / 0.05
    assert 0.3 / scale < arrived <= 1.3 / scale


@pytest.mark.parametrize("scale", [0.15, 0.3, 0.52, 0.8])
def test_noise_of_the_image_does_not_alias_into_the_crop(scale):
    image = np.random.default_rng(4).normal(0.5, 0.05, (900, 900)).astype(np.float32)
    out = warp(image, similarity_matrix(scale, 11, 3.3, -7.1), (100, 100))
    assert out.std() / 0.05 <= 1.3 * scale


def test_outside_is_zero_where_nothing_is_repeated():
    image = np.ones((20, 20), np.float32)
    out = warp(image, similarity_matrix(1, 0, 30, 0), (60, 20), replicate=False)
    assert not out[:, :28].any() and not out[:, 52:].any() and (out[:, 32:48] == 1).all()
