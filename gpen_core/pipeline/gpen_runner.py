"""Runs a GPEN network on batches of faces, and selects a network for each face by its size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from os import fspath
from typing import Any, Generic, TypeVar

import numpy as np
import torch

from ..errors import MissingWeights, OptionsError, OutOfMemory, is_out_of_memory
from ..files.path_checks import AnyPath
from ..images.image import LUMA, FloatImage
from ..network import GPEN, RELEASED_SIZES, OnnxNetwork
from ..network.memory_estimate import CACHE_STRIP_BYTES
from ..options import AUTO
from ..progress import Progress, StageTimer
from ..weights.catalog import COLORIZE, RESTORE
from ..weights.digest import WeightsOrigin
from .devices import BatchPlan, plan_batches, run_with_oom_backoff, single_item_context
from .lazy import Lazy

Network = GPEN | OnnxNetwork
Item = TypeVar("Item")
Crop = TypeVar("Crop", FloatImage, torch.Tensor)
"""[S, S, 3] RGB in [0, 1] as an array, or [3, S, S] as a tensor on the network's device."""

log = logging.getLogger(__name__)

MIN_AUTO_SIZE = 512
"""The smallest size that `auto` uses. The quality of 256 was never evaluated with trained weights."""


@dataclass(frozen=True, eq=False)
class FaceOutput(Generic[Item, Crop]):
    """The network's output for one crop."""

    item: Item
    crop: Crop
    """The input."""
    restored: Crop | None
    """The output, or None if it has non-finite values."""
    note: str | None = None
    """A remark for the report, e.g. that float32 was used instead."""


class GPENRunner:
    """Runs one GPEN network on its device, with a float32 fallback and, after out-of-memory errors, in strips."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        load_fp32: Callable[[], Network] | None = None,
        origin: WeightsOrigin | None = None,
        operation: str = RESTORE,
    ) -> None:
        """`load_fp32` returns the network in float32, for faces whose output in half precision is not finite.

        `origin` is the file of its weights. `operation` is what the network does to a face, see `Entry.operation`."""
        self.network = network
        self.device = device
        self.origin = origin
        self.operation = operation
        self._fp32_fallback = None if load_fp32 is None else Lazy(partial(_load_fp32_runner, load_fp32, device, operation))
        self._needs_strips = False

    @property
    def weights(self) -> dict[str, str]:
        """For reports: the `file` of the weights and its `sha256`, and the `engine`: torch or a provider of ONNX Runtime."""
        engine = self.network.provider if isinstance(self.network, OnnxNetwork) else "torch"
        return {**({} if self.origin is None else vars(self.origin)), "engine": engine}

    def plan_batches(self, max_memory: int | None) -> BatchPlan:
        """Like `devices.plan_batches`, but one face in strips if memory has run out before."""
        batch_plan = plan_batches(self.network.config, self.network.dtype, self.device, max_memory)
        return BatchPlan(1, CACHE_STRIP_BYTES) if self._needs_strips else batch_plan

    def restore(self, crops: Sequence[Crop], strip_bytes: int | None, on_tick: Callable[[], None]) -> list[Crop | None]:
        """Restore crops. Returns crops in [0, 1], or None for those with non-finite values. Out of memory: see `run`.

        A network that colors faces gets the crops in gray."""
        x = _stack(crops, self.device)
        x = _to_gray(x) if self.operation == COLORIZE else x
        y = self.run(x.mul_(2).sub_(1), strip_bytes, on_tick)
        is_finite = y.isfinite().flatten(1).all(1).tolist()
        y = y.mul_(0.5).add_(0.5).clamp_(0, 1)
        outputs: Sequence[Any]
        if isinstance(crops[0], torch.Tensor):
            outputs = y.contiguous().unbind()
        else:
            outputs = list(y.permute(0, 2, 3, 1).contiguous().cpu().numpy())  # BCHW -> BHWC
        return [output if ok else None for output, ok in zip(outputs, is_finite)]

    def run_batches(
        self,
        items: Sequence[Item],
        get_crop: Callable[[Item], Crop],
        timer: StageTimer,
        max_memory: int | None = None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> Iterator[FaceOutput[Item, Crop]]:
        """Restore the crops of `items` in batches, in order. Non-finite outputs in half precision are recomputed in float32.

        `on_tick` is also called during a face. Raises `OutOfMemory` if a single face does not fit into the device's memory
        or into `max_memory` bytes."""
        batch_plan = self.plan_batches(max_memory)

        def run(chunk: Sequence[Item]) -> tuple[list[Crop], list[Crop | None]]:
            with timer.stage("align"):
                crops = [get_crop(item) for item in chunk]
            with timer.stage("network"):
                return crops, self.restore(crops, batch_plan.strip_bytes, on_tick)

        for chunk, (crops, restored) in run_with_oom_backoff(items, batch_plan.batch_size, run):
            for item, crop, output in zip(chunk, crops, restored):
                if output is not None:
                    yield FaceOutput(item, crop, output)
                else:
                    with timer.stage("network"):
                        yield self._redo_in_fp32(item, crop, batch_plan.strip_bytes, on_tick)
            del crops, crop, restored, output  # see `run_with_oom_backoff`

    def _redo_in_fp32(
        self, item: Item, crop: Crop, strip_bytes: int | None, on_tick: Callable[[], None]
    ) -> FaceOutput[Item, Crop]:
        """Recompute a crop in float32. `restored` is None if there is no such network or its output is not finite either."""
        with single_item_context("face in float32"):
            fallback = self.fp32_fallback()
            output = None if fallback is None else fallback.restore([crop], strip_bytes, on_tick)[0]
        dtype = str(self.network.dtype).removeprefix("torch.")
        if output is None:
            return FaceOutput(item, crop, None, f"the network's output is not finite in {dtype}")
        return FaceOutput(item, crop, output, f"restored in float32 because the {dtype} output was not finite")

    def run(self, x: torch.Tensor, strip_bytes: int | None, on_tick: Callable[[], None]) -> torch.Tensor:
        """Return the network's output. If one sample does not fit into the device's memory, this and later calls use strips.

        If that does not fit either, torch's error is raised; see `devices.run_with_oom_backoff`."""
        strip_bytes = CACHE_STRIP_BYTES if self._needs_strips else strip_bytes
        forward: Callable[..., torch.Tensor] = self.network
        try:
            return forward(x, on_tick, strip_bytes)
        except Exception as error:
            if len(x) > 1 or strip_bytes is not None or not self.network.has_strips or not is_out_of_memory(error):
                raise
        log.warning("Out of memory with one face; computing it in strips.")
        self._needs_strips = True
        return forward(x, on_tick, CACHE_STRIP_BYTES)

    def fp32_fallback(self) -> GPENRunner | None:
        """Return the runner in float32, loaded on first use. None if there is none or this network is already in float32."""
        if self._fp32_fallback is None or self.network.dtype == torch.float32:
            return None
        return self._fp32_fallback.get()

    def networks(self) -> tuple[Network, ...]:
        fallback = None if self._fp32_fallback is None else self._fp32_fallback.loaded_value
        return (self.network,) if fallback is None else (self.network, *fallback.networks())


def _load_fp32_runner(
    load_fp32: Callable[[], Network], device: torch.device, operation: str, progress: Progress
) -> GPENRunner:
    return GPENRunner(load_fp32().to(device), device, operation=operation)


def _stack(crops: Sequence[Any], device: torch.device) -> torch.Tensor:
    """Stack crops into a new tensor [B, 3, S, S] on the device."""
    if isinstance(crops[0], torch.Tensor):
        return torch.stack(list(crops))
    return torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2)  # BHWC -> BCHW


def _to_gray(x: torch.Tensor) -> torch.Tensor:
    """Convert RGB [B, 3, S, S] to its luminance in all three channels."""
    weights = torch.from_numpy(LUMA).to(x)[:, None, None]
    return (x * weights).sum(1, keepdim=True).repeat(1, 3, 1, 1)


def parse_auto_model(model: AnyPath) -> tuple[int, ...]:
    """Return the sizes that `auto` selects from. `auto:256` starts at 256. Empty for other names.

    Raises `OptionsError` for a size that is not a released one."""
    name, colon, min_size = fspath(model).lower().partition(":")
    if name != AUTO:
        return ()
    if min_size not in map(str, RELEASED_SIZES) and (colon or min_size):
        raise OptionsError(
            f"Unknown model {fspath(model)!r}. Use auto, or auto: with one of {', '.join(map(str, RELEASED_SIZES))}."
        )
    return tuple(size for size in RELEASED_SIZES if size >= int(min_size or MIN_AUTO_SIZE))


def select_size(side: float, sizes: Sequence[int]) -> int:
    """Return the smallest of `sizes` that is at least `side`, else the largest."""
    return min((size for size in sizes if size >= side), default=max(sizes))


class SizeSelector:
    """Networks of several sizes. Each is loaded on first use and kept while there is enough memory."""

    def __init__(
        self,
        sizes: Sequence[int],
        dtype: torch.dtype,
        load: Callable[[int, Progress], GPENRunner],
        present: Collection[int] | None = None,
    ) -> None:
        """Select from those `sizes` that are `present` (default: all), or use only the largest if none is.

        `load` raises `MissingWeights` for a size that is missing and cannot be downloaded. It is not called again for that
        size."""
        chosen = tuple(size for size in sorted(sizes) if present is None or size in present)
        self.sizes = chosen or (max(sizes),)
        self._suitable_sizes = tuple(sizes)
        self._downloads_largest = not chosen
        self.dtype = dtype
        self.on_unload: Callable[[Sequence[torch.nn.Module]], None] = _ignore_unload
        """Called with the unloaded networks; see `FaceRestorer.set_unload_callback`."""
        self._runners = {size: Lazy(partial(load, size)) for size in self.sizes}
        self._missing: dict[int, MissingWeights] = {}

    @property
    def loaded_runners(self) -> tuple[GPENRunner, ...]:
        return tuple(one for lazy in self._runners.values() if (one := lazy.loaded_value) is not None)

    def for_face_size(self, side: float, progress: Progress) -> GPENRunner:
        """Return the runner for a face whose square is `side` pixels wide.

        If its file is not available, the next larger size is used, else the next smaller one. Raises `MissingWeights` if no
        size is available, `OutOfMemory` if the network does not fit even alone."""
        while True:
            available = [size for size in self.sizes if size not in self._missing]
            if not available:
                raise self._missing[select_size(side, self.sizes)]
            size = select_size(side, available)
            try:
                return self._load_or_make_room(size, progress)
            except MissingWeights as error:
                self._missing[size] = error
                log.warning("GPEN-%d is not available; using another size: %s", size, error)

    def advise(self, side: float, size: int) -> str | None:
        """Return a hint if another network, whose file is missing, would suit a face better than the one of `size`.

        `side` is the width of the face's square in pixels."""
        better = select_size(side, self._suitable_sizes)
        if better > size:
            return f"GPEN-BFR-{better} would suit some faces better than GPEN-BFR-{size}, but its file is missing."
        if better < size and self._downloads_largest:
            return f"GPEN-BFR-{better} would restore these faces faster than GPEN-BFR-{size}, but its file is missing."
        return None

    def unload(self, except_size: int | None = None) -> bool:
        """Unload all networks except the one of `except_size`. They are loaded again on next use.

        Returns whether any network was unloaded."""
        unloaded = [one for size, lazy in self._runners.items() if size != except_size and (one := lazy.pop()) is not None]
        self.on_unload([network for one in unloaded for network in one.networks()])
        return bool(unloaded)

    def _load_or_make_room(self, size: int, progress: Progress) -> GPENRunner:
        was_empty = not self.loaded_runners
        try:
            return self._runners[size].get(progress)
        except OutOfMemory:
            if was_empty and not self.loaded_runners:
                raise
        # Outside the except block, because the error keeps the partly loaded network alive.
        log.warning("Not enough memory for GPEN-%d next to the other networks; unloading them.", size)
        self.unload(except_size=size)
        return self._runners[size].get(progress)


def _ignore_unload(unloaded: Sequence[torch.nn.Module]) -> None:
    pass
