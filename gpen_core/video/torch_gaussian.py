"""Gaussian blur and gradients in torch, for any device, with OpenCV's kernels and borders."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from ..network.autocast import without_autocast


def gaussian_blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Blur each image of [..., H, W] like `cv2.GaussianBlur` of float32."""
    kernel = _kernel(sigma, images.device)
    flat = images.reshape(1, -1, *images.shape[-2:])
    count, radius = flat.shape[1], len(kernel) // 2
    # One group for each image: CUDA then computes in float32, not in TF32.
    with without_autocast(flat.device):
        flat = F.conv2d(pad_reflected(flat, 3, radius), kernel.view(1, 1, 1, -1).expand(count, -1, -1, -1), groups=count)
        flat = F.conv2d(pad_reflected(flat, 2, radius), kernel.view(1, 1, -1, 1).expand(count, -1, -1, -1), groups=count)
    return flat.reshape(images.shape)


def gradient(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the change per pixel of [..., H, W] to the right and downward, like `cv2.Sobel` with a scale of 1/8."""
    padded = pad_reflected(pad_reflected(images, -1, 1), -2, 1)
    tall = padded[..., :-2, :] + 2 * padded[..., 1:-1, :] + padded[..., 2:, :]
    wide = padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]
    return (tall[..., 2:] - tall[..., :-2]) / 8, (wide[..., 2:, :] - wide[..., :-2, :]) / 8


def pad_reflected(images: torch.Tensor, dim: int, radius: int) -> torch.Tensor:
    """Pad one dimension by reflection about the outermost pixels, which are not repeated."""
    return images.index_select(dim, _reflected_indices(images.shape[dim], radius, images.device))


@lru_cache(maxsize=64)  # callers must not modify the result
def _reflected_indices(size: int, radius: int, device: torch.device) -> torch.Tensor:
    return torch.from_numpy(np.pad(np.arange(size), radius, mode="reflect" if size > 1 else "edge")).to(device)


@lru_cache(maxsize=16)
def _kernel(sigma: float, device: torch.device) -> torch.Tensor:
    """[K]: the kernel that OpenCV uses for float32: four standard deviations to each side."""
    size = round(8 * sigma + 1) | 1
    return torch.from_numpy(np.asarray(cv2.getGaussianKernel(size, sigma, cv2.CV_32F), np.float32)[:, 0]).to(device)
