"""torch's 3x3 convolution in strips of rows. `winograd` has the same for float32."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from .activation import is_dense_better, write_activated
from .buffer_pool import BufferPool


class DirectConv:
    """torch's 3x3 convolution with the weights of one sample, over images of one width."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor, width: int, like: torch.Tensor, pool: BufferPool) -> None:
        self._weight, self._bias, self._width, self._like, self._pool = weight, bias, width, like, pool

    def input_buffer(self, height: int) -> torch.Tensor:
        """A buffer for the next input, [1, I, height, W]. The caller fills it."""
        shape = (1, self._weight.shape[1], height, self._width)
        self._input = self._pool.get("middle", shape, self._like)
        return self._input

    def __call__(self, out: torch.Tensor) -> None:
        """Convolve the first H + 2 rows of the input buffer, add the bias, activate and write into `out` [1, O, H, W]."""
        rows = self._input[:, :, : out.shape[2] + 2]
        write_activated(F.conv2d(rows, self._weight, self._bias, padding=(0, 1)), out, is_dense_better(out))
