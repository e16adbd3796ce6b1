"""The filters over time: of the CPU, and of a device, there on the CPU."""

import math
from dataclasses import replace

import torch

from gpen_core.pipeline.torch_image import to_array, to_tensor
from gpen_core.video.temporal_filter import TrackFilter
from gpen_core.video.torch_temporal_filter import TorchTrackFilter


class DeviceFilter:
    """The device's filter for arrays, on any device."""

    def __init__(self, amount, radius, device="cpu"):
        self.filter, self.device = TorchTrackFilter(amount, radius), torch.device(device)

    def add(self, number, guide, layers):
        self.filter.add(number, to_tensor(guide, self.device), [to_tensor(layer, self.device) for layer in layers])

    def pop_ready(self, last_number=math.inf):
        for one in self.filter.pop_ready(last_number):
            yield replace(one, layers=[to_array(layer) for layer in one.layers])


FILTERS = {"OpenCV": TrackFilter, "torch": DeviceFilter}
