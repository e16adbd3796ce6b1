"""The network written plainly: one function per formula, no folding, no shortcuts.

It works on the released state dict as it is. `gpen_core.network` is measured against it and both against golden data.
Tensors are NCHW RGB in [-1, 1].
"""

import math

import torch
import torch.nn.functional as F

Weights = dict[str, torch.Tensor]


def fir_kernel(gain: float) -> torch.Tensor:
    row = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    return gain * torch.outer(row, row)  # [4, 4]


def fir(x: torch.Tensor, before: int, after: int, gain: float = 1.0) -> torch.Tensor:
    channels = x.shape[1]
    kernel = fir_kernel(gain).expand(channels, 1, 4, 4)
    return F.conv2d(F.pad(x, (before, after, before, after)), kernel, groups=channels)


def activate(x: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    shape = (1, -1) + (1,) * (x.ndim - 2)
    return math.sqrt(2) * F.leaky_relu(x + bias.view(shape), 0.2)


def equal_conv(x: torch.Tensor, weight: torch.Tensor, stride: int = 1, padding: int = 0) -> torch.Tensor:
    scale = 1 / math.sqrt(weight[0].numel())
    return F.conv2d(x, weight * scale, stride=stride, padding=padding)


def equal_linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, lr_mul: float = 1.0) -> torch.Tensor:
    return F.linear(x, weight * lr_mul / math.sqrt(weight.shape[1]), bias * lr_mul)


def encode(sd: Weights, x: torch.Tensor) -> list[torch.Tensor]:
    """Every level's output, the full size first."""
    levels = [activate(equal_conv(x, sd["ecd0.0.0.weight"]), sd["ecd0.0.1.bias"])]
    n = 1
    while f"ecd{n}.0.1.weight" in sd:
        blurred = fir(levels[-1], 2, 2)
        levels.append(activate(equal_conv(blurred, sd[f"ecd{n}.0.1.weight"], stride=2), sd[f"ecd{n}.0.2.bias"]))
        n += 1
    return levels


def style_of(sd: Weights, smallest: torch.Tensor) -> torch.Tensor:
    latent = F.linear(smallest.flatten(1), sd["final_linear.0.weight"] / math.sqrt(smallest[0].numel()))
    latent = activate(latent, sd["final_linear.0.bias"])
    w = latent * torch.rsqrt(latent.square().mean(1, keepdim=True) + 1e-8)
    for layer in range(1, 9):
        weight, bias = sd[f"generator.style.{layer}.weight"], sd[f"generator.style.{layer}.bias"]
        w = math.sqrt(2) * F.leaky_relu(equal_linear(w, weight, bias, lr_mul=0.01), 0.2)
    return w


def modulated_weight(sd: Weights, key: str, w: torch.Tensor, demodulate: bool) -> torch.Tensor:
    """[B, out, in, k, k]"""
    style = equal_linear(w, sd[f"{key}.modulation.weight"], sd[f"{key}.modulation.bias"])
    base = sd[f"{key}.weight"]  # [1, out, in, k, k]
    weight = base * style[:, None, :, None, None] / math.sqrt(base[0, 0].numel())
    if demodulate:
        weight = weight * torch.rsqrt(weight.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    return weight


def each(convolve, x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.cat([convolve(one[None], weight) for one, weight in zip(x, weights)])


def styled_conv(sd: Weights, key: str, x: torch.Tensor, level: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    weight = modulated_weight(sd, f"{key}.conv", w, demodulate=True)
    if level.shape[-1] == 2 * x.shape[-1]:
        x = each(lambda one, k: F.conv_transpose2d(one, k.transpose(0, 1), stride=2), x, weight)
        x = fir(x, 1, 1, gain=4)
    else:
        x = each(lambda one, k: F.conv2d(one, k, padding=1), x, weight)
    x = torch.cat((x, level * sd[f"{key}.noise.weight"]), dim=1)
    return activate(x, sd[f"{key}.activate.bias"])


def upsample_rgb(rgb: torch.Tensor) -> torch.Tensor:
    batch, channels, height, width = rgb.shape
    spread = rgb.new_zeros(batch, channels, height, 2, width, 2)
    spread[:, :, :, 0, :, 0] = rgb
    return fir(spread.view(batch, channels, 2 * height, 2 * width), 2, 1, gain=4)


def to_rgb(sd: Weights, key: str, x: torch.Tensor, w: torch.Tensor, rgb: torch.Tensor | None) -> torch.Tensor:
    weight = modulated_weight(sd, f"{key}.conv", w, demodulate=False)
    out = each(F.conv2d, x, weight) + sd[f"{key}.bias"]
    return out if rgb is None else out + upsample_rgb(rgb)


@torch.no_grad()
def reference_gpen(sd: Weights, x: torch.Tensor) -> torch.Tensor:
    """[B, 3, S, S] in [-1, 1] -> the same shape."""
    levels = encode(sd, x)
    w = style_of(sd, levels[-1])
    h = sd["generator.input.input"].expand(len(x), -1, -1, -1)
    h = styled_conv(sd, "generator.conv1", h, levels.pop(), w)
    rgb = to_rgb(sd, "generator.to_rgb1", h, w, None)
    for i in range(len(levels)):
        level = levels.pop()
        h = styled_conv(sd, f"generator.convs.{2 * i}", h, level, w)
        h = styled_conv(sd, f"generator.convs.{2 * i + 1}", h, level, w)
        rgb = to_rgb(sd, f"generator.to_rgbs.{i}", h, w, rgb)
    return rgb
