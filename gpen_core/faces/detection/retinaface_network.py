"""The RetinaFace network, with the tensor names of the released weights.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020: a backbone, a feature pyramid, a
context module (SSH) for each of its levels, and three heads. The outputs are those of facexlib's network, whose import loads
torchvision's models and torch's compiler. That takes as long as the import of torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

MEAN_BGR = (104.0, 117.0, 123.0)
ANCHORS_PER_PIXEL = 2
STRIDE = 8  # px of the finest features
STRIP_ROWS = 384  # about; lower strips repeat more rows at their edges, higher ones need more new memory
MOBILE_SLOPE = 0.1  # of the leaky ReLU in narrow networks; wide ones have a ReLU


class RetinaFace(nn.Module):
    """RetinaFace with the backbone `mobile0.25` or `resnet50`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body: MobileNet | ResNet50
        if kind == "mobile0.25":
            self.body, widths, channels = MobileNet(), (64, 128, 256), 64
        else:
            self.body, widths, channels = ResNet50(), (512, 1024, 2048), 256
        self.fpn = FeaturePyramid(widths, channels)
        self.ssh1, self.ssh2, self.ssh3 = (ContextModule(channels) for _ in widths)
        self.ClassHead, self.BboxHead, self.LandmarkHead = (_heads(channels, values) for values in (2, 4, 10))

    def forward(self, x: torch.Tensor, skip_finest: bool = False) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] float32 BGR in [0, 255] -> for each of P anchors: boxes [B, P, 4], probabilities of background and
        face [B, P, 2], and landmarks [B, P, 10]. Boxes and landmarks are relative to the anchors.

        `skip_finest` leaves out the anchors of the finest features, which take a third to half of the time."""
        levels = self.fpn(*self._features(x), skip_finest)
        first = int(skip_finest)
        modules = (self.ssh1, self.ssh2, self.ssh3)[first:]
        heads = zip(self.BboxHead[first:], self.ClassHead[first:], self.LandmarkHead[first:])
        out = torch.cat([_run_heads(module(level), some) for module, level, some in zip(modules, levels, heads)], dim=1)
        return out[..., :4], out[..., 4:6].softmax(-1), out[..., 6:]

    def _features(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the backbone's features at strides of 8, 16 and 32 px."""
        dtype = next(self.body.parameters()).dtype

        def finest(rows: torch.Tensor) -> torch.Tensor:
            return self.body.finest((rows - _mean(x.device)).to(dtype))

        margin = self.body.strip_margin if x.device.type == "cpu" else None
        large = finest(x) if margin is None else run_in_strips(finest, x, margin)
        return large, *self.body.coarser(large)


@lru_cache(maxsize=8)  # devices; read-only
def _mean(device: torch.device) -> torch.Tensor:
    return torch.tensor(MEAN_BGR, dtype=torch.float32, device=device)[:, None, None]


def run_in_strips(layers: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor, margin: int) -> torch.Tensor:
    """Apply layers with a stride of 8 px to [B, C, H, W], some rows at a time.

    Each strip is computed with `margin` rows above and below it, so that the result is the same. Buffers of a whole image
    are too large for the caches, and the system hands out new memory for each, which takes up to a third of the time."""
    height = x.shape[2]
    count = max(1, round(height / STRIP_ROWS))
    rows = -(-height // (count * STRIDE)) * STRIDE
    parts = []
    for top in range(0, height, rows):
        start = max(0, top - margin)
        features = layers(x[:, :, start : top + rows + margin])
        skipped = (top - start) // STRIDE
        parts.append(features[:, :, skipped : skipped + -(-min(rows, height - top) // STRIDE)])
    return torch.cat(parts, dim=2) if len(parts) > 1 else parts[0]


def _heads(channels: int, values: int) -> nn.ModuleList:
    """Return the head of each level, with `values` outputs per anchor."""
    convs = (nn.Conv2d(channels, ANCHORS_PER_PIXEL * values, 1) for _ in range(3))
    return nn.ModuleList(nn.Sequential(OrderedDict(conv1x1=conv)) for conv in convs)


def _run_heads(features: torch.Tensor, heads: Iterable[nn.Module]) -> torch.Tensor:
    """Apply the 1x1 convolutions of these heads as one product: [B, C, H, W] -> [B, H * W * 2, outputs]."""
    convolutions: list[Any] = [head.conv1x1 for head in heads]
    weights = torch.cat([conv.weight.view(ANCHORS_PER_PIXEL, -1, conv.in_channels) for conv in convolutions], dim=1)
    biases = torch.cat([conv.bias.view(ANCHORS_PER_PIXEL, -1) for conv in convolutions], dim=1)
    points = features.permute(0, 2, 3, 1).to(weights.dtype)  # BCHW -> BHWC
    return F.linear(points, weights.flatten(0, 1), biases.flatten()).reshape(len(features), -1, weights.shape[1])


def _conv(inputs: int, outputs: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(outputs)]


def _leaky(slope: float) -> nn.Module:
    return nn.LeakyReLU(slope, inplace=True)


class FeaturePyramid(nn.Module):
    """Reduces each level of the backbone to `channels`, and adds the next smaller level to it."""

    def __init__(self, widths: Sequence[int], channels: int) -> None:
        super().__init__()
        slope = _slope(channels)
        self.output1, self.output2, self.output3 = (
            nn.Sequential(*_conv(width, channels, 1), _leaky(slope)) for width in widths
        )
        self.merge1, self.merge2 = (nn.Sequential(*_conv(channels, channels), _leaky(slope)) for _ in range(2))

    def forward(
        self, large: torch.Tensor, middle: torch.Tensor, small: torch.Tensor, skip_finest: bool = False
    ) -> list[torch.Tensor]:
        """Return the levels, finest first. `skip_finest` leaves out the first."""
        small = self.output3(small)
        middle = self.merge2(_add_upsampled(self.output2(middle), small))
        if skip_finest:
            return [middle, small]
        return [self.merge1(_add_upsampled(self.output1(large), middle)), middle, small]


def _add_upsampled(x: torch.Tensor, coarser: torch.Tensor) -> torch.Tensor:
    return x.add_(F.interpolate(coarser, size=x.shape[2:], mode="nearest"))


class ContextModule(nn.Module):
    """SSH's context module: receptive fields of 3, 5 and 7 pixels, concatenated."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter, slope = channels // 2, channels // 4, _slope(channels)
        self.conv3X3 = nn.Sequential(*_conv(channels, half))
        self.conv5X5_1 = nn.Sequential(*_conv(channels, quarter), _leaky(slope))
        self.conv5X5_2 = nn.Sequential(*_conv(quarter, quarter))
        self.conv7X7_2 = nn.Sequential(*_conv(quarter, quarter), _leaky(slope))
        self.conv7x7_3 = nn.Sequential(*_conv(quarter, quarter))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        context = self.conv5X5_1(x)
        parts = self.conv3X3(x), self.conv5X5_2(context), self.conv7x7_3(self.conv7X7_2(context))
        return F.relu(torch.cat(parts, dim=1))


def _slope(channels: int) -> float:
    return MOBILE_SLOPE if channels <= 64 else 0.0


class MobileNet(nn.Module):
    """MobileNetV1 with a quarter of the channels, without its classifier."""

    strip_margin: int | None = 24
    """Rows around a strip that reach its finest features: half of their receptive field, up to a multiple of 8."""

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(*_conv(3, 8, stride=2), _leaky(MOBILE_SLOPE))
        self.stage1 = nn.Sequential(first, *_separable_convs(8, (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)))
        self.stage2 = nn.Sequential(*_separable_convs(64, (128, 2), *[(128, 1)] * 5))
        self.stage3 = nn.Sequential(*_separable_convs(128, (256, 2), (256, 1)))

    def finest(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> features at 1/8."""
        features: torch.Tensor = self.stage1(x)
        return features

    def coarser(self, finest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features at 1/8 -> those at 1/16 and 1/32."""
        middle = self.stage2(finest)
        return middle, self.stage3(middle)


def _separable_convs(inputs: int, *layers: tuple[int, int]) -> list[nn.Module]:
    """Return depthwise separable convolutions with these output channels and strides."""
    blocks: list[nn.Module] = []
    for outputs, stride in layers:
        depthwise = *_conv(inputs, inputs, stride=stride, groups=inputs), _leaky(MOBILE_SLOPE)
        blocks.append(nn.Sequential(*depthwise, *_conv(inputs, outputs, 1), _leaky(MOBILE_SLOPE)))
        inputs = outputs
    return blocks


class ResNet50(nn.Module):
    """ResNet-50 (He et al., CVPR 2016) with the strides in the 3x3 convolutions, without its classifier."""

    strip_margin: int | None = None
    """None: its convolutions take so much longer than memory that strips are no gain."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, stride=2)
        self.layer1 = _bottlenecks(3, 64, 64, stride=1)
        self.layer2 = _bottlenecks(4, 256, 128, stride=2)
        self.layer3 = _bottlenecks(6, 512, 256, stride=2)
        self.layer4 = _bottlenecks(3, 1024, 512, stride=2)

    def finest(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] -> features at 1/8."""
        x = F.max_pool2d(F.relu_(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        features: torch.Tensor = self.layer2(self.layer1(x))
        return features

    def coarser(self, finest: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features at 1/8 -> those at 1/16 and 1/32."""
        middle = self.layer3(finest)
        return middle, self.layer4(middle)


class Bottleneck(nn.Module):
    """A residual block: 1x1, 3x3 and 1x1 convolutions, with four times `width` channels at the end."""

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = _conv(inputs, width, 1)
        self.conv2, self.bn2 = _conv(width, width, stride=stride)
        self.conv3, self.bn3 = _conv(width, outputs, 1)
        self.downsample = nn.Sequential(*_conv(inputs, outputs, 1, stride)) if inputs != outputs else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu_(self.bn1(self.conv1(x)))
        y = F.relu_(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return F.relu_(y.add_(x if self.downsample is None else self.downsample(x)))


def _bottlenecks(count: int, inputs: int, width: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(4 * width, width, 1) for _ in range(count - 1))
    return nn.Sequential(Bottleneck(inputs, width, stride), *rest)
