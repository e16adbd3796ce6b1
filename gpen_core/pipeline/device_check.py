"""Checks whether a device computes correctly, by comparing small computations with the CPU.

torch's backends lack operations, and some computed wrong results: on MPS, channels-last and writes to slices."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from ..errors import OutputError, first_line, is_out_of_memory
from ..files.atomic_write import write_bytes
from ..network import GPEN, GPENConfig
from ..network.config import CPU_FLOAT32
from .torch_postprocess import feather_edges
from .torch_resize import resize
from .torch_warp import warp

CPU = torch.device("cpu")
NETWORK_DEVICES = ("mps", "xpu")  # checked at runtime; tests cover CUDA and the CPU, and DirectML is used only on request
# ROCm is also called cuda. OpenCV is faster on CPUs, and DirectML lacks too many operations.
IMAGE_DEVICES = ("cuda", "mps", "xpu")
TINY = GPENConfig(128, 1 / 16, 1)  # has every kind of level, and takes a few milliseconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceCheck:
    """A small computation whose result on a device must match the CPU's."""

    run: Callable[[torch.device], torch.Tensor]
    """Returns the result on a device in float32."""
    tolerance: float
    """The largest permitted difference."""
    warning: str
    """The log message if the device fails, with `%s` for the device and `%s` for the problem."""
    expected: Callable[[], torch.Tensor] | None = None
    """Returns the result of the CPU. Its shape may be broadcast. None: `run` returns it."""
    is_relative: bool = False
    """Whether differences are fractions of the expected values' standard deviation."""


def max_difference(check: DeviceCheck, device: torch.device) -> float:
    """Return the largest absolute difference between the device and the CPU, in the unit of the check; NaN if one is NaN.

    Errors of the backend are not caught."""
    expected = check.run(CPU) if check.expected is None else check.expected()
    difference = (check.run(device).cpu() - expected).abs().max()
    return float(difference / expected.std() if check.is_relative else difference)


def find_problem(check: DeviceCheck, device: torch.device) -> str | None:
    """Return the problem of the device: its difference from the CPU, or the backend's error. None if it passes.

    If memory runs out, torch's error is raised."""
    try:
        difference = max_difference(check, device)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # backends differ in how they report missing operations
        if is_out_of_memory(error):
            raise
        return first_line(error) or type(error).__name__
    if difference <= check.tolerance:
        return None
    message = "it differs by {:.2g} of its standard deviation" if check.is_relative else "it differs from the CPU by {:.2g}"
    return message.format(difference)


@lru_cache(maxsize=16)
def passes(check: DeviceCheck, device: torch.device, record: Path | None = None) -> bool:
    """Whether the device passes the check. It runs once per process and logs the problem.

    With `record` (a JSON file) it runs once per version of torch and of the system, if that file is writable. If memory
    runs out, torch's error is raised."""
    problem = find_problem(check, device) if record is None else _recorded_problem(check, device, record)
    if problem is not None:
        log.warning(check.warning, device, problem)
    return problem is None


def verified_device(device: torch.device, find_record: Callable[[], Path]) -> torch.device:
    """Return the device, or the CPU if the device is one of `NETWORK_DEVICES` and computes a tiny network incorrectly.

    `find_record` returns the path of the record for `passes`. It is called only for devices that are checked."""
    return device if device.type not in NETWORK_DEVICES or passes(NETWORK, device, find_record()) else CPU


def supports_image_ops(device: torch.device) -> bool:
    """Whether resizing, cropping and pasting run on the device instead of with OpenCV.

    The device must be one of `IMAGE_DEVICES` and pass the check `IMAGE_OPS`; see `passes`."""
    return device.type in IMAGE_DEVICES and passes(IMAGE_OPS, device)


def _recorded_problem(check: DeviceCheck, device: torch.device, record: Path) -> str | None:
    key = f"{device.type}, torch {torch.__version__}, {platform.platform()}"
    known = _load_results(record)
    if key in known:
        return known[key]
    problem = find_problem(check, device)
    try:
        write_bytes(record, (json.dumps({**known, key: problem}, indent=1) + "\n").encode())
    except OutputError as error:
        log.debug("Could not save the device check: %s", error)
    return problem


def _load_results(record: Path) -> dict[str, str | None]:
    """Read the recorded results. Empty if the file does not exist or is invalid."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def tiny_gpen() -> GPEN:
    """Build a small GPEN with seeded weights, on the CPU in float32."""
    generator = torch.Generator().manual_seed(7)
    weights = {key: torch.randn(shape, generator=generator, **CPU_FLOAT32) for key, shape in TINY.parameter_shapes().items()}
    return GPEN(weights, TINY, torch.float32)


def _network_input() -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * TINY.size**2, **CPU_FLOAT32).sin().view(1, 3, TINY.size, TINY.size)


def _run_network(device: torch.device) -> torch.Tensor:
    """[2, 1, 3, S, S]: the output without and with strips."""
    network, x = tiny_gpen().to(device), _network_input().to(device)
    return torch.stack([network(x, strip_bytes=strip_bytes) for strip_bytes in (None, 1)])


def _run_image_ops(device: torch.device) -> torch.Tensor:
    """[N]: results of all operations that differ between backends, concatenated."""
    image = torch.rand((3, 37, 50), generator=torch.Generator().manual_seed(7), **CPU_FLOAT32).to(device)
    rotation = np.array([[0.8, -0.6, 9.0], [0.6, 0.8, -3.0]])
    mask = torch.zeros((512, 512), **CPU_FLOAT32)
    mask[100:300, 150:400] = 1
    warped = [
        warp(image, scale * rotation, (40, 30), cubic=is_cubic, replicate=is_cubic)
        for scale in (0.4, 2.3)
        for is_cubic in (True, False)
    ]
    pixels = (image.permute(1, 2, 0)[None] * 255).round()  # CHW -> BHWC
    batches = [pixels.to(dtype) for dtype in (torch.uint8, torch.int32, torch.float32)]
    resized = [resize(batch, size) / 255 for batch in batches for size in ((21, 16), (25, 18), (80, 59))]
    results = [*warped, feather_edges(mask.to(device)), *resized, resized[0].rot90(1, (1, 2))]
    return torch.cat([result.flatten() for result in results])


NETWORK = DeviceCheck(
    _run_network,
    tolerance=1e-3,  # correct devices differed by 1e-5 in float32
    warning=f"Using the CPU instead of %s, because torch {torch.__version__} computes incorrect results there: %s",
    expected=lambda: tiny_gpen()(_network_input()),
    is_relative=True,
)
"""The network in float32. If a device fails, the CPU is used."""

IMAGE_OPS = DeviceCheck(
    _run_image_ops,
    tolerance=2e-3,  # half an 8-bit level, and the rounding of TF32
    warning="Using the CPU instead of %s to resize images and to crop and paste faces: %s",
)
"""Resizing, warping and feathering. If a device fails, OpenCV is used."""
