"""Deterministic GPEN checkpoints with the released layout, made from a seed (numpy only).

`random_state_dict(size, seed)` fills every tensor of data/layout.json from PCG64, key by key.
`sharpen_state_dict(size, gain)` is built by hand: the network then returns `x + gain * (x - up(down(x)))`, so what comes
out is known in closed form (gain 0 is the identity).
"""

import json
import math
import pathlib

import numpy as np

DATA = pathlib.Path(__file__).resolve().parent / "data"
BLUR = np.outer([1.0, 3.0, 3.0, 1.0], [1.0, 3.0, 3.0, 1.0]) / 64.0


def layout(size):
    return json.loads((DATA / "layout.json").read_text())[str(size)]


def kernel_of(key):
    """The fixed FIR buffers: gain 4 where the layer upsamples, 1 where it downsamples."""
    return (BLUR * (1.0 if key.startswith("ecd") else 4.0)).astype(np.float32)


def random_state_dict(size, seed):
    out = {}
    for index, (key, shape) in enumerate(sorted(layout(size).items())):
        if key.endswith("kernel"):
            out[key] = kernel_of(key)
            continue
        n = np.random.Generator(np.random.PCG64([seed, index])).standard_normal(shape, dtype=np.float32)
        if key.endswith("modulation.bias"):
            n = 1 + 0.1 * n
        elif key.endswith("noise.weight"):
            n = 0.5 + 0.2 * n
        elif key.startswith("generator.style."):
            n = 100 * n if key.endswith("weight") else 10 * n
        elif key.endswith("bias"):
            n = 0.1 * n
        out[key] = n.astype(np.float32)
    return out


def random_input(size, seed):
    """[1, 3, size, size] float32 in [-1, 1)."""
    g = np.random.Generator(np.random.PCG64([seed, 10**6]))
    return (g.random((1, 3, size, size), dtype=np.float32) * 2 - 1).astype(np.float32)


def sharpen_state_dict(size, gain=0.0):
    """Released layout whose output is x + gain * (x - up(down(x))) for x in [-1, 1].

    Carries RGB in the first three channels of ecd0 and ecd1, shifted by +2 so that every leaky ReLU
    stays on its linear side; the last two to_rgb layers read them back.
    """
    sd = {}
    for key, shape in layout(size).items():
        sd[key] = kernel_of(key) if key.endswith("kernel") else np.zeros(shape, np.float32)
        if key.endswith("modulation.bias"):
            sd[key] += 1.0
    r2 = math.sqrt(2.0)
    top = int(math.log2(size)) - 3  # index of the last to_rgbs
    # ecd0: 1x1 conv, scale 1/sqrt(3), then r2 * lrelu(. + b)  ->  f0 = r2 * (x + 2)
    for c in range(3):
        sd["ecd0.0.0.weight"][c, c, 0, 0] = math.sqrt(3.0)
    sd["ecd0.0.1.bias"][:3] = 2.0
    # ecd1: blur, 3x3 stride 2 with a center tap  ->  f1 = r2 * (down(x) + 2); down(f0) = r2 * (down(x) + 2)
    w = sd["ecd1.0.1.weight"]
    for c in range(3):
        w[c, c, 1, 1] = math.sqrt(w.shape[1] * 9) / r2

    def read_back(rgb, conv, half, amount):
        """rgb += amount * x from the feature half of `conv`'s output."""
        sd[f"generator.convs.{conv}.noise.weight"][:] = 1.0
        weight = sd[f"generator.to_rgbs.{rgb}.conv.weight"]
        scale = 1 / math.sqrt(weight.shape[2])
        for c in range(3):
            weight[0, c, half + c, 0, 0] = amount / (2 * scale)  # feature is 2 * (x + 2)
        sd[f"generator.to_rgbs.{rgb}.bias"][:] = -2.0 * amount

    width = {
        int(k.split(".")[2]): s[1]
        for k, s in layout(size).items()
        if k.startswith("generator.convs.") and k.endswith("conv.weight")
    }
    read_back(top, 2 * top + 1, width[2 * top + 1], 1.0 + gain)
    read_back(top - 1, 2 * (top - 1) + 1, width[2 * (top - 1) + 1], -gain)
    return sd
