"""Masks: exactly 1 inside, exactly 0 at the border, and what the parser says in between."""

import helpers
import numpy as np
import pytest
import torch
from facexlib.parsing.parsenet import ParseNet

from gpen_core.errors import MissingWeights, WeightsError
from gpen_core.faces import mask as masks
from gpen_core.options import RestoreOptions

CPU = torch.device("cpu")
# The corners of the RGB cube stand for classes of CelebAMask-HQ.
CORNERS = {
    (-1, -1, -1): 0,  # background
    (1, -1, -1): 1,  # skin
    (-1, 1, -1): 13,  # hair
    (-1, -1, 1): 14,  # hat
    (1, 1, -1): 17,  # neck
    (1, -1, 1): 18,  # cloth
    (-1, 1, 1): 7,  # ear
    (1, 1, 1): 12,  # lip
}
KEPT = {1, 13, 17, 7, 12}


@pytest.fixture(scope="module")
def parsenet_weights():
    """A ParseNet by hand: RGB goes through the shortcuts, the last layer picks the nearest corner of the cube."""
    sd = {k: torch.zeros_like(v) for k, v in ParseNet(in_size=512, out_size=512, parsing_ch=19).state_dict().items()}
    for key, value in sd.items():
        if key.endswith("running_var"):
            value.fill_(1)
        elif key.endswith("conv2d.weight") and ("shortcut_func" in key or key.startswith("encoder.0.")):
            for channel in range(3):
                value[channel, channel, 1, 1] = 1
    weight, bias = sd["out_mask_conv.conv2d.weight"], sd["out_mask_conv.conv2d.bias"]
    bias.fill_(-100)
    for corner, number in CORNERS.items():
        bias[number] = 0
        weight[number, :3, 1, 1] = torch.tensor(corner, dtype=torch.float32)
    return sd


@pytest.fixture(scope="module")
def parser(parsenet_weights):
    return masks.Parser.from_state_dict(parsenet_weights, CPU)


def checkerboard(size):
    """Blocks of the cube's corners, and the classes they stand for on the 512 grid."""
    numbers = np.random.default_rng(8).integers(0, 8, (8, 8))
    corners, classes = np.array(list(CORNERS)), np.array(list(CORNERS.values()))
    block = np.ones((size // 8, size // 8))
    colours = np.kron(corners[numbers].transpose(2, 0, 1), block).transpose(1, 2, 0)
    return (colours * 0.5 + 0.5).astype(np.float32), np.kron(classes[numbers], np.ones((64, 64), int))


@pytest.mark.parametrize("size", [256, 512, 2048])
def test_parser_gives_the_classes(parser, size):
    crop, expected = checkerboard(size)
    found = parser.classes(crop)
    inner = (slice(16, 48),) * 2  # of each block: the net halves four times
    for row in range(0, 512, 64):
        for column in range(0, 512, 64):
            block = (slice(row, row + 64), slice(column, column + 64))
            assert np.array_equal(found[block][inner], expected[block][inner])


def test_bfloat16_gives_the_same_classes(parser, parsenet_weights):
    half = masks.Parser.from_state_dict(parsenet_weights, CPU, torch.bfloat16)
    assert parser.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert half.network.out_mask_conv.conv2d.weight.dtype == torch.float32
    assert half.network.encoder[0].conv2d.weight.dtype == torch.bfloat16
    crop, _ = checkerboard(512)
    soft = np.clip(crop * 0.7 + helpers.texture(512, 512, sigma=2) * 0.3, 0, 1)
    expected = parser.classes(soft)
    assert len(np.unique(expected)) == len(CORNERS)
    assert (half.classes(soft) == expected).mean() > 0.999  # measured: all


def test_bfloat16_gives_nearly_the_classes_of_seeded_weights(astronaut):
    """The hand-made network passes its input through; this one computes. Untrained, its classes are close rivals."""
    torch.manual_seed(7)
    weights = ParseNet(in_size=512, out_size=512, parsing_ch=19).state_dict()
    crop = astronaut / np.float32(255)
    expected, found = (masks.Parser.from_state_dict(weights, CPU, d).classes(crop) for d in (torch.float32, torch.bfloat16))
    assert len(np.unique(expected)) > 5
    assert (found == expected).mean() > 0.98  # measured: 0.992


def test_hair_ears_and_neck_stay_background_hat_and_clothes_go(parser):
    crop, expected = checkerboard(512)
    mask = parser.mask(crop)
    for row in range(64, 448, 64):
        for column in range(64, 448, 64):
            assert mask[row + 32, column + 32] == (expected[row + 32, column + 32] in KEPT)


def test_feather_is_one_inside_and_zero_at_the_border():
    mask = masks.feather()
    assert mask.shape == (512, 512) and mask.dtype == np.float32
    assert (mask[60:-60, 60:-60] == 1).all()
    assert not mask[:8].any() and not mask[:, -8:].any()
    edge = mask[256, :60]
    assert (np.diff(edge) >= 0).all() and 0.3 < edge[26] < 0.7  # the published edge lies at 26 px


def test_parse_mask_limits_what_is_restored(parser):
    image = helpers.texture(300, 300, sigma=1)
    face = helpers.face_at((150, 150), 120)
    for corner in ((-1, -1, 1), (-1, 1, -1)):
        number = CORNERS[corner]
        colour = tuple(0.5 + 0.5 * v for v in corner)
        restorer = helpers.restorer(helpers.constant_weights(256, colour), [face], load_parser=lambda progress: parser)
        result = restorer.restore(image, RestoreOptions(mask="parse"))
        assert result.changed == (number in KEPT)
        assert np.array_equal(result.image[result.mask == 0], image[result.mask == 0])


def test_parse_runs_on_the_restored_face_not_on_the_input(parser):
    cloth = np.broadcast_to(np.float32([1, 0, 1]), (300, 300, 3))
    face = helpers.face_at((150, 150), 120)
    skin = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [face], load_parser=lambda progress: parser)
    assert skin.restore(cloth, RestoreOptions(mask="parse")).mask.max() == 1


def test_auto_does_not_parse_on_the_cpu():
    def load():
        raise AssertionError("the parser was loaded")

    face = helpers.face_at((150, 150), 120)
    restorer = helpers.restorer(helpers.identity_weights(256), [face], load_parser=load)
    assert restorer.restore(helpers.texture(300, 300)).changed


def test_parse_without_a_parser_is_missing_weights():
    restorer = helpers.restorer(helpers.identity_weights(256), [])
    with pytest.raises(MissingWeights):
        restorer.restore(helpers.texture(30, 30), RestoreOptions(mask="parse"))


def test_other_weights_are_no_parser(parsenet_weights):
    with pytest.raises(WeightsError, match="not a ParseNet"):
        masks.Parser.from_state_dict({"conv.weight": torch.zeros(1)}, CPU)
    with pytest.raises(WeightsError, match=r"encoder\.0\.conv2d\.bias is missing"):
        masks.Parser.from_state_dict({k: v for k, v in parsenet_weights.items() if k != "encoder.0.conv2d.bias"}, CPU)
