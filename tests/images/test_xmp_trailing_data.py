"""After a restoration, no XMP declares a gain map or a video that the new file does not hold, and both are named."""

import io
import xml.etree.ElementTree as ET

import image_files as made
import pytest
from PIL import Image

from gpen_core.images.codecs import decode, encode
from gpen_core.images.dropped_metadata import dropped_note
from gpen_core.images.xmp_trailing_data import without_trailing_data

EIGHT = made.noise((8, 8, 3))
GAIN_MAP, VIDEO = "the gain map for HDR displays", "the video of a motion photo"
HEAD = b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?>'
CONTAINER = """xmlns:Container="http://ns.google.com/photos/1.0/container/"
  xmlns:Item="http://ns.google.com/photos/1.0/container/item/\""""
DIRECTORY = """<Container:Directory><rdf:Seq>
  <rdf:li rdf:parseType="Resource"><Container:Item Item:Mime="image/jpeg" Item:Semantic="Primary"/></rdf:li>
  <rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="{}" Item:Mime="video/mp4" Item:Length="99"/></rdf:li>
 </rdf:Seq></Container:Directory>"""


def packet(attributes="", elements=""):
    return (
        HEAD
        + f"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/" dc:title="café" {attributes}>
 <dc:subject>a cat</dc:subject>{elements}</rdf:Description></rdf:RDF></x:xmpmeta><?xpacket end="w"?>""".encode()
    )


ULTRA_HDR = packet(
    f'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" {CONTAINER} hdrgm:Version="1.0"', DIRECTORY.format("GainMap")
)
OTHER_PREFIX = packet(
    'xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/"',
    "<g:Version>1.0</g:Version><g:GainMapMax><rdf:Seq><rdf:li>2</rdf:li></rdf:Seq></g:GainMapMax>",
)
CAMERA = 'xmlns:GCamera="http://ns.google.com/photos/1.0/camera/"'
MOTION = packet(
    f"{CAMERA} {CONTAINER} GCamera:MotionPhoto='1' GCamera:MotionPhotoVersion=\"1\" "
    'GCamera:MotionPhotoPresentationTimestampUs="-1"',
    DIRECTORY.format("MotionPhoto"),
)
MICRO = packet(f'{CAMERA} GCamera:MicroVideo="1" GCamera:MicroVideoOffset="99" GCamera:SpecialTypeID="x"')
ELEMENTS = packet(CAMERA, "<GCamera:MotionPhoto>1</GCamera:MotionPhoto><GCamera:MotionPhotoVersion/>")
WORDS = (b"hdrgm:", b"g:Version", b"g:GainMap", b"Container:Directory", b"Item:Semantic", b"MotionPhoto", b"MicroVideo")


@pytest.mark.parametrize(
    "xmp, declared",
    [(ULTRA_HDR, (GAIN_MAP,)), (OTHER_PREFIX, (GAIN_MAP,)), (MOTION, (VIDEO,)), (MICRO, (VIDEO,)), (ELEMENTS, (VIDEO,))],
)
def test_declarations_go_and_all_else_stays_well_formed(xmp, declared):
    left, found = without_trailing_data(xmp)
    assert found == declared
    assert not any(word in left.replace(b"xmlns:Container", b"").replace(b"xmlns:hdrgm", b"") for word in WORDS)
    assert left.startswith(HEAD) and "café".encode() in left and b"a cat" in left
    ET.fromstring(left)
    assert without_trailing_data(left) == (left, ())
    assert b"SpecialTypeID" in left or xmp is not MICRO


@pytest.mark.parametrize("xmp", [packet(), made.XMP_WITH_ORIENTATION % 1, b"", b"<not XML", packet('dc:MotionPhoto="1"')])
def test_what_promises_nothing_stays_as_it_is(xmp):
    assert without_trailing_data(xmp) == (xmp, ())


def test_where_a_phone_says_that_there_is_no_video_none_is_missed():
    left, found = without_trailing_data(packet(f'{CAMERA} GCamera:MotionPhoto="0" GCamera:MicroVideo="0"'))
    assert found == () and b"MotionPhoto" not in left


def test_what_is_damaged_costs_no_time():
    many = packet(" ".join(f'xmlns:p{n}="http://ns.adobe.com/hdr-gain-map/1.0/"' for n in range(20_000)))
    opened = packet('xmlns:g="http://ns.adobe.com/hdr-gain-map/1.0/"', "<g:Version>" * 100_000 + " " * 500_000)
    for xmp in (many, opened, opened.replace(b"<g:", b' g:Version="')):
        without_trailing_data(xmp)
    assert b"<g:Version>" in without_trailing_data(opened)[0]  # what does not end is left


def photograph(xmp, behind=b"", *segments):
    return made.jpeg_with(made.jpeg_segment(0xE1, made.XMP_HEADER + xmp) + b"".join(segments), EIGHT) + behind


MPF = made.jpeg_segment(0xE2, b"MPF\0II*\0")
MOVIE = b"\0\0\0\x18ftypmp42" + bytes(99)
SECOND = made.encode_image(EIGHT, "JPEG")


@pytest.mark.parametrize("target", ("JPEG", "PNG", "WEBP", "TIFF"))
@pytest.mark.parametrize(
    "data, dropped",
    [
        (photograph(ULTRA_HDR, SECOND, MPF), (GAIN_MAP, "further images (JPEG APP2 MPF)")),
        (photograph(MOTION, MOVIE), (VIDEO,)),
        (photograph(MOTION, b"a video of a kind that nobody knows"), (VIDEO,)),
        (photograph(packet(), b"SEF" + bytes(9) + b"MotionPhoto_Data" + MOVIE), (VIDEO,)),
        (photograph(ULTRA_HDR, SECOND + MOVIE, MPF), (GAIN_MAP, "further images (JPEG APP2 MPF)", VIDEO)),
    ],
)
def test_a_new_file_promises_nothing_and_what_it_is_without_is_said(data, dropped, target):
    read = decode(data)
    assert read.metadata.dropped == dropped
    assert all(name in dropped_note(read.metadata)[0] for name in dropped)
    again = decode(encode(read, target)).metadata
    assert again.dropped == () and b"title" in (again.xmp or b"")
    assert not any(word + b"=" in (again.xmp or b"") for word in (b"hdrgm:Version", b"GCamera:MotionPhoto"))


def test_pillow_sees_one_ordinary_image_afterwards():
    written = encode(decode(photograph(ULTRA_HDR, SECOND, MPF)), "JPEG")
    with Image.open(io.BytesIO(written)) as image:
        assert image.format == "JPEG" and getattr(image, "n_frames", 1) == 1


@pytest.mark.parametrize("target, stays", [("JPEG", True), ("PNG", False), ("TIFF", False)])
def test_the_rest_of_a_long_packet_is_promised_where_it_is(target, stays):
    note = 'xmlns:xmpNote="http://ns.adobe.com/xmp/note/" xmpNote:HasExtendedXMP="00112233445566778899AABBCCDDEEFF"'
    rest = made.jpeg_segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(60))
    again = decode(encode(decode(photograph(packet(note), b"", rest)), target)).metadata
    assert (b"HasExtendedXMP" in (again.xmp or b"")) is stays and b"title" in (again.xmp or b"")
