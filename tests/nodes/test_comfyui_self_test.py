"""The line that the log has when faces are first restored, in a fake ComfyUI."""

import fake_comfyui
import helpers
import pytest
import torch

from gpen_core.tools.demo import images as demo_pictures


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory, detector_weights):
    folder = tmp_path_factory.mktemp("comfyui") / "models"
    helpers.write_weights(folder / "facedetection", {helpers.DETECTOR_FILE: detector_weights})
    helpers.write_weights(folder / "GPEN", {"gpen-red-256.pth": helpers.constant_weights(256, (1, 0, 0))})
    return folder


@pytest.fixture
def host(models_dir, monkeypatch):
    made = fake_comfyui.Host(models_dir, monkeypatch)
    monkeypatch.delenv("GPEN_SELF_TEST")
    return made


@pytest.fixture
def restored(host, caplog):
    """Restores once more with that precision: what the log has of self-tests in all, as (level, line)."""
    caplog.set_level("INFO")
    portrait = torch.from_numpy(demo_pictures.astronaut())[None].float() / 255

    def restore(precision="fp32"):
        model = host.run(
            "GPEN_LoadModel", model="gpen-red-256.pth", precision=precision, detector="detection_mobilenet0.25_Final.pth"
        )
        image = host.run("GPEN_RestoreFaces", gpen_model=model[0], image=portrait)[0]
        assert (image[..., 0] > 0.99).any()  # whatever the test says
        said = [(record.levelname, record.getMessage()) for record in caplog.records]
        return [(level, line) for level, line in said if "self-test" in line]

    return restore


@pytest.mark.slow
def test_it_is_told_once_for_a_device_and_precision(restored):
    restored()
    ((level, line),) = restored()
    assert level == "INFO" and line.startswith("GPEN self-test: passed (") and "on cpu in fp32" in line
    assert [line for _, line in restored("bf16")][1:] == [line for _, line in restored("bf16") if "in bf16" in line]


def test_nothing_runs_before_a_face_is_restored(host, caplog):
    caplog.set_level("INFO")
    host.run("GPEN_LoadModel", model="gpen-red-256.pth", precision="fp32", detector="detection_mobilenet0.25_Final.pth")
    assert "self-test" not in caplog.text


def test_what_is_wrong_is_a_warning_and_faces_are_restored_all_the_same(host, restored, monkeypatch):
    def broken(device, dtype):
        raise RuntimeError("the driver\nand more")

    monkeypatch.setattr(host.module("gpen_core.tools.self_test"), "self_test", broken)
    ((level, line),) = restored()
    assert level == "WARNING" and line.startswith("GPEN self-test: FAILED: RuntimeError: the driver. ")
    assert "fp32 in Load GPEN Model" in line


def test_it_can_be_turned_off(restored, monkeypatch):
    monkeypatch.setenv("GPEN_SELF_TEST", "0")
    assert restored() == []
