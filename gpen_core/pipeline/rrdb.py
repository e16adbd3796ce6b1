"""RRDBNet (Wang et al., "ESRGAN", ECCV workshops 2018, section 3.1): its layout, and building it with other packages.

For scales below 4, a pixel unshuffle precedes the network (Wang et al., "Real-ESRGAN", ICCV workshops 2021, figure 4).
spandrel builds the network if it is installed, else basicsr. Both get tensors that were loaded and validated here.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from ..errors import MissingDependency, WeightsError, first_line
from ..network import normalize_state_dict, validate_tensors
from ..network.module_loading import build_from_state_dict
from ..optional_packages import install_command, version_guard
from ..progress import pluralize
from ..weights.catalog import Entry

UNSHUFFLE_FACTORS = {3: 1, 12: 2, 48: 4}  # channels of the first layer -> pixel unshuffle factor
GROWTH_CHANNELS = 32  # channels that each layer of a dense block adds, the same in all released networks


@dataclass(frozen=True)
class RRDBLayout:
    """The numbers that define an RRDBNet for RGB images."""

    features: int
    blocks: int
    unshuffle: int
    """Pixel unshuffle factor: squares with this side in pixels become channels before the first layer."""

    @property
    def scale(self) -> int:
        """The upscaling factor of the network."""
        return 4 // self.unshuffle

    @property
    def elements_per_pixel(self) -> int:
        """Peak number of activation values per input pixel, measured at the last layers (benchmarks/upscale.py)."""
        return 64 * self.features // self.unshuffle**2

    @classmethod
    def from_state_dict(cls, state_dict: Mapping[str, torch.Tensor]) -> RRDBLayout:
        """Derive the layout from an unwrapped state dict. Raises `WeightsError` for another architecture."""
        first = state_dict.get("conv_first.weight")
        blocks = sum(re.fullmatch(r"body\.\d+\.rdb1\.conv1\.weight", key) is not None for key in state_dict)
        shuffle = UNSHUFFLE_FACTORS.get(first.shape[1]) if first is not None and first.ndim == 4 else None
        if first is None or shuffle is None or not blocks:
            some = ", ".join(list(state_dict)[:3]) or "none"
            raise WeightsError(
                "These weights are not an RRDBNet for RGB images: conv_first.weight (3, 12 or 48 channels) or "
                "body.0.rdb1.conv1.weight was not found among "
                f"{pluralize(len(state_dict), 'tensor')} ({some}, ...). "
                "Use realesrnet_x2, realesrnet_x4 or a file of that architecture, such as RealESRGAN_x4plus.pth."
            )
        return cls(int(first.shape[0]), blocks, shuffle)

    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Every key of the released state dicts and its shape."""
        wide = self.features
        layers = {"conv_first": (3 * self.unshuffle**2, wide), "conv_last": (wide, 3)}
        layers |= dict.fromkeys(("conv_body", "conv_up1", "conv_up2", "conv_hr"), (wide, wide))
        for block in range(self.blocks):
            for dense in (1, 2, 3):
                for n in range(1, 6):
                    out = wide if n == 5 else GROWTH_CHANNELS
                    layers[f"body.{block}.rdb{dense}.conv{n}"] = (wide + (n - 1) * GROWTH_CHANNELS, out)
        weights = {f"{name}.weight": (out, into, 3, 3) for name, (into, out) in layers.items()}
        return {**weights, **{f"{name}.bias": (out,) for name, (_, out) in layers.items()}}


def validate_state_dict(content: object, entry: Entry | None = None) -> tuple[dict[str, torch.Tensor], RRDBLayout]:
    """Return the unwrapped and validated state dict of an RRDBNet, and its layout.

    Raises `WeightsError` with the first five invalid tensors, or if its scale differs from that of the catalog entry."""
    state_dict = normalize_state_dict(content)
    layout = RRDBLayout.from_state_dict(state_dict)
    validate_tensors(
        state_dict, layout.parameter_shapes(), f"an RRDBNet with {layout.features} features and {layout.blocks} blocks"
    )
    if entry is not None and entry.scale is not None and entry.scale != layout.scale:
        raise WeightsError(
            f"These weights upscale {layout.scale}x, but the file name is that of {entry.scale}x weights. "
            "Rename the file, or delete it and download it again."
        )
    return state_dict, layout


@version_guard("spandrel")
def load_with_spandrel(state_dict: Mapping[str, torch.Tensor], layout: RRDBLayout) -> nn.Module:
    """Build the network with spandrel. Raises `ImportError` if it is not installed."""
    from spandrel.architectures.ESRGAN import ESRGANArch

    with torch.random.fork_rng(devices=[]):  # building it draws random numbers; keep the host's random state
        network: nn.Module = ESRGANArch().load({key: value.float() for key, value in state_dict.items()}).model
    return network.eval().requires_grad_(False)


def load_with_basicsr(state_dict: Mapping[str, torch.Tensor], layout: RRDBLayout) -> nn.Module:
    """Build the network with basicsr. Raises `ImportError` if it is not installed.

    basicsr 1.4.2 imports a module that torchvision 0.17 removed, for a function that is not needed here. A stub replaces
    that module during the import."""
    dropped = "torchvision.transforms.functional_tensor"
    stand_in = types.ModuleType(dropped)
    stand_in.rgb_to_grayscale = None  # type: ignore[attr-defined]
    was_there = dropped in sys.modules or importlib.util.find_spec(dropped) is not None
    if not was_there:
        sys.modules[dropped] = stand_in
    try:
        RRDBNet = importlib.import_module("basicsr.archs.rrdbnet_arch").RRDBNet
    finally:
        if not was_there:
            del sys.modules[dropped]
    kinds = {"num_feat": layout.features, "num_block": layout.blocks, "num_grow_ch": GROWTH_CHANNELS, "scale": layout.scale}
    return build_from_state_dict(lambda: RRDBNet(3, 3, **kinds), state_dict, "basicsr's RRDBNet")


LOADERS: dict[str, Callable[[Mapping[str, torch.Tensor], RRDBLayout], nn.Module]] = {
    "spandrel": load_with_spandrel,
    "basicsr": load_with_basicsr,
}
"""Keyed by package. The first installed package is used."""


def require_backend() -> None:
    """Raise `MissingDependency` if neither package is installed. Call it before downloading weights."""
    if not any(importlib.util.find_spec(name) for name in LOADERS):
        raise MissingDependency(
            "Upscaling with a network requires the package spandrel or basicsr, and neither is installed. "
            f"Install spandrel ({install_command('spandrel')}), or use the upscaler lanczos."
        )


def load_rrdbnet(state_dict: Mapping[str, torch.Tensor], layout: RRDBLayout) -> nn.Module:
    """Build the network in float32 with the first package that can be imported. Raises `MissingDependency` if none can."""
    require_backend()
    failed = []
    for name, loader in LOADERS.items():
        if importlib.util.find_spec(name) is None:
            continue
        try:
            return loader(state_dict, layout)
        except ImportError as error:
            failed.append(f"{name} ({first_line(error)})")
    raise MissingDependency(
        f"Upscaling with a network requires spandrel or basicsr, but importing failed: {', '.join(failed)}. "
        f"Update spandrel ({install_command('spandrel', '--upgrade')}), or use the upscaler lanczos."
    )
