"""The RetinaFace network, with the tensor names of the released weights.

Deng et al., "RetinaFace: Single-shot Multi-level Face Localisation in the Wild", CVPR 2020: a backbone, a feature pyramid, a
context module (SSH) for each of its levels, and three heads. The outputs are those of facexlib's network, whose import loads
torchvision's models and torch's compiler. That takes as long as the import of torch.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn

ANCHORS_PER_PIXEL = 2
MOBILE_SLOPE = 0.1  # of the leaky ReLU in narrow networks; wide ones have a ReLU


class RetinaFace(nn.Module):
    """RetinaFace with the backbone `mobile0.25` or `resnet50`."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.body: nn.Module
        if kind == "mobile0.25":
            self.body, widths, channels = MobileNet(), (64, 128, 256), 64
        else:
            self.body, widths, channels = ResNet50(), (512, 1024, 2048), 256
        self.fpn = FeaturePyramid(widths, channels)
        self.ssh1, self.ssh2, self.ssh3 = (ContextModule(channels) for _ in widths)
        self.ClassHead, self.BboxHead, self.LandmarkHead = (_heads(channels, values) for values in (2, 4, 10))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] -> for each of P anchors: boxes [B, P, 4], scores of background and face [B, P, 2], and landmarks
        [B, P, 10]. Boxes and landmarks are relative to the anchors."""
        levels = self.fpn(self.body(x))
        features = [module(level) for module, level in zip((self.ssh1, self.ssh2, self.ssh3), levels)]
        boxes, scores, landmarks = (
            torch.cat([_by_anchor(head(one)) for head, one in zip(heads, features)], dim=1)
            for heads in (self.BboxHead, self.ClassHead, self.LandmarkHead)
        )
        return boxes, F.softmax(scores, dim=-1), landmarks


def _heads(channels: int, values: int) -> nn.ModuleList:
    """Return the head of each level, with `values` outputs per anchor."""
    convs = (nn.Conv2d(channels, ANCHORS_PER_PIXEL * values, 1) for _ in range(3))
    return nn.ModuleList(nn.Sequential(OrderedDict(conv1x1=conv)) for conv in convs)


def _by_anchor(x: torch.Tensor) -> torch.Tensor:
    """[B, 2 * N, H, W] -> [B, H * W * 2, N]."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1] // ANCHORS_PER_PIXEL)


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

    def forward(self, levels: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        large, middle, small = self.output1(levels[0]), self.output2(levels[1]), self.output3(levels[2])
        middle = self.merge2(middle + F.interpolate(small, size=middle.shape[2:], mode="nearest"))
        large = self.merge1(large + F.interpolate(middle, size=large.shape[2:], mode="nearest"))
        return large, middle, small


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

    def __init__(self) -> None:
        super().__init__()
        first = nn.Sequential(*_conv(3, 8, stride=2), _leaky(MOBILE_SLOPE))
        self.stage1 = nn.Sequential(first, *_separable_convs(8, (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)))
        self.stage2 = nn.Sequential(*_separable_convs(64, (128, 2), *[(128, 1)] * 5))
        self.stage3 = nn.Sequential(*_separable_convs(128, (256, 2), (256, 1)))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] -> features at 1/8, 1/16 and 1/32."""
        large = self.stage1(x)
        middle = self.stage2(large)
        return large, middle, self.stage3(middle)


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

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = _conv(3, 64, 7, stride=2)
        self.layer1 = _bottlenecks(3, 64, 64, stride=1)
        self.layer2 = _bottlenecks(4, 256, 128, stride=2)
        self.layer3 = _bottlenecks(6, 512, 256, stride=2)
        self.layer4 = _bottlenecks(3, 1024, 512, stride=2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """[B, 3, H, W] -> features at 1/8, 1/16 and 1/32."""
        x = F.max_pool2d(F.relu_(self.bn1(self.conv1(x))), 3, stride=2, padding=1)
        large = self.layer2(self.layer1(x))
        middle = self.layer3(large)
        return large, middle, self.layer4(middle)


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
