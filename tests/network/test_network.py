"""The network against golden data, against its plain twin, and against files that are not GPEN."""

import json
from functools import lru_cache

import helpers
import numpy as np
import pytest
import synthetic
import torch
from reference_gpen import reference_gpen

from gpen_core.errors import InputError, WeightsError
from gpen_core.network import GPEN, RELEASED_SIZES, GPENConfig
from gpen_core.network.blocks import row_strips
from gpen_core.network.memory_estimate import CACHE_STRIP_BYTES

TOLERANCE = 1e-4  # of the golden file's standard deviation
KINDS = ("random", "sharpen")
SLOW = [pytest.param(size, "random", marks=pytest.mark.slow) for size in (512, 2048)]
OTHERS = [(512, "sharpen"), (1024, "random"), (1024, "sharpen"), (2048, "sharpen")]
NIGHTLY = [pytest.param(*other, marks=pytest.mark.nightly) for other in OTHERS]
LAYOUT = json.loads((helpers.DATA / "layout.json").read_text())


def golden_case(size, kind):
    state_dict = helpers.random_weights(size, 7) if kind == "random" else helpers.sharpening_weights(size, 0.5)
    x = torch.from_numpy(synthetic.random_input(size, 7))
    return state_dict, x, np.load(helpers.DATA / f"gpen{size}_{kind}_seed7.npz")


def golden_error(y, golden):
    """Largest error over all the golden file holds, in units of its standard deviation."""
    y = y[0].numpy()
    step, middle = y.shape[1] // 64, y.shape[1] // 2
    errors = [np.abs(y[:, ::step, ::step] - golden["samples"]).max(), np.abs(y[:, middle, :] - golden["rows"]).max()]
    errors += [abs(y.mean(dtype=np.float64) - golden["mean"]), abs(y.std(dtype=np.float64) - golden["std"])]
    errors.append(abs(np.abs(y).max() - golden["max"]))
    return max(errors) / golden["std"]


@pytest.mark.parametrize(("size", "kind"), [(256, "random"), (256, "sharpen"), *SLOW, *NIGHTLY])
def test_network_gives_what_the_published_one_gives(size, kind, record_property):
    state_dict, x, golden = golden_case(size, kind)
    net = GPEN.from_state_dict(state_dict)
    in_strips = CACHE_STRIP_BYTES if size == 2048 else None  # in one piece, 2048 takes 2.5 GB
    error = golden_error(net(x, strip_bytes=in_strips), golden)
    record_property("error", float(error))
    assert error <= TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [256, *(pytest.param(size, marks=pytest.mark.nightly) for size in RELEASED_SIZES[1:])])
@pytest.mark.slow
def test_plain_twin_gives_what_the_published_network_gives(size, kind):
    state_dict, x, golden = golden_case(size, kind)
    assert golden_error(reference_gpen(state_dict, x), golden) <= TOLERANCE


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")
@pytest.mark.parametrize("size", RELEASED_SIZES)
def test_network_on_cuda_gives_what_the_published_one_gives(size):
    state_dict, x, golden = golden_case(size, "random")
    y = GPEN.from_state_dict(state_dict).cuda()(x.cuda())
    assert golden_error(y.cpu(), golden) <= 1e-2  # TF32 may be on; parity proper is a CPU matter


@pytest.mark.parametrize("batch", [2, 3])
@pytest.mark.slow
def test_batch_gives_what_single_images_give(batch):
    net = GPEN.from_state_dict(helpers.random_weights(256))
    x = torch.cat([torch.from_numpy(synthetic.random_input(256, seed)) for seed in range(batch)])
    together, alone = net(x), torch.cat([net(one[None]) for one in x])
    assert (together - alone).abs().max() <= 1e-5 * alone.std()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "size"),
    [(torch.bfloat16, 256), pytest.param(torch.bfloat16, 512, marks=pytest.mark.nightly), (torch.float16, 256)],
)
@pytest.mark.slow
def test_half_precision_stays_within_fifty_decibels(dtype, size, kind):
    state_dict, x, _ = golden_case(size, kind)
    try:
        half = GPEN.from_state_dict(state_dict, dtype)(x)
    except RuntimeError as error:
        if "not implemented for 'Half'" in str(error):
            pytest.skip(f"this torch does not compute in {dtype} on the CPU")
        raise
    exact = GPEN.from_state_dict(state_dict)(x)
    assert half.dtype == torch.float32 and half.isfinite().all()
    assert helpers.psnr(exact, half, peak=float(exact.max() - exact.min())) >= 50


# In strips


@pytest.fixture(scope="module")
def whole():
    """Called with a size, it gives a network, two images, and what comes out in one piece."""

    @lru_cache
    def make(size):
        net = GPEN.from_state_dict(helpers.random_weights(size))
        x = torch.cat([torch.from_numpy(synthetic.random_input(size, seed)) for seed in range(2)])
        return net, x, net(x)

    return make


@pytest.mark.parametrize(
    ("size", "strip_bytes"),
    [
        *((256, 1), (256, 1 << 20), (256, 4 << 20)),
        *(pytest.param(512, strip_bytes, marks=pytest.mark.nightly) for strip_bytes in (1, CACHE_STRIP_BYTES)),
    ],
)
@pytest.mark.slow
def test_strips_give_what_one_piece_gives(whole, size, strip_bytes):
    net, x, expected = whole(size)
    for one, image in zip(expected, x):  # the border, the seams and what lies between
        assert (net(image[None], strip_bytes=strip_bytes)[0] - one).abs().max() <= 1e-5 * one.std()
    assert (net(x, strip_bytes=strip_bytes) - expected).abs().max() <= 1e-5 * expected.std()


@pytest.mark.parametrize(
    ("side", "row_bytes", "budget", "height"),
    [
        (2048, 10, None, 2048),
        (2048, 10, 10**9, 2048),
        (2048, 1000, 64_000, 64),
        (2048, 1000, 63_999, 32),
        (128, 10**9, 1, 8),
    ],
)
def test_strips_are_as_high_as_the_budget_allows(side, row_bytes, budget, height):
    cut = list(row_strips(side, row_bytes, budget))
    assert cut == [(top, top + height) for top in range(0, side, height)]


def test_a_low_level_is_one_strip():
    assert list(row_strips(4, 10**9, 1)) == [(0, 4)]


@pytest.mark.parametrize("size", RELEASED_SIZES)
def test_layout_is_derived_from_keys_and_shapes(size):
    config = GPENConfig.from_state_dict({key: torch.empty(shape, device="meta") for key, shape in LAYOUT[str(size)].items()})
    assert {key: list(shape) for key, shape in config.parameter_shapes().items()} == LAYOUT[str(size)]
    assert (config.narrow, config.channel_multiplier) == ((0.5, 1) if size == 256 else (1.0, 2))


@pytest.fixture(scope="module")
def identity():
    return helpers.identity_weights(256)


@pytest.fixture
def x():
    return torch.from_numpy(synthetic.random_input(256, 1))


@pytest.mark.parametrize("wrapper", ["g_ema", "params_ema", "params", "state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_wrapped_state_dicts_load(identity, wrapper, prefix):
    wrapped = {wrapper: {prefix + key: value for key, value in identity.items()}, "epoch": 3}
    assert GPEN.from_state_dict(wrapped).size == 256


def test_exponential_average_is_preferred_to_the_raw_weights(identity, x):
    training = {"g": helpers.red_weights(256), "g_ema": identity, "params": helpers.red_weights(256)}
    assert torch.equal(GPEN.from_state_dict(training)(x), GPEN.from_state_dict(identity)(x))


def test_fir_buffers_may_be_absent(identity, x):
    without = {key: value for key, value in identity.items() if not key.endswith(".kernel")}
    assert torch.equal(GPEN.from_state_dict(without)(x), GPEN.from_state_dict(identity)(x))


def test_half_precision_files_load(identity, x):
    halves = {key: value.half() for key, value in identity.items()}
    assert (GPEN.from_state_dict(halves)(x) - x).abs().max() < 1e-2


def test_identity_weights_return_the_input(identity, x):
    assert (GPEN.from_state_dict(identity)(x) - x).abs().max() < 1e-5


def test_loading_neither_changes_nor_shares_the_state_dict(identity, x):
    own = {key: value.clone() for key, value in identity.items()}
    net = GPEN.from_state_dict(own)
    assert all(torch.equal(own[key], identity[key]) for key in identity)
    before = net(x)
    for value in own.values():
        value.fill_(0.25)
    assert torch.equal(net(x), before)


def changed(identity, key, value):
    out = dict(identity)
    if value is None:
        del out[key]
    else:
        out[key] = value
    return out


OFFENCES = {
    "missing": ("generator.conv1.noise.weight", None, "is missing"),
    "extra": ("generator.noises.noise_0", torch.zeros(1), "is unexpected"),
    "misshapen": ("ecd2.0.2.bias", torch.zeros(5), r"has shape \[5\], expected \[128\]"),
    "integers": ("ecd2.0.2.bias", torch.zeros(128, dtype=torch.int64), "is int64, expected"),
    "doubles": ("ecd2.0.2.bias", torch.zeros(128, dtype=torch.float64), "is float64, expected"),
    "sparse": ("ecd2.0.2.bias", torch.zeros(128).to_sparse(), "is sparse_coo, expected"),
    "nan": ("ecd2.0.2.bias", torch.full((128,), float("nan")), "non-finite"),
    "infinite": ("ecd2.0.2.bias", torch.full((128,), float("inf")), "non-finite"),
    "infinite both ways": ("ecd2.0.2.bias", torch.tensor([float("inf"), float("-inf")] * 64), "non-finite"),
    "other filter": ("ecd1.0.0.kernel", torch.full((4, 4), 1 / 16), "not the .* filter"),
    "filter gain": ("generator.to_rgbs.0.upsample.kernel", torch.ones(4, 4) / 64, "not the .* filter"),
    "meta": ("ecd2.0.2.bias", torch.zeros(128, device="meta"), "without values"),
    "no tensor": ("ecd2.0.2.bias", "text", "is a str, not a tensor"),
}


@pytest.mark.parametrize("offence", OFFENCES)
def test_offender_is_named(identity, offence):
    key, value, message = OFFENCES[offence]
    with pytest.raises(WeightsError, match=message) as caught:
        GPEN.from_state_dict(changed(identity, key, value))
    assert key in str(caught.value)


def test_finite_values_whose_sum_overflows_are_accepted(identity):
    largest = torch.full((128,), torch.finfo(torch.float32).max)
    GPEN.from_state_dict(changed(identity, "ecd2.0.2.bias", largest))


def test_first_five_of_many_offenders_are_named(identity):
    bad = dict(identity)
    biases = [f"generator.style.{n}.bias" for n in range(1, 9)]
    for key in biases:
        bad[key] = torch.full((512,), float("nan"))
    with pytest.raises(WeightsError) as caught:
        GPEN.from_state_dict(bad)
    assert [key for key in biases if key in str(caught.value)] == biases[:5]
    assert "(and 3 more)" in str(caught.value)


def test_a_mapping_that_contains_itself_is_refused():
    endless = {"weights": torch.zeros(1)}
    endless["params"] = endless
    with pytest.raises(WeightsError):
        GPEN.from_state_dict(endless)


@pytest.mark.parametrize("checkpoint", [None, [], {}, {"weights": torch.zeros(3)}, {"g_ema": {}}, torch.zeros(3)])
def test_what_is_no_gpen_is_refused(checkpoint):
    with pytest.raises(WeightsError):
        GPEN.from_state_dict(checkpoint)


def test_a_size_that_was_never_released_is_refused(identity):
    cut = {k: v for k, v in identity.items() if not k.startswith(("generator.convs.10.", "generator.convs.11."))}
    with pytest.raises(WeightsError, match="size 128"):
        GPEN.from_state_dict(cut)


@pytest.mark.parametrize("shape", [(3, 256, 256), (1, 3, 255, 256), (1, 4, 256, 256), (1, 3, 512, 512)])
def test_wrong_input_shape_is_an_input_error(identity, shape):
    with pytest.raises(InputError, match="GPEN-256 requires shape"):
        GPEN.from_state_dict(identity)(torch.zeros(shape))


def test_loading_leaves_the_hosts_random_numbers_alone(identity):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    GPEN.from_state_dict(identity)
    assert torch.equal(torch.rand(3), expected)
