"""The restorer that most tests of batches share."""

import helpers
import pytest

SIDE = 96  # px: of the images


@pytest.fixture(scope="module")
def red():
    """Finds one face in every image and reddens it."""
    return helpers.restorer(helpers.red_weights(256), [helpers.make_face((SIDE / 2, SIDE / 2), 40)])
