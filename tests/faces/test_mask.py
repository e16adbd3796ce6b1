"""Masks: exactly 1 inside, exactly 0 at the border, and what the parser says in between."""

import helpers
import numpy as np
import pytest
import torch

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


def parsenet_weights_for(corners, channels=helpers.NARROW):
    """A ParseNet by hand: RGB goes through the shortcuts, the last layer picks the nearest corner of the cube."""
    sd = {k: torch.zeros_like(v) for k, v in helpers.parsenet(**channels).state_dict().items()}
    for key, value in sd.items():
        if key.endswith("running_var"):
            value.fill_(1)
        elif key.endswith("conv2d.weight") and ("shortcut_func" in key or key.startswith("encoder.0.")):
            for channel in range(3):
                value[channel, channel, 1, 1] = 1
    weight, bias = sd["out_mask_conv.conv2d.weight"], sd["out_mask_conv.conv2d.bias"]
    bias.fill_(-100)
    for corner, number in corners.items():
        bias[number] = 0
        weight[number, :3, 1, 1] = torch.tensor(corner, dtype=torch.float32)
    return sd


@pytest.fixture(scope="module")
def parsenet_weights():
    return parsenet_weights_for(CORNERS)


@pytest.fixture(scope="module")
def parser(parsenet_weights):
    return helpers.narrow_parser(parsenet_weights)


def checkerboard(size):
    """Blocks of the cube's corners, and the classes they stand for on the 512 grid."""
    numbers = np.random.default_rng(8).integers(0, 8, (8, 8))
    corners, classes = np.array(list(CORNERS)), np.array(list(CORNERS.values()))
    block = np.ones((size // 8, size // 8))
    colors = np.kron(corners[numbers].transpose(2, 0, 1), block).transpose(1, 2, 0)
    return (colors * 0.5 + 0.5).astype(np.float32), np.kron(classes[numbers], np.ones((64, 64), int))


def assert_classes(parser, size):
    crop, expected = checkerboard(size)
    found = parser.parse(crop)
    inner = (slice(16, 48),) * 2  # of each block: the net halves four times
    for row in range(0, 512, 64):
        for column in range(0, 512, 64):
            block = (slice(row, row + 64), slice(column, column + 64))
            assert np.array_equal(found[block][inner], expected[block][inner])


@pytest.mark.parametrize("size", [256, 512, 2048])
def test_parser_gives_the_classes(parser, size):
    assert_classes(parser, size)


@pytest.mark.slow
def test_a_parser_of_the_released_width_gives_the_classes():
    weights = parsenet_weights_for(CORNERS, channels={})
    assert_classes(masks.FaceParser.from_state_dict(weights, CPU), 512)


@pytest.mark.slow
def test_bfloat16_gives_the_same_classes(parser, parsenet_weights):
    half = helpers.narrow_parser(parsenet_weights, dtype=torch.bfloat16)
    assert parser.dtype == torch.float32 and half.dtype == torch.bfloat16
    assert half.network.out_mask_conv.conv2d.weight.dtype == torch.float32
    assert half.network.encoder[0].conv2d.weight.dtype == torch.bfloat16
    crop, _ = checkerboard(512)
    soft = np.clip(crop * 0.7 + helpers.texture(512, 512, sigma=2) * 0.3, 0, 1)
    expected = parser.parse(soft)
    assert len(np.unique(expected)) == len(CORNERS)
    assert (half.parse(soft) == expected).mean() > 0.999  # measured: all


@pytest.mark.slow
@pytest.mark.nightly
def test_bfloat16_gives_nearly_the_classes_of_seeded_weights(astronaut):
    """The hand-made network passes its input through; this one computes. Untrained, its classes are close rivals."""
    weights = helpers.parsenet().state_dict()
    crop = astronaut / np.float32(255)
    expected, found = (
        masks.FaceParser.from_state_dict(weights, CPU, d).parse(crop) for d in (torch.float32, torch.bfloat16)
    )
    assert len(np.unique(expected)) > 5
    assert (found == expected).mean() > 0.98  # measured: 0.992


@pytest.mark.slow
def test_hair_ears_and_neck_stay_background_hat_and_clothes_go(parser):
    crop, expected = checkerboard(512)
    mask = parser.mask(crop)
    for row in range(64, 448, 64):
        for column in range(64, 448, 64):
            assert mask[row + 32, column + 32] == (expected[row + 32, column + 32] in KEPT)


def test_feather_is_one_inside_and_zero_at_the_border():
    mask = masks.square_mask()
    assert mask.shape == (512, 512) and mask.dtype == np.float32
    assert (mask[60:-60, 60:-60] == 1).all()
    assert not mask[:8].any() and not mask[:, -8:].any()
    edge = mask[256, :60]
    assert (np.diff(edge) >= 0).all() and 0.3 < edge[26] < 0.7  # the published edge lies at 26 px


@pytest.mark.slow
def test_parse_mask_limits_what_is_restored(parser):
    image = helpers.texture(300, 300, sigma=1)
    face = helpers.make_face((150, 150), 120)
    for corner in ((-1, -1, 1), (-1, 1, -1)):
        number = CORNERS[corner]
        color = tuple(0.5 + 0.5 * v for v in corner)
        restorer = helpers.restorer(helpers.constant_weights(256, color), [face], load_parser=lambda progress: parser)
        result = restorer.restore(image, RestoreOptions(mask_type="parse"))
        assert result.is_changed == (number in KEPT)
        assert np.array_equal(result.image[result.mask == 0], image[result.mask == 0])


@pytest.mark.slow
def test_parse_runs_on_the_restored_face_not_on_the_input(parser):
    cloth = np.broadcast_to(np.float32([1, 0, 1]), (300, 300, 3))
    face = helpers.make_face((150, 150), 120)
    skin = helpers.restorer(helpers.constant_weights(256, (1, 0, 0)), [face], load_parser=lambda progress: parser)
    assert skin.restore(cloth, RestoreOptions(mask_type="parse", color="none")).mask.max() == 1


def test_auto_does_not_parse_on_the_cpu():
    def load():
        raise AssertionError("the parser was loaded")

    face = helpers.make_face((150, 150), 120)
    restorer = helpers.restorer(helpers.identity_weights(256), [face], load_parser=load)
    assert restorer.restore(helpers.texture(300, 300)).is_changed


def test_parse_without_a_parser_is_missing_weights():
    restorer = helpers.restorer(helpers.identity_weights(256), [])
    with pytest.raises(MissingWeights):
        restorer.restore(helpers.texture(30, 30), RestoreOptions(mask_type="parse"))


def test_other_weights_are_no_parser(parsenet_weights):
    with pytest.raises(WeightsError, match="not a ParseNet"):
        masks.FaceParser.from_state_dict({"conv.weight": torch.zeros(1)}, CPU)
    with pytest.raises(WeightsError, match=r"encoder\.0\.conv2d\.bias is missing"):
        helpers.narrow_parser({k: v for k, v in parsenet_weights.items() if k != "encoder.0.conv2d.bias"})


# Names and numbers of CelebAMask-HQ's classes, as its authors list them.
CELEBAMASK = {
    "skin": [1],
    "nose": [2],
    "glasses": [3],
    "eyes": [4, 5],
    "brows": [6, 7],
    "ears": [8, 9],
    "mouth": [10, 11, 12],
    "hair": [13],
    "earrings": [15],
    "necklace": [16],
    "neck": [17],
}
GREEN, WHITE, BLACK = (-1, 1, -1), (1, 1, 1), (-1, -1, -1)
NOTHING = np.zeros((512, 512, 3), np.float32)
BLOCK = 128  # px: each of the cube's corners is shown in so large a square


def color_of(corner):
    return np.float32(corner) * 0.5 + 0.5


class Once(masks.FaceParser):
    """Parses each image once."""

    def parse(self, crop):
        self.seen = getattr(self, "seen", {})
        if id(crop) not in self.seen:
            self.seen[id(crop)] = super().parse(crop)
        return self.seen[id(crop)]


@pytest.fixture(scope="module")
def charts():
    """Hand-made parsers and an image for each that shows seven classes; between them, all of those with a name."""
    numbers = sorted(number for several in CELEBAMASK.values() for number in several)
    made = []
    for some in (numbers[:7], numbers[7:14], numbers[14:]):
        corners = dict(zip(CORNERS, [0, *some]))  # black is the background
        chart = np.zeros((512, 512, 3), np.float32)
        places = {}
        for place, corner in zip([(r, c) for r in (0, 192, 384) for c in (0, 192, 384)], list(CORNERS)[1:]):
            square = slice(place[0], place[0] + BLOCK), slice(place[1], place[1] + BLOCK)
            chart[square] = color_of(corner)
            if corner in corners:
                places[corners[corner]] = square
        network = helpers.narrow_parser(parsenet_weights_for(corners)).network
        made.append((Once(network), chart, places))
    return made


@pytest.mark.parametrize("region", CELEBAMASK)
@pytest.mark.slow
def test_each_region_stays_the_inputs(charts, region):
    """Found on the restored face; glasses on the input."""
    found = 0
    for parser, chart, places in charts:
        pair = (chart, NOTHING) if region == "glasses" else (NOTHING, chart)
        kept = parser.preserve_mask(*pair, [region])
        assert not parser.preserve_mask(*pair[::-1], [region]).any()
        for number, (rows, columns) in places.items():
            core = kept[rows.start + 20 : rows.stop - 20, columns.start + 20 : columns.stop - 20]
            is_meant = number in CELEBAMASK[region]
            assert (core == is_meant).all()
            if is_meant:
                assert kept[rows, columns].min() > 0.9  # to its own edge, and softly on from there
                assert np.abs(np.diff(kept, axis=0)).max() < 0.1
            found += is_meant
    assert found == len(CELEBAMASK[region])


@pytest.mark.parametrize("mask", ["feather", "parse"])
@pytest.mark.slow
def test_kept_regions_leave_the_images_own_pixels(mask):
    corners = {WHITE: 1, GREEN: 4, BLACK: 13}
    parser = helpers.narrow_parser(parsenet_weights_for(corners))
    image = helpers.texture(300, 300, sigma=1)
    face = helpers.make_face((150, 150), 120)
    results = {}
    for color in (WHITE, GREEN):
        weights = helpers.constant_weights(256, tuple(color_of(color)))
        restorer = helpers.restorer(weights, [face], load_parser=lambda progress: parser)
        results[color] = restorer.restore(image, RestoreOptions(mask_type=mask, preserve="eyes", color="none"))
    assert results[WHITE].mask.max() == 1  # all of it is skin
    assert not results[GREEN].mask.any() and np.array_equal(results[GREEN].image, image)  # all of it is eyes


@pytest.mark.slow
def test_the_restored_face_is_parsed_once_for_its_mask_and_its_regions(monkeypatch):
    parsed = []
    monkeypatch.setattr(masks.FaceParser, "parse", lambda self, crop: parsed.append(crop) or np.ones((512, 512), np.uint8))
    restorer = helpers.restorer(
        helpers.red_weights(256),
        [helpers.make_face((150, 150), 120)],
        load_parser=lambda _: masks.FaceParser(torch.nn.Identity()),
    )
    restorer.restore(helpers.texture(300, 300), RestoreOptions(mask_type="parse", preserve="eyes"))
    assert len(parsed) == 1
    restorer.restore(helpers.texture(300, 300), RestoreOptions(mask_type="parse", preserve="eyes,glasses"))
    assert len(parsed) == 3 and parsed[1] is not parsed[2]


def test_a_region_to_be_kept_needs_the_parser_and_occluders_do_not():
    restorer = helpers.restorer(helpers.identity_weights(256), [])
    with pytest.raises(MissingWeights):
        restorer.prepare(RestoreOptions(mask_type="feather", preserve="hair"))
    restorer.prepare(RestoreOptions(mask_type="feather", preserve=()))


def half_width(mask):
    """Px at which the middle row passes 0.5."""
    return int((mask[256] >= 0.5).sum()) / 2


@pytest.mark.parametrize("pixels", [-60, -20, 0, 20, 60])
def test_a_grown_mask_has_its_edge_so_much_further_out(pixels):
    disc = np.zeros((512, 512), np.float32)
    y, x = np.mgrid[:512, :512] - 255.5
    disc[np.hypot(x, y) <= 120] = 1
    mask = masks.feather_edges(disc, pixels)
    assert half_width(mask) == pytest.approx(120 + pixels, abs=2)
    assert mask[256, 256] == 1 and not mask[:8].any()
    assert np.abs(np.diff(mask, axis=1)).max() < 0.1


def test_growing_never_passes_the_squares_border_and_shrinking_away_everything_is_nothing():
    assert np.array_equal(masks.feather_edges(np.ones((512, 512), np.float32), 200), masks.square_mask())
    assert half_width(masks.square_mask(-100)) == pytest.approx(256 - 26 - 100, abs=2)
    assert not masks.feather_edges(np.pad(np.ones((12, 12), np.float32), 250), -50).any()
    assert not masks.feather_edges(np.zeros((512, 512), np.float32), 50).any()


@pytest.mark.slow
def test_mask_expand_is_a_part_of_the_faces_width():
    image = helpers.texture(600, 600, sigma=1)
    for side in (100, 200):
        face = helpers.make_face((300, 300), side)
        restorer = helpers.restorer(helpers.red_weights(256), [face])
        widths = [
            int((restorer.restore(image, RestoreOptions(mask_expand=grow)).mask[300] >= 0.5).sum()) for grow in (0, -0.25)
        ]
        assert widths[0] - widths[1] == pytest.approx(2 * 0.25 * side, abs=4)
