"""Faces followed through videos whose motion is known; what a detector would find is made, with its jitter and its gaps."""

from dataclasses import replace

import numpy as np
import pytest
import synthetic_video

from gpen_core.faces.face import Face
from gpen_core.images.image import ImageData, to_image_data
from gpen_core.video.track import FILLED_NOTE
from gpen_core.video.tracker import Tracker

# In the astronaut's image, as the demonstration's detector finds them.
LANDMARKS = np.array([[204.8, 100.8], [247.4, 103.4], [223.6, 129.2], [202.5, 138.1], [244.2, 140.6]])
BOX = np.array([[178.0, 62.0], [270.0, 186.0]])
RATE = 25
SIZE = (320, 180)
REST = {"middle": (224, 124), "width": 300}
JITTER = 0.012  # of the face


def face_of(matrix, rng=None, score=0.99, landmarks=LANDMARKS, box=BOX):
    scale = np.hypot(matrix[0, 0], matrix[1, 0])
    size = np.sqrt(np.prod(box[1] - box[0])) * scale
    jitter = np.zeros((7, 2)) if rng is None else rng.normal(0, JITTER * size, (7, 2))
    middle, half = synthetic_video.transform_points(box.mean(0), matrix), scale * (box[1] - box[0]) / 2
    corners = np.stack((middle - half, middle + half)) + jitter[5:]
    return Face(tuple(corners.ravel()), score, synthetic_video.transform_points(landmarks, matrix) + jitter[:5])


def followed(frames, matrices, faces, cuts=(), rate=RATE):
    tracker = Tracker(rate)
    for n, frame in enumerate(frames):
        tracker.add(n, to_image_data(frame), faces[n], n in cuts)
    return tracker.finish()


def a_film(photo, path="pan", count=50, noise=4.0, speed=1.0, seed=1):
    return synthetic_video.split_frames(
        synthetic_video.render_video(photo, path, count, SIZE, noise=noise, seed=seed, speed=speed, **REST)
    )


def detected(matrices, seed=3, without=()):
    rng = np.random.default_rng(seed)
    return [[] if n in without else [face_of(matrix, rng)] for n, matrix in enumerate(matrices)]


def off(landmarks, matrices, first=0):
    """[n, 5, 2]: distance from the truth in sizes of the face."""
    truth = np.stack([synthetic_video.transform_points(LANDMARKS, matrix) for matrix in matrices])[
        first : first + len(landmarks)
    ]
    sizes = np.array([np.hypot(m[0, 0], m[1, 0]) for m in matrices])[first : first + len(landmarks)]
    return (landmarks - truth) / (sizes[:, None, None] * np.sqrt(np.prod(BOX[1] - BOX[0])))


@pytest.mark.parametrize("path", synthetic_video.PATHS)
@pytest.mark.slow
def test_jitter_is_gone_and_the_landmarks_are_nearer_to_the_truth(astronaut, path):
    frames, matrices = a_film(astronaut, path)
    (track,) = followed(frames, matrices, detected(matrices))
    raw, smooth = off(track.raw, matrices), off(track.landmarks, matrices)
    assert np.std(np.diff(smooth, axis=0)) < np.std(np.diff(raw, axis=0)) / 10
    assert np.sqrt((smooth**2).mean()) < np.sqrt((raw**2).mean()) / 2.5
    assert len(track) == 50 and not track.fade_in and not track.fade_out


@pytest.mark.parametrize("speed", [1, 3, 6])
@pytest.mark.slow
def test_nothing_lags_however_fast(astronaut, speed):
    frames, matrices = a_film(astronaut, "pan", speed=speed)
    (track,) = followed(frames, matrices, detected(matrices))
    error = (track.landmarks - np.stack([synthetic_video.transform_points(LANDMARKS, m) for m in matrices])).mean(1)[1:-1]
    velocity = (np.stack([m[:, 2] for m in matrices[2:]]) - np.stack([m[:, 2] for m in matrices[:-2]])) / 2
    lag = -((error - error.mean(0)) * velocity).sum() / (velocity**2).sum()
    assert abs(lag) < 0.05  # frames
    assert np.abs(velocity).max() > 2 * speed


def test_a_gap_of_almost_half_a_second_is_filled_by_the_image(astronaut):
    frames, matrices = a_film(astronaut, "shake")
    gap = range(20, 32)
    (track,) = followed(frames, matrices, detected(matrices, without=gap))
    assert [n for n in range(50) if np.isnan(track.scores[n])] == list(gap)
    assert np.hypot(*np.moveaxis(off(track.landmarks, matrices)[20:32], 2, 0)).max() < 0.015
    assert track.face_at(25).note == FILLED_NOTE and track.face_at(25).score == 0.99 and track.face_at(33).note is None


def test_a_longer_gap_ends_the_track_and_the_face_is_known_again(astronaut):
    frames, matrices = a_film(astronaut, "shake")
    tracks = followed(frames, matrices, detected(matrices, without=range(20, 34)))
    assert [(track.first, track.last, track.person) for track in tracks] == [(0, 19, 0), (34, 49, 0)]
    assert [(track.fade_in, track.fade_out) for track in tracks] == [(False, True), (True, False)]


def test_a_gap_behind_something_is_not_filled(astronaut):
    frames, matrices = a_film(astronaut, "still")
    hand = np.random.default_rng(8).integers(0, 255, (*SIZE[::-1], 3), np.uint8)
    for n in range(22, 28):
        frames[n] = hand
    tracks = followed(frames, matrices, detected(matrices, without=range(22, 28)))
    assert [(track.first, track.last, track.person) for track in tracks] == [(0, 21, 0), (28, 49, 0)]


def test_a_cut_ends_every_track_at_once(astronaut):
    frames, matrices = a_film(astronaut, "still", 20)
    tracks = followed(frames, matrices, detected(matrices), cuts=(12,))
    assert [(track.first, track.last, track.person) for track in tracks] == [(0, 11, 0), (12, 19, 1)]
    assert not any(track.fade_in or track.fade_out for track in tracks)


def test_a_track_does_not_run_on_into_another_person(astronaut):
    """From one frame to the next, another face is at the same place, in front of the same background."""
    frames, matrices = a_film(astronaut, "still", 24)
    other, second = someone_else(astronaut, frames[12:], matrices[12])
    faces = detected(matrices)
    faces[12:] = [[replace(other, landmarks=face.landmarks, box=face.box)] for (face,) in faces[12:]]
    tracks = followed([*frames[:12], *second], None, faces)
    assert [(track.first, track.last, track.person) for track in tracks] == [(0, 11, 0), (12, 23, 1)]


def someone_else(photo, frames, matrix):
    """That face, and the frames with other features there: turned, and as a negative."""
    face = face_of(matrix)
    x0, y0, x1, y1 = (round(v) for v in face.box)
    out = [frame.copy() for frame in frames]
    for frame in out:
        frame[y0:y1, x0:x1] = 255 - frame[y0:y1, x0:x1][::-1, ::-1]
    return face, out


def test_two_who_change_sides_begin_a_shot(astronaut):
    """A|B, then B|A, in front of one background: the place goes on, the people do not."""
    frames, matrices = a_film(astronaut, "still", 20)
    face = face_of(matrices[0])
    x0, y0, x1, y1 = (round(v) for v in face.box)
    background = np.full((*SIZE[::-1], 3), 90, np.uint8)
    a = [frame[y0:y1, x0:x1] for frame in frames]
    b = [255 - patch[::-1, ::-1] for patch in a]
    tracker, told = Tracker(RATE), []
    for n in range(20):
        frame, sides = background.copy(), ((a, b) if n < 10 else (b, a))
        faces = []
        for side, x in zip(sides, (30, 200)):
            frame[40 : 40 + y1 - y0, x : x + x1 - x0] = side[n]
            shift = np.array([x - x0, 40 - y0])
            box = (float(x), 40.0, float(x + x1 - x0), float(40 + y1 - y0))
            faces.append(Face(box, 0.99, face.landmarks + shift))
        told.append(tracker.add(n, to_image_data(frame), faces, False))
    assert told == [n == 10 for n in range(20)]
    tracks = tracker.finish()
    assert [(track.first, track.last, track.fade_in, track.fade_out) for track in tracks] == [
        (0, 9, False, False),
        (0, 9, False, False),
        (10, 19, False, False),
        (10, 19, False, False),
    ]


def test_a_cut_that_is_found_later_ends_the_tracks_before_it(astronaut):
    frames, matrices = a_film(astronaut, "pan", 30)
    tracker, faces = Tracker(RATE), detected(matrices, without=range(13, 18))
    whole = followed(frames, matrices, faces)
    for n, frame in enumerate(frames):
        tracker.add(n, to_image_data(frame), faces[n], False)
        if n == 25:
            tracker.split(16)
    tracks = tracker.finish()
    assert [(track.first, track.last, track.person) for track in whole] == [(0, 29, 0)]
    assert [(track.first, track.last, track.person) for track in tracks] == [(0, 12, 0), (18, 29, 1)]
    assert [(track.fade_in, track.fade_out) for track in tracks] == [(False, True), (True, False)]
    assert np.abs(off(tracks[1].landmarks, matrices, 18)).max() < 0.03


def test_a_cut_found_later_leaves_other_tracks_alone(astronaut):
    frames, matrices = a_film(astronaut, "still", 30)
    tracker, faces = Tracker(RATE), detected(matrices, without=[*range(8), *range(20, 30)])
    for n, frame in enumerate(frames):
        tracker.add(n, to_image_data(frame), faces[n], False)
    for cut in (3, 8, 25):
        tracker.split(cut)
    assert [(track.first, track.last) for track in tracker.finish()] == [(8, 19)]


def test_an_image_of_another_size_is_a_cut(astronaut):
    frames, matrices = a_film(astronaut, "still", 6)
    frames[3:] = [frame[:-20, :-10] for frame in frames[3:]]
    assert [track.first for track in followed(frames, matrices, detected(matrices))] == [0, 3]


def test_a_face_that_comes_and_goes_does_so_softly(astronaut):
    frames, matrices = a_film(astronaut, "still", 30)
    (track,) = followed(frames, matrices, detected(matrices, without=[*range(8), *range(25, 30)]))
    assert (track.first, track.last, track.fade_in, track.fade_out) == (8, 24, True, True)


def two_people(photo, count=60):
    """One stands, another, mirrored and darker, passes in front of them; faces, the standing one's while it is seen."""
    still = synthetic_video.render_video(photo, "still", count, SIZE, noise=2, seed=1, **REST)
    other = np.ascontiguousarray(photo[30:220, 140:310][:, ::-1] // 5 * 3)
    mirrored = np.array([[169 - (x - 140), y - 30] for x, y in LANDMARKS])[[1, 0, 2, 4, 3]]
    box = np.array([[169 - 130, 32], [169 - 38, 156]])
    rng, frames, faces = np.random.default_rng(4), [], []
    for frame, matrix, there in synthetic_video.with_passerby(still, other, 5, count - 5, side=150):
        stands = face_of(matrix, rng)
        found = [stands]
        if there is not None:
            passer = face_of(there, rng, landmarks=mirrored, box=box)
            gone = np.hypot(*(np.array(passer.box[:2]) - stands.box[:2])) < 75
            found = [passer] if gone else [passer, stands]
        frames.append(frame)
        faces.append([face for face in found if 0 < face.center[0] < SIZE[0] and 0 < face.center[1] < SIZE[1]])
    return frames, faces


def test_two_who_cross_stay_who_they_are(astronaut):
    frames, faces = two_people(astronaut)
    hidden = [n for n in range(60) if len(faces[n]) == 1 and 20 < n < 45]
    assert len(hidden) > 8
    tracks = followed(frames, None, faces)
    passer = next(track for track in tracks if track.first not in (0, hidden[-1] + 1))
    steps = np.diff(passer.landmarks.mean(1)[:, 0])
    assert len(passer) > 30 and steps.min() > 0
    stands = [track for track in tracks if track is not passer]
    assert {track.person for track in stands} == {0} and passer.person != 0
    assert all(np.ptp(track.landmarks.mean(1), axis=0).max() < 3 for track in stands)


def test_one_who_leaps_is_followed(astronaut):
    """From standing still to 0.4 of the face's size in one frame."""
    _, matrices = a_film(astronaut, "still", 30)
    for n in range(15, 30):
        matrices[n] = matrices[n] + [[0, 0, min(n - 14, 3) * 40.0], [0, 0, 0]]
    frames = [
        np.rint(np.clip(synthetic_video.warp(astronaut.astype(np.float32), m, SIZE), 0, 255)).astype(np.uint8)
        for m in matrices
    ]
    (track,) = followed(frames, matrices, detected(matrices))
    assert len(track) == 30
    assert np.hypot(*np.moveaxis(off(track.landmarks, matrices), 2, 0)).mean(1).max() < 0.012


def test_tracks_are_numbered_by_first_appearance_then_as_read(astronaut):
    frames, matrices = a_film(astronaut, "still", 4, noise=0)
    left = [Face((x, 20.0, x + 30, 50.0), 0.9, LANDMARKS * 0.3 + (x - 55, 5)) for x in (10.0, 120.0, 230.0)]
    tracks = followed(frames, matrices, [[left[2], left[0]], left[::-1], left, left])
    assert [(track.number, track.first, round(track.boxes[0, 0])) for track in tracks] == [
        (0, 0, 10),
        (1, 0, 230),
        (2, 1, 120),
    ]


@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
def test_deeper_images_are_followed_like_any(astronaut, dtype):
    frames, matrices = a_film(astronaut, "pan", 12)
    peak = 65535 if dtype == np.uint16 else 1
    tracker, faces = Tracker(RATE), detected(matrices)
    for n, frame in enumerate(frames):
        tracker.add(n, ImageData((frame / 255 * peak).astype(dtype)), faces[n], False)
    (track,) = tracker.finish()
    (plain,) = followed(frames, matrices, faces)
    assert np.abs(track.landmarks - plain.landmarks).max() < 0.1


def test_frames_must_come_in_order_and_all_of_them(astronaut):
    tracker = Tracker(RATE)
    tracker.add(5, to_image_data(astronaut), [], False)
    with pytest.raises(ValueError, match="Frame 7 was added after frame 5"):
        tracker.add(7, to_image_data(astronaut), [], False)


def test_a_video_without_faces_has_no_tracks(astronaut):
    assert followed([astronaut] * 3, None, [[], [], []]) == () == Tracker(RATE).finish()


def test_no_more_than_a_frame_is_kept(astronaut):
    frames, matrices = a_film(astronaut, "still", 8, noise=0)
    tracker, faces = Tracker(RATE), detected(matrices)
    for n, frame in enumerate(frames):
        tracker.add(n, to_image_data(frame), faces[n], False)
    arrays = [v for v in vars(tracker).values() if isinstance(v, np.ndarray)]
    assert [array.nbytes for array in arrays] == [SIZE[0] * SIZE[1]]
