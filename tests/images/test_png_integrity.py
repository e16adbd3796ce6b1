"""A PNG whose data end cleanly before its last row is an InputError, not an image with a black end."""

import io
import struct
import zlib

import image_files as made
import numpy as np
import pytest
from PIL import Image

from gpen_core.errors import InputError
from gpen_core.images.codecs import decode

HEIGHT, WIDTH = 9, 13
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
KINDS = [(bits, kind) for kind in CHANNELS for bits in (1, 2, 4, 8, 16) if bits >= 8 or kind in (0, 3)]
KINDS.remove((16, 3))


def png(bits, kind, rows=HEIGHT, value=0xA5, tail=0, interlace=0, data=None):
    """`rows` of `HEIGHT` rows, the last `tail` of them of zeros."""
    row = -(-WIDTH * bits * CHANNELS[kind] // 8)
    body = (b"\0" + bytes([value]) * row) * (rows - tail) + bytes(row + 1) * tail if data is None else data
    chunks = [(b"IHDR", struct.pack(">LLBBBBB", WIDTH, HEIGHT, bits, kind, 0, 0, interlace))]
    chunks += [(b"PLTE", bytes(range(48)) * 16)] if kind == 3 else []
    packed = zlib.compress(body)
    chunks += [(b"IDAT", packed[:7]), (b"IDAT", packed[7:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made.png_chunk(*chunk) for chunk in chunks)


@pytest.mark.parametrize(("bits", "kind"), KINDS)
@pytest.mark.parametrize("tail", [0, 1, HEIGHT])
def test_a_whole_image_is_read_black_rows_or_not(bits, kind, tail):
    assert decode(png(bits, kind, tail=tail)).image.size == (WIDTH, HEIGHT)


@pytest.mark.parametrize(("bits", "kind"), KINDS)
@pytest.mark.parametrize("rows", [1, HEIGHT - 1])
def test_missing_rows_are_damage(bits, kind, rows):
    with pytest.raises(InputError, match="damaged"):
        decode(png(bits, kind, rows))


def interlaced(array):
    """Of gray bytes, in the seven passes."""
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    parts = (array[y::dy, x::dx] for x, y, dx, dy in passes)
    return b"".join(b"\0" + row.tobytes() for part in parts if part.size for row in part)


def test_interlaced_images_are_counted_pass_by_pass():
    array = made.noise((HEIGHT, WIDTH))
    whole = interlaced(array)
    assert (decode(png(8, 0, interlace=1, data=whole)).image.pixels[..., 0] == array).all()
    with pytest.raises(InputError, match="damaged"):
        decode(png(8, 0, interlace=1, data=whole[:-7]))


def test_what_follows_the_last_row_is_no_damage():
    array = np.zeros((HEIGHT, WIDTH), np.uint8)
    body = b"".join(b"\0" + row.tobytes() for row in array) + bytes(500)
    assert decode(png(8, 0, data=body)).image.size == (WIDTH, HEIGHT)


def test_pillows_own_black_images_are_read():
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"):
        out = io.BytesIO()
        Image.new(mode, (300, 200)).save(out, "PNG")
        assert decode(out.getvalue()).image.size == (300, 200)
