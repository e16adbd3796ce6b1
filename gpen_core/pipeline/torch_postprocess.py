"""`faces.postprocess` in torch: masks and colors of restored crops.

Crops are [3, S, S] RGB in [0, 1]."""

from __future__ import annotations

import math
from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..faces import mask as masks
from ..faces.blend import BLUR_BELOW
from ..faces.color import LUT_SIZE, MIN_STD, TONE_SIZE, fit_tone
from ..faces.face import Face
from ..faces.mask import BORDER, EXCLUDED_CLASSES, KERNEL, MASK_SIZE, PASSES, SIGMA, TAIL, FaceParser
from ..faces.postprocess import MaskModels
from ..network.autocast import without_autocast
from ..network.module_loading import device_of
from ..options import RestoreOptions
from .torch_image import luminance
from .torch_resize import resize_crop


def build_mask(
    options: RestoreOptions, mask_models: MaskModels, restored: torch.Tensor, is_aligned: bool
) -> torch.Tensor | None:
    """Build a mask like `faces.postprocess.build_mask`, [512, 512] in [0, 1], for the options of `supported_on_device`.

    Out-of-memory errors are the same as there."""
    if mask_models.face_parser is not None and not (is_aligned and options.mask_type == "auto"):
        return parse_mask(mask_models.face_parser, restored)
    return None if is_aligned else square_mask(restored.device)


def parse_mask(parser: FaceParser, crop: torch.Tensor) -> torch.Tensor:
    """Build a parse mask like `FaceParser.mask`, [512, 512]."""
    classes = parser.parse_tensor(resize_crop(crop, MASK_SIZE).to(device_of(parser.network))).to(crop.device)
    inside = torch.ones_like(classes, dtype=torch.bool)
    for number in EXCLUDED_CLASSES:
        inside &= classes != number
    return feather_edges(inside.to(torch.float32))


def feather_edges(inside: torch.Tensor) -> torch.Tensor:
    """Feather the edges of a binary mask [512, 512] like `mask.feather_edges`. In TF32 the difference is at most 1/500."""
    mask = torch.zeros_like(inside)
    inner = slice(BORDER, MASK_SIZE - BORDER)
    mask[inner, inner] = inside[inner, inner]
    blur = _blur_matrix(inside.device)
    with without_autocast(mask.device):
        return ((blur @ mask @ blur.T - TAIL) / (1 - 2 * TAIL)).clamp(0, 1)


@lru_cache(maxsize=4)  # one entry per device; callers must not modify it
def square_mask(device: torch.device) -> torch.Tensor:
    """`mask.square_mask` on the device, [512, 512]."""
    return torch.from_numpy(masks.square_mask().copy()).to(device)


@lru_cache(maxsize=4)
def _blur_matrix(device: torch.device) -> torch.Tensor:
    """[512, 512]: the matrix of all blur passes along one axis, with OpenCV's borders."""
    kernel = cv2.getGaussianKernel(KERNEL, SIGMA, cv2.CV_64F)
    one_pass = np.asarray(cv2.sepFilter2D(np.eye(MASK_SIZE), cv2.CV_64F, np.ones((1, 1)), kernel))
    return torch.from_numpy(np.linalg.matrix_power(one_pass, PASSES).astype(np.float32)).to(device)


def apply_tone(
    options: RestoreOptions,
    crop: torch.Tensor,
    restored: torch.Tensor,
    photo: float = math.inf,
    is_monochrome: bool | None = None,
) -> torch.Tensor:
    """Apply the tones of a gray or sepia input crop to the restored crop, if requested; see `postprocess.tone_and_mask`."""
    if options.color != "auto" or is_monochrome is False:
        return restored
    small = resize_crop(crop, TONE_SIZE).permute(1, 2, 0).cpu().numpy()  # CHW -> HWC
    tone, is_single_tone = fit_tone(small, photo)
    if not (is_single_tone or is_monochrome):
        return restored
    luma = luminance(restored)
    table = torch.from_numpy(tone.lookup_table()).to(restored.device)
    steps = (luma[0] * (LUT_SIZE - 1)).round().long()
    return (luma + table[steps].permute(2, 0, 1)).clamp(0, 1)  # HWC -> CHW


def match_color(
    options: RestoreOptions, crop: torch.Tensor, restored: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """Match the colors of the restored crop to the input crop inside the mask, if requested; see `color.transfer_color`."""
    if options.color != "match":
        return restored
    mask = square_mask(crop.device) if mask is None else mask
    side = crop.shape[-1]
    inside = (F.interpolate(mask[None, None], size=(side, side), mode="nearest")[0] >= 0.5).to(torch.float32)  # [1, S, S]
    count = inside.sum()
    mean_from, std_from = _statistics(restored, inside, count)
    mean_to, std_to = _statistics(crop, inside, count)
    ratio = torch.where(std_from > MIN_STD, std_to / std_from.clamp(min=MIN_STD), torch.ones_like(std_to))
    return torch.where(count > 0, ((restored - mean_from) * ratio + mean_to).clamp(0, 1), restored)


def _statistics(crop: torch.Tensor, inside: torch.Tensor, count: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation per channel where `inside` is 1, [3, 1, 1] each."""
    count = count.clamp(min=1)
    mean = (crop * inside).sum((1, 2), keepdim=True) / count
    return mean, (((crop - mean) ** 2 * inside).sum((1, 2), keepdim=True) / count).sqrt()


def blur_small_face(crop: torch.Tensor, face: Face) -> torch.Tensor:
    """Blur the crop of a small face like `blend.blur_small_face`."""
    if face.shorter_side >= BLUR_BELOW:
        return crop
    wide = F.pad(crop[None], (1, 1, 1, 1), mode="replicate")[0]
    across = (wide[:, :, :-2] + wide[:, :, 1:-1] * 2 + wide[:, :, 2:]) / 4
    return (across[:, :-2] + across[:, 1:-1] * 2 + across[:, 2:]) / 4
