"""The accelerator's way on a simulated one: no operation mixes its tensors with the CPU's, and none needs float64 on MPS."""

from contextlib import nullcontext
from dataclasses import replace

import helpers
import numpy as np
import pytest
import synthetic_video
import torch
import video_files
from compositor_backends import Sharpening, make_image, restorer_on, use_torch_compositor
from helpers import make_face
from simulated_device import SimulatedDevice

from gpen_core import FaceRestorer, RestoreOptions, VideoOptions, restore_video
from gpen_core.pipeline import device_check
from gpen_core.tools.demo.images import astronaut
from gpen_core.video.probe import probe
from gpen_core.video.reader import FrameReader

FACES = (make_face((70.0, 80.0), 60.0, tilt=-9), make_face((140.0, 90.0), 66.0, tilt=7))
FEATHERED = RestoreOptions(mask_type="feather")


@pytest.fixture(params=["cuda", "mps"])
def simulated(request, monkeypatch, tmp_path):
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))  # where the checks of a device are recorded
    if request.param == "cuda" and torch.cuda.is_available():
        pytest.skip("a real CUDA or ROCm device is here: the gpu tests are for it")
    return SimulatedDevice(request.param)


def test_devices_do_not_mix(simulated):
    with simulated:
        there, here = torch.ones(3, 4).to(simulated.device), torch.ones(3, 4)
        assert there.device == simulated.device and (there + 1).device == simulated.device and here.device.type == "cpu"
        assert torch.equal((there * 2).cpu(), here * 2) and float((there + torch.tensor(1.0)).sum()) == 24
        for mix in (lambda: there + here, lambda: torch.cat((there, here)), lambda: there.add_(here)):
            with pytest.raises(RuntimeError, match="same device"):
                mix()
        with pytest.raises(TypeError, match="numpy"):
            there.numpy()
        there.to("cpu").zero_()
        assert there.cpu().sum() == 12  # what came back is a copy
        layer = torch.nn.Conv2d(3, 2, 3).to(simulated.device)
        with pytest.raises(RuntimeError, match="same device"):
            layer(torch.ones(1, 3, 5, 5))
        assert layer(torch.ones(1, 3, 5, 5, device=simulated.device)).device == simulated.device


def test_mps_has_no_float64():
    with SimulatedDevice("mps") as simulated, pytest.raises(TypeError, match="float64"):
        torch.zeros(2, device=simulated.device).double()


@pytest.mark.parametrize("check", [device_check.NETWORK, device_check.IMAGE_OPS])
def test_the_checks_of_a_device_run_there(simulated, check):
    with simulated:
        assert device_check.find_problem(check, simulated.device) is None
    assert simulated.used


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("uint8", RestoreOptions(mask_type="parse")),
        ("gray", FEATHERED),
        ("rgba", replace(FEATHERED, color="match", upscale=1.5, strength=0.7)),
        ("uint16", FEATHERED),
        ("float32", replace(FEATHERED, upscale=2.0)),
        ("float64", RestoreOptions(mask_type="parse", fidelity=0.5, grain=0.6, preserve=("eyes", "occluders"))),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_an_image_is_restored_as_on_the_cpu(monkeypatch, simulated, kind, options):
    use_torch_compositor(monkeypatch)
    image, weights = make_image(160, 200, kind), helpers.parsenet(**helpers.NARROW).state_dict()
    found = []
    for device in (None, simulated):
        with device or nullcontext():
            place = torch.device("cpu") if device is None else device.device
            parser = helpers.narrow_parser(weights, place)
            restorer = restorer_on(place, Sharpening(), FACES, load_parser=lambda _, parser=parser: parser)
            found.append(restorer.restore_batch([image], options)[0])
    assert [face.restored for face in found[1].faces] == [True, True]
    np.testing.assert_array_equal(found[1].image, found[0].image)


@pytest.mark.slow
def test_a_photo_is_searched_and_restored_there(simulated, models):
    options = replace(FEATHERED, angles="all")
    found = []
    for device in (None, simulated):
        with device or nullcontext():
            place = "cpu" if device is None else device.device
            restorer = FaceRestorer.load(models / "red-256.pth", models / helpers.DETECTOR_FILE, device=place, dtype="fp32")
            found.append(restorer.restore(astronaut(), options))
    assert len(found[1].faces) == 1
    assert found[1].faces[0].box == pytest.approx(found[0].faces[0].box, abs=0.05)
    assert np.abs(found[1].image.astype(int) - found[0].image).max() <= 2


@pytest.mark.slow
def test_a_video_is_restored_as_on_the_cpu(monkeypatch, simulated, tmp_path):
    use_torch_compositor(monkeypatch)
    pixels = {"cuda": "yuv420p", "mps": "yuv422p10le"}[simulated.device.type]
    size, middle = (160, 120), (224, 126)
    shot = synthetic_video.render_video(astronaut(), "shake", 6, size, 3.0, 0, middle=middle, width=160)
    source = video_files.write_video(tmp_path / "film.mkv", 6, size, "ffv1", pixels, pictures=[frame for frame, _ in shot])
    faces, found = (make_face((80.0, 60.0), 50.0, tilt=8),), []
    for number, device in enumerate((None, simulated)):
        with device or nullcontext():
            place = torch.device("cpu") if device is None else device.device
            target = tmp_path / f"{number}.mkv"
            result = restore_video(source, target, restorer_on(place, Sharpening(), faces), None, VideoOptions(codec="ffv1"))
        assert result.restored == ((0,),) * 6
        found.append([frame.native.arrays for frame in FrameReader(probe(target)).frames()])
    for one, other in zip(*found):
        for ours, theirs in zip(one, other):
            np.testing.assert_array_equal(ours, theirs)
