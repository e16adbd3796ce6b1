"""What the CPU can compute in hardware."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

CPUINFO = Path("/proc/cpuinfo")
BF16 = {"_is_avx512_bf16_supported": "avx512_bf16", "_is_amx_tile_supported": "amx_bf16"}
AMX = {"_is_amx_tile_supported": "amx_bf16"}


def has_any(features: dict[str, str], cpuinfo: Path = CPUINFO) -> bool:
    """Whether this CPU has one of `features`, which maps functions of `torch.cpu` to flags of Linux.

    torch (2.6 and newer) or the system reports it. If neither does, the answer is no."""
    checks = [getattr(torch.cpu, name, None) for name in features]
    if any(check is not None for check in checks):
        return any(ask() for ask in checks if ask is not None)
    try:
        flags = cpuinfo.read_text().split()
    except OSError:  # not Linux
        return False
    return any(flag in flags for flag in features.values())


@lru_cache(maxsize=1)
def has_amx() -> bool:
    """Whether this CPU multiplies matrices of bfloat16 in AMX tiles."""
    return has_any(AMX)
