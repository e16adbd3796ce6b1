"""`faces.postprocess` in torch: how much of a restored crop counts where, and its colors.

Crops are [3, S, S] RGB in [0, 1]."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..faces import mask as masks
from ..faces.blend import SOFTENED_BELOW
from ..faces.color import SIDE, STEPS, nearest_tone
from ..faces.face import Face
from ..faces.mask import BORDER, DROPPED, KERNEL, MASK_SIZE, PASSES, SIGMA, TAIL, Parser
from ..faces.postprocess import Masking
from ..network.module_loading import device_of
from ..options import RestoreOptions
from .torch_image import luminance
from .torch_resize import resize_crop

LEAST_DEVIATION = 1e-4  # as `color.match_colour`: below it a channel has no contrast to be changed


def does(options: RestoreOptions) -> bool:
    """Whether all that these options ask for is done here."""
    return not options.preserve and options.mask_expand == 0 and options.grain == 0


def mask_of(options: RestoreOptions, masking: Masking, restored: torch.Tensor, is_aligned: bool) -> torch.Tensor | None:
    """[512, 512] in [0, 1] as `faces.postprocess.mask_of`, of options that `does` knows. Memory as there."""
    if masking.face is not None and not (is_aligned and options.mask_type == "auto"):
        return parsed(masking.face, restored)
    return None if is_aligned else feather(restored.device)


def parsed(parser: Parser, crop: torch.Tensor) -> torch.Tensor:
    """[512, 512]: as `Parser.mask`."""
    classes = parser.classes_of(resize_crop(crop, MASK_SIZE).to(device_of(parser.network))).to(crop.device)
    inside = torch.ones_like(classes, dtype=torch.bool)
    for number in DROPPED:
        inside &= classes != number
    return soften(inside.to(torch.float32))


def soften(inside: torch.Tensor) -> torch.Tensor:
    """[512, 512] of 0 and 1 -> the same with soft edges, as `mask.soften`; in TF32 within 1/500 of it."""
    mask = torch.zeros_like(inside)
    inner = slice(BORDER, MASK_SIZE - BORDER)
    mask[inner, inner] = inside[inner, inner]
    blur = _blur(inside.device)
    return ((blur @ mask @ blur.T - TAIL) / (1 - 2 * TAIL)).clamp(0, 1)


@lru_cache(maxsize=4)  # devices; not to be written to
def feather(device: torch.device) -> torch.Tensor:
    """[512, 512]: as `mask.feather`."""
    return torch.from_numpy(masks.feather().copy()).to(device)


@lru_cache(maxsize=4)
def _blur(device: torch.device) -> torch.Tensor:
    """[512, 512]: the matrix of all passes along one side, with OpenCV's borders."""
    kernel = cv2.getGaussianKernel(KERNEL, SIGMA, cv2.CV_64F)
    once = np.asarray(cv2.sepFilter2D(np.eye(MASK_SIZE), cv2.CV_64F, np.ones((1, 1)), kernel))
    return torch.from_numpy(np.linalg.matrix_power(once, PASSES).astype(np.float32)).to(device)


def toned(options: RestoreOptions, crop: torch.Tensor, restored: torch.Tensor) -> torch.Tensor:
    """The restored crop, where the options ask for it in the tones of one that is grey or sepia; see `color.Tone`."""
    if options.color != "auto":
        return restored
    small = resize_crop(crop, SIDE).permute(1, 2, 0).cpu().numpy()  # CHW -> HWC
    tone, is_all = nearest_tone(small)
    if not is_all:
        return restored
    luma = luminance(restored)
    table = torch.from_numpy(tone.table()).to(restored.device)
    steps = (luma[0] * (STEPS - 1)).round().long()
    return (luma + table[steps].permute(2, 0, 1)).clamp(0, 1)  # HWC -> CHW


def matched(options: RestoreOptions, crop: torch.Tensor, restored: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """The restored crop with the colours that the crop has inside its mask, where the options ask for it; see
    `color.match_colour`."""
    if options.color != "match":
        return restored
    mask = feather(crop.device) if mask is None else mask
    side = crop.shape[-1]
    inside = (F.interpolate(mask[None, None], size=(side, side), mode="nearest")[0] >= 0.5).to(torch.float32)  # [1, S, S]
    count = inside.sum()
    mean_from, std_from = _statistics(restored, inside, count)
    mean_to, std_to = _statistics(crop, inside, count)
    ratio = torch.where(std_from > LEAST_DEVIATION, std_to / std_from.clamp(min=LEAST_DEVIATION), torch.ones_like(std_to))
    return torch.where(count > 0, ((restored - mean_from) * ratio + mean_to).clamp(0, 1), restored)


def _statistics(crop: torch.Tensor, inside: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """[3, 1, 1] each: mean and standard deviation of each channel where `inside` is 1."""
    count = count.clamp(min=1)
    mean = (crop * inside).sum((1, 2), keepdim=True) / count
    return mean, (((crop - mean) ** 2 * inside).sum((1, 2), keepdim=True) / count).sqrt()


def softened(crop: torch.Tensor, face: Face) -> torch.Tensor:
    """As `blend.soften_small`."""
    if face.shorter_side >= SOFTENED_BELOW:
        return crop
    wide = F.pad(crop[None], (1, 1, 1, 1), mode="replicate")[0]
    across = (wide[:, :, :-2] + wide[:, :, 1:-1] * 2 + wide[:, :, 2:]) / 4
    return (across[:, :-2] + across[:, 1:-1] * 2 + across[:, 2:]) / 4
