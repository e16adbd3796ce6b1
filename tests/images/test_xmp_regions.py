"""Tagged faces stay on the faces when the pixels are turned upright."""

import io
import re

import numpy as np
import pytest
from PIL import Image

from gpen_core.images import codecs
from gpen_core.images.metadata import Metadata
from gpen_core.images.metadata_writing import insert_jpeg_segments
from gpen_core.pipeline.source_file import load_encoded

ATTRIBUTES = (
    b'<mwg-rs:AppliedToDimensions stDim:w="64" stDim:h="48" stDim:unit="pixel"/>',
    b'<mwg-rs:Area stArea:x="0.25" stArea:y="0.125" stArea:w="0.125" stArea:h="0.25" stArea:unit="normalized"/>',
)
ELEMENTS = (
    b'<mwg-rs:AppliedToDimensions rdf:parseType="Resource"><stDim:h>48</stDim:h><stDim:w>64</stDim:w>'
    b"<stDim:unit>pixel</stDim:unit></mwg-rs:AppliedToDimensions>",
    b'<mwg-rs:Area rdf:parseType="Resource"><stArea:y>0.125</stArea:y><stArea:w>0.125</stArea:w><stArea:x>0.25</stArea:x>'
    b"<stArea:h>0.25</stArea:h><stArea:unit>normalized</stArea:unit></mwg-rs:Area>",
)


def packet(dimensions, area):
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"'
        b' xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#" xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#">'
        b'<mwg-rs:Regions rdf:parseType="Resource">' + dimensions + b"<mwg-rs:RegionList><rdf:Bag><rdf:li>"
        b'<rdf:Description mwg-rs:Name="Ann" mwg-rs:Type="Face">' + area + b"</rdf:Description></rdf:li></rdf:Bag>"
        b"</mwg-rs:RegionList></mwg-rs:Regions></rdf:Description></rdf:RDF></x:xmpmeta>"
    )


def photo(orientation, xmp, format_="JPEG"):
    """A black photo of 64 x 48 with a white face, where the region is."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[0:12, 12:20] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, format_, exif=exif, quality=100, **({"xmp": xmp} if format_ == "WEBP" else {}))
    data = file.getvalue()
    return insert_jpeg_segments(data, Metadata(xmp=xmp)) if format_ == "JPEG" else data  # older Pillow writes no XMP there


def numbers(xmp, prefix, names):
    return [float(re.search(rf"{prefix}:{name}(?:=\"|>)([0-9.]+)".encode(), xmp)[1]) for name in names]


@pytest.mark.parametrize("written", [ATTRIBUTES, ELEMENTS])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "in_memory"), [("JPEG", False), ("JPEG", True), ("WEBP", False)])
def test_a_region_stays_on_its_face(orientation, written, suffix, in_memory):
    data = photo(orientation, packet(*written), suffix)
    encoded = load_encoded(Image.open(io.BytesIO(data)) if in_memory else data)
    width, height = encoded.image.size
    xmp = encoded.metadata.xmp
    x, y, w, h = (value * side for value, side in zip(numbers(xmp, "stArea", "xywh"), (width, height, width, height)))
    rows, columns = np.nonzero(encoded.image.pixels[..., 0] > 128)
    box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    assert (x - w / 2, y - h / 2, x + w / 2, y + h / 2) == pytest.approx(box)
    assert numbers(xmp, "stDim", "wh") == [width, height]
    if orientation == 1:
        assert xmp == packet(*written)


def test_regions_for_upright_pixels_stay():
    turned = ATTRIBUTES[0].replace(b"64", b"0").replace(b"48", b"64").replace(b'"0"', b'"48"')
    xmp = packet(turned, ATTRIBUTES[1])
    assert numbers(xmp, "stDim", "wh") == [48, 64]
    assert codecs.decode(photo(6, xmp)).metadata.xmp == xmp


def test_other_areas_and_damaged_numbers_stay():
    """A program of its own may call a property alike. An area without numbers is left as it is."""
    other = packet(*ATTRIBUTES).replace(b"http://www.metadataworkinggroup.com/schemas/regions/", b"http://example.org/")
    assert codecs.decode(photo(6, other)).metadata.xmp == other
    broken = packet(ATTRIBUTES[0], b'<mwg-rs:Area stArea:x="left" stArea:y=""/>')
    assert b'<mwg-rs:Area stArea:x="left" stArea:y=""/>' in codecs.decode(photo(6, broken)).metadata.xmp
