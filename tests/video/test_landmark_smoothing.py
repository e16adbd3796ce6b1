"""Landmarks smoothed over time, from numbers alone: what the image tells of the motion is given."""

import numpy as np
import pytest

from gpen_core.faces.align import landmark_template
from gpen_core.video.face_motion import IDENTITY
from gpen_core.video.landmark_smoothing import MIN_JITTER, smooth_landmarks

RATE = 25
SIDE = 100.0
FACE = landmark_template(180) - 40  # px: spread like those of a face of 100 px


def landmarks(shifts):
    """[n, 5, 2] moved by shifts [n, 2] or [n, 5, 2]."""
    shifts = np.asarray(shifts, float)
    return FACE + (shifts[:, None] if shifts.ndim == 2 else shifts)


def boxes(points):
    middle = points.mean(1)
    return np.hstack((middle - SIDE / 2, middle + SIDE / 2))


def jittered(points, seed=0, amount=MIN_JITTER):
    return points + np.random.default_rng(seed).normal(0, amount * SIDE, points.shape)


def rms(values):
    return float(np.sqrt((values**2).mean()))


def test_a_still_face_hardly_moves():
    truth = landmarks(np.zeros((60, 2)))
    raw = jittered(truth)
    smooth, _ = smooth_landmarks(raw, boxes(raw), [IDENTITY] * 59, RATE)
    assert rms(smooth - truth) < rms(raw - truth) / 3
    assert rms(np.diff(smooth, axis=0)) < rms(np.diff(raw, axis=0)) / 30


@pytest.mark.parametrize("seconds", [0.2, 0.5])
def test_a_head_that_turns_is_not_held_back(seconds):
    """The landmarks move by a fifth of the face within that time while the image as a whole does not."""
    t = np.arange(80) / RATE
    turned = 0.2 * SIDE * np.clip((t - 1.5) / seconds, 0, 1)
    shifts = np.zeros((80, 5, 2))
    shifts[:, 2, 0], shifts[:, [0, 1, 3, 4], 0] = turned, turned[:, None] * 0.5
    truth = landmarks(shifts)
    raw = jittered(truth)
    smooth, _ = smooth_landmarks(raw, boxes(raw), [IDENTITY] * 79, RATE)
    assert np.abs(smooth - truth).max() < 0.06 * SIDE
    assert rms(smooth - truth) < 0.9 * rms(raw - truth)


@pytest.mark.parametrize("speed", [2.0, 10.0])
def test_where_the_image_tells_nothing_the_landmarks_own_path_is_smoothed_without_lag(speed):
    shifts = np.stack((speed * np.arange(60), np.zeros(60)), 1)
    truth = landmarks(shifts)
    raw = jittered(truth)
    smooth, _ = smooth_landmarks(raw, boxes(raw), [None] * 59, RATE)
    assert rms(smooth - truth) < 0.7 * rms(raw - truth)
    assert abs((smooth - truth).mean()) < 0.05 * speed


def test_nothing_is_carried_over_a_jump_that_the_image_does_not_tell():
    truth = landmarks(np.stack((np.where(np.arange(40) < 20, 0, 150.0), np.zeros(40)), 1))
    raw = jittered(truth)
    motions = [IDENTITY] * 39
    motions[19] = None
    smooth, _ = smooth_landmarks(raw, boxes(raw), motions, RATE)
    assert np.abs(smooth - truth).max() < 0.03 * SIDE


def test_a_gap_is_filled_along_the_motion():
    shifts = np.stack((5 * np.sin(np.arange(50) / 4), np.arange(50.0)), 1)
    truth = landmarks(shifts)
    raw = jittered(truth)
    box = boxes(raw)
    raw[20:32], box[20:32] = np.nan, np.nan
    motions = [IDENTITY + np.array([[0, 0, dx], [0, 0, dy]]) for dx, dy in np.diff(shifts, axis=0)]
    smooth, smooth_boxes = smooth_landmarks(raw, box, motions, RATE)
    assert np.abs(smooth - truth).max() < 0.02 * SIDE
    assert np.abs(smooth_boxes - boxes(truth)).max() < 0.02 * SIDE


def test_zoom_and_turn_carry_the_box_too():
    angles, scales = np.linspace(0, 0.4, 40), np.linspace(1, 2, 40)
    spin = scales * np.exp(1j * angles)
    z = (FACE[:, 0] + 1j * FACE[:, 1])[None] * spin[:, None]
    truth = np.stack((z.real, z.imag), -1)
    half = SIDE * scales[:, None] / 2
    box = np.hstack((truth.mean(1) - half, truth.mean(1) + half))
    steps = spin[1:] / spin[:-1]
    motions = [np.array([[s.real, -s.imag, 0], [s.imag, s.real, 0]]) for s in steps]
    smooth, smooth_boxes = smooth_landmarks(jittered(truth), box, motions, RATE)
    assert np.abs(smooth - truth).max() < 0.03 * SIDE
    assert np.abs(smooth_boxes - box).max() < 0.5


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("motion", [IDENTITY, None])
def test_short_tracks_stay_where_they_are(n, motion):
    truth = landmarks(np.zeros((n, 2)))
    smooth, box = smooth_landmarks(truth, boxes(truth), [motion] * (n - 1), RATE)
    assert np.allclose(smooth, truth) and np.allclose(box, boxes(truth))


@pytest.mark.parametrize("rate", [1.0, 5.0, 120.0])
def test_any_rate_will_do(rate):
    truth = landmarks(np.zeros((30, 2)))
    raw = jittered(truth)
    smooth, _ = smooth_landmarks(raw, boxes(raw), [IDENTITY] * 29, rate)
    assert np.isfinite(smooth).all() and rms(smooth - truth) <= rms(raw - truth) * 1.001
