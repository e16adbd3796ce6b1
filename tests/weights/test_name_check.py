"""What a name of weights means is checked before anything is downloaded for it."""

import helpers
import pytest

from gpen_core.errors import MissingWeights, WeightsError
from gpen_core.weights.name_check import DETECTOR, MODEL, UPSCALER, check_name

NETWORKS = "gpen-bfr-2048, gpen-bfr-1024, gpen-bfr-512, gpen-bfr-256, gpen-colorization-1024, gpen-inpainting-1024"


@pytest.mark.parametrize(
    ("name", "kind", "meant", "available"),
    [
        ("gpen-bfr-521", MODEL, "gpen-bfr-512", f"auto, {NETWORKS}"),
        ("GPEN-BFR-0512.pth", MODEL, "gpen-bfr-512", f"auto, {NETWORKS}"),
        ("retinaface_resnet", DETECTOR, "retinaface_resnet50", "retinaface_resnet50, retinaface_mobile0.25"),
        ("realesrnet", UPSCALER, "realesrnet_x", "realesrnet_x2, realesrnet_x4"),
    ],
)
def test_an_unknown_name_lists_its_kind_only_and_those_that_were_meant(tmp_path, name, kind, meant, available):
    with pytest.raises(MissingWeights) as refused:
        check_name(name, kind, [tmp_path])
    message = str(refused.value)
    assert message.startswith(f"Unknown {kind} {name!r}") and f"Did you mean {meant}" in message
    assert message.endswith(f"Available: {available}.")


def test_a_name_that_resembles_none_is_no_suggestion(tmp_path):
    with pytest.raises(MissingWeights) as refused:
        check_name("codeformer", MODEL, [tmp_path])
    assert "Did you mean" not in str(refused.value)


def test_an_own_network_in_the_models_folder_is_offered(tmp_path):
    (tmp_path / "my-gpen.pth").write_bytes(b"")
    with pytest.raises(MissingWeights, match=r"Did you mean my-gpen\.pth.*gpen-inpainting-1024, my-gpen\.pth\.$"):
        check_name("my-gpn.pth", MODEL, [tmp_path])


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("retinaface_resnet50", MODEL, r"^retinaface_resnet50 is a face detector \(option detector\), not a model\."),
        ("Detection_Resnet50_Final.PTH", MODEL, "is a face detector"),
        ("parsenet", MODEL, "^parsenet is a face parser, not a model"),
        ("realesrnet_x2", DETECTOR, "is an upscaler"),
        ("gpen-bfr-512", DETECTOR, r"^gpen-bfr-512 is a model \(option model\), not a face detector\."),
        ("gpen-bfr-512", UPSCALER, "^gpen-bfr-512 is a model .*, not an upscaler"),
    ],
)
def test_weights_of_another_kind_are_named_as_what_they_are(tmp_path, name, kind, message):
    with pytest.raises(WeightsError, match=message) as refused:
        check_name(name, kind, [tmp_path])
    assert not isinstance(refused.value, MissingWeights)


def test_a_file_is_named_by_its_tensors_whatever_it_is_called(tmp_path, detector_weights):
    helpers.write_weights(tmp_path, {"gpen-own.safetensors": detector_weights})
    with pytest.raises(WeightsError, match="is a face detector"):
        check_name(tmp_path / "gpen-own.safetensors", MODEL, [tmp_path])
    check_name(tmp_path / "gpen-own.safetensors", DETECTOR, [tmp_path])


def test_right_names_pass_with_and_without_their_files(tmp_path):
    (tmp_path / "unknown-content.pth").write_bytes(b"")
    check_name("gpen-bfr-512", MODEL, [tmp_path])
    check_name("unknown-content.pth", MODEL, [tmp_path])
    check_name("retinaface_mobile0.25", DETECTOR, [tmp_path])
