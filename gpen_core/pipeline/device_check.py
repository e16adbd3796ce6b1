"""Whether a device computes the network as the CPU does: on MPS, channels-last and writing into slices have been wrong."""

from __future__ import annotations

import json
import logging
import platform
from functools import lru_cache
from pathlib import Path

import torch

from ..errors import OutputError
from ..files.atomic_write import write_bytes
from ..network import GPEN, GPENConfig
from .devices import shortcoming

CHECKED_TYPES = ("mps", "xpu")  # CUDA and the CPU are held by tests; DirectML is only taken when asked for
SMALL = GPENConfig(128, 1 / 16, 1)  # a level of every kind, in some milliseconds
TOLERANCE = 1e-3  # of the standard deviation: float32 on another device was seen to differ by 1e-5

log = logging.getLogger(__name__)


def trusted(device: torch.device, memory: Path) -> torch.device:
    """The device, or the CPU where a small network is not on it what it is on the CPU; then the log says so.

    Tried once per version of torch and of the system, and remembered in the file `memory` (JSON), if it can be written.
    Running out of memory raises torch's error."""
    reason = _wrong(device, memory) if device.type in CHECKED_TYPES else None
    if reason is None:
        return device
    log.warning("Computing on the CPU: on %s torch %s computes the network wrongly: %s", device, torch.__version__, reason)
    return torch.device("cpu")


@lru_cache(maxsize=8)
def _wrong(device: torch.device, memory: Path) -> str | None:
    key = f"{device.type}, torch {torch.__version__}, {platform.platform()}"
    known = _read(memory)
    if key in known:
        return known[key]
    reason = difference(device)
    try:
        write_bytes(memory, (json.dumps({**known, key: reason}, indent=1) + "\n").encode())
    except OutputError as error:
        log.debug("Not remembered: %s", error)
    return reason


def _read(memory: Path) -> dict[str, str | None]:
    """What is remembered; nothing where the file is not there or is none of ours."""
    try:
        content = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def difference(device: torch.device) -> str | None:
    """What is wrong with a small network there, in float32, in one piece and in strips; None where nothing is."""
    network, x = small_network(), torch.linspace(-1, 1, 3 * SMALL.size**2).sin().view(1, 3, SMALL.size, SMALL.size)
    expected = network(x)

    def apart() -> float:
        there = network.to(device)
        results = [there(x.to(device), strip_bytes=strip_bytes).cpu() for strip_bytes in (None, 1)]
        return float(torch.stack([(result - expected).abs().max() / expected.std() for result in results]).max())

    return shortcoming(apart, TOLERANCE, "it differs by {:.2g} of its standard deviation")


def small_network() -> GPEN:
    """Of the released layout's kind, with seeded weights."""
    generator = torch.Generator().manual_seed(7)
    weights = {key: torch.randn(shape, generator=generator) for key, shape in SMALL.layout().items()}
    return GPEN(weights, SMALL, torch.float32)
