"""Small whole images of every format and of the kinds within it, with as much metadata as each can carry."""

from __future__ import annotations

import functools
import struct
import zlib

import cv2
import numpy as np
from PIL import Image

from gpen_core.images.codecs import EncodedImage, decode, encode
from gpen_core.images.formats import missing_reader
from gpen_core.images.image import from_array

from .. import image_files as made

XMP = made.XMP_WITH_ORIENTATION % 6
SMALL, DEEP = made.noise((9, 12, 3)), made.noise((9, 12, 4), np.uint16)
TEXTS = (
    (b"tEXt", b"parameters\0a cat"),
    (b"zTXt", b"workflow\0\0" + zlib.compress(b"{}" * 99)),
    (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    (b"eXIf", made.exif_block(">", 6)[6:]),
    (b"iCCP", b"gray\0\0" + zlib.compress(made.gray_profile())),
    (b"gAMA", b"\0\0\xb1\x8f"),
    (b"cHRM", bytes(32)),
    (b"pHYs", b"\0\0\x0b\x13\0\0\x0b\x13\1"),
)


def pages(format_name, count=2, **kwargs):
    images = [Image.fromarray(made.noise((8, 8, 3), seed=n)) for n in range(count)]
    return made.encode_image(images[0], format_name, save_all=True, append_images=images[1:], **kwargs)


def by_opencv(suffix, array, *flags):
    return cv2.imencode(suffix, array, list(flags))[1].tobytes()


def png():
    return (
        made.png(SMALL, *TEXTS),
        made.png(DEEP, *TEXTS),
        made.png(DEEP[..., :3]),
        made.png(DEEP[..., :2]),
        made.png(DEEP[..., 0], (b"tRNS", b"\0\7")),
        made.png(SMALL[..., 0] % 4, (b"tRNS", b"\0\1"), bits=2),
        made.png(SMALL[..., 0] % 2, bits=1),
        made.palette(made.noise((16, 3)), SMALL[..., 0] % 16, transparency=3),
        made.encode_image(SMALL, "PNG", exif=made.exif_block("<", 3), icc_profile=made.gray_profile(), dpi=(300, 300)),
        pages("PNG"),
    )


def jpeg():
    exif, icc = made.exif_block(">", 6), made.gray_profile()
    segments = made.jpeg_segment(0xE1, made.XMP_HEADER + XMP) + made.jpeg_segment(0xED, b"Photoshop 3.0\0" + bytes(40))
    return (
        made.jpeg_with(segments, SMALL, exif=exif, comment=b"a comment", dpi=(300, 300), icc_profile=icc),
        made.encode_image(made.noise((40, 40, 3)), "JPEG", progressive=True, exif=exif),
        made.encode_image(Image.new("RGB", (1200, 1200)), "JPEG", progressive=True),  # of many pixels in few bytes
        made.encode_image(made.noise((40, 40, 3)), "JPEG", subsampling=2),
        made.encode_image(SMALL[..., 0], "JPEG", icc_profile=icc),
        made.encode_image(Image.fromarray(SMALL).convert("CMYK"), "JPEG", icc_profile=made.cmyk_profile()),
        pages("MPO"),
    )


def webp():
    rgba = made.noise((9, 12, 4))
    return (
        made.encode_image(SMALL, "WEBP", exif=made.exif_block("<", 6)[6:], xmp=XMP, icc_profile=made.gray_profile()),
        made.encode_image(SMALL, "WEBP", lossless=True, exif=made.exif_block("<", 6)),
        made.encode_image(rgba, "WEBP"),
        made.encode_image(rgba, "WEBP", lossless=True),
        pages("WEBP"),
    )


def tiff():
    carrier = decode(jpeg()[0])
    image, deep = Image.fromarray(SMALL), DEEP[..., :3]
    compressed = ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg")
    return (
        encode(carrier, "TIFF"),
        encode(EncodedImage(from_array(DEEP), carrier.metadata, "TIFF", False), "TIFF"),
        *(made.encode_image(image, "TIFF", compression=name, tiffinfo={274: 6}) for name in compressed),
        made.encode_image(image.convert("1"), "TIFF", compression="group4"),
        made.encode_image(image.convert("P"), "TIFF"),
        made.encode_image(image.convert("CMYK"), "TIFF", icc_profile=made.cmyk_profile()),
        made.tiff_rgb(SMALL),
        made.tiff_rgb(SMALL, bigtiff=True),
        made.tiff_rgb(deep),
        made.tiff_rgb(DEEP, byteorder=">"),
        made.tiff_rgb(deep, compression="zlib", predictor=True),
        made.tiff_rgb(np.tile(deep, (4, 4, 1)), tile=(16, 16)),
        made.tiff(DEEP[..., 0], photometric="minisblack", bigtiff=True),
        made.tiff(np.moveaxis(SMALL, 2, 0), photometric="rgb", planarconfig="separate"),
        by_opencv(".tif", deep, cv2.IMWRITE_TIFF_COMPRESSION, 5),  # LZW of 16 bits
        by_opencv(".tif", SMALL, cv2.IMWRITE_TIFF_COMPRESSION, 32946),  # deflate
        pages("TIFF"),
    )


def bmp():
    image = Image.fromarray(SMALL)
    kinds = [made.encode_image(image.convert(mode), "BMP", dpi=(72, 72)) for mode in ("RGB", "P", "L", "1", "RGBA")]
    runs = b"\3\1\0\4\1\2\3\4\5\2\0\0" + b"\x0c\7\0\0" + b"\x0c\3\0\1"
    palette = bytes(made.noise(64))
    sizes = struct.pack("<LllHHLLllLL", 40, 12, 3, 1, 8, 1, len(runs), 2835, 2835, 16, 0)
    start = 14 + len(sizes) + len(palette)
    rle = b"BM" + struct.pack("<LLL", start + len(runs), 0, start) + sizes + palette + runs
    return (*kinds, rle, made.encode_image(Image.fromarray(made.noise((40, 33, 3))), "BMP"))


def gif():
    image = Image.fromarray(SMALL)
    return (
        made.encode_image(image, "GIF", comment=b"a comment"),
        made.encode_image(image.convert("P"), "GIF", transparency=3),
        made.encode_image(image.convert("L"), "GIF", interlace=1),
        made.encode_image(Image.fromarray(made.noise((40, 33, 3))), "GIF"),
        pages("GIF"),
    )


def jp2():
    larger = Image.fromarray(made.noise((40, 33, 3)))
    return (
        made.encode_image(SMALL, "JPEG2000"),
        made.encode_image(made.noise((9, 12, 4)), "JPEG2000"),
        made.encode_image(DEEP[..., 0], "JPEG2000"),
        made.encode_image(larger, "JPEG2000", no_jp2=True),
        made.encode_image(larger, "JPEG2000", irreversible=True, tile_size=(16, 16)),
    )


def avif():
    image, others = Image.fromarray(made.noise((40, 33, 3))), {"exif": made.exif_block(">", 6), "xmp": XMP}
    return (
        made.encode_image(image, "AVIF", icc_profile=made.rgb_profile(), **others),
        made.encode_image(made.noise((9, 12, 4)), "AVIF"),
        made.encode_image(SMALL, "AVIF", quality=100, subsampling="4:4:4"),
        pages("AVIF"),
    )


def heif():
    image, others = Image.fromarray(made.noise((40, 33, 3))), {"exif": made.exif_block(">", 6), "xmp": XMP}
    return (
        made.heif(image, icc_profile=made.rgb_profile(), **others),
        made.heif(Image.fromarray(made.noise((64, 64, 4)))),
        made.deep_heif(made.noise((64, 64, 3), np.uint16)),
        made.heif(image, save_all=True, append_images=[image]),
    )


@functools.cache
def bases():
    """{format: whole files}. Made when they are first needed."""
    kinds = [png, jpeg, webp, tiff, bmp, gif, jp2]
    kinds += [made_by for name, made_by in (("AVIF", avif), ("HEIF", heif)) if missing_reader(name) is None]
    return {made_by.__name__: made_by() for made_by in kinds}
