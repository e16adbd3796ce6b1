"""Hand-made networks that enlarge: one that repeats each pixel exactly, and random ones."""

import torch

from gpen_core.pipeline.rrdb import RRDBLayout


def nearest_weights(shuffle=1, blocks=1):
    """Repeats each pixel, or with `shuffle` the mean of a square of so many a side, until 4 come from 1: the first layer
    gives three features their colors, the dense blocks add nothing, and all other layers pass the three on."""
    sd = {name: torch.zeros(shape) for name, shape in RRDBLayout(3, blocks, shuffle).parameter_shapes().items()}
    square = shuffle**2
    for channel in range(3):
        sd["conv_first.weight"][channel, channel * square : (channel + 1) * square, 1, 1] = 1 / square
        for name in ("conv_up1", "conv_up2", "conv_hr", "conv_last"):
            sd[f"{name}.weight"][channel, channel, 1, 1] = 1
    return sd


def random_weights(features=8, blocks=1, shuffle=1, gain=0.3, seed=7):
    """Of a deviation that keeps features as large as they are, but for the dense blocks: `gain` times that. What comes out
    is gray with little contrast."""
    generator = torch.Generator().manual_seed(seed)
    sd = {}
    for name, shape in RRDBLayout(features, blocks, shuffle).parameter_shapes().items():
        sd[name] = torch.zeros(shape)
        if name.endswith(".weight"):
            sd[name] = torch.randn(shape, generator=generator) * (2 / (9 * shape[1])) ** 0.5
            sd[name] *= gain if "rdb" in name else 0.3 if "last" in name else 1
    sd["conv_last.bias"] += 0.5
    return sd
