"""The contact sheet: every cell shows what restoring would give, and nothing is done twice."""

from dataclasses import replace

import helpers
import numpy as np
import pytest
import torch
from PIL import ImageFont

from gpen_core import FaceRestorer, OptionsError, RestoreOptions
from gpen_core.network import GPEN
from gpen_core.pipeline.gpen_runner import GPENRunner
from gpen_core.pipeline.model_set import ModelSet
from gpen_core.tools.compare import CompareGrid, contact_sheet
from gpen_core.tools.contact_sheet import CELL_SIZE, LABEL_WIDTH, MARGIN, caption

CPU = torch.device("cpu")
FACES = [helpers.make_face((150, 150), 120), helpers.make_face((420, 160), 120, tilt=30)]
STEP = CELL_SIZE + MARGIN


@pytest.fixture(scope="module")
def picture():
    return helpers.texture(300, 600, sigma=1)


class Counted(helpers.FakeDetector):
    runs = 0

    def detect(self, *args, **kwargs):
        self.runs += 1
        return super().detect(*args, **kwargs)


class CountedNetwork(GPENRunner):
    runs = 0

    def run(self, *args, **kwargs):
        self.runs += 1
        return super().run(*args, **kwargs)


@pytest.fixture(scope="module")
def restorer():
    weights = helpers.constant_weights(256, (1, 0, 0)), helpers.constant_weights(256, (0, 1, 0))
    networks = [CountedNetwork(GPEN.from_state_dict(one), CPU) for one in weights]
    return FaceRestorer(ModelSet(networks, Counted(FACES), CPU))


def cell(sheet, row, column):
    """`row` 0 is the first below the titles, `column` 0 the image's own face."""
    top = CELL_SIZE // 8 + MARGIN + row * STEP
    left = LABEL_WIDTH + MARGIN + column * STEP
    return sheet[top : top + CELL_SIZE, left : left + CELL_SIZE]


def test_a_row_for_each_face_and_model_a_column_for_each_strength(restorer, picture):
    networks, detector = restorer.models.runners, restorer.detector
    choices = CompareGrid(("red", "green"), (0.0, 0.5, 1.0), ("feather",))
    sheet = contact_sheet(restorer, picture, choices, RestoreOptions(color="none"))
    assert (
        sheet.shape == (CELL_SIZE // 8 + MARGIN + 4 * STEP, LABEL_WIDTH + MARGIN + 4 * STEP, 3) and sheet.dtype == np.uint8
    )
    assert detector.runs == 1 and [network.runs for network in networks] == [2, 2]  # once for each face
    middle = (slice(100, 220),) * 2
    for row, color in enumerate(((255, 0, 0), (0, 255, 0)) * 2):
        own, none, half, full = (cell(sheet, row, column) for column in range(4))
        assert np.array_equal(own, none)
        np.testing.assert_allclose(full[middle].mean((0, 1)), color, atol=2)
        expected = (own[middle].astype(int) + full[middle]) / 2
        assert np.abs(half[middle] - expected).mean() < 2
        assert np.abs(full[:5].astype(int) - own[:5]).max() <= 1  # the mask ends before the square does
    assert not np.array_equal(cell(sheet, 0, 0), cell(sheet, 2, 0))
    labels = sheet[CELL_SIZE // 8 + MARGIN :, :LABEL_WIDTH].min(axis=2)
    assert all((labels[row * STEP : (row + 1) * STEP] < 128).any() for row in range(4))


@pytest.mark.parametrize("more", [{}, {"fidelity": 0.7}], ids=str)
def test_cells_show_what_restoring_gives(restorer, picture, more):
    from gpen_core.faces.align import align_face, crop_face
    from gpen_core.images.image import to_image_data

    options = RestoreOptions(faces="0", color="none", **more)
    choices = CompareGrid(("red",), (0.7,), ("feather",))
    sheet = contact_sheet(restorer, picture, choices, options)
    result = restorer.restore(picture, replace(options, strength=0.7, mask_type="feather"))
    expected = crop_face(to_image_data(result.image), align_face(FACES[0].landmarks, CELL_SIZE))
    assert np.abs(cell(sheet, 0, 1) / 255 - expected).max() <= 0.51 / 255


def test_no_face_to_compare_is_said_with_the_reason(restorer, picture):
    with pytest.raises(OptionsError, match=r"No face to compare: face 0: .*; face 1: "):
        contact_sheet(restorer, picture, CompareGrid(("red",), (1.0,), ("feather",)), RestoreOptions(min_face_size=500))


def test_a_sheet_that_no_viewer_takes_is_refused(restorer, picture, monkeypatch):
    monkeypatch.setattr("gpen_core.tools.compare.MAX_SHEET_SIDE", 3 * STEP - 1)
    with pytest.raises(OptionsError, match="Choose fewer"):
        contact_sheet(restorer, picture, CompareGrid(("red",), (1.0,), ("feather",)))


@pytest.mark.parametrize("name", ["模型.pth", "caf\udce9.pth"])
def test_rows_have_the_names_of_all_files(name):
    assert (caption(name, CELL_SIZE) < 128).sum() > 50


def test_without_a_scalable_font_unknown_letters_are_question_marks(monkeypatch):
    bare = getattr(ImageFont, "load_default_imagefont", ImageFont.load_default)()
    monkeypatch.setattr(ImageFont, "load_default", lambda: bare)  # as in Pillow before 10.1
    assert (caption("a\n模型.pth", CELL_SIZE) == caption("a\n??.pth", CELL_SIZE)).all()


@pytest.mark.parametrize(
    "given",
    [
        {"models": ()},
        {"models": ("a", "a")},
        {"strengths": ()},
        {"strengths": (0.5, 2.0)},
        {"mask_types": ("round",)},
        {"mask_types": ()},
    ],
)
def test_choices_that_cannot_be(given):
    with pytest.raises(OptionsError):
        CompareGrid(**{"models": ("a",), "strengths": (1.0,), "mask_types": ("auto",), **given})
