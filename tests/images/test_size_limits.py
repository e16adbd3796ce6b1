"""How many pixels are read follows the memory there is, unless somebody says how many."""

import struct

import image_files as made
import pytest
from PIL import Image

from gpen_core.errors import ImageTooLarge, InputError
from gpen_core.images import size_limits
from gpen_core.images.codecs import EncodedImage, decode


def claims(width, height):
    """A PNG's header, and no pixels."""
    header = struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        made.png_chunk(*one) for one in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b""))
    )


PHONE = claims(16320, 12240)  # 200 million


def refused(data, max_pixels=None):
    with pytest.raises(ImageTooLarge) as error:
        EncodedImage.check_size(data, max_pixels)
    return str(error.value)


@pytest.fixture
def memory(monkeypatch):
    """This machine has so many bytes; None: it does not say."""
    return lambda count: monkeypatch.setattr(size_limits, "host_memory", lambda: count)


def test_a_200_megapixel_photograph_is_read_where_half_of_the_memory_holds_it(memory):
    memory(16 << 30)
    EncodedImage.check_size(PHONE)
    memory(8 << 30)
    said = refused(PHONE)
    assert "16320 x 12240 pixels are too many for this machine: restoring 200 million needs up to 6.14 GiB, and" in said
    assert "this machine has 8.00 GiB. To try it anyway, set max_pixels to 199756800." in said


def test_where_nobody_tells_how_much_memory_there_is_pillows_limit_stays(memory):
    memory(None)
    EncodedImage.check_size(claims(13377, 13377))
    assert "this machine's memory is unknown" in refused(PHONE)


def test_little_memory_refuses_no_image_by_its_pixels(memory):
    memory(1 << 30)
    EncodedImage.check_size(claims(12000, 12000))


def test_who_says_how_many_decides(memory):
    memory(1 << 30)
    EncodedImage.check_size(PHONE, 200_000_000)
    memory(1 << 40)
    assert "16320 x 12240 pixels are too many: the limit is 100,000,000 pixels" in refused(PHONE, 100_000_000)


def test_what_opencv_does_not_work_on_is_refused_anywhere(memory):
    memory(1 << 50)
    assert "the limit is 1,073,741,824 pixels" in refused(claims(40000, 30000)) == refused(claims(40000, 30000), 1 << 40)


@pytest.mark.parametrize("limit", (100, None))
def test_neither_pillows_limit_nor_its_absence_matters(monkeypatch, limit, caplog):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert decode(made.encode_image(made.noise((40, 40, 3)), "PNG")).image.size == (40, 40)
    assert not caplog.text
    with pytest.raises(InputError, match="too many"):
        decode(claims(60000, 60000))


def test_enough_memory_that_was_allowed_is_enough(memory):
    memory(1 << 30)
    with pytest.raises(InputError) as error:
        decode(PHONE, max_memory=7 * 10**9)
    assert "too many" not in str(error.value)  # but has no pixels
