"""Choice of device and precision, memory budgets, and handling of out-of-memory errors."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from ..errors import DeviceError, ErrorConverter, OptionsError, OutOfMemory, first_line, is_out_of_memory
from ..files.host_memory import HOST_MEMORY_FRACTION, host_memory
from ..files.size_text import memory_text
from ..network import GPENConfig
from ..network.cpu_features import BF16, CPUINFO, has_any
from ..network.memory_estimate import CACHE_STRIP_BYTES, bytes_per_face, min_bytes
from ..options.spec import check_range
from .onnx_providers import (
    DEVICE_TYPES,
    OPENVINO_PROVIDER,
    REQUESTED,
    requestable_devices,
    requested_provider,
    require_provider,
)

log = logging.getLogger(__name__)

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MAX_BATCH_SIZE = 8
SMALLER_MODEL_HINT = "use a smaller model (gpen-bfr-512)"
FREE_MEMORY_FRACTION = 0.8  # of free device memory that a batch may use

Item = TypeVar("Item")
Out = TypeVar("Out")


def pick_device(name: str | torch.device = "auto") -> torch.device:
    """Return the device of that name: one of torch's (`cuda:1`, `cpu`, ...), of `REQUESTED` or `auto`.

    `auto` selects CUDA or ROCm, else an Intel GPU (xpu), else MPS, else the CPU. For `directml`, `openvino` and `tensorrt`,
    ONNX Runtime runs the networks that restore faces (see `onnx_providers`). Torch's device for everything else is
    returned.
    Raises `DeviceError` if the device is not available, `OutOfMemory` if it has no free memory."""
    if name == "auto":
        return next((device for device in available_devices() if device.type != "cpu"), torch.device("cpu"))
    if name in REQUESTED:
        return _runtime_device(str(name))
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError) as error:  # torch lists the types that any build knows, not those of this machine
        raise DeviceError(f"Unknown device {str(name)!r}. {_available_text()}") from error
    try:
        torch.zeros(1, device=device).item()  # fails for `meta`, which exists everywhere and computes nothing
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:
        if is_out_of_memory(error):
            raise OutOfMemory(
                f"The device {str(name)!r} has no free memory ({first_line(error)}). Close other programs that use it, or "
                "use the CPU."
            ) from error
        raise DeviceError(
            f"The device {str(name)!r} is not available ({first_line(error) or type(error).__name__}). " + _available_text()
        ) from error
    return device


def _available_text() -> str:
    return f"Available: {', '.join([*map(str, available_devices()), *requestable_devices()])}."


def dtype_name(dtype: torch.dtype) -> str:
    """Return the key of `DTYPES`: `fp32`, `fp16` or `bf16`."""
    return next(name for name, known in DTYPES.items() if known == dtype)


def available_devices() -> list[torch.device]:
    """Return all devices, accelerators first and the CPU last.

    DirectML, OpenVINO and TensorRT are used only on request, see `requestable_devices`."""
    found = [torch.device("cuda", n) for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    xpu: Any = getattr(torch, "xpu", None)  # torch 2.3 and newer
    if xpu is not None and xpu.is_available():
        found += [torch.device("xpu", n) for n in range(xpu.device_count())]
    if torch.backends.mps.is_available():
        found.append(torch.device("mps"))
    return [*found, torch.device("cpu")]


def _runtime_device(name: str) -> torch.device:
    """Return torch's device beside ONNX Runtime, or torch-directml's. Raises `DeviceError` without the provider."""
    provider = requested_provider(name)
    if provider is not None:
        require_provider(provider)
        kind = DEVICE_TYPES.get(provider, "cpu")
        return next((one for one in available_devices() if one.type == kind), torch.device("cpu"))
    import torch_directml  # type: ignore[import-not-found, unused-ignore]

    device: torch.device = torch_directml.device()
    return device


def pick_dtype(name: str, device: torch.device, provider: str | None = None) -> torch.dtype:
    """Return the dtype for `fp32`, `fp16`, `bf16` or `auto`. `provider` is the requested one of ONNX Runtime.

    `auto` is float16 on CUDA and ROCm, bfloat16 on CPUs with hardware support, float32 elsewhere (docs/benchmarks.md).
    Raises `OptionsError` for an unknown precision, and `DeviceError` for one that the device does not support."""
    if name == "auto":
        if device.type == "cpu":
            return torch.bfloat16 if cpu_supports_bf16() else torch.float32
        return torch.float16 if device.type == "cuda" else torch.float32
    if name not in DTYPES:
        raise OptionsError(f"Unknown precision {name!r}. Available: auto, {', '.join(DTYPES)}.")
    dtype = DTYPES[name]
    if dtype == torch.float16 and device.type == "cpu":
        raise DeviceError("fp16 is not supported on the CPU. Use fp32 or bf16.")
    if dtype == torch.bfloat16 and provider == OPENVINO_PROVIDER and device.type == "cpu" and not cpu_supports_bf16():
        raise DeviceError("OpenVINO does not support bf16 on this CPU, which lacks AVX512-BF16 and AMX. Use fp32.")
    return dtype


def cpu_supports_bf16(cpuinfo: Path = CPUINFO) -> bool:
    """Whether this x86 CPU multiplies bfloat16 in hardware (AVX512-BF16 or AMX).

    Others emulate it, up to 80 times slower."""
    return has_any(BF16, cpuinfo)


def check_memory(**limits: float | None) -> None:
    """Raise `OptionsError` for a limit of memory that is not a number of bytes. None is no limit."""
    for name, limit in limits.items():
        if limit is not None:
            check_range(name, limit, 0)


def pixel_memory_budget(requested: int | None = None) -> int | None:
    """Return the memory budget for the pixels of images and videos in bytes.

    It is `requested` if given, else a share of the machine's memory, or None if that is unknown."""
    if requested:
        return requested
    host = host_memory()
    return None if host is None else int(host * HOST_MEMORY_FRACTION)


class ForkGuard:
    """Detects forked processes. torch's threads do not survive a fork, so computations in the child would hang."""

    has_computed = False
    """Whether this process has used a network."""
    is_forked = False
    """Whether this process was forked from one that had used a network."""

    @classmethod
    def after_fork(cls) -> None:
        cls.is_forked = cls.is_forked or cls.has_computed

    @classmethod
    def check(cls) -> None:
        """Raise `DeviceError` in a forked process that would hang."""
        if cls.is_forked:
            raise DeviceError(
                "This process was forked after networks were loaded, so torch's threads are missing and it would hang. "
                'Start processes with multiprocessing.get_context("spawn"), or fork before loading.'
            )
        cls.has_computed = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=ForkGuard.after_fork)


@dataclass(frozen=True)
class BatchPlan:
    """The number of faces per batch, and the limit in bytes for features between two layers (None: no strips)."""

    batch_size: int
    strip_bytes: int | None


def plan_batches(config: GPENConfig, dtype: torch.dtype, device: torch.device, max_memory: int | None = None) -> BatchPlan:
    """Choose batch size and strips for `max_memory` bytes and the free memory of the device.

    Raises `OutOfMemory` if one face needs more than `max_memory`."""
    required = min_bytes(config, dtype)
    if max_memory is not None and max_memory < required:
        raise OutOfMemory(
            f"One face at {config.size}x{config.size} needs about {memory_text(required)} without the weights, but "
            f"the budget is {memory_text(max_memory)}. Increase it, or use a smaller model."
        )
    if device.type == "cpu":
        return BatchPlan(1, CACHE_STRIP_BYTES)  # batches are not faster, because one face uses all cores
    allowed = memory_budget(device, max_memory)
    if allowed is None:
        return BatchPlan(1, None)
    batch = allowed // bytes_per_face(config, dtype)
    return BatchPlan(min(MAX_BATCH_SIZE, batch), None) if batch else BatchPlan(1, CACHE_STRIP_BYTES)


def memory_budget(device: torch.device, max_memory: int | None) -> int | None:
    """Return the memory budget for activations in bytes, or None if unknown.

    It is the smaller of `max_memory` and the free memory of CUDA or XPU."""
    budgets = [] if max_memory is None else [max_memory]
    if device.type in ("cuda", "xpu"):
        backend: Any = getattr(torch, device.type)
        if hasattr(backend, "mem_get_info"):  # for xpu in torch 2.7 and newer
            # Memory that torch has cached and will reuse.
            cached = backend.memory_reserved(device) - backend.memory_allocated(device)
            budgets.append(int((backend.mem_get_info(device)[0] + cached) * FREE_MEMORY_FRACTION))
    return min(budgets, default=None)


def run_with_oom_backoff(
    items: Sequence[Item],
    batch_size: int,
    run: Callable[[Sequence[Item]], Out],
    noun: str = "face",
    advice: str = SMALLER_MODEL_HINT,
) -> Iterator[tuple[Sequence[Item], Out]]:
    """Run `items` in batches, and halve the batch size each time memory runs out.

    Raises `OutOfMemory` if a single item does not fit. `advice` tells the user how to need less memory."""
    done = 0
    while done < len(items):
        chunk = items[done : done + batch_size]
        try:
            out = run(chunk)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            if len(chunk) == 1:
                raise _single_item_error(noun, advice, error) from error
            batch_size = len(chunk) // 2
            log.warning("Out of memory with a batch of %d %ss; continuing with %d.", len(chunk), noun, batch_size)
            continue
        yield chunk, out
        del out  # free the outputs, which may be on the device, before the next batch
        done += len(chunk)


def single_item_context(noun: str, advice: str = SMALLER_MODEL_HINT) -> ErrorConverter:
    """Convert errors in the block that mean that memory ran out, as `run_with_oom_backoff` does for a single item."""
    return ErrorConverter(lambda error: _single_item_error(noun, advice, error) if is_out_of_memory(error) else None)


def _single_item_error(noun: str, advice: str, error: Exception) -> OutOfMemory:
    return OutOfMemory(
        f"There is not enough memory for a single {noun} ({first_line(error) or type(error).__name__}). "
        f"Close other programs, {advice}, or use the CPU."
    )
