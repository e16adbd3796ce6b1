"""What every front end says of a face and of how many there were."""

from dataclasses import replace

import numpy as np
import pytest

from gpen_core import Face, faces_text

FACE = Face((10, 20, 130, 160.4), 0.9, np.zeros((5, 2)))


@pytest.mark.parametrize(
    ("known", "done", "text"),
    [
        ({"restored": True}, "taken out", "taken out (120x140 px)"),
        ({"restored": True, "network": 512}, "restored", "restored at 512 px (120x140 px)"),
        ({"restored": True, "change": 0.25, "note": "dark"}, "restored", "restored (120x140 px, change 0.250); dark"),
        ({"reason": "too small"}, "restored", "skipped (120x140 px): too small"),
        ({"reason": "unchanged", "change": 0.01}, "restored", "skipped (120x140 px, change 0.010): unchanged"),
    ],
)
def test_what_became_of_a_face(known, done, text):
    assert replace(FACE, **known).outcome_text(done) == text


def test_how_many_faces_there_were():
    assert faces_text(1, 1) == "1 face found, 1 restored, 0 skipped"
    assert faces_text(1200, 1000, "followed", "taken out") == "1,200 faces followed, 1,000 taken out, 200 skipped"
