"""The filter over time, on crops of a photograph that moves a little, as a track's do."""

import tracemalloc

import cv2
import numpy as np
import pytest
import synthetic_video
from compositor_backends import DEVICES, needs_exact_opencv
from video_filters import FILTERS, DeviceFilter

from gpen_core.faces.align import invert_affine
from gpen_core.tools.demo.images import astronaut
from gpen_core.video import flow
from gpen_core.video.temporal_filter import FlickerMetric, TrackFilter

SIDE = 128
FACE = {"middle": (224, 126), "width": 120}
INNER = (slice(16, -16), slice(16, -16))


def crops(path="shake", count=9, noise=0.0, side=SIDE, speed=1.0, seed=1):
    """[count] crops in [0, 1] and the photograph's way into each."""
    frames, matrices = synthetic_video.split_frames(
        synthetic_video.render_video(astronaut(), path, count, (side, side), noise, seed, speed=speed, **FACE)
    )
    return [frame.astype(np.float32) / 255 for frame in frames], matrices


@pytest.fixture(params=list(FILTERS))
def filter_backend(request, monkeypatch):
    """The filter of the CPU and that of a device, there on the CPU."""
    monkeypatch.setitem(FILTERS, "used", FILTERS[request.param])


def filtered(guides, layers, amount=1.0, radius=2, first=0):
    track = FILTERS.get("used", TrackFilter)(amount, radius)
    out = []
    for number, (guide, layer) in enumerate(zip(guides, layers), first):
        track.add(number, guide, layer if isinstance(layer, list) else [layer])
        out += track.pop_ready(number)
    out += track.pop_ready()
    assert [one.number for one in out] == list(range(first, first + len(guides)))
    return [one.layers if isinstance(layers[0], list) else one.layers[0] for one in out], total(out)


def total(out):
    """Root mean square difference of following crops, before and after the filter."""
    before, after = FlickerMetric(), FlickerMetric()
    for one in out:
        before.add(one.flicker_before)
        after.add(one.flicker_after)
    return before.rms, after.rms


def sharpened(crop):
    return np.clip(crop + 1.5 * (crop - cv2.GaussianBlur(crop, (0, 0), 2)), 0, 1)


def undone(images, matrices):
    return np.stack(list(synthetic_video.unwarp([image * 255 for image in images], matrices, (512, 512))))[
        :, 80:172, 184:264
    ]


def steepness(image):
    return np.hypot(cv2.Sobel(image, cv2.CV_32F, 1, 0), cv2.Sobel(image, cv2.CV_32F, 0, 1)).mean()


def test_a_track_goes_forwards():
    track = TrackFilter(1.0, 2)
    guide = np.zeros((32, 32, 3), np.float32)
    track.add(5, guide, [guide])
    with pytest.raises(ValueError, match="after frame 5"):
        track.add(5, guide, [guide])


@pytest.mark.parametrize(("amount", "radius"), [(0.0, 3), (1.0, 0)])
def test_without_a_filter_the_layers_come_back_at_once_as_they_are(amount, radius):
    guides, _ = crops(count=3)
    track = TrackFilter(amount, radius)
    for number, guide in enumerate(guides):
        track.add(number, guide, [guide])
        (given,) = track.pop_ready(number)
        assert given.number == number and given.layers[0] is guide


@pytest.mark.parametrize("path", ["still", "shake"])
@pytest.mark.usefixtures("filter_backend")
@pytest.mark.slow
def test_flicker_halves_and_sharpness_stays(path):
    guides, matrices = crops(path, 12, noise=6.0)
    restored = [sharpened(guide) for guide in guides]
    out, (measured_before, measured_after) = filtered(guides, restored)
    before, after = undone(restored, matrices), undone(out, matrices)
    inner = slice(2, -2)
    assert after[inner].std(0).mean() <= 0.5 * before[inner].std(0).mean()
    assert steepness(after.mean(0)) == pytest.approx(steepness(before.mean(0)), rel=0.05)
    assert measured_after < 0.6 * measured_before


@pytest.mark.usefixtures("filter_backend")
def test_what_a_network_does_at_the_border_of_its_square_is_not_carried_inside():
    """Where the face stands still in its square and all behind it moves, the border of one frame lies inside another."""
    guides, _ = crops("pan", 7, speed=9.0)
    restored = []
    for guide in guides:
        framed = guide.copy()
        framed[:, :4] = framed[:, -4:] = framed[:4] = framed[-4:] = 1
        restored.append(framed)
    out, _ = filtered(guides, restored)
    margin = SIDE // 12
    inside = (slice(margin, -margin), slice(margin, -margin))
    assert max((one - other)[inside].max() for one, other in zip(out, guides)) < 0.1  # 0.28 with the border


@pytest.mark.usefixtures("filter_backend")
def test_resampling_does_not_blur():
    guides, _ = crops("shake", 7)
    restored = [sharpened(guide) for guide in guides]
    out, _ = filtered(guides, restored)
    for one, other in zip(out, restored):
        assert steepness(one[INNER]) == pytest.approx(steepness(other[INNER]), rel=0.03)


@pytest.mark.usefixtures("filter_backend")
def test_a_segment_alone_is_the_same_bit_for_bit():
    guides, _ = crops(count=12, noise=4.0)
    restored = [sharpened(guide) for guide in guides]
    whole, _ = filtered(guides, restored)
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1 if threads > 1 else 3)
        segment, _ = filtered(guides[2:11], restored[2:11], first=2)
    finally:
        cv2.setNumThreads(threads)
    for number in range(4, 9):
        assert np.array_equal(whole[number], segment[number - 2])
    assert not np.array_equal(whole[2], segment[0])


def changed_at(guides, numbers, draw):
    return [draw(guide.copy()) if number in numbers else guide for number, guide in enumerate(guides)]


def shut(image):
    """Both eyes closed: the lids have the cheek's color, with a dark line."""
    y, x = np.mgrid[:SIDE, :SIDE]
    for eye in ((42, 48), (84, 46)):
        inside = np.clip(1.3 - np.hypot((x - eye[0]) / 11, (y - eye[1]) / 7), 0, 0.3)[..., None] / 0.3
        lid = np.full(3, (0.8, 0.6, 0.5)) - 0.4 * (np.abs(y - eye[1] - 3) < 1.5)[..., None]
        image += (inside * (lid - image)).astype(np.float32)
    return image


def hand(image):
    image[60:110, 20:70] = (0.75, 0.5, 0.4) + 0.1 * np.sin(np.arange(50) / 3, dtype=np.float32)[:, None, None]
    return image


@pytest.mark.usefixtures("filter_backend")
@pytest.mark.parametrize("noise", [0.0, 4.0])
@pytest.mark.parametrize(
    ("draw", "rows", "columns"), [(shut, slice(45, 52), slice(37, 47)), (hand, slice(66, 104), slice(26, 64))]
)
def test_a_blink_and_a_hand_stay_exactly_as_restored(draw, rows, columns, noise):
    guides, _ = crops(count=11, noise=noise, speed=0.3)
    guides = changed_at(guides, (5,), draw)
    rng = np.random.default_rng(2)
    restored = [np.clip(guide + rng.normal(0, 0.02, guide.shape), 0, 1).astype(np.float32) for guide in guides]
    out, _ = filtered(guides, restored)
    np.testing.assert_allclose(out[5][rows, columns], restored[5][rows, columns], atol=1 / 65535)
    elsewhere = slice(96, 120), slice(90, 120)
    assert np.abs(out[5][elsewhere] - restored[5][elsewhere]).mean() > 0.005
    # Before and after, the open eye or the bare cheek is a mean of its like alone.
    assert np.abs(out[4][rows, columns] - guides[4][rows, columns]).mean() < 0.03


@pytest.mark.usefixtures("filter_backend")
def test_what_has_nothing_in_common_is_not_mixed():
    guides, _ = crops(count=4)
    others = [np.ascontiguousarray(np.rot90(1 - guide)) for guide in guides]
    out, _ = filtered(guides + others, guides + others)
    for number in (3, 4):
        apart, _ = filtered(guides, guides) if number == 3 else filtered(others, others, first=4)
        assert np.abs(out[number] - apart[number - (4 if number == 4 else 0)]).mean() < 0.002


@pytest.mark.usefixtures("filter_backend")
def test_a_flash_is_not_spread():
    guides, _ = crops("still", 7)
    guides = changed_at(guides, (3,), lambda guide: np.clip(guide + 0.3, 0, 1))
    out, _ = filtered(guides, guides)
    for number in (2, 3, 4):
        assert np.abs(out[number] - guides[number]).max() < 1 / 60000


def test_noise_does_not_close_the_gate():
    for noise in (0.0, 4.0, 10.0):
        guides, _ = crops(count=2, noise=noise)
        one, _ = flow.match(*map(flow.prepare, guides))
        assert one.confidence[INNER].mean() > 0.9


@pytest.mark.parametrize(("noise", "most"), [(0.0, 0.2), (8.0, 0.4)])
def test_flow_finds_the_known_motion(noise, most):
    guides, matrices = crops(count=2, noise=noise, side=256, speed=3)
    found = flow.match(*map(flow.prepare, guides))[0].flow
    way = (np.vstack((matrices[1], [0, 0, 1])) @ np.vstack((invert_affine(matrices[0]), [0, 0, 1])))[:2]
    y, x = np.mgrid[:256, :256]
    points = np.stack((x, y), -1)
    off = np.hypot(*np.moveaxis(found - (synthetic_video.transform_points(points, way) - points), -1, 0))[INNER]
    assert np.abs(synthetic_video.transform_points(points, way) - points).mean() > 1
    assert np.sqrt((off**2).mean()) < most


@pytest.mark.usefixtures("filter_backend")
def test_masks_of_another_size_are_filtered_with_the_crop():
    guides, matrices = crops(count=7)
    y, x = np.mgrid[:512, :512]
    disc = (np.hypot(x - 224, y - 126) < 30).astype(np.float32)
    masks = [
        cv2.warpAffine(disc, np.diag([0.5, 0.5, 1.0])[:2, :2] @ matrix, (64, 64), flags=cv2.INTER_AREA)
        for matrix in matrices
    ]
    flickering = [mask * (0.8 if number % 2 else 1.0) for number, mask in enumerate(masks)]
    out, _ = filtered(guides, [[guide, mask] for guide, mask in zip(guides, flickering)])
    middles = [result[1][24:40, 24:40].mean() for result in out[2:-2]]
    assert out[0][1].shape == (64, 64) and np.ptp(middles) < 0.05
    assert all(np.abs(result[1] - 0.9 * mask).mean() < 0.03 for result, mask in zip(out[2:-2], masks[2:-2]))


def test_a_gap_counts_by_the_frames_numbers():
    guides, _ = crops("still", 3, noise=4.0)
    track = TrackFilter(1.0, 2)
    for number, guide in zip((0, 1, 4), guides):
        track.add(number, guide, [guide])
    assert [one.number for one in track.pop_ready(4)] == [0, 1]
    (last,) = track.pop_ready()
    (alone,) = last.layers
    assert last.number == 4 and np.abs(alone - guides[2]).max() < 1 / 65535


def test_no_more_than_the_window_is_held_in_16_bits():
    guides, _ = crops(count=9, side=64)
    track, side = TrackFilter(1.0, 2), 800
    frame = 2 * 3 * side**2  # bytes in 16 bits
    tracemalloc.start()  # NumPy's and OpenCV's arrays count
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, guide in enumerate(guides):
            track.add(number, guide, [cv2.resize(guide, (side, side))])
            held = tracemalloc.get_traced_memory()[0] - before
            assert held < (min(number + 1, 5) + 0.5) * frame  # guides and flow are small
            assert [one.number for one in track.pop_ready(number)] == ([number - 2] if number >= 2 else [])
    finally:
        tracemalloc.stop()


@pytest.mark.usefixtures("filter_backend")
def test_steadiness_of_what_is_alike_is_measured_as_alike():
    guides, _ = crops("still", 5)
    _, (before, after) = filtered(guides, guides)
    assert before < 1e-4 and after < 1e-4
    assert np.isnan(FlickerMetric().rms)


@needs_exact_opencv
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    ("path", "noise", "speed", "side", "ratio"),
    [("still", 6.0, 1.0, 96, 1), ("shake", 6.0, 3.0, 96, 1), ("pan", 3.0, 6.0, 128, 2), ("zoom", 3.0, 4.0, 100, 3)],
)
def test_the_device_filters_as_the_cpu_does(device, path, noise, speed, side, ratio):
    """A crop that is larger than its guide, and a mask of another size; sides that are no multiple of the grid's, too."""
    guides, _ = crops(path, 7, noise, side, speed)
    large = [cv2.resize(one, (side * ratio,) * 2, interpolation=cv2.INTER_CUBIC).clip(0, 1) for one in guides]
    disc = np.hypot(*(np.mgrid[:150, :150] - 70.0))
    layers = [[sharpened(one), np.clip(50 + n - disc, 0, 1).astype(np.float32)] for n, one in enumerate(large)]
    found = []
    for track in (TrackFilter(0.8, 3), DeviceFilter(0.8, 3, device)):
        out = []
        for number, (guide, some) in enumerate(zip(guides, layers)):
            track.add(number, guide, some)
            out += track.pop_ready(number)
        found.append([*out, *track.pop_ready()])
    for one, other, before in zip(*found, layers):
        assert one.number == other.number
        for expected, result, given in zip(one.layers, other.layers, before):
            assert result.shape == given.shape and np.abs(expected - result).max() < 0.5 / 255
        assert np.abs(one.layers[0] - before[0]).max() > 5 / 255
    sums, others = (total(out) for out in found)
    assert others == pytest.approx(sums, rel=1e-3)
