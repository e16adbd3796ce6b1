"""A TIFF whose strips do not hold what they must is an InputError; one that is odd but whole is read."""

import io
import struct
import zlib

import cv2
import image_files as made
import numpy as np
import pytest
import tifffile
from PIL import Image

from gpen_core.errors import InputError
from gpen_core.images import tiff_integrity
from gpen_core.images.codecs import EncodedImage, decode, encode
from gpen_core.images.image import from_array
from gpen_core.images.metadata import Metadata

GRAY = made.noise((10, 40))
COLOR, DEEP = made.blocks(40, 48, 4), made.blocks(40, 48, 4).astype(np.uint16) * 257


def stored(strips, rows=4, compression=8, order="<", big=False, height=10, width=40, counts=None, **tags):
    """A gray TIFF of these strips, byte by byte."""
    position, number = ("Q", 16) if big else ("L", 4)
    inline = struct.calcsize("=" + position)
    counts = [len(strip) for strip in strips] if counts is None else counts
    values = {256: [width], 257: [height], 258: [8], 259: [compression], 262: [1], 277: [1], 278: [rows], 279: counts}
    values |= {int(tag[1:]): [value] for tag, value in tags.items()}
    values[273] = [0] * len(strips)
    start = struct.pack(order + "HHHQ", 43, 8, 0, 16) if big else struct.pack(order + "HL", 42, 8)
    at = 2 + len(start)
    for _ in range(2):
        table, behind = struct.pack(order + ("Q" if big else "H"), len(values)), b""
        end = at + len(table) + len(values) * (4 + 2 * inline) + inline
        for tag, of in sorted(values.items()):
            value = struct.pack(f"{order}{len(of)}{position}", *of)
            if len(value) > inline:
                value, behind = struct.pack(order + position, end + len(behind)), behind + value
            table += struct.pack(order + "HH" + position, tag, number, len(of)) + value
        head = {"<": b"II", ">": b"MM"}[order] + start + table + bytes(inline) + behind
        values[273] = [len(head) + sum(map(len, strips[:n])) for n in range(len(strips))]
    return head + b"".join(strips)


def deflated(array=GRAY, rows=4):
    return [zlib.compress(array[y : y + rows].tobytes()) for y in range(0, len(array), rows)]


def lzw_codes(data):
    """TIFF 6.0, section 13, word by word; the codes and their widths."""
    table, codes, word, width = {bytes((n,)): n for n in range(256)}, [(256, 9)], b"", 9
    for byte in data:
        longer = word + bytes((byte,))
        if longer in table:
            word = longer
            continue
        codes.append((table[word], width))
        table[longer] = len(table) + 2
        word = bytes((byte,))
        width = 9 + sum(len(table) + 2 > limit for limit in (511, 1023, 2047))
        if len(table) + 2 == 4095:
            codes += [(256, width)]
            table, width = {bytes((n,)): n for n in range(256)}, 9
    if word:
        codes.append((table[word], width))
        width = 9 + sum(len(table) + 3 > limit for limit in (511, 1023, 2047))
    return [*codes, (257, width)]


def packed(codes):
    bits = "".join(f"{code:0{width}b}" for code, width in codes)
    return int(bits.ljust(-(-len(bits) // 8) * 8, "0"), 2).to_bytes(-(-len(bits) // 8), "big")


def lzw(data):
    return packed(lzw_codes(data))


def refused(data):
    with pytest.raises(InputError, match="the file is damaged") as error:
        decode(data)
    return str(error.value)


def flipped(data, bit):
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def one_strip(photo):
    return encode(EncodedImage(from_array(photo), Metadata(), "TIFF", False), "TIFF")


def opencv(array):
    return cv2.imencode(".tif", array, [cv2.IMWRITE_TIFF_COMPRESSION, 5])[1].tobytes()


# --- Whole files ---

WHOLE = {
    "deflate strips": stored(deflated()),
    "deflate, old number": stored(deflated(), compression=32946),
    "BigTIFF": stored(deflated(), big=True),
    "big-endian": stored(deflated(), order=">"),
    "padding behind strips": stored([strip + bytes(7) for strip in deflated()]),
    "last strip filled up": stored(deflated(np.vstack((GRAY, GRAY[:2])))),
    "some bytes more": stored([zlib.compress(zlib.decompress(strip) + b"more") for strip in deflated()]),
    "plain": stored([GRAY.tobytes()], rows=10, compression=1),
    "plain, padded": stored([GRAY[:5].tobytes() + bytes(9), GRAY[5:].tobytes() + bytes(9)], rows=5, compression=1),
    "plain, without a size": stored([GRAY.tobytes()], rows=10, compression=1, counts=[0]),
    "lzw": stored([lzw(GRAY[y : y + 4].tobytes()) for y in (0, 4, 8)], compression=5),
    "lzw, padded": stored([lzw(GRAY.tobytes()) + bytes(5)], rows=10, compression=5),
    "lzw, last strip filled up": stored([lzw(np.vstack((GRAY, GRAY))[y : y + 8].tobytes()) for y in (0, 8)], 8, 5),
    "lzw, a byte more": stored([lzw(GRAY.tobytes() + b"x")], rows=10, compression=5),
    "lzw without an end": stored([packed(lzw_codes(GRAY.tobytes())[:-1])], rows=10, compression=5),
    "rows without limit": stored(deflated(rows=10), rows=2**32 - 1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_odd_but_whole_files_are_read(name):
    assert np.array_equal(decode(WHOLE[name]).image.to_input_type(), GRAY)


@pytest.mark.parametrize("how", ("tiff_adobe_deflate", "tiff_deflate", "tiff_lzw"))
@pytest.mark.parametrize("mode", ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"))
@pytest.mark.parametrize("predictor", (1, 2))
def test_whatever_pillow_writes_is_read(mode, how, predictor):
    image = Image.fromarray(COLOR)
    image = Image.fromarray(DEEP[..., 0]) if mode == "I;16" else image.convert(mode)
    size = 512 if mode != "1" else 12
    info = {278: size // 12} if predictor == 1 or mode == "1" else {317: 2}
    data = made.encode_image(image, "TIFF", compression=how, tiffinfo=info)
    assert decode(data).image.size == (48, 40)


@pytest.mark.parametrize("layout", ({}, {"tile": (16, 16)}, {"rowsperstrip": 7}, {"bigtiff": True}, {"byteorder": ">"}))
@pytest.mark.parametrize("predictor", (False, True))
@pytest.mark.parametrize("pixels", (COLOR, DEEP), ids=("8 bits", "16 bits"))
def test_whatever_tifffile_writes_is_read(pixels, predictor, layout):
    data = made.tiff_rgb(pixels, compression="zlib", predictor=predictor, **layout)
    assert np.array_equal(decode(data).image.to_input_type(), pixels)


def test_planes_of_their_own_are_read():
    data = made.tiff(
        COLOR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib", rowsperstrip=7
    )
    assert np.array_equal(decode(data).image.to_input_type(), COLOR)
    assert "damaged" in refused(data[:-3] + flipped(data[-3:], 0))


# --- Damage ---

DEFLATED = {
    "strips": stored(deflated()),
    "padded": stored([strip + bytes(7) for strip in deflated()]),
    "ours": one_strip(COLOR[:16, :24]),
    "ours, 16 bits": one_strip(DEEP[:16, :24]),
    "tiles": made.tiff_rgb(COLOR, compression="zlib", predictor=True, tile=(16, 16)),
    "planes": made.tiff(COLOR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", compression="zlib"),
}


@pytest.mark.parametrize("name", DEFLATED)
@pytest.mark.slow
def test_no_flipped_bit_of_a_deflated_strip_changes_the_image(name):
    data = DEFLATED[name]
    pixels = decode(data).image.to_input_type()
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        pieces = list(zip(file.pages[0].dataoffsets, file.pages[0].databytecounts))
    passed = 0
    for offset, count in pieces:
        for bit in range(8 * offset, 8 * (offset + count), 5):
            try:
                got = decode(flipped(data, bit)).image.to_input_type()
            except InputError as error:
                assert "damaged" in str(error)
            else:
                passed += 1
                assert np.array_equal(got, pixels)  # of the padding, and of hints to the decoder
    assert passed <= 0.2 * 8 / 5 * sum(count for _, count in pieces)


DAMAGED = {
    "checksum": stored([*deflated()[:2], deflated()[2][:-1] + b"!"]),
    "cut": stored([deflated()[0][:-4], *deflated()[1:]]),
    "too little": stored([zlib.compress(GRAY[:4].tobytes()[:-1]), *deflated()[1:]]),
    "a row more": stored([zlib.compress(GRAY[:5].tobytes()), *deflated()[1:]]),
    "a bomb": stored([zlib.compress(bytes(10**7)), *deflated()[1:]]),
    "narrower": stored(deflated(), width=8),
    "lower": stored(deflated(), height=6),
    "lower, in one strip": stored(deflated(rows=10), rows=10, height=8),
    "fewer rows in a strip": stored(deflated(rows=5), rows=4, height=8),
    "outside": stored(deflated(), counts=[len(deflated()[0]), len(deflated()[1]), 2**31]),
    "plain, too little": stored([GRAY.tobytes()], rows=10, compression=1, counts=[399]),
    "plain, outside": stored([GRAY.tobytes()], rows=10, compression=1, counts=[401]),
    "lzw, too little": stored([lzw(GRAY.tobytes()[:-1])], rows=10, compression=5),
    "lzw, cut": stored([lzw(GRAY.tobytes())[:-9]], rows=10, compression=5),
    "lzw, outside": stored([lzw(GRAY.tobytes())], rows=10, compression=5, counts=[2**31]),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_strips_do_not_hold_is_missed(name):
    assert "Get another copy" in refused(DAMAGED[name])


def test_a_bomb_is_not_inflated_to_its_end(monkeypatch):
    inflated, decoder = [], zlib.decompressobj

    class Counted:
        def __init__(self):
            self.stream = decoder()

        def decompress(self, data, most):
            inflated.append(len(out := self.stream.decompress(data, most)))
            return out

        def __getattr__(self, name):
            return getattr(self.stream, name)

    monkeypatch.setattr(tiff_integrity.zlib, "decompressobj", Counted)
    refused(DAMAGED["a bomb"])
    assert 0 < sum(inflated) <= 2 * tiff_integrity.CHUNK_SIZE


def test_output_that_waits_in_the_decoder_is_counted(monkeypatch):
    """A single piece of input may stand for many of output."""
    flat = np.zeros((10, 40), np.uint8)
    data = stored([strip + b"\0" for strip in deflated(flat)])  # the padding hides the checksum from the short way
    monkeypatch.setattr(tiff_integrity, "CHUNK_SIZE", 3)
    assert np.array_equal(decode(data).image.to_input_type(), flat)


@pytest.mark.parametrize("tag, value", [(278, 0), (256, 0), (322, 16), (325, 5)])
def test_tags_that_cannot_be_are_an_input_error(tag, value):
    with pytest.raises(InputError):
        decode(stored(deflated(), **{f"t{tag}": value}))
