"""The stages of a photograph's way: each shows what restoring really did."""

from dataclasses import replace

import helpers
import numpy as np
import pytest

from gpen_core.faces.align import align_face, crop_face
from gpen_core.faces.draw import SELECTED_COLOR, SKIPPED_COLOR
from gpen_core.images.image import to_image_data, to_rgb8
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.inputs import RestoreInput
from gpen_core.tools.contact_sheet import CELL_SIZE, MARGIN
from gpen_core.tools.explain import STAGE_NAME_PATTERN, render_stages

FACES = [
    helpers.make_face((150, 150), 120),
    helpers.make_face((420, 160), 120, tilt=30),
    helpers.make_face((560, 250), 30),  # left alone
]
OPTIONS = RestoreOptions(min_face_size=60, mask_type="feather", strength=0.7)


@pytest.fixture(scope="module")
def way():
    """The image, the result, and the stages by their names."""
    picture = to_image_data(helpers.texture(300, 600, sigma=1))
    restorer = helpers.restorer(helpers.red_weights(256), FACES)
    (result,) = restorer.restore_batch([RestoreInput(picture)], OPTIONS, keep_crops=True)
    return picture, result, {stage.name: stage for stage in render_stages(picture, result, OPTIONS)}


def test_the_stages_come_in_the_order_of_the_way(way):
    names = list(way[2])
    faces = [f"3-face-{number}-{what}" for number in (0, 1) for what in ("cut", "restored", "mask")]
    assert names == ["1-found", "2-squares", *faces, "4-mask", "5-result", "6-sheet"]
    assert sorted(names)[-3:] == names[-3:] and all(stage.text for stage in way[2].values())
    assert all(map(STAGE_NAME_PATTERN.fullmatch, names))


def test_the_faces_are_drawn_with_their_squares(way):
    picture, _, shown = way
    before, found, squares = to_rgb8(picture), shown["1-found"].image, shown["2-squares"].image
    assert found.shape == squares.shape == before.shape
    assert (found == SELECTED_COLOR).all(2).any() and (found[:, 500:] == SKIPPED_COLOR).all(2).any()
    assert not (squares == SKIPPED_COLOR).all(2).any()
    for number in (0, 1):
        alignment = align_face(FACES[number].landmarks, 256)
        corner = np.rint(alignment.inverse @ (-0.5, 127.5, 1)).astype(int)  # the middle of the left edge
        assert (squares[corner[1] - 1 : corner[1] + 2, corner[0] - 1 : corner[0] + 2] == SELECTED_COLOR).all(2).any()


def test_what_the_network_gets_and_gives(way):
    picture, result, shown = way
    for number in (0, 1):
        cut, restored = shown[f"3-face-{number}-cut"].image, shown[f"3-face-{number}-restored"].image
        expected = crop_face(picture, align_face(FACES[number].landmarks, 256))
        assert np.abs(cut - expected * 255).max() <= 0.51
        # half of [-1, 1] is added to red: a quarter of [0, 1], where there is room
        room = cut[..., 0] < 180
        assert np.abs(restored[room].astype(int) - cut[room] - (64, 0, 0)).max() <= 2
    assert np.array_equal(shown["5-result"].image, to_rgb8(result.image_data))


def test_the_mask_is_what_was_taken(way):
    _, result, shown = way
    whole = shown["4-mask"].image
    assert np.abs(whole[..., 0] / 255 - result.mask).max() < 0.003 and whole.max() == round(0.7 * 255)
    face = shown["3-face-0-mask"].image
    blue = face[..., 2].astype(int) - face[..., 0]
    assert blue[128, 128] > 40 and abs(blue[2, 2]) <= 1


def test_the_sheet_has_a_row_for_each_restored_face(way):
    sheet = way[2]["6-sheet"].image
    assert sheet.shape[0] == CELL_SIZE // 8 + MARGIN + 2 * (CELL_SIZE + MARGIN)


@pytest.mark.slow
def test_crops_come_in_the_order_of_the_faces_whatever_network_each_took(way):
    """With several networks, faces are restored network by network."""
    import torch

    from gpen_core.network import GPEN
    from gpen_core.pipeline.gpen_runner import GPENRunner, SizeSelector
    from gpen_core.pipeline.model_set import ModelSet
    from gpen_core.pipeline.restorer import FaceRestorer

    cpu = torch.device("cpu")
    faces = [helpers.make_face((150, 150), 60), helpers.make_face((330, 150), 180), helpers.make_face((520, 150), 60)]

    def load(size, progress):
        return GPENRunner(GPEN.from_state_dict(helpers.identity_weights(size)), cpu)

    by_size = SizeSelector((256, 512), torch.float32, load)
    restorer = FaceRestorer(ModelSet(by_size, helpers.FakeDetector(faces), cpu))
    picture = to_image_data(helpers.texture(300, 600, sigma=1))
    (result,) = restorer.restore_batch([RestoreInput(picture)], RestoreOptions(mask_type="feather"), keep_crops=True)
    assert [face.network for face in result.faces] == [256, 512, 256]
    assert [crop.shape[0] for crop in result.crops] == [256, 512, 256]
    shown = {stage.name: stage.image for stage in render_stages(picture, result, RestoreOptions())}
    assert shown["3-face-1-restored"].shape == (512, 512, 3)


def test_without_a_restored_face_there_is_no_sheet(way):
    picture, result, _ = way
    nothing = replace(result, faces=result.faces[2:], crops=(), mask=np.zeros_like(result.mask), image_data=picture)
    shown = [stage.name for stage in render_stages(picture, nothing, OPTIONS)]
    assert shown == ["1-found", "2-squares", "4-mask", "5-result"]
