"""3x3 convolutions in float32 with a quarter of the multiplications (Winograd's minimal filtering).

F(4x4, 3x3) computes 4x4 outputs from 6x6 inputs with 36 multiplications per pair of channels instead of 144: tiles of the
input and the filters are transformed, multiplied point by point (for each of the 36 points a matrix product over the
channels) and transformed back. Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016, section 4.

The interpolation points are 0, +-sqrt(1/2), +-sqrt(2) and infinity: with them float32 loses a fifth of what it loses with
the usual 0, +-1, +-2 (largest error 9e-6 instead of 5e-5 of the output's standard deviation, 512 input channels).
"""

from __future__ import annotations

import math
import platform
from collections.abc import Sequence

import torch

from .buffer_pool import Workspace

OUT, IN = 4, 6  # rows and columns of a tile
BLOCK = 128  # tiles in a matrix product: with fewer, reading the filters counts; with more, the caches are too small
LEAST_CHANNELS, LEAST_SIDE = 128, 32  # measured: with fewer, the transforms take what the products save
X86 = platform.machine().lower() in ("x86_64", "amd64")

NEAR, FAR = math.sqrt(0.5), math.sqrt(2.0)
POINTS = (0.0, NEAR, -NEAR, FAR, -FAR)  # and infinity


def pays(weight: torch.Tensor, side: int) -> bool:
    """Whether this is the faster way for `weight` [O, I, 3, 3] at side x side. Measured on an x86 CPU, so only there: half
    precision has instructions of its own and would lose too much here, and a GPU's library chooses for itself."""
    on_cpu = weight.device.type == "cpu" and weight.dtype == torch.float32
    return X86 and on_cpu and weight.shape[1] >= LEAST_CHANNELS and side >= LEAST_SIDE


def most_bytes(outputs: int, inputs: int) -> int:
    """About what one convolution with so many channels keeps beside its input: filters, and a block at its stages."""
    return 4 * (45 * outputs * inputs + 2 * IN * IN * BLOCK * (inputs + outputs))


def filter_transform() -> torch.Tensor:
    """G [6, 3]: (1, p, p^2) over the product of p's differences from the other points."""
    rows = [[p**n / math.prod(p - q for q in POINTS if q != p) for n in range(3)] for p in POINTS]
    return torch.tensor([*rows, [0.0, 0.0, 1.0]])


def input_transform() -> torch.Tensor:
    """B^T [6, 6]: row p holds the coefficients of the product of (x - q) over the other points q."""
    others = [[q for q in POINTS if q != p] for p in POINTS]
    return torch.tensor([*([*_product(points), 0.0] for points in others), _product(POINTS)])


def _product(points: Sequence[float]) -> list[float]:
    """The coefficients of the product of (x - q) over points q, the lowest first."""
    out = [1.0]
    for q in points:
        out = [above - q * own for above, own in zip([0.0, *out], [*out, 0.0])]
    return out


def output_transform() -> torch.Tensor:
    """A^T [4, 6]: column p is (1, p, p^2, p^3)."""
    return torch.tensor([[*(p**n for p in POINTS), float(n == OUT - 1)] for n in range(OUT)])


def taps(weight: torch.Tensor, memory: Workspace) -> torch.Tensor:
    """Room for other weights of this shape, [O, I, 3, 3], as `transformed` takes them."""
    outputs, inputs = weight.shape[:2]
    return memory.dense("taps", (3, 3, outputs, inputs), weight).permute(2, 3, 0, 1)


def transformed(weight: torch.Tensor, memory: Workspace) -> torch.Tensor:
    """[O, I, 3, 3], which lie in `taps`, -> [36, O, I]."""
    outputs, inputs = weight.shape[:2]
    g = filter_transform()
    out = memory.dense("filters", (IN * IN, outputs, inputs), weight)
    torch.mm(torch.kron(g, g), weight.permute(2, 3, 0, 1).reshape(9, -1), out=out.view(IN * IN, -1))
    return out


def unflattened(x: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, C, H, W / 4, 4]."""
    return x.view(*x.shape[:3], x.shape[3] // OUT, OUT)


class Convolution:
    """A 3x3 convolution over images of one width, some rows at a time. The next one takes its memory, the workspace's."""

    def __init__(self, filters: torch.Tensor, bias: torch.Tensor, width: int, height: int, memory: Workspace) -> None:
        """`filters` is what `transformed` gives, `bias` [O]; `width` and the rows at once, `height`, are powers of two."""
        _, outputs, inputs = filters.shape
        tiles = width // OUT
        rows = max(min(BLOCK // tiles, height // OUT), 1)  # of tiles; a power of two as well
        self._filters, self._bias, self._memory, self._tiles, self._rows = filters, bias, memory, tiles, rows
        self._by_row = self._room("by row", rows, IN, OUT * (tiles + 2) * inputs)
        by_row = self._by_row.view(rows, IN, OUT, tiles + 2, inputs).transpose(0, 1)
        both = self._room("both", IN, IN, rows, tiles, inputs)
        self._spare = self._room("spare", 2, IN, rows, tiles, inputs).unbind()
        # Of the six columns of tile t, the first is the last of the tile before it, the last the first of the next.
        self._six = [by_row[:, :, (n - 1) % OUT, (n + 3) // OUT :][:, :, :tiles] for n in range(IN)]
        self._both, self._points = both.unbind(1), both.view(IN * IN, rows * tiles, inputs)
        self._products = self._room("products", IN * IN, rows * tiles, outputs)
        self._by_column = self._room("by column", IN, OUT, rows * tiles * outputs)
        image = self._room("image", OUT, OUT, rows * tiles * outputs)  # column, row
        self._image, self._in, self._back = image, input_transform(), output_transform()
        self._tiled = image.view(OUT, OUT, rows, tiles, outputs).permute(2, 1, 3, 0, 4)  # as `out` in __call__

    def rows(self, height: int) -> torch.Tensor:
        """Room for the next input, to be filled: [1, I, height, W / 4, 4], rows with their columns unflattened.

        In memory, the first columns of all tiles lie together, and so do the second, third and fourth, with a zero on
        either side for what is beside the image."""
        self._input = self._room("input", height, OUT, self._tiles + 2, self._filters.shape[2])
        self._input[:, :, 0] = 0
        self._input[:, :, -1] = 0
        return self._input[:, :, 1:-1].permute(3, 0, 2, 1).unsqueeze(0)

    def __call__(self, out: torch.Tensor) -> None:
        """Writes the convolution of what was filled in, H + 2 rows, with the bias into `out` [1, O, H, W]."""
        _, channels, height, width = out.shape
        # tile row, row, tile, column, O
        out = out[0].permute(1, 2, 0).view(height // OUT, OUT, width // OUT, OUT, channels)
        for top in range(0, len(out), self._rows):
            bottom = top + self._rows
            self._block(self._input[OUT * top : OUT * bottom + 2], out[top:bottom])

    def _block(self, rows: torch.Tensor, out: torch.Tensor) -> None:
        row = rows[0].numel()
        six = rows.as_strided((self._rows, IN, row), (OUT * row, row, 1))  # the last two of a tile are the next one's first
        torch.bmm(self._in.expand(self._rows, IN, IN), six, out=self._by_row)
        _transform(self._six, self._both, self._spare)
        torch.bmm(self._points, self._filters.transpose(1, 2), out=self._products)
        torch.bmm(self._back.expand(IN, OUT, IN), self._products.view(IN, IN, -1), out=self._by_column)
        torch.bmm(self._back.expand(OUT, OUT, IN), self._by_column.transpose(0, 1), out=self._image)
        torch.add(self._tiled, self._bias, out=out)

    def _room(self, name: str, *shape: int) -> torch.Tensor:
        return self._memory.dense(name, shape, self._filters)


def _transform(six: Sequence[torch.Tensor], out: Sequence[torch.Tensor], spare: Sequence[torch.Tensor]) -> None:
    """`input_transform` for six that do not lie in one matrix. The pairs +-p share their even and odd parts; with these
    points the first coefficient of the rows 0 and infinity is 1 as well as the last."""
    even, odd = spare
    for n, p in ((1, NEAR), (3, FAR)):
        torch.add(six[4], six[2], alpha=-1 / p**2, out=even)
        torch.add(six[3], six[1], alpha=-1 / p**2, out=odd)
        torch.add(even, odd, alpha=p, out=out[n])
        torch.add(even, odd, alpha=-p, out=out[n + 1])
    for n, ends in ((0, out[0]), (1, out[5])):
        torch.add(six[n + 4], six[n + 2], alpha=-(NEAR**2 + FAR**2), out=ends)
        ends.add_(six[n])
