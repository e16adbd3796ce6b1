"""What a file carries beside its pixels arrives in the next one, or a warning says that it does not."""

import io
import json
import logging
import struct

import image_files as made
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from gpen_core.images.codecs import EncodedImage, decode, encode
from gpen_core.images.formats import OUTPUT_FORMATS
from gpen_core.images.image import from_array
from gpen_core.images.metadata import Metadata

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = made.XMP_WITH_ORIENTATION.replace(b' tiff:Orientation="%d"', b"")
PARAMETERS = "a photo of a café, (masterpiece:1.2)\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 1"
WORKFLOW = json.dumps({"nodes": [{"title": "写真 ✓", "value": 0.5}]}, ensure_ascii=False)
COLOR_CHUNKS = [(b"gAMA", struct.pack(">L", 45455)), (b"sRGB", b"\0")]
EIGHT, SIXTEEN = made.noise((9, 11, 3)), made.noise((9, 11, 3), np.uint16)
STORED_IN_TIFF = {256, 257, 258, 259, 262, 273, 277, 278, 279, 317, 338, 339, 700, 34675, 282, 283, 296}


def jpeg(exif=None, comment=None, segments=b"", xmp=XMP, icc=SRGB, **kwargs):
    data = made.encode_image(EIGHT, "JPEG", icc_profile=icc, dpi=(300, 240), **({"exif": exif} if exif else {}), **kwargs)
    parts = made.jpeg_segment(0xE1, made.XMP_HEADER + xmp) if xmp else b""
    parts += made.jpeg_segment(0xFE, comment) if comment else b""
    return data[:20] + parts + segments + data[20:]  # after JFIF's segment, where there is one


def png(pixels, exif=None, chunks=()):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", PARAMETERS)
    text.add_text("prompt", WORKFLOW)
    text.add_itxt("workflow", WORKFLOW, "ja", "流れ", zip=True)
    text.add_text("Software", "x" * 400, zip=True)
    carrier = made.encode_image(EIGHT, "PNG", icc_profile=SRGB, dpi=(300, 240), pnginfo=text)
    inner = [chunk for chunk in made.png_chunks(carrier) if chunk[0] not in (b"IHDR", b"IDAT", b"IEND")]
    inner += [(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP)] + ([(b"eXIf", exif[6:])] if exif else [])
    return made.png(pixels, *chunks, *inner)


def tiff(pixels, order="<", orientation=None):
    """With everything, the sub-directories among it; Pillow and tifffile write none of those with such pixels."""
    height, width, channels = pixels.shape
    strip = pixels.astype(f"{order}u{pixels.itemsize}").tobytes()
    numbers = {256: width, 257: height, 259: 1, 262: 2, 277: channels, 278: height, 279: len(strip), 296: 2}
    entries = {**made.camera_tags(order, orientation), **{tag: made.number(n, 4, order) for tag, n in numbers.items()}}
    entries[258] = (3, channels, struct.pack(f"{order}{channels}H", *(8 * pixels.itemsize,) * channels))
    entries[296] = made.number(2, 3, order)
    entries[282], entries[283] = ((5, 1, struct.pack(order + "2L", n, 1)) for n in (300, 240))
    entries[700], entries[34675] = (1, len(XMP), XMP), (7, len(SRGB), SRGB)
    return made.bare_tiff(entries, strip, order)


def webp(exif=None, **kwargs):
    return made.encode_image(
        EIGHT, "WEBP", lossless=True, icc_profile=SRGB, xmp=XMP, **({"exif": exif} if exif else {}), **kwargs
    )


BLOCK = made.exif_block("<")
SOURCES = {
    "jpeg": (lambda: jpeg(BLOCK, b"hello"), ("icc", "xmp", "dpi", "exif")),
    "png": (lambda: png(EIGHT, BLOCK, COLOR_CHUNKS), ("icc", "xmp", "dpi", "exif")),
    "png 16": (lambda: png(SIXTEEN, BLOCK, COLOR_CHUNKS), ("icc", "xmp", "dpi", "exif")),
    "webp": (lambda: webp(BLOCK), ("icc", "xmp", "exif")),
    "tiff": (lambda: tiff(EIGHT), ("icc", "xmp", "dpi", "exif")),
    "tiff 16": (lambda: tiff(SIXTEEN), ("icc", "xmp", "dpi", "exif")),
    "bmp": (lambda: made.encode_image(EIGHT, "BMP", dpi=(300, 240)), ("dpi",)),
}
HOLDS = {
    "PNG": {"icc", "xmp", "dpi", "exif"},
    "JPEG": {"icc", "xmp", "dpi", "exif"},
    "WEBP": {"icc", "xmp", "exif"},
    "TIFF": {"icc", "xmp", "dpi", "exif"},
    "BMP": {"dpi"},
}


def carried(data):
    """What Pillow and the readers of the tests find in a file."""
    image = Image.open(io.BytesIO(data))
    image.load()
    found = {"icc": image.info.get("icc_profile"), "xmp": xmp_of(image, data), "exif": exif_of(image, data)}
    dpi = image.info.get("dpi")
    found["dpi"] = dpi and tuple(round(float(n)) for n in dpi)
    return found


def xmp_of(image, data):
    if image.format == "JPEG":
        packets = [p for marker, p in made.jpeg_segments(data) if marker == 0xE1 and p.startswith(made.XMP_HEADER)]
        return packets[0][len(made.XMP_HEADER) :] if packets else None
    if image.format == "TIFF":
        return made.read_directory(data).get(700, (0, 0, None))[2]
    found = getattr(image, "text", {}).get("XML:com.adobe.xmp") or image.info.get("xmp")
    return found.encode() if isinstance(found, str) else found


def exif_of(image, data):
    """As nested tags; without those that say how a TIFF stores its pixels."""
    if image.format == "TIFF":
        tags = made.read_directory(data)
    elif image.info.get("exif"):
        tags = made.read_directory(image.info["exif"])
    else:
        return None
    return {tag: entry for tag, entry in tags.items() if tag not in STORED_IN_TIFF} or None


EXPECTED = {"icc": SRGB, "xmp": XMP, "dpi": (300, 240), "exif": made.read_directory(BLOCK)}


@pytest.mark.parametrize("target", OUTPUT_FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_what_a_format_can_hold_arrives_in_it(source, target):
    make, has = SOURCES[source]
    found = carried(encode(decode(make()), target))
    for what, value in EXPECTED.items():
        if what in has and what in HOLDS[target]:
            assert found[what] == value, what


@pytest.mark.parametrize("source", SOURCES)
def test_another_round_adds_and_loses_nothing(source):
    first = decode(SOURCES[source][0]())
    once = encode(first, first.format)
    assert decode(once).metadata == decode(encode(decode(once), first.format)).metadata
    assert carried(encode(decode(once), first.format)) == carried(once)


LOST = {  # what each source has -> the words for it
    "icc": "color profile",
    "xmp": "XMP",
    "dpi": "resolution",
    "exif": "EXIF",
    "comment": "comment",
    "text": "PNG text (parameters, prompt, workflow, Software)",
}
ALSO = {"jpeg": ("comment",), "png": ("text",), "png 16": ("text",)}
ALSO_HOLDS = {"PNG": {"text"}, "JPEG": {"comment"}}


@pytest.mark.parametrize("target", OUTPUT_FORMATS)
@pytest.mark.parametrize("source", SOURCES)
def test_what_is_lost_is_told_and_nothing_else_is(source, target, caplog):
    make, has = SOURCES[source]
    first = decode(make())
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        encode(first, target)
    holds = HOLDS[target] | ALSO_HOLDS.get(target, set())
    for what in (*has, *ALSO.get(source, ())):
        assert (LOST[what] in caplog.text) == (what not in holds), what
    for what in set(LOST) - set(has) - set(ALSO.get(source, ())):
        assert LOST[what] not in caplog.text, what


# --- EXIF ---

ROTATED = {
    "jpeg": lambda order, o: jpeg(made.exif_block(order, o)),
    "png": lambda order, o: png(EIGHT, made.exif_block(order, o)),
    "png 16": lambda order, o: png(SIXTEEN, made.exif_block(order, o)),
    "webp": lambda order, o: webp(made.exif_block(order, o)),
    "tiff": lambda order, o: tiff(EIGHT, order, o),
    "tiff 16": lambda order, o: tiff(SIXTEEN, order, o),
}


@pytest.mark.parametrize("orientation", (None, 1, 6))
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("source", ROTATED)
def test_every_exif_value_arrives_byte_for_byte_except_the_orientation(source, order, orientation):
    first = decode(ROTATED[source](order, orientation))
    for target in ("JPEG", "PNG", "WEBP", "TIFF"):
        assert carried(encode(first, target))["exif"] == made.read_directory(made.exif_block(order)), target


@pytest.mark.parametrize("source", ROTATED)
def test_pillow_reads_the_exif_that_is_written(source):
    exif = Image.open(io.BytesIO(encode(decode(ROTATED[source]("<", 6)), "JPEG"))).getexif()
    assert exif[0x010F] == "Maker" and 0x0112 not in exif
    inner = exif.get_ifd(0x8769)
    assert inner[0x9286] == b"UNICODE\0" + "a café 中".encode("utf-16-le") and inner[0x829A] == 1 / 125
    assert exif.get_ifd(0x8825)[2] == (48, 51, 29.99)


def test_a_makers_note_stays_where_it_was_since_it_may_point_into_the_block():
    block = made.exif_block("<", 6)
    written = Image.open(io.BytesIO(encode(decode(jpeg(block)), "JPEG"))).info["exif"]
    assert written.index(b"maker\0notes") == block.index(b"maker\0notes")


@pytest.mark.parametrize("orientation", (None, 6))
def test_a_thumbnail_is_left_out_since_it_shows_the_image_as_it_was(orientation):
    start, tags = made.tiff_start("<"), made.camera_tags("<", orientation)
    at = 8 + len(made.tiff_ifd(tags, "<", 8))
    thumbnail = {0x0103: made.number(6), 0x0201: made.number(at + 50, 4), 0x0202: made.number(4, 4)}
    block = b"Exif\0\0" + start + made.tiff_ifd(tags, "<", 8, at) + made.tiff_ifd(thumbnail, "<", at) + b"\xff\xd8\xff\xd9"
    image = Image.open(io.BytesIO(encode(decode(jpeg(block)), "JPEG")))
    assert exif_of(image, b"") == made.read_directory(made.exif_block("<"))
    (following,) = struct.unpack_from("<L", image.info["exif"], 6 + 8 + 2 + 12 * 4)
    assert following == 0


@pytest.mark.parametrize("source", ("jpeg", "png", "webp"))
def test_where_the_orientation_was_all_there_was_nothing_stays(source):
    block = b"Exif\0\0" + made.tiff_start(">") + made.tiff_ifd({0x0112: (3, 1, b"\0\6")}, ">", 8)
    make = {"jpeg": jpeg, "png": lambda exif: png(EIGHT, exif), "webp": webp}[source]
    first = decode(make(block))
    assert first.image.to_input_type().shape == (11, 9, 3) and first.metadata.exif is None
    assert carried(encode(first, "JPEG"))["exif"] is None


BROKEN_EXIF = {
    "junk": b"junk junk junk junk",
    "header only": made.tiff_start("<"),
    "directory out of reach": b"II*\0" + struct.pack("<L", 10**6) + bytes(20),
    "cut off": made.exif_block("<", 6)[6:60],
    "more entries than bytes": made.tiff_start("<") + struct.pack("<H", 5000) + made.exif_block("<", 6)[16:],
    "loops": made.tiff_start("<")
    + made.tiff_ifd({made.EXIF: (4, 1, struct.pack("<L", 8)), made.GPS: (4, 1, struct.pack("<L", 8))}, "<", 8),
    "values out of reach": made.tiff_start("<")
    + made.tiff_ifd({0x010F: (2, 2, b"\xff\xff\xff\xff")}, "<", 8).replace(b"\2\0\2\0\0\0", b"\2\0\0\0\0\xff"),
    "the same directory a thousand times": made.tiff_start("<")
    + (b"\xd0\x07" + struct.pack("<HHLL", made.EXIF, 4, 1, 8) * 2000 + bytes(4)),
    "unknown type": made.tiff_start("<") + made.tiff_ifd({0x010F: (99, 1, b"abcd")}, "<", 8),
}


WITH_EXIF = {"jpeg": jpeg, "png": lambda exif: png(EIGHT, exif), "webp": webp}


def assert_whole(source, block, target):
    """An image whose EXIF block may be damaged is read, and written with its profile and XMP."""
    first = decode(WITH_EXIF[source](block))
    again = decode(encode(first, target))
    assert (again.image.height, again.image.width) == (first.image.height, first.image.width)
    if target not in ("JPEG", "BMP"):
        assert again.metadata.icc == SRGB and again.metadata.xmp == XMP


@pytest.mark.parametrize("target", OUTPUT_FORMATS)
@pytest.mark.parametrize("damage", BROKEN_EXIF)
def test_a_damaged_exif_block_costs_no_image(damage, target):
    """Every pair of damage, source and target occurs."""
    turn = list(BROKEN_EXIF).index(damage) + list(OUTPUT_FORMATS).index(target)
    assert_whole(list(WITH_EXIF)[turn % 3], b"Exif\0\0" + BROKEN_EXIF[damage], target)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    source=st.sampled_from(list(WITH_EXIF)),
    target=st.sampled_from(list(OUTPUT_FORMATS)),
    order=st.sampled_from("<>"),
    damage=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=8),
    kept=st.floats(0, 1),
)
def test_an_exif_block_damaged_anywhere_costs_no_image(source, target, order, damage, kept):
    block = bytearray(made.exif_block(order, 1)[6:])
    for where, value in damage:
        block[int(where * len(block))] = value
    assert_whole(source, b"Exif\0\0" + bytes(block[: 8 + int(kept * (len(block) - 8))]), target)


def test_an_exif_block_that_is_none_is_told(caplog):
    assert decode(jpeg(b"Exif\0\0" + BROKEN_EXIF["junk"])).metadata.exif is None
    assert "EXIF" in caplog.text


@pytest.mark.parametrize("order", "<>")
def test_an_exif_block_without_tags_is_not_called_damaged(caplog, order):
    """Pillow's `exif_transpose` leaves one where the orientation was the only tag. A1111 calls it for every image."""
    assert decode(jpeg(b"Exif\0\0" + made.tiff_start(order) + made.tiff_ifd({}, order, 8))).metadata.exif is None
    assert not caplog.records


def test_tags_about_pixels_that_are_no_longer_so_do_not_reach_a_tiff():
    tags = {
        **made.camera_tags("<"),
        0x0100: made.number(9999, 4),
        0x0103: made.number(6),
        0x0111: made.number(7, 4),
        0x0213: made.number(1),
    }
    block = b"Exif\0\0" + made.tiff_start("<") + made.tiff_ifd(tags, "<", 8)
    written = encode(decode(jpeg(block)), "TIFF")
    assert np.array_equal(decode(written).image.to_input_type(), decode(jpeg(block)).image.to_input_type())
    assert 0x0213 not in made.read_directory(written)


def test_an_exif_block_too_long_for_a_jpeg_is_left_out_and_told(caplog):
    note = made.noise(70000).tobytes()
    block = b"Exif\0\0" + made.tiff_start("<") + made.tiff_ifd({0x010F: (2, 4, b"abc\0"), 0x927C: (7, 70000, note)}, "<", 8)
    first = decode(png(EIGHT, block))
    assert carried(encode(first, "PNG"))["exif"] == made.read_directory(block) and not caplog.records
    found = carried(encode(first, "JPEG"))
    assert found["exif"] is None and found["xmp"] == XMP and "EXIF" in caplog.text


@pytest.mark.parametrize("kind", (1, 3, 4, 5))
def test_a_resolution_of_a_rare_type_breaks_no_jpeg(kind):
    entries = {tag: made.number(n, 4) for tag, n in ((256, 11), (257, 9), (259, 1), (262, 1), (277, 1), (278, 9), (279, 99))}
    value = struct.pack("<2L", 300, 1) if kind == 5 else made.number(72, kind)[2]
    entries |= {258: made.number(8), 282: (kind, 1, value), 283: (kind, 1, value), 296: made.number(1)}  # of no unit
    written = encode(decode(made.bare_tiff(entries, EIGHT[..., 0].tobytes())), "JPEG")
    assert decode(written).image.to_input_type().shape == (9, 11)


# --- XMP and color ---


def test_xmp_that_an_older_program_hid_in_png_text_is_found():
    text = b"Raw profile type xmp\0\nxmp\n%8d\n" % len(XMP) + XMP.hex().encode() + b"\n"
    for target in ("PNG", "JPEG", "WEBP", "TIFF"):
        written = encode(decode(made.png(EIGHT, (b"tEXt", text))), target)
        assert carried(written)["xmp"] == XMP and b"Raw profile" not in written


def test_png_text_that_only_looks_like_a_hidden_profile_stays_text():
    first = decode(made.png(EIGHT, (b"tEXt", b"Raw profile type exif\0no\nhexa\ndecimal\nnumbers")))
    assert [key for key, _ in decode(encode(first, "PNG")).metadata.text] == ["Raw profile type exif"]


def test_an_xmp_packet_too_long_for_a_jpeg_is_left_out_and_told(caplog):
    first = EncodedImage(from_array(EIGHT), Metadata(xmp=XMP + b" " * 70000, exif=BLOCK), "PNG", False)
    found = carried(encode(first, "JPEG"))
    assert found["xmp"] is None and found["exif"] == EXPECTED["exif"] and "XMP" in caplog.text


@pytest.mark.parametrize("source", ("png", "tiff", "jpeg"))
def test_a_profile_for_other_colors_than_rgb_and_gray_is_not_embedded(source):
    profile = made.cmyk_profile()  # by mistake in an image that is RGB
    data = made.encode_image(EIGHT, source.upper(), icc_profile=profile)
    for target in OUTPUT_FORMATS:
        assert carried(encode(decode(data), target))["icc"] is None


@pytest.mark.parametrize("pixels, target", [(EIGHT[..., 0], "WEBP"), (SIXTEEN[..., :2], "TIFF")], ids=("webp", "tiff"))
def test_a_profile_for_gray_does_not_reach_an_image_in_color(pixels, target, caplog):
    first = EncodedImage(from_array(pixels), Metadata(icc=made.gray_profile()), "PNG", False)
    assert carried(encode(first, target))["icc"] is None and "gray" in caplog.text


@pytest.mark.parametrize("target", ("PNG", "JPEG", "TIFF"))
def test_a_profile_for_gray_stays_with_a_gray_image(target):
    first = decode(made.encode_image(EIGHT[..., 0], "PNG", icc_profile=made.gray_profile()))
    assert carried(encode(first, target))["icc"] == made.gray_profile()


def test_a_profile_longer_than_one_jpeg_segment_arrives():
    profile = SRGB + made.noise(200000).tobytes()
    first = EncodedImage(from_array(EIGHT), Metadata(icc=profile), "PNG", False)
    for target in ("PNG", "JPEG", "WEBP", "TIFF"):
        assert carried(encode(first, target))["icc"] == profile


@pytest.mark.parametrize("pixels", (EIGHT, SIXTEEN, SIXTEEN[..., :2]), ids=("8 bits", "16 bits", "16 bits gray alpha"))
@pytest.mark.parametrize(
    "chunks",
    [COLOR_CHUNKS, [(b"gAMA", struct.pack(">L", 100000)), (b"cHRM", bytes(32))], [(b"cICP", b"\x0c\x0d\0\1")]],
)
def test_gamma_and_primaries_of_a_png_are_kept_as_they_stood(pixels, chunks):
    first = decode(made.png(pixels, *chunks))
    assert np.array_equal(first.image.to_input_type(), pixels), "a gamma was applied"
    written = made.png_chunks(encode(first, "PNG"))
    kinds = [kind for kind, _ in written]
    for chunk in chunks:
        assert written.count(chunk) == 1
        assert kinds.index(chunk[0]) < kinds.index(b"IDAT")


@pytest.mark.parametrize("chunks, told", [(COLOR_CHUNKS, False), ([(b"gAMA", struct.pack(">L", 100000))], True)])
def test_a_lost_gamma_is_told_unless_it_is_the_one_that_everything_expects(chunks, told, caplog):
    encode(decode(made.png(EIGHT, *chunks)), "JPEG")
    assert ("PNG color" in caplog.text) == told


# --- PNG text, JPEG comments, resolution ---


@pytest.mark.parametrize("dpi, told", [((72.0, 72.0), False), ((300.0, 300.0), True)])
def test_a_lost_resolution_is_told_unless_it_is_the_one_that_stands_for_none(dpi, told, caplog):
    encode(EncodedImage(from_array(EIGHT), Metadata(dpi=dpi, comment=b"hello"), "JPEG", True), "WEBP")
    assert ("resolution" in caplog.text) == told and "comment" in caplog.text


@pytest.mark.parametrize("pixels", (EIGHT, SIXTEEN), ids=("8 bits", "16 bits"))
def test_png_text_arrives_as_it_was(pixels):
    image = Image.open(io.BytesIO(encode(decode(png(pixels)), "PNG")))
    assert image.text["parameters"] == PARAMETERS
    assert json.loads(image.text["workflow"]) == json.loads(image.text["prompt"]) == json.loads(WORKFLOW)
    assert image.text["Software"] == "x" * 400
    assert (image.text["workflow"].lang, image.text["workflow"].tkey) == ("ja", "流れ")
    assert set(image.text) == {"parameters", "prompt", "workflow", "Software", "XML:com.adobe.xmp"}


@pytest.mark.parametrize("text", ["plain", "café", "中", "", "a\0b"[:1], "line\nline"])
def test_text_of_every_alphabet_arrives(text):
    info = PngImagePlugin.PngInfo()
    info.add_text("Comment", text)
    image = Image.open(io.BytesIO(encode(decode(made.encode_image(EIGHT, "PNG", pnginfo=info)), "PNG")))
    assert image.text.get("Comment", "") == text


def test_png_text_behind_the_pixels_is_found():
    data = made.png(EIGHT)
    data = data[:-12] + made.png_chunk(b"tEXt", b"parameters\0behind") + data[-12:]
    assert Image.open(io.BytesIO(encode(decode(data), "PNG"))).text == {"parameters": "behind"}


@pytest.mark.parametrize("comment", [b"hello", "café".encode("latin-1"), b"\xff\x00 bytes", b"x" * 65533])
def test_a_jpeg_comment_arrives_byte_for_byte(comment):
    written = made.jpeg_segments(encode(decode(jpeg(comment=comment)), "JPEG"))
    assert [payload for marker, payload in written if marker == 0xFE] == [comment]


def test_long_segments_all_fit_into_one_jpeg():
    block = b"Exif\0\0" + made.tiff_start("<") + made.tiff_ifd({0x927C: (7, 65000, made.noise(65000).tobytes())}, "<", 8)
    xmp, comment, profile = XMP + b" " * 65000, b"c" * 65000, SRGB + bytes(150000)
    first = EncodedImage(from_array(EIGHT), Metadata(exif=block, xmp=xmp, icc=profile, comment=comment), "JPEG", True)
    written = encode(first, "JPEG")
    assert carried(written) == {"exif": made.read_directory(block), "xmp": xmp, "icc": profile, "dpi": (72, 72)}
    assert decode(written).metadata == Metadata(exif=block, xmp=xmp, icc=profile, comment=comment, dpi=(72, 72))


def test_iptc_captions_and_the_rest_of_a_long_xmp_packet_stay_in_a_jpeg(caplog):
    iptc = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x08\x1c\x02x\0\3abc"
    rest = b"http://ns.adobe.com/xmp/extension/\0" + bytes(40) + b"<more/>"
    first = decode(jpeg(segments=made.jpeg_segment(0xED, iptc) + made.jpeg_segment(0xE1, rest)))
    written = made.jpeg_segments(encode(first, "JPEG"))
    assert (0xED, iptc) in written and (0xE1, rest) in written and not caplog.records
    encode(first, "PNG")
    assert "IPTC" in caplog.text


@pytest.mark.parametrize("source", ("jpeg", "png", "webp", "tiff"))
@pytest.mark.parametrize("target", OUTPUT_FORMATS)
def test_an_image_without_metadata_gets_none(source, target):
    first = decode(made.encode_image(EIGHT, source.upper()))
    assert first.metadata == Metadata()
    found = carried(encode(first, target))
    assert (found["icc"], found["xmp"], found["exif"]) == (None, None, None)
    assert target == "BMP" or found["dpi"] is None or found["dpi"] == (1, 1)  # Pillow's way to say: none


@pytest.mark.parametrize("target", OUTPUT_FORMATS)
@pytest.mark.parametrize("dpi", [(0.0, 0.0), (0.01, 0.01), (float("nan"), 300.0), (1e9, 1e9), (70000.0, 70000.0)])
def test_a_resolution_that_cannot_be_is_not_carried_into_another_format(dpi, target):
    data = jpeg(xmp=None, icc=None)
    image = Image.open(io.BytesIO(data))
    assert image.info["dpi"] == (300, 240)
    units = b"\0\0\0\0" if dpi[0] == 0 else b"\xff\xff\xff\xff"
    first = decode(data[:14] + units + data[18:])
    encoded = decode(encode(first, target)).metadata.dpi
    assert encoded is None or all(1 <= n <= 65536 for n in encoded)


@pytest.mark.parametrize("unit, factor", [(2, 1), (3, 2.54)], ids=("inch", "cm"))
def test_the_resolution_of_a_tiff_is_known_in_either_unit(unit, factor):
    data = made.tiff_rgb(EIGHT, resolution=(100, 50), resolutionunit=unit)
    x, y = decode(encode(decode(data), "TIFF")).metadata.dpi
    assert (round(x, 2), round(y, 2)) == (round(100 * factor, 2), round(50 * factor, 2))
