"""`planes.Planes.apply_difference` in torch: only the changed parts of the planes come back from the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ..images.image import Pixels
from ..pipeline.torch_canvas import TorchCanvas
from ..pipeline.torch_image import from_device, to_device
from .planes import PixelFormat, Planes, aligned_boxes, rgb_to_plane_matrix
from .torch_rgb import DevicePlanes, plane_window


def apply_difference(planes: Planes, canvas: TorchCanvas, uploaded: DevicePlanes | None = None) -> Planes | None:
    """Add the canvas's changes to the planes of its frame, or return None if nothing changed.

    The changed parts of all planes are copied from the device in one piece, and to it, unless they were `uploaded`."""
    layout = planes.layout
    boxes = aligned_boxes(canvas.regions, layout, planes.size)
    if not boxes:
        return None
    arrays = [one.copy() if number < layout.color_planes else one for number, one in enumerate(planes.arrays)]
    matrix = torch.from_numpy(rgb_to_plane_matrix(layout, planes.colors, planes.size)).to(canvas.device)
    windows, samples, changes = [], [], []
    for box in boxes:
        change = torch.einsum("pc,chw->phw", matrix, canvas.difference(box))
        for number in range(layout.color_planes):
            rows, columns = plane_window(layout, number, box)
            windows.append(arrays[number][slice(*rows), slice(*columns)])
            if uploaded is not None:
                samples.append(uploaded.window(number, rows, columns).flatten())
            changes.append(_average(change[number], *layout.subsampling(number)).flatten())
    if uploaded is None:
        samples.append(to_device(np.concatenate([window.ravel() for window in windows]), canvas.device))
    after, is_changed = _add_rounded(torch.cat(samples), torch.cat(changes), canvas.is_changed, layout)
    if not is_changed:
        return None
    for window, values in zip(windows, np.split(after, np.cumsum([window.size for window in windows])[:-1])):
        window[...] = values.reshape(window.shape)
    return replace(planes, arrays=tuple(arrays))


def _average(change: torch.Tensor, across: int, down: int) -> torch.Tensor:
    """Reduce [h, w] to the samples of a plane. Odd edges are padded with their last pixels."""
    if across == down == 1:
        return change
    right, bottom = -change.shape[1] % across, -change.shape[0] % down
    return F.avg_pool2d(F.pad(change[None, None], (0, right, 0, bottom), mode="replicate"), (down, across))[0, 0]


def _add_rounded(
    samples: torch.Tensor, change: torch.Tensor, is_changed: torch.Tensor, layout: PixelFormat
) -> tuple[Pixels, bool]:
    """Return samples [n] plus their change, rounded, in the type of the planes; and the flag, which is copied with them."""
    total = (samples + change).round_().clamp_(0, 2**layout.bits - 1)
    total = torch.cat((total, is_changed.to(torch.float32)[None]))
    found = from_device(total.to(torch.uint8 if layout.bits <= 8 else torch.int32))
    return found[:-1], bool(found[-1])
