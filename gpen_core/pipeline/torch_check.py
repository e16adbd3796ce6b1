"""Whether a device does what this room asks of it: torch's backends lack operations, and some have been wrong."""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np
import torch

from .devices import shortcoming
from .torch_postprocess import soften
from .torch_resize import resized
from .torch_warp import warp

TYPES = ("cuda", "mps", "xpu")  # cuda is ROCm's name, too; a CPU is faster with OpenCV, and DirectML lacks too much
TOLERANCE = 2e-3  # half a level of 8 bits, and what TF32 may cost

log = logging.getLogger(__name__)


@lru_cache(maxsize=8)
def suits(device: torch.device) -> bool:
    """Whether pictures are reduced, and faces cut out and put back, on that device: one of `TYPES` that resamples and
    softens as the CPU does, within `TOLERANCE`. What is wrong with another is logged once. Running out of memory raises
    torch's error."""
    if device.type not in TYPES:
        return False

    def apart() -> float:
        return float((_tried(torch.device("cpu")) - _tried(device).cpu()).abs().max())

    reason = shortcoming(apart, TOLERANCE, "it differs from the CPU by {:.2g}")
    if reason is not None:
        log.warning("Pictures are reduced, and faces cut out and put back, by the CPU, not on %s: %s", device, reason)
    return reason is None


def _tried(device: torch.device) -> torch.Tensor:
    """Small results of all that differs between backends, one after the other."""
    image = torch.rand((3, 37, 50), generator=torch.Generator().manual_seed(7)).to(device)
    turned = np.array([[0.8, -0.6, 9.0], [0.6, 0.8, -3.0]])
    inside = torch.zeros((512, 512))
    inside[100:300, 150:400] = 1
    ways = [(scale, is_cubic) for scale in (0.4, 2.3) for is_cubic in (True, False)]
    made = [warp(image, scale * turned, (40, 30), cubic=is_cubic, replicate=is_cubic) for scale, is_cubic in ways]
    pixels = (image.permute(1, 2, 0)[None] * 255).round()  # CHW -> BHWC
    kinds = (pixels.to(kind) for kind in (torch.uint8, torch.int32, torch.float32))
    levels = [resized(kind, longest) / 255 for kind in kinds for longest in (21, 25, 80)]
    made += [soften(inside.to(device)), *levels, levels[0].rot90(1, (1, 2))]
    return torch.cat([one.flatten() for one in made])
