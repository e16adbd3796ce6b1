"""Does this device compute right? Each check runs something small on the device and compares it with the CPU.

torch's backends lack operations, and some have been wrong: on MPS, channels-last and writing into slices."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import torch

from ..errors import OutputError, first_line, is_out_of_memory
from ..files.atomic_write import write_bytes
from ..network import GPEN, GPENConfig
from .torch_postprocess import feather_edges
from .torch_resize import resize
from .torch_warp import warp

CPU = torch.device("cpu")
NETWORK_DEVICES = ("mps", "xpu")  # checked; CUDA and the CPU are held by tests, DirectML is only taken when asked for
IMAGE_DEVICES = ("cuda", "mps", "xpu")  # cuda is ROCm's name, too; a CPU is faster with OpenCV, and DirectML lacks too much
TINY = GPENConfig(128, 1 / 16, 1)  # a level of every kind, in some milliseconds

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceCheck:
    """Something small that a device has to compute as the CPU does."""

    run: Callable[[torch.device], torch.Tensor]
    """Its result on a device, float32."""
    expected: Callable[[], torch.Tensor]
    """What the CPU gives; its shape may be broadcast to the result's."""
    tolerance: float
    """The largest difference that passes."""
    is_relative: bool
    """Whether differences are fractions of the expected values' standard deviation."""
    warning: str
    """The log line of a device that fails: what is done instead. `%s` stand for the device and for what is wrong."""


def max_difference(check: DeviceCheck, device: torch.device) -> float:
    """The largest absolute difference between the device's result and the CPU's, in the check's unit; NaN where one is NaN.

    What the backend raises is not caught."""
    expected = check.expected()
    difference = (check.run(device).cpu() - expected).abs().max()
    return float(difference / expected.std() if check.is_relative else difference)


def find_problem(check: DeviceCheck, device: torch.device) -> str | None:
    """What is wrong with the device: how far its result is off, or what its backend says it lacks. None if it passes.

    Running out of memory raises torch's error."""
    try:
        difference = max_difference(check, device)
    except (RuntimeError, NotImplementedError, TypeError) as error:  # what is missing, each backend says in its own way
        if is_out_of_memory(error):
            raise
        return first_line(error) or type(error).__name__
    if difference <= check.tolerance:
        return None
    message = "it differs by {:.2g} of its standard deviation" if check.is_relative else "it differs from the CPU by {:.2g}"
    return message.format(difference)


@lru_cache(maxsize=16)
def passes(check: DeviceCheck, device: torch.device, record: Path | None = None) -> bool:
    """Whether the device passes. It is checked once per process, and the log then says what is wrong.

    With `record` (a JSON file) it is checked once per version of torch and of the system, if that file can be written.
    Running out of memory raises torch's error."""
    problem = find_problem(check, device) if record is None else _recorded_problem(check, device, record)
    if problem is not None:
        log.warning(check.warning, device, problem)
    return problem is None


def verified_device(device: torch.device, find_record: Callable[[], Path]) -> torch.device:
    """The device, or the CPU if the device is one of `NETWORK_DEVICES` and computes a tiny network wrongly; see `passes`.

    `find_record` gives the path of the record. It is called only for a device that is checked."""
    return device if device.type not in NETWORK_DEVICES or passes(NETWORK, device, find_record()) else CPU


def supports_image_ops(device: torch.device) -> bool:
    """Whether images are resized, and faces cropped and pasted, on the device, not with OpenCV: it is one of
    `IMAGE_DEVICES` and computes that as the CPU does; see `passes`."""
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
    """What is recorded; nothing if the file does not exist or is not ours."""
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def tiny_gpen() -> GPEN:
    """A GPEN of the released layout's kind, with seeded weights, on the CPU in float32."""
    generator = torch.Generator().manual_seed(7)
    weights = {key: torch.randn(shape, generator=generator) for key, shape in TINY.parameter_shapes().items()}
    return GPEN(weights, TINY, torch.float32)


def _network_input() -> torch.Tensor:
    return torch.linspace(-1, 1, 3 * TINY.size**2).sin().view(1, 3, TINY.size, TINY.size)


def _run_network(device: torch.device) -> torch.Tensor:
    """[2, 1, 3, S, S]: computed whole, and in strips."""
    network, x = tiny_gpen().to(device), _network_input().to(device)
    return torch.stack([network(x, strip_bytes=strip_bytes) for strip_bytes in (None, 1)])


def _run_image_ops(device: torch.device) -> torch.Tensor:
    """[N]: small results of all that differs between backends, one after the other."""
    image = torch.rand((3, 37, 50), generator=torch.Generator().manual_seed(7)).to(device)
    turned = np.array([[0.8, -0.6, 9.0], [0.6, 0.8, -3.0]])
    inside = torch.zeros((512, 512))
    inside[100:300, 150:400] = 1
    ways = [(scale, is_cubic) for scale in (0.4, 2.3) for is_cubic in (True, False)]
    made = [warp(image, scale * turned, (40, 30), cubic=is_cubic, replicate=is_cubic) for scale, is_cubic in ways]
    pixels = (image.permute(1, 2, 0)[None] * 255).round()  # CHW -> BHWC
    kinds = (pixels.to(kind) for kind in (torch.uint8, torch.int32, torch.float32))
    levels = [resize(kind, size) / 255 for kind in kinds for size in ((21, 16), (25, 18), (80, 59))]
    made += [feather_edges(inside.to(device)), *levels, levels[0].rot90(1, (1, 2))]
    return torch.cat([one.flatten() for one in made])


NETWORK = DeviceCheck(
    _run_network,
    expected=lambda: tiny_gpen()(_network_input()),
    tolerance=1e-3,  # float32 on another device was seen to differ by 1e-5
    is_relative=True,
    warning=f"Computing on the CPU: on %s torch {torch.__version__} computes the network wrongly: %s",
)
"""The network in float32: the CPU replaces a device that computes it wrongly."""

IMAGE_OPS = DeviceCheck(
    _run_image_ops,
    expected=partial(_run_image_ops, CPU),
    tolerance=2e-3,  # half a level of 8 bits, and what TF32 may cost
    is_relative=False,
    warning="Images are reduced, and faces cut out and put back, by the CPU, not on %s: %s",
)
"""Resizing, warping and softening: OpenCV replaces a device that computes them wrongly."""
