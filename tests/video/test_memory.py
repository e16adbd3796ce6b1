"""How many frames wait between the stages is bounded by the memory that is allowed."""

from pathlib import Path

import film_files
import numpy as np
import pytest
from film_runs import SIZE, frames, restorer
from helpers import face_at

from gpen_core import OutOfMemory, RestoreOptions, VideoOptions, restore_video
from gpen_core.faces.tracks import Track
from gpen_core.video.frames import DEPTH, Chosen
from gpen_core.video.memory import depth_for, needed_bytes
from gpen_core.video.probe import probe


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path: Path = tmp_path_factory.mktemp("films") / "film.mkv"
    film_files.make(path, 12, SIZE, "ffv1", pictures=list(frames(12)))
    return probe(path)


def chosen(first, count):
    points = np.tile(face_at((120.0, 96.0), 70.0).landmarks, (count, 1, 1))
    track = Track(0, first, points, np.zeros((count, 4)), np.ones(count), points, False, False, 0)
    return Chosen(track, 256, restorer()[0].models, 1, False, face_at((120.0, 96.0), 70.0))


def test_without_a_budget_as_many_wait_as_is_fast(film):
    assert depth_for(film, [], 3, None) == DEPTH


def test_a_smaller_budget_lets_fewer_wait_and_too_small_a_one_is_refused(film):
    least, usual = (needed_bytes(film, [], 3, depth) for depth in (1, DEPTH))
    assert least < usual
    assert depth_for(film, [], 3, usual) == DEPTH and depth_for(film, [], 3, usual - 1) == 1
    with pytest.raises(OutOfMemory, match="240x192"):
        depth_for(film, [], 3, least - 1)


def test_faces_that_are_there_together_count_together(film):
    none, one = needed_bytes(film, [], 3, 1), needed_bytes(film, [chosen(0, 50)], 3, 1)
    together = needed_bytes(film, [chosen(0, 50), chosen(40, 50)], 3, 1)
    after = needed_bytes(film, [chosen(0, 50), chosen(60, 50)], 3, 1)
    assert none < one == after < together == none + 2 * (one - none)
    assert needed_bytes(film, [chosen(0, 50)], 0, 1) < one  # without a filter


def test_a_film_beyond_the_budget_is_refused_with_nothing_written(film, tmp_path):
    with pytest.raises(OutOfMemory, match="MiB while they are at work"):
        restore_video(
            film.path, tmp_path / "out.mkv", restorer()[0], RestoreOptions(), VideoOptions(codec="ffv1"), frame_memory=2**20
        )
    assert not (tmp_path / "out.mkv").exists()
