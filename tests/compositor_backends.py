"""On what the accelerator's way of cutting out and putting back is tried, and what it is compared with."""

import cv2
import helpers
import numpy as np
import pytest
import torch

from gpen_core.network import GPEN, GPENConfig
from gpen_core.pipeline.model_set import GPENRunner, ModelSet
from gpen_core.pipeline.restorer import FaceRestorer

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA or ROCm device")
CUDA = pytest.param("cuda", marks=[pytest.mark.gpu, needs_cuda])
DEVICES = ["cpu", CUDA]
KINDS = ("uint8", "uint16", "float16", "float32", "float64", "gray", "rgba")
CUDA_OOM = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")


def opencv_rounds():
    """Whether this OpenCV rounds places to 1/32 px, as versions before 5 do."""
    slope = np.arange(64, dtype=np.float32)[None].repeat(64, 0)
    shifts = (np.array([[1, 0, -shift], [0, 1, 0]]) for shift in (1 / 200, 1 / 100))
    ways = cv2.INTER_CUBIC, cv2.INTER_LINEAR
    moved = [[cv2.warpAffine(slope, shift, (64, 64), flags=way)[32, 32] for way in ways] for shift in shifts]
    return bool((np.diff(moved, axis=0) == 0).any())


OPENCV_ROUNDS = opencv_rounds()
needs_exact_opencv = pytest.mark.skipif(OPENCV_ROUNDS, reason="this OpenCV rounds places to 1/32 px")


class Sharpening(torch.nn.Module):
    """Stands in for GPEN-256: it sharpens by `amount`, and adds to red (of [-1, 1]). It takes no time."""

    dtype, size, config = torch.float32, 256, GPENConfig(256, 0.5, 1)

    def __init__(self, red=0.0, amount=0.5):
        super().__init__()
        self.red, self.amount = red, amount

    def forward(self, x, on_tick, strip_bytes):
        on_tick()
        low = torch.nn.functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        sharp = x + self.amount * (x - low)
        return torch.cat((sharp[:, :1] + self.red, sharp[:, 1:]), 1)


def restorer_on(device, network, faces, load_fp32=None, load_parser=None):
    """As `helpers.restorer`, on any device; `network` is one, or weights in float32."""
    place = torch.device(device)
    network = GPEN.from_state_dict(network) if isinstance(network, dict) else network
    loaded = GPENRunner(network, place, load_fp32)
    return FaceRestorer(ModelSet([loaded], helpers.FakeDetector(faces), place, load_parser))


def use_torch_compositor(monkeypatch, is_wanted=True):
    """The CPU, too, takes the accelerator's way, or does not again."""
    supports = lambda device: is_wanted or device.type != "cpu"  # noqa: E731
    monkeypatch.setattr("gpen_core.pipeline.device_check.supports_image_ops", supports)


def restore_with_both(monkeypatch, device, faces, frame, options=None, red=0.0, parsers=None):
    """What OpenCV on the CPU makes of a frame with `Sharpening`, and what the device does; where OpenCV rounds places, torch
    on the CPU stands in for it."""
    loads = [None, None] if parsers is None else [lambda progress, one=one: one for one in parsers]
    use_torch_compositor(monkeypatch, OPENCV_ROUNDS)
    expected = restorer_on("cpu", Sharpening(red), faces, load_parser=loads[0]).restore_batch([frame], options)[0]
    use_torch_compositor(monkeypatch)
    found = restorer_on(device, Sharpening(red), faces, load_parser=loads[1]).restore_batch([frame], options)[0]
    return expected, found


def to_8bit_levels(image):
    """In steps of 8 bits, float64."""
    peak = {np.dtype(np.uint8): 255, np.dtype(np.uint16): 65535}.get(image.dtype, 1)
    return image.astype(np.float64) * 255 / peak


def make_image(height, width, kind):
    """A texture as hosts and files give it: `uint8`, ..., `gray`, `rgba`."""
    image = helpers.texture(height, width, sigma=0.7)
    if kind in ("float16", "float32", "float64"):
        return image.astype(kind)
    if kind == "uint16":
        return np.rint(image * 65535).astype(np.uint16)
    eight = np.rint(image * 255).astype(np.uint8)
    if kind == "gray":
        return eight[..., 0]
    return np.dstack((eight, eight[..., :1])) if kind == "rgba" else eight


def raise_on_calls(error, what, monkeypatch, calls):
    """`what` (class and method) raises at those of its calls."""
    method, count = getattr(*what), iter(range(99))

    def run(*args, **kwargs):
        if next(count) in calls:
            raise error
        return method(*args, **kwargs)

    monkeypatch.setattr(*what, run)
