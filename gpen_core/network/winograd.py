"""3x3 convolutions in float32 with a quarter of the multiplications (Winograd's minimal filtering).

F(4x4, 3x3) computes 4x4 outputs from 6x6 inputs with 36 multiplications per pair of channels instead of 144. It transforms
tiles of the input and the filters, multiplies them point by point and transforms the products back. Each of the 36 points
is a matrix product over the channels. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016,
section 4.

The interpolation points are 0, +-sqrt(1/2), +-sqrt(2) and infinity. Their rounding error in float32 is a fifth of that of
the usual 0, +-1, +-2: at most 9e-6 instead of 5e-5 of the output's standard deviation, with 512 input channels.
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from .activation import SLOPE
from .buffer_pool import BufferPool
from .config import CPU_FLOAT32

TILE_OUT, TILE_IN = 4, 6  # rows and columns of a tile
BLOCK_TILES = 128  # tiles per matrix product: with fewer, reading the filters dominates; more do not fit into the caches
MIN_CHANNELS, MIN_SIDE = 128, 32  # below these, the transforms cost what the products save (measured)
IS_X86 = platform.machine().lower() in ("x86_64", "amd64")

NEAR, FAR = math.sqrt(0.5), math.sqrt(2.0)
POINTS = (0.0, NEAR, -NEAR, FAR, -FAR)  # and infinity


def is_faster(weight: torch.Tensor, side: int) -> bool:
    """Whether Winograd is faster than torch for `weight` [O, I, 3, 3] at side x side.

    True only on x86 CPUs, where it was measured, and in float32. Half precision would lose too much accuracy and has its
    own instructions. GPU libraries choose their algorithm themselves."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return IS_X86 and on_cpu and weight.shape[1] >= MIN_CHANNELS and side >= MIN_SIDE


def max_bytes(outputs: int, inputs: int) -> int:
    """Estimate the buffers of one convolution in bytes: the filters and the intermediate results of a block."""
    return 4 * (45 * outputs * inputs + 2 * TILE_IN * TILE_IN * BLOCK_TILES * (inputs + outputs))


def filter_transform() -> torch.Tensor:
    """G [6, 3]: (1, p, p^2) divided by the product of the differences between p and the other points."""
    rows = [[p**n / math.prod(p - q for q in POINTS if q != p) for n in range(3)] for p in POINTS]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]], **CPU_FLOAT32)


def input_transform() -> torch.Tensor:
    """B^T [6, 6]: row p has the coefficients of the product of (x - q) over the other points q."""
    others = [[q for q in POINTS if q != p] for p in POINTS]
    return torch.tensor([*([*_polynomial(points), 0.0] for points in others), _polynomial(POINTS)], **CPU_FLOAT32)


def _polynomial(points: Sequence[float]) -> list[float]:
    """The coefficients of the product of (x - q) over points q, lowest first."""
    out = [1.0]
    for q in points:
        out = [above - q * own for above, own in zip([0.0, *out], [*out, 0.0])]
    return out


def output_transform() -> torch.Tensor:
    """A^T [4, 6]: column p is (1, p, p^2, p^3)."""
    return torch.tensor([[*(p**n for p in POINTS), float(n == TILE_OUT - 1)] for n in range(TILE_OUT)], **CPU_FLOAT32)


def weight_buffer(weight: torch.Tensor, pool: BufferPool) -> torch.Tensor:
    """A buffer of the shape of `weight`, [O, I, 3, 3], in the memory order that `transform_weights` expects."""
    outputs, inputs = weight.shape[:2]
    return pool.get_contiguous("taps", (3, 3, outputs, inputs), weight).permute(2, 3, 0, 1)


def transform_weights(weight: torch.Tensor, pool: BufferPool) -> torch.Tensor:
    """Transform weights [O, I, 3, 3], stored in a `weight_buffer`, to [36, O, I]."""
    outputs, inputs = weight.shape[:2]
    g = filter_transform()
    out = pool.get_contiguous("filters", (TILE_IN * TILE_IN, outputs, inputs), weight)
    torch.mm(torch.kron(g, g), weight.permute(2, 3, 0, 1).reshape(9, -1), out=out.view(TILE_IN * TILE_IN, -1))
    return out


def split_width(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, C, H, W / 4, 4]."""
    return x.view(*x.shape[:3], x.shape[3] // TILE_OUT, TILE_OUT)


class WinogradConv:
    """A 3x3 convolution over images of one width, some rows at a time.

    Its buffers come from the pool, so the next `WinogradConv` overwrites them."""

    def __init__(self, filters: torch.Tensor, bias: torch.Tensor, width: int, height: int, pool: BufferPool) -> None:
        """`filters` is the output of `transform_weights`, `bias` is [O]. `width` and `height` (rows per call) are powers
        of two."""
        _, outputs, inputs = filters.shape
        tiles = width // TILE_OUT
        rows = max(min(BLOCK_TILES // tiles, height // TILE_OUT), 1)  # of tiles, also a power of two
        self._filters, self._bias, self._pool, self._tiles, self._tile_rows = filters, bias, pool, tiles, rows
        self._by_row = self._buffer("by row", rows, TILE_IN, TILE_OUT * (tiles + 2) * inputs)
        by_row = self._by_row.view(rows, TILE_IN, TILE_OUT, tiles + 2, inputs).transpose(0, 1)
        both = self._buffer("both", TILE_IN, TILE_IN, rows, tiles, inputs)
        self._spare = self._buffer("spare", 2, TILE_IN, rows, tiles, inputs).unbind()
        # The first column of a tile is the last of the previous tile, and the last column is the first of the next tile.
        self._tile_columns = [by_row[:, :, (n - 1) % TILE_OUT, (n + 3) // TILE_OUT :][:, :, :tiles] for n in range(TILE_IN)]
        self._both, self._points = both.unbind(1), both.view(TILE_IN * TILE_IN, rows * tiles, inputs)
        self._products = self._buffer("products", TILE_IN * TILE_IN, rows * tiles, outputs)
        self._by_column = self._buffer("by column", TILE_IN, TILE_OUT, rows * tiles * outputs)
        image = self._buffer("image", TILE_OUT, TILE_OUT, rows * tiles * outputs)  # column, row
        self._image, self._input_transform, self._output_transform = image, input_transform(), output_transform()
        self._tiled = image.view(TILE_OUT, TILE_OUT, rows, tiles, outputs).permute(
            2, 1, 3, 0, 4
        )  # same axes as `out` in __call__

    def input_buffer(self, height: int) -> torch.Tensor:
        """A buffer for the next input, [1, I, height, W / 4, 4]. The caller fills it. The last two axes are the columns.

        In memory, the first columns of all tiles are contiguous, and so are the second, third and fourth. Zeros at both
        ends are the padding of the image."""
        self._input = self._buffer("input", height, TILE_OUT, self._tiles + 2, self._filters.shape[2])
        self._input[:, :, 0] = 0
        self._input[:, :, -1] = 0
        return self._input[:, :, 1:-1].permute(3, 0, 2, 1).unsqueeze(0)

    def __call__(self, out: torch.Tensor) -> None:
        """Convolve the first H + 2 rows of the input buffer, add the bias, activate and write into `out` [1, O, H, W]."""
        _, channels, height, width = out.shape
        # tile row, row, tile, column, O
        out = out[0].permute(1, 2, 0).view(height // TILE_OUT, TILE_OUT, width // TILE_OUT, TILE_OUT, channels)
        for top in range(0, len(out), self._tile_rows):
            bottom = top + self._tile_rows
            self._convolve_block(self._input[TILE_OUT * top : TILE_OUT * bottom + 2], out[top:bottom])

    def _convolve_block(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        row = rows[0].numel()
        tiles = rows.as_strided(
            (self._tile_rows, TILE_IN, row), (TILE_OUT * row, row, 1)
        )  # the last two rows of a tile are the first two of the next
        torch.bmm(self._input_transform.expand(self._tile_rows, TILE_IN, TILE_IN), tiles, out=self._by_row)
        _transform_columns(self._tile_columns, self._both, self._spare)
        torch.bmm(self._points, self._filters.transpose(1, 2), out=self._products)
        torch.bmm(
            self._output_transform.expand(TILE_IN, TILE_OUT, TILE_IN),
            self._products.view(TILE_IN, TILE_IN, -1),
            out=self._by_column,
        )
        torch.bmm(
            self._output_transform.expand(TILE_OUT, TILE_OUT, TILE_IN), self._by_column.transpose(0, 1), out=self._image
        )
        F.leaky_relu_(torch.add(self._tiled, self._bias, out=out), SLOPE)

    def _buffer(self, name: str, *shape: int) -> torch.Tensor:
        return self._pool.get_contiguous(name, shape, self._filters)


def _transform_columns(columns: Sequence[torch.Tensor], out: Sequence[torch.Tensor], spare: Sequence[torch.Tensor]) -> None:
    """Apply `input_transform` to six separate tensors.

    The pairs +-p share their even and odd parts. With these points, the first and the last coefficient of the rows 0 and
    infinity are both 1."""
    even, odd = spare
    for n, p in ((1, NEAR), (3, FAR)):
        torch.add(columns[4], columns[2], alpha=-1 / p**2, out=even)
        torch.add(columns[3], columns[1], alpha=-1 / p**2, out=odd)
        torch.add(even, odd, alpha=p, out=out[n])
        torch.add(even, odd, alpha=-p, out=out[n + 1])
    for n, ends in ((0, out[0]), (1, out[5])):
        torch.add(columns[n + 4], columns[n + 2], alpha=-(NEAR**2 + FAR**2), out=ends)
        ends.add_(columns[n])
