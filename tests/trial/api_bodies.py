"""Bodies for the API of the web UI, drawn by seed and number: fields with hostile values, odd keys, encodings and damage."""

from __future__ import annotations

import base64
import functools
import json
import struct
import zlib

from gpen_core.images.codecs import EncodedImage, encode
from gpen_core.images.image import from_array
from gpen_core.images.metadata import Metadata
from gpen_core.tools.demo.images import HEAD_BOX, astronaut

from .. import image_files as made
from . import images
from .damage import damaged, dice

ENCODINGS = ("utf-8",) * 12 + ("utf-8-sig", "utf-16", "utf-32-le", "latin-1")
MOST_REQUESTS = 8
LARGEST_SIDE = 3000  # px, of the images in waiting requests

STRENGTHS = ("0", "1", "0.5", "-0.1", "1.0001", '"0.5"', '"nan"', '"inf"', "true")
PATHS = (
    '"../../etc/passwd"',
    '"/dev/zero"',
    '"file:///etc/passwd"',
    '"http://127.0.0.1:9/a.pth"',
    '"."',
    '"C:\\\\a"',
    '"\\\\\\\\a\\\\b"',
)
BOXES = (
    "[]", "[[]]", "[[1, 2, 3]]", "[[0, 0, 30, 30]]", "[[30, 30, 0, 0]]", "[[0, 0, 1e-300, 1e-300]]",
    "[[-9, -9, 1e17, 1e17]]", "[[-1e7, -1e7, 1e7, 1e7]]", "[[1e7, 1e7, 1.1e7, 1.1e7]]", "[[-1, -1, 1e6, 2]]",
    '[["nan", 0, 9, 9]]', '[["1e999", 0, 9, 9]]',
    f"[{', '.join(['[0, 0, 9, 9]'] * 12)}]",
)  # fmt: skip
FIELDS = {  # without confidence: at 0 everything is a face, and looking at all of them takes half a minute
    "model": ('"gpen-red-256"', '"auto"', '"auto:256"', '"GPEN-BFR-512"', '"gpen-broken"', *PATHS),
    "strength": STRENGTHS,
    "grain": STRENGTHS,
    "faces": ('"all"', '"largest"', '"0,2-4"', '"0-99999999999"', '"-1"', '"4-2"', '"٣"', '"0-9999,0-9999,0-9999"', '"²"'),
    "order": ('"reading"', '"random"'),
    "max_face_size": ("0", "64.5", "-1", "1e17", '"1e999"'),
    "min_face_size": ("0", "64.5", "-1", "1e17", '"1e999"'),
    "max_faces": ("0", "1", "-1", "1.5", f'"{"9" * 400}"', f'"{"9" * 5000}"', "99999999999"),
    "detection_size": ("32", "8192", "31", "8193", "64.5", '"320"'),
    "template": ('"gpen"', '"ffhq"', '"none"'),
    "mask_type": ('"auto"', '"parse"', '"feather"', '"round"'),
    "color": ('"auto"', '"match"', '"blue"'),
    "angles": ('"upright"', '"all"', '"some"'),
    "preserve": ('"eyes,mouth"', '"occluders"', '"tail"', '","'),
    "mask_expand": ("0.5", "-0.5", "0.6", '"-nan"'),
    "boxes": BOXES,
    "__pydantic_self__": ("1",),
    "self": ("1",),
    "options": ('"a"',),
    "upscale": ("8", "1e9"),
    "upscaler": PATHS,
}  # fmt: skip
HOSTILE = (
    "NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 400, "9" * 5000, "1" + "0" * 18, "-0.0", "1e-400", "0x10", "01",
    ".5", "null", "true", "undefined", "'a'", '""', '" "', '"\\ud800"', '"a\\udfffb"', '"\\udc00\\ud800"', '"\\u0000"',
    '"a\\u0000b"', '"\\u202e\\ufeff\\uffff"', '"\U0001f600"', '"nan"', '"1e999"', '"%s %n {0} ${a}"', '"<script>"',
    '"' + "a" * 100_000 + '"', '"' + "é" * 9000 + '"', "[]", "{}", "[[]]", '{"a": {"b": []}}', "[" * 90,
    "[" * 90_000 + "]" * 90_000, '{"a":' * 5000 + "1" + "}" * 5000, f"[{'[],' * 50_000}[]]", f"[{'0,' * 50_000}0]",
    '["\\ud800"]', '{"\\ud800": 1}',
)  # fmt: skip
KEYS = ("\\ud800", "", "image", "IMAGE", "strength", "\\u0000", "a" * 50_000, "__class__", "model_config", "é", "\U0001f600")
PICTURES = (
    "", "=", "====", "A", "AAAA", "data:", "data:,", "data:image/png;base64,", "data:image/png,AAAA", ",", ",,,", "%%%%",
    "é", "\\ud800", "\\u0000", "-_-_", "AAAA\\u00a0AAAA", "AAAA\\u2028AAAA", "A\\n" * 9000, "file:///etc/passwd", "AA==AA==",
)  # fmt: skip


@functools.cache
def small_pictures() -> tuple[bytes, ...]:
    """One with a face and some without."""
    x0, y0, x1, y1 = HEAD_BOX
    face = astronaut()[y0:y1:2, x0:x1:2]
    jpeg = encode(EncodedImage(from_array(face.copy()), Metadata(), "JPEG", lossy=True), "JPEG")
    return (
        jpeg,
        made.png(made.noise((40, 60, 3))),
        made.png(made.noise((1, 1, 3))),
        made.encode_image(made.noise((30, 30, 3)), "WEBP"),
    )


@functools.cache
def large_picture(side: int, claimed: int | None = None) -> bytes:
    """A PNG of four channels of 16 bits, all black: few bytes, much memory. Its header may claim another side."""
    packer = zlib.compressobj(9)
    rows = b"".join([*(packer.compress(bytes(1 + 8 * side)) for _ in range(side)), packer.flush()])
    header = struct.pack(">LLBBBBB", claimed or side, claimed or side, 16, 6, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", rows), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(made.png_chunk(kind, data) for kind, data in chunks)


def body(lot) -> bytes:
    """One request's body, hostile in one to three ways or whole."""
    fields = [
        ("image", _picture(lot)),
        *((name, lot.choice(FIELDS[name])) for name in lot.sample(sorted(FIELDS), lot.randrange(4))),
    ]
    if lot.random() < 0.15:
        fields.append(("before_swap", _picture(lot)))
    for _ in range(lot.choice((0, 1, 1, 2))):
        at = lot.randrange(len(fields))
        match lot.choice(("value", "value", "key", "drop", "double")):
            case "value":
                fields[at] = (fields[at][0], lot.choice(HOSTILE))
            case "key":
                fields.append((lot.choice(KEYS), lot.choice(HOSTILE)))
            case "drop":
                fields.pop(at) if len(fields) > 1 else None
            case "double":
                fields.insert(at, (fields[at][0], lot.choice(HOSTILE)))
    text = "{" + ", ".join(f'"{key}": {value}' for key, value in fields) + "}"
    if lot.random() < 0.05:
        text = lot.choice(HOSTILE)
    data = text.encode(
        *lot.choice((("utf-8",),) * 12 + (("utf-8-sig",), ("utf-16",), ("utf-32-le",), ("latin-1", "replace")))
    )
    return damaged(lot, data) if lot.random() < 0.15 else data


def _picture(lot) -> str:
    """A JSON string, mostly of an image that can be read."""
    match lot.choice(("whole", "whole", "whole", "face", "damaged", "text", "claims")):
        case "whole":
            data = lot.choice(small_pictures()[1:])
        case "face":
            data = small_pictures()[0]
        case "damaged":
            data = images.case(lot.choice(images.FORMATS), lot.randrange(1 << 30), 0)[: 1 << 16]
        case "claims":
            data = large_picture(8, lot.choice((8001, 50_000, 1 << 20, (1 << 31) - 1)))
        case _:
            return f'"{lot.choice(PICTURES)}"'
    start = lot.choice(("", "", "data:image/png;base64,", " \\n", "data:a,b,"))
    return f'"{start}{base64.b64encode(data).decode()}"'


def case(format_name: str, seed: int, number: int) -> bytes:
    """One body; of `waiting`, a JSON list of how several requests are made that wait together."""
    lot = dice(f"api/{format_name}", seed, number)
    if format_name != "waiting":
        return body(lot)
    requests = [
        {
            "path": lot.choice(("restore", "jobs")),
            "side": lot.choice((500, 1500, LARGEST_SIDE)),
            "twice": lot.random() < 0.2,
        }
        for _ in range(lot.randrange(2, MOST_REQUESTS + 1))
    ]
    return json.dumps(requests).encode()
