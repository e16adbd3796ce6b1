"""`planes.Planes.apply_difference` in torch: only the changed parts of the planes are copied to and from the device."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F

from ..images.image import Pixels
from ..pipeline.torch_canvas import TorchCanvas
from ..pipeline.torch_image import to_device
from .planes import PixelFormat, Planes, aligned_boxes, rgb_to_plane_matrix


def apply_difference(planes: Planes, canvas: TorchCanvas) -> Planes | None:
    """Add the canvas's changes to the planes of its frame, or return None if nothing changed.

    The changed parts of all planes are copied to the device and back in one piece each."""
    layout = planes.layout
    boxes = aligned_boxes(canvas.regions, layout, planes.size)
    if not boxes:
        return None
    color_planes = {"gray": 1}.get(layout.kind, 3)
    arrays = [*(one.copy() for one in planes.arrays[:color_planes]), *planes.arrays[color_planes:]]
    matrix = torch.from_numpy(rgb_to_plane_matrix(layout, planes.colors, planes.size)).to(canvas.device)
    windows, changes = [], []
    for box in boxes:
        change = torch.einsum("pc,chw->phw", matrix, canvas.difference(box))
        for number in range(color_planes):
            across, down = layout.subsampling_x, layout.subsampling_y
            if layout.kind != "yuv" or number == 0:
                across = down = 1
            part = _average(change[number], across, down)
            y, x = box.y0 // down, box.x0 // across
            windows.append(arrays[number][y : y + part.shape[0], x : x + part.shape[1]])
            changes.append(part.flatten())
    before = np.concatenate([window.ravel() for window in windows])
    after, is_changed = _add_rounded(before, torch.cat(changes), canvas.is_changed, layout)
    if not is_changed:
        return None
    for window, samples in zip(windows, np.split(after, np.cumsum([window.size for window in windows])[:-1])):
        window[...] = samples.reshape(window.shape)
    return replace(planes, arrays=tuple(arrays))


def _average(change: torch.Tensor, across: int, down: int) -> torch.Tensor:
    """Reduce [h, w] to chroma samples. Odd edges are padded with their last pixels."""
    if across == down == 1:
        return change
    right, bottom = -change.shape[1] % across, -change.shape[0] % down
    return F.avg_pool2d(F.pad(change[None, None], (0, right, 0, bottom), mode="replicate"), (down, across))[0, 0]


def _add_rounded(
    samples: Pixels, change: torch.Tensor, is_changed: torch.Tensor, layout: PixelFormat
) -> tuple[Pixels, bool]:
    """Return samples [n] plus their change, rounded, in their type; and the flag, which is copied with them."""
    total = (to_device(samples, change.device) + change).round_().clamp_(0, 2**layout.bits - 1)
    total = torch.cat((total, is_changed.to(torch.float32)[None]))
    if samples.dtype == np.uint8:
        found = total.to(torch.uint8).cpu().numpy()
    else:
        found = total.to(torch.int32).to(torch.int16).cpu().numpy().view(np.uint16)  # half the bytes of int32
    return found[:-1], bool(found[-1])
