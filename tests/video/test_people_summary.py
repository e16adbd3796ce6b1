"""People of a video, who may be visible in several shots, and what is said of each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from helpers import make_face
from video_fakes import frames

from gpen_core import SequenceResult, TrackOutcome, VideoResult, people_of_sequence, people_text
from gpen_core.images.image import from_array
from gpen_core.video.people_summary import MAX_RANGES
from gpen_core.video.track import Track


def sequence(*visible):
    """Of each frame: a list of (person, restored)."""
    (picture,) = frames(1)
    for people in visible:
        faces = []
        for _, restored in people:
            faces.append(replace(make_face((50, 60), 40), restored=restored, reason=None if restored else "not asked for"))
        yield SequenceResult(from_array(picture), None, tuple(faces), tuple(number for number, _ in people))


def test_a_person_is_counted_once():
    shots = [[(0, True)], [(0, True), (2, False)], [(2, False)], [(0, True)], [(0, False)]]
    people = people_of_sequence(sequence(*shots))
    assert [(one.number, one.ranges, one.restored, one.visible) for one in people] == [
        (0, [(0, 1), (3, 4)], 3, 4),
        (2, [(1, 2)], 0, 2),
    ]
    first, restored, skipped = people_text(5, people).splitlines()
    assert first == "5 frames, 2 people: 1 restored, 1 skipped"
    assert restored.startswith("face 0: restored in 3 of 4 frames (frames 0 to 1, 3 to 4; ") and restored.endswith(" px)")
    assert skipped.startswith("face 2: skipped (frames 1 to 2; ") and skipped.endswith(" px): not asked for")


def test_nobody_and_somebody_who_comes_and_goes():
    assert people_text(1, people_of_sequence(sequence([]))) == "1 frame, no people"
    (line,) = map(str, people_of_sequence(sequence(*[[(0, True)], []] * (MAX_RANGES + 1))))
    assert "(frames 0, 2, 4, 6, 8, ...; " in line


def test_a_result_counts_people_rather_than_tracks():
    tracks = []
    for number, (person, count) in enumerate([(0, 10), (1, 0), (0, 0), (1, 0)]):
        points, boxes = np.zeros((10, 5, 2)), np.zeros((10, 4))
        track = Track(number, 10 * number, points, boxes, np.ones(10), points, False, False, person)
        tracks.append(TrackOutcome(track, None if count else "not asked for", frames=count))
    result = VideoResult(None, Path("out.mp4"), None, tuple(tracks), ((),) * 40, {}, (), (1, 0))
    assert result.summary == "40 frames, 2 people: 1 restored, 1 skipped"
    assert replace(result, tracks=()).summary == "40 frames, no people"
