"""One GPEN network as it runs, and several of them, of which each face takes the one that suits its size."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import MissingWeights, OptionsError, OutOfMemory, is_out_of_memory
from ..network import GPEN, RELEASED_SIZES
from ..network.memory_estimate import CACHE_STRIP
from ..options import AUTO
from ..progress import Progress, StageTimer
from .devices import Plan, halving, plan
from .lazy import Lazy

FloatImage = NDArray[np.float32]
Item = TypeVar("Item")
Crop = TypeVar("Crop", FloatImage, torch.Tensor)
"""[S, S, 3] RGB in [0, 1], or the same on the network's device as [3, S, S]"""

log = logging.getLogger(__name__)

FLOOR = 512
"""Whether 256 serves real faces as well was never seen with trained weights."""


@dataclass(frozen=True, eq=False)
class Output(Generic[Item, Crop]):
    """What the network made of one crop."""

    item: Item
    crop: Crop
    """As it went in."""
    restored: Crop | None
    """What came out, as a crop; None where that was not finite."""
    note: str | None = None
    """What was out of the ordinary."""


class LoadedNetwork:
    """One GPEN network on its device, its twin in float32 where a face needs it, and whether it runs in strips only."""

    def __init__(self, network: GPEN, device: torch.device, load_exact: Callable[[], GPEN] | None = None) -> None:
        """`load_exact` gives the network in float32, for faces whose output in half precision is not finite."""
        self.network = network
        self.device = device
        self._exact = None if load_exact is None else Lazy(partial(_twin, load_exact, device))
        self._needs_strips = False

    def plan(self, max_memory: int | None) -> Plan:
        """See `devices.plan`; one face in strips where one was too many before."""
        chosen = plan(self.network.config, self.network.dtype, self.device, max_memory)
        return Plan(1, CACHE_STRIP) if self._needs_strips else chosen

    def restored(self, crops: Sequence[Crop], strip_bytes: int | None, pulse: Callable[[], None]) -> list[Crop | None]:
        """Crops -> what the network makes of each, in [0, 1]; None where any of it is not finite. Memory as for `run`."""
        y = self.run(_together(crops, self.device).mul_(2).sub_(1), strip_bytes, pulse)
        is_finite = y.isfinite().flatten(1).all(1).tolist()
        y = y.mul_(0.5).add_(0.5).clamp_(0, 1)
        outputs: Sequence[Any]
        if isinstance(crops[0], torch.Tensor):
            outputs = y.contiguous().unbind()
        else:
            outputs = list(y.permute(0, 2, 3, 1).contiguous().cpu().numpy())  # BCHW -> BHWC
        return [output if ok else None for output, ok in zip(outputs, is_finite)]

    def outputs(
        self,
        items: Sequence[Item],
        crop_of: Callable[[Item], Crop],
        watch: StageTimer,
        max_memory: int | None = None,
        pulse: Callable[[], None] = lambda: None,
    ) -> Iterator[Output[Item, Crop]]:
        """The crops of `items` through the network in batches, in order. What is not finite in half precision is redone in
        float32. `pulse` is called within a face, too.

        Raises `OutOfMemory` where not even one fits, or less than that is allowed by `max_memory` (bytes)."""
        chosen = self.plan(max_memory)

        def run(chunk: Sequence[Item]) -> tuple[list[Crop], list[Crop | None]]:
            with watch.stage("align"):
                crops = [crop_of(item) for item in chunk]
            with watch.stage("network"):
                return crops, self.restored(crops, chosen.strip_bytes, pulse)

        for chunk, (crops, restored) in halving(items, chosen.batch, run):
            for item, crop, output in zip(chunk, crops, restored):
                if output is not None:
                    yield Output(item, crop, output)
                else:
                    with watch.stage("network"):
                        yield self._redone(item, crop, chosen.strip_bytes, pulse)
            del crops, crop, restored, output  # see `halving`

    def _redone(self, item: Item, crop: Crop, strip_bytes: int | None, pulse: Callable[[], None]) -> Output[Item, Crop]:
        """Once more in float32; nothing where there is no such network, or where that is not finite either."""

        def run(crops: Sequence[Crop]) -> Crop | None:
            exact = self.exact()
            return None if exact is None else exact.restored(crops, strip_bytes, pulse)[0]

        ((_, output),) = halving([crop], 1, run, "face in float32")
        dtype = str(self.network.dtype).removeprefix("torch.")
        if output is None:
            return Output(item, crop, None, f"the network's output is not finite in {dtype}")
        return Output(item, crop, output, f"redone in float32: not finite in {dtype}")

    def run(self, x: torch.Tensor, strip_bytes: int | None, pulse: Callable[[], None]) -> torch.Tensor:
        """The network's output. Where one sample's features do not fit the device's memory, they are computed in strips
        from then on. Raises torch's own error where that does not fit either; see `devices.halving`."""
        strip_bytes = CACHE_STRIP if self._needs_strips else strip_bytes
        forward: Callable[..., torch.Tensor] = self.network
        try:
            return forward(x, pulse, strip_bytes)
        except Exception as error:
            if len(x) > 1 or strip_bytes is not None or not is_out_of_memory(error):
                raise
        log.warning("Out of memory with one face; going on in strips.")
        self._needs_strips = True
        return forward(x, pulse, CACHE_STRIP)

    def exact(self) -> LoadedNetwork | None:
        """Its twin in float32, loaded when first asked for; None where there is none or it is in float32 itself."""
        if self._exact is None or self.network.dtype == torch.float32:
            return None
        return self._exact.get()

    def networks(self) -> tuple[GPEN, ...]:
        exact = None if self._exact is None else self._exact.loaded
        return (self.network,) if exact is None else (self.network, *exact.networks())


def _twin(load_exact: Callable[[], GPEN], device: torch.device, progress: Progress) -> LoadedNetwork:
    return LoadedNetwork(load_exact().to(device), device)


def _together(crops: Sequence[Any], device: torch.device) -> torch.Tensor:
    """[B, 3, S, S] on the device, in memory of its own."""
    if isinstance(crops[0], torch.Tensor):
        return torch.stack(list(crops))
    return torch.from_numpy(np.stack(crops)).to(device).permute(0, 3, 1, 2)  # BHWC -> BCHW


def sizes_of(model: str) -> tuple[int, ...]:
    """The sizes that `auto` may choose among, `auto:256` from that one on; none for any other name.

    Raises `OptionsError` for a size that was never released."""
    name, colon, floor = model.lower().partition(":")
    if name != AUTO:
        return ()
    if floor not in map(str, RELEASED_SIZES) and (colon or floor):
        raise OptionsError(f"model is {model!r}; expected auto, or auto: and one of {', '.join(map(str, RELEASED_SIZES))}.")
    return tuple(size for size in RELEASED_SIZES if size >= int(floor or FLOOR))


def choose_size(side: float, sizes: Sequence[int]) -> int:
    """The smallest of `sizes` that is at least `side`, else the largest."""
    return min((size for size in sizes if size >= side), default=max(sizes))


class BySize:
    """Networks of several sizes: each is loaded when a face first needs it, and kept while memory allows."""

    def __init__(self, sizes: Sequence[int], dtype: torch.dtype, load: Callable[[int, Progress], LoadedNetwork]) -> None:
        """`load` raises `MissingWeights` for one that is not there and cannot be fetched: it is not asked for again."""
        self.sizes = tuple(sizes)
        self.dtype = dtype
        self.when_dropped: Callable[[Sequence[torch.nn.Module]], None] = _ignore
        """Called with the networks that are dropped; see `FaceRestorer.when_dropped`."""
        self._networks = {size: Lazy(partial(load, size)) for size in sorted(sizes)}
        self._missing: dict[int, MissingWeights] = {}

    @property
    def loaded(self) -> tuple[LoadedNetwork, ...]:
        return tuple(one for lazy in self._networks.values() if (one := lazy.loaded) is not None)

    def for_side(self, side: float, progress: Progress) -> LoadedNetwork:
        """That for a face whose square is `side` pixels wide; where its file cannot be had, the next larger one, else the
        next smaller. Raises `MissingWeights` where none can be had, `OutOfMemory` where it does not fit even alone."""
        while True:
            left = [size for size in self.sizes if size not in self._missing]
            if not left:
                raise self._missing[choose_size(side, self.sizes)]
            size = choose_size(side, left)
            try:
                return self._one(size, progress)
            except MissingWeights as error:
                self._missing[size] = error
                log.warning("GPEN-%d cannot be had; another size is taken: %s", size, error)

    def drop(self, but: int | None = None) -> bool:
        """Forget the networks, except that of the size `but`; they are loaded again when needed. Whether there were any."""
        dropped = [one for size, lazy in self._networks.items() if size != but and (one := lazy.take()) is not None]
        self.when_dropped([network for one in dropped for network in one.networks()])
        return bool(dropped)

    def _one(self, size: int, progress: Progress) -> LoadedNetwork:
        was_alone = not self.loaded
        try:
            return self._networks[size].get(progress)
        except OutOfMemory:
            if was_alone and not self.loaded:
                raise
        # Not in the except block: until it ends, the error keeps what was loaded of this network.
        log.warning("No memory for GPEN-%d beside the other networks; they are let go.", size)
        self.drop(but=size)
        return self._networks[size].get(progress)


def _ignore(dropped: Sequence[torch.nn.Module]) -> None:
    pass
