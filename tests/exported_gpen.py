"""GPEN as a torch module of our own, with the released names and in the published form, to export it to ONNX.

In the published form the kernels are scaled at run time and a batch is one grouped convolution with a kernel per sample.
It computes what `reference_gpen` computes.
"""

import inspect
import itertools
import math
import warnings

import reference_gpen as twin
import torch
import torch.nn.functional as F
from torch import nn


def parameter(*shape):
    return nn.Parameter(torch.zeros(shape), requires_grad=False)


def sides(x):
    """As plain numbers, which an export holds as constants: a convolution's number of groups must be one."""
    return tuple(map(int, x.shape))


class Kernel(nn.Module):
    """The FIR filter, as a buffer."""

    def __init__(self, gain, before, after):
        super().__init__()
        self.register_buffer("kernel", twin.fir_kernel(gain))
        self.pads = (before, after, before, after)

    def forward(self, x):
        batch, channels, height, width = sides(x)
        x = F.pad(x.reshape(-1, 1, height, width), self.pads)
        x = F.conv2d(x, torch.flip(self.kernel, (0, 1)).view(1, 1, 4, 4))
        return x.view(batch, channels, *sides(x)[2:])


class Upsample(Kernel):
    def forward(self, x):
        batch, channels, height, width = sides(x)
        x = F.pad(x.view(batch, channels, height, 1, width, 1), (0, 1, 0, 0, 0, 1))
        return super().forward(x.view(batch, channels, 2 * height, 2 * width))


class Bias(nn.Module):
    """A bias, then a leaky ReLU."""

    def __init__(self, channels):
        super().__init__()
        self.bias = parameter(channels)

    def forward(self, x):
        return F.leaky_relu(x + self.bias.view(1, -1, *[1] * (x.ndim - 2)), 0.2) * math.sqrt(2)


class Conv(nn.Module):
    def __init__(self, channels_in, channels_out, kernel, stride):
        super().__init__()
        self.weight = parameter(channels_out, channels_in, kernel, kernel)
        self.scale, self.stride = 1 / math.sqrt(channels_in * kernel**2), stride

    def forward(self, x):
        return F.conv2d(x, self.weight * self.scale, stride=self.stride)


class Linear(nn.Module):
    def __init__(self, inputs, outputs, lr_mul=1.0, activate=True):
        super().__init__()
        self.weight, self.bias = parameter(outputs, inputs), parameter(outputs)
        self.scale, self.lr_mul, self.activate = lr_mul / math.sqrt(inputs), lr_mul, activate

    def forward(self, x):
        if not self.activate:
            return F.linear(x, self.weight * self.scale, self.bias * self.lr_mul)
        out = F.linear(x, self.weight * self.scale) + (self.bias * self.lr_mul).view(1, -1)
        return F.leaky_relu(out, 0.2) * math.sqrt(2)


class Normalize(nn.Module):
    def forward(self, x):
        return x * torch.rsqrt(torch.mean(x**2, dim=1, keepdim=True) + 1e-8)


class ModulatedConv(nn.Module):
    def __init__(self, channels_in, channels_out, kernel, upsample=False, demodulate=True):
        super().__init__()
        self.weight = parameter(1, channels_out, channels_in, kernel, kernel)
        self.modulation = Linear(512, channels_in, activate=False)
        self.scale, self.demodulate = 1 / math.sqrt(channels_in * kernel**2), demodulate
        if upsample:
            self.blur = Kernel(4.0, 1, 1)

    def forward(self, x, w):
        batch, channels_in, height, width = sides(x)
        style = self.modulation(w).view(batch, 1, channels_in, 1, 1)
        weight = self.scale * self.weight * style
        if self.demodulate:
            weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(batch, -1, 1, 1, 1)
        _, channels_out, _, kernel, _ = sides(self.weight)
        x = x.reshape(1, batch * channels_in, height, width)
        if hasattr(self, "blur"):
            weight = weight.transpose(1, 2).reshape(batch * channels_in, channels_out, kernel, kernel)
            out = F.conv_transpose2d(x, weight, stride=2, groups=batch)
            return self.blur(out.view(batch, channels_out, *sides(out)[2:]))
        weight = weight.view(batch * channels_out, channels_in, kernel, kernel)
        out = F.conv2d(x, weight, padding=kernel // 2, groups=batch)
        return out.view(batch, channels_out, *sides(out)[2:])


class Noise(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = parameter(1)

    def forward(self, x, level):
        return torch.cat((x, self.weight * level), dim=1)


class StyledConv(nn.Module):
    def __init__(self, channels_in, channels_out, upsample=False):
        super().__init__()
        self.conv = ModulatedConv(channels_in, channels_out, 3, upsample)
        self.noise, self.activate = Noise(), Bias(2 * channels_out)

    def forward(self, x, level, w):
        return self.activate(self.noise(self.conv(x, w), level))


class ToRGB(nn.Module):
    def __init__(self, channels_in, upsample=True):
        super().__init__()
        if upsample:
            self.upsample = Upsample(4.0, 2, 1)
        self.conv = ModulatedConv(channels_in, 3, 1, demodulate=False)
        self.bias = parameter(1, 3, 1, 1)

    def forward(self, x, w, rgb=None):
        out = self.conv(x, w) + self.bias
        return out if rgb is None else out + self.upsample(rgb)


class Constant(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.input = parameter(1, channels, 4, 4)

    def forward(self, batch):
        return self.input.repeat(batch, 1, 1, 1)


class Generator(nn.Module):
    def __init__(self, config):
        super().__init__()
        widths = [config.channels(4 << n) for n in range(config.levels + 1)]
        self.style = nn.Sequential(Normalize(), *(Linear(512, 512, 0.01) for _ in range(8)))
        self.input = Constant(widths[0])
        self.conv1 = StyledConv(widths[0], widths[0])
        self.to_rgb1 = ToRGB(2 * widths[0], upsample=False)
        self.convs, self.to_rgbs = nn.ModuleList(), nn.ModuleList()
        for low, high in itertools.pairwise(widths):
            self.convs.extend((StyledConv(2 * low, high, upsample=True), StyledConv(2 * high, high)))
            self.to_rgbs.append(ToRGB(2 * high))

    def forward(self, latent, levels):
        w = self.style(latent)
        x = self.conv1(self.input(sides(latent)[0]), levels[0], w)
        rgb = self.to_rgb1(x, w)
        for n, to_rgb in enumerate(self.to_rgbs):
            x = self.convs[2 * n](x, levels[n + 1], w)
            x = self.convs[2 * n + 1](x, levels[n + 1], w)
            rgb = to_rgb(x, w, rgb)
        return rgb


class ExportedGPEN(nn.Module):
    """[B, 3, S, S] RGB in [-1, 1] -> the same shape."""

    def __init__(self, config, state_dict=None):
        super().__init__()
        widths = [config.channels(config.size >> n) for n in range(config.levels + 1)]
        self.ecd0 = nn.Sequential(nn.Sequential(Conv(3, widths[0], 1, 1), Bias(widths[0])))
        for n in range(1, config.levels + 1):
            block = nn.Sequential(Kernel(1.0, 2, 2), Conv(widths[n - 1], widths[n], 3, 2), Bias(widths[n]))
            setattr(self, f"ecd{n}", nn.Sequential(block))
        self.levels = config.levels + 1
        self.final_linear = nn.Sequential(Linear(16 * widths[-1], 512))
        self.generator = Generator(config)
        if state_dict is not None:
            self.load_state_dict(state_dict)
        self.eval()

    def forward(self, x):
        levels = []
        for n in range(self.levels):
            x = getattr(self, f"ecd{n}")(x)
            levels.append(x)
        return self.generator(self.final_linear(x.view(sides(x)[0], -1)), levels[::-1])


def random_weights_of(config, seed=3):
    """A state dict of any width, as `synthetic.random_state_dict` makes one of a released width."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for key, shape in config.parameter_shapes().items():
        values = torch.randn(shape, generator=generator)
        if key.endswith("kernel"):
            values = twin.fir_kernel(1.0 if key.startswith("ecd") else 4.0)
        elif key.endswith("modulation.bias"):
            values = 1 + 0.1 * values
        elif key.endswith("noise.weight"):
            values = 0.5 + 0.2 * values
        elif key.startswith("generator.style."):
            values *= 100 if key.endswith("weight") else 10
        elif key.endswith("bias"):
            values *= 0.1
        made[key] = values
    return made


def export(network, size, path, folding=True, opset=17, dynamo=False):
    """Writes the network as ONNX with the names `input` and `output`, by torch's TorchScript or dynamo exporter."""
    options = {"opset_version": opset, "input_names": ["input"], "output_names": ["output"]}
    if dynamo:
        options |= {"dynamo": True, "external_data": False, "verbose": False, "optimize": folding}
    else:
        options["do_constant_folding"] = folding
        if "dynamo" in inspect.signature(torch.onnx.export).parameters:
            options["dynamo"] = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network, (torch.zeros(1, 3, size, size),), str(path), **options)
    return path
