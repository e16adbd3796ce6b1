"""The first pass: which faces a video has, where it is cut, and what is told once for a whole track."""

from dataclasses import replace

import numpy as np
import pytest
import video_fakes
from helpers import make_face
from video_fakes import FACE

from gpen_core import InputError, RestoreOptions
from gpen_core.images.image import to_image_data
from gpen_core.video.analysis import VideoAnalysis, track_faces
from gpen_core.video.frame_detection import detection_options
from gpen_core.video.sequence import SequenceFrame

RATE = 25
OPTIONS = RestoreOptions()


def found(pictures, scores, face=FACE):
    """In each frame that face with that score; None where nothing is found."""
    for number, (picture, score) in enumerate(zip(pictures, scores)):
        yield SequenceFrame(number, to_image_data(picture)), [] if score is None else [replace(face, score=score)]


def gray(pictures):
    return [np.repeat(picture.mean(2, keepdims=True), 3, 2).astype(np.uint8) for picture in pictures]


def test_faint_faces_are_looked_for_but_surer_ones_asked_for_are_not_made_fainter():
    assert (
        detection_options(OPTIONS).confidence == 0.5 and detection_options(RestoreOptions(confidence=0.3)).confidence == 0.3
    )
    assert replace(detection_options(OPTIONS), confidence=0.9) == OPTIONS


def test_a_faint_face_among_sure_ones_is_kept():
    scores = [0.98] * 5 + [0.6] * 3 + [0.98] * 5
    (track,) = track_faces(found(video_fakes.frames(13), scores), RATE, OPTIONS).tracks
    assert (track.first, track.last) == (0, 12) and list(track.scores) == scores  # seen in each frame, none filled in


def test_a_video_with_faint_faces_only_has_no_track():
    assert track_faces(found(video_fakes.frames(13), [0.6] * 13), RATE, OPTIONS).tracks == ()
    assert len(track_faces(found(video_fakes.frames(13), [0.6] * 13), RATE, RestoreOptions(confidence=0.55)).tracks) == 1


def test_cuts_timestamps_and_size():
    other = [np.ascontiguousarray(picture[::-1, ::-1]) for picture in video_fakes.frames(6)]
    told = []
    result = track_faces(found([*video_fakes.frames(6), *other], [0.98] * 12), RATE, OPTIONS, told.append)
    assert result.cuts == (6,) and [(track.first, track.last) for track in result.tracks] == [(0, 5), (6, 11)]
    assert list(result.pts) == list(range(12)) and result.size == video_fakes.SIZE and told == list(range(1, 13))


def test_no_frames_and_frames_of_two_sizes():
    with pytest.raises(InputError, match="no frame"):
        track_faces([], RATE, OPTIONS)
    pictures = [*video_fakes.frames(2), np.zeros((40, 60, 3), np.uint8)]
    with pytest.raises(InputError, match=r"Frame 2 is 60x40, but the frames before it are 240x192"):
        track_faces(found(pictures, [None] * 3), RATE, OPTIONS)


# Of one tone


@pytest.mark.slow
def test_a_track_is_of_one_tone_or_not_throughout():
    """Most of what is asked counts: a colored moment does not make a gray video's face flicker, nor the other way round."""
    colored = list(video_fakes.frames(26))
    mostly_gray = [*gray(colored[:20]), *colored[20:]]
    mostly_colored = [*colored[:20], *gray(colored[20:])]
    for pictures, numbers in ((mostly_gray, {0}), (mostly_colored, set()), (gray(colored), {0}), (colored, set())):
        result = track_faces(found(pictures, [0.98] * 26), RATE, OPTIONS)
        assert len(result.tracks) == 1 and result.monochrome_tracks == numbers


@pytest.mark.parametrize("first", [1, 6])
def test_a_face_seen_for_a_moment_is_asked_too(first):
    pictures = gray(video_fakes.frames(12))
    scores = [0.98 if first <= n < first + 3 else None for n in range(12)]
    result = track_faces(found(pictures, scores), RATE, OPTIONS)
    assert len(result.tracks) == 1 and result.monochrome_tracks == {0}


def test_a_shot_of_a_moment_is_asked_too():
    pictures = list(video_fakes.frames(10))
    pictures[7:] = gray(picture[::-1, ::-1] for picture in pictures[7:])
    result = track_faces(found(pictures, [0.98] * 10), RATE, OPTIONS)
    assert result.cuts == (7,) and result.monochrome_tracks == {1}


def test_a_survey_comes_back_as_it_was_written(tmp_path):
    pictures = gray(video_fakes.frames(6))
    made = replace(track_faces(found(pictures, [0.98] * 6), RATE, OPTIONS), notes=("cut off", "größer"))
    made.save(tmp_path)
    again = VideoAnalysis.load(tmp_path)
    assert (again.notes, again.monochrome_tracks, again.cuts, again.size) == (made.notes, {0}, (), made.size)
    assert np.array_equal(again.tracks[0].landmarks, made.tracks[0].landmarks)


def test_a_face_half_outside_of_the_frame_is_asked_and_one_outside_is_not():
    pictures = gray(video_fakes.frames(3))
    for center, numbers in (((0.0, 96.0), {0}), ((-900.0, 96.0), set())):
        result = track_faces(found(pictures, [0.98] * 3, make_face(center, 70.0)), RATE, OPTIONS)
        assert result.monochrome_tracks == numbers
