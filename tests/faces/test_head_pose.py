"""What five landmarks can look like."""

import json

import helpers
import numpy as np
import pytest
from helpers import project_head

from gpen_core.faces.align import landmark_template
from gpen_core.faces.head_pose import MAX_POSE_RESIDUAL, PLAUSIBLE_RESIDUAL, estimate_pose


@pytest.mark.parametrize("yaw", [-90, -45, 0, 30, 90])
@pytest.mark.parametrize("pitch", [-45, 0, 25, 45])
@pytest.mark.parametrize("roll", [-170, -40, 0, 75])
def test_every_view_of_the_head_is_one_and_its_angles_come_back(yaw, pitch, roll):
    pose = estimate_pose(project_head(yaw, pitch, roll)[None])
    assert pose.residual[0] < 1e-6
    assert (pose.yaw[0], pose.pitch[0]) == (yaw, pitch)
    assert pose.roll[0] == pytest.approx(roll, abs=1e-6)


def test_views_between_the_steps_are_near():
    rng = np.random.default_rng(2)
    angles = rng.uniform((-90, -45), (90, 45), (300, 2))
    assert estimate_pose(np.stack([project_head(*pair) for pair in angles])).residual.max() < 0.05


def test_the_published_templates_and_the_golden_landmarks_are_heads():
    cases = json.loads((helpers.DATA / "align.json").read_text())["cases"]
    seen = estimate_pose(
        np.stack([landmark_template(512), landmark_template(512, "ffhq"), *(np.array(case["landmarks"]) for case in cases)])
    )
    assert seen.residual.max() < PLAUSIBLE_RESIDUAL
    assert np.abs(seen.roll[:2]).max() < 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda points: points * [-1, 1],  # mirrored: left and right are confused
        lambda points: points[[3, 4, 2, 0, 1]],  # upside down, as a detector sees it that takes it for upright
        lambda points: points * [1, 0],  # all on one line
        lambda points: points[[2, 0, 1, 4, 3]],
    ],
)
def test_what_no_head_shows_is_not_one(spoil):
    pose = estimate_pose(spoil(project_head(5, 5))[None])
    assert pose.residual[0] > MAX_POSE_RESIDUAL and not pose.plausible[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_landmarks_that_say_nothing_are_not_a_head(value):
    pose = estimate_pose(np.full((1, 5, 2), value))
    assert pose.residual[0] == 1 and not pose.plausible[0]


def test_plausible_is_a_head_within_sixty_degrees():
    assert estimate_pose(
        np.stack([project_head(20, 10, roll) for roll in (0, 59, -59, 61, -61, 180)])
    ).plausible.tolist() == [
        *[True] * 3,
        *[False] * 3,
    ]


def test_none_are_no_poses():
    assert len(estimate_pose(np.zeros((0, 5, 2))).residual) == 0
