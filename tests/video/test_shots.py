"""Cuts are found, and what only looks like one is none: videos made of photographs that move fast."""

import itertools
import pickle

import numpy as np
import pytest
import synthetic_video

from gpen_core.faces.warp import warp
from gpen_core.images.image import ImageData, to_image_data
from gpen_core.video.shots import CutDetector, ShotDetector, thumbnail

SIZE = (320, 180)


@pytest.fixture(scope="module")
def photos(astronaut):
    from skimage import data

    return [astronaut, data.coffee(), data.chelsea(), data.rocket() if hasattr(data, "rocket") else data.colorwheel()]


def shot(photo, path="still", count=6, **named):
    return [frame for frame, _ in synthetic_video.render_video(photo, path, count, SIZE, **named)]


def moved(photo, places, noise=0.0, blur=1, zoom=1.0, turn=0.0, seed=0):
    """Frames of a photograph that show 55 % of its width, at each place by that share of the frame from the middle."""
    rng = np.random.default_rng(seed)
    out = []
    for n, x in enumerate(places):
        rest = synthetic_video._rest_matrix(
            (photo.shape[1] / 2, photo.shape[0] / 2), SIZE[0] / (0.55 * photo.shape[1]), SIZE
        )
        motion = synthetic_video._about_middle((x * SIZE[0], 0, n * turn, n * np.log(zoom)), SIZE)
        frame = warp(photo.astype(np.float32), motion @ np.vstack((rest, [0, 0, 1])), SIZE)
        smeared = sum(np.roll(frame, k, axis=1) for k in range(blur)) / blur
        out.append(synthetic_video.add_noise(smeared, noise, rng))
    return out


def cuts(frames):
    finder = CutDetector()
    return [n for n, frame in enumerate(frames) if finder.is_cut(thumbnail(to_image_data(frame)))]


@pytest.mark.parametrize("path", ["still", "pan", "shake"])
@pytest.mark.parametrize("noise", [0, 12])
def test_every_cut_is_found_and_nothing_else(photos, path, noise):
    frames = [frame for photo in photos for frame in shot(photo, path, noise=noise, speed=2)]
    assert cuts(frames) == [6, 12, 18]


def test_cuts_frame_by_frame(photos):
    assert cuts([shot(photos[n % 4], count=1)[0] for n in range(8)]) == list(range(1, 8))


@pytest.mark.parametrize("step", [0.05, 0.15, 0.3])
@pytest.mark.parametrize("is_smeared", [False, True])
def test_a_fast_pan_is_none(photos, step, is_smeared):
    for photo in photos:
        frames = moved(photo, np.arange(4) * step - 1.5 * step, noise=3, blur=int(step * SIZE[0] / 2) if is_smeared else 1)
        assert cuts(frames) == []


@pytest.mark.parametrize(("zoom", "turn"), [(1.1, 0), (1 / 1.1, 0), (1.0, 6), (1.05, -4)])
def test_a_fast_zoom_or_turn_is_none(photos, zoom, turn):
    for photo in photos:
        assert cuts(moved(photo, [0] * 4, noise=3, zoom=zoom, turn=turn)) == []


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize(("gain", "more"), [(1.6, 60), (2, 120), (0.3, 0), (0, 255), (0, 0)])
def test_a_flash_is_none(photos, count, gain, more):
    for photo in photos:
        frames = shot(photo, "pan", 8)
        for n in range(3, 3 + count):
            frames[n] = np.clip(frames[n] * float(gain) + more, 0, 255).astype(np.uint8)
        assert cuts(frames) == []


def test_one_who_passes_close_in_front_is_none(photos):
    head = np.ascontiguousarray(photos[0][30:220, 140:310])
    for photo in photos[1:]:
        passing = synthetic_video.with_passerby(synthetic_video.render_video(photo, "pan", 16, SIZE), head, 2, 14, side=220)
        assert cuts(frame for frame, _, _ in passing) == []


def test_after_black_the_next_shot_is_compared_with_the_last(photos):
    black = [np.zeros((180, 320, 3), np.uint8)] * 3
    first, second = shot(photos[0], count=3), shot(photos[1], count=3)
    assert cuts(black + first + black + second) == [9]
    assert cuts(first + black + first) == []


def test_a_cut_into_glaring_light_comes_two_frames_late(photos):
    glaring = [np.clip(frame * 1.5 + 100.0, 0, 255).astype(np.uint8) for frame in shot(photos[1], count=5)]
    assert (glaring[0] >= 250).mean() > 0.3
    assert cuts(shot(photos[0], count=4) + glaring) == [6]


def test_another_size_is_a_cut(photos):
    assert cuts([*shot(photos[0], count=2), photos[0]]) == [2]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_image_is_taken(photos, dtype, channels):
    peak = 65535 if dtype == np.uint16 else 1
    finder = CutDetector()
    frames = [frame for photo in photos[:2] for frame in shot(photo, count=2)]
    told = [finder.is_cut(thumbnail(ImageData((frame[..., :channels] / 255 * peak).astype(dtype)))) for frame in frames]
    assert told == [False, False, True, False]


def test_tiny_images_are_taken():
    assert cuts([np.full((1, 1, 3), v, np.uint8) for v in (0, 90, 255)]) == []
    assert cuts(list(np.random.default_rng(1).integers(0, 255, (4, 3, 500, 3), np.uint8))) != [0]


def test_two_small_frames_are_kept(photos):
    finder, one = CutDetector(), 108 * 192 * 4  # bytes of a frame
    for frame in shot(photos[0], "pan", 9):
        finder.is_cut(thumbnail(to_image_data(frame)))
    assert 2 * one < len(pickle.dumps(finder)) < 2 * one + 2000


@pytest.mark.parametrize("axis", [1, 2])
def test_two_that_change_sides_are_a_cut(photos, axis):
    for one, two in itertools.combinations(photos, 2):
        a, b = (np.stack(shot(photo, "shake", 8, noise=3))[:, :160, :160] for photo in (one, two))
        before, after = np.concatenate([a, b], axis)[:4], np.concatenate([b, a], axis)[4:]
        assert cuts([*before, *after]) == [4]


def shots_of(frames, rate=25):
    finder = ShotDetector(rate)
    return [n for frame in frames for n in finder.add(to_image_data(frame))]


def dissolve(one, two, length, still=20):
    """`still` frames of each photograph, and so many mixed ones between them."""
    a, b = (np.stack(shot(photo, "shake", 2 * still + length, noise=3)).astype(float) for photo in (one, two))
    share = np.clip((np.arange(len(a)) - still + 1) / (length + 1), 0, 1)[:, None, None, None]
    return np.rint((1 - share) * a + share * b).astype(np.uint8)


@pytest.mark.parametrize("length", [4, 9, 20])
def test_a_dissolve_is_found_once_within_it(photos, length):
    for one, two in itertools.pairwise(photos):
        (middle,) = shots_of(dissolve(one, two, length))
        assert 20 <= middle < 20 + length


def test_a_dissolve_of_a_fast_video_is_found_too(photos):
    frames = dissolve(photos[0], photos[1], 24, 40)
    (middle,) = shots_of(frames, 60)
    assert 40 <= middle <= 64


def test_a_dissolve_into_the_same_view_and_a_change_of_light_are_none(photos):
    for photo in photos[:2]:
        frames = dissolve(photo, photo, 10)
        assert shots_of(frames) == []
        gain = np.clip((np.arange(len(frames)) - 19) / 11, 0, 1)[:, None, None, None]
        assert shots_of(np.rint(frames * (1 - 0.6 * gain)).astype(np.uint8)) == []


@pytest.mark.filterwarnings("error")
def test_a_fade_from_black_is_no_dissolve_and_warns_of_nothing(photos):
    frames = np.stack(shot(photos[0], "pan", 40, speed=0)).astype(float)
    share = np.clip((np.arange(40) - 19) / 11, 0, 1)[:, None, None, None]
    assert shots_of(np.rint(share * frames).astype(np.uint8)) == []


def test_cuts_of_the_shots_are_told_at_once(photos):
    frames = [frame for photo in photos for frame in shot(photo, "pan", speed=2)]
    finder = ShotDetector(25)
    assert [finder.add(to_image_data(frame)) for frame in frames] == [[n] if n in (6, 12, 18) else [] for n in range(24)]
