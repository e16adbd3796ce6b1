"""Subtitles of MP4 as SRT."""

import struct

import pytest

from gpen_core.video.subtitles import to_srt


def sample(text, *styles, encoding="utf-8"):
    raw = text.encode(encoding)
    records = b"".join(struct.pack(">HHHBBI", start, end, 1, flags, 18, 0xFFFFFFFF) for start, end, flags in styles)
    box = struct.pack(">I4sH", 10 + len(records), b"styl", len(styles)) + records if styles else b""
    return struct.pack(">H", len(raw)) + raw + box


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (sample("Hello\nthere"), "Hello\nthere"),
        (sample("Größe", encoding="utf-16"), "Größe"),
        (sample("say it", (4, 6, 2)), "say <i>it</i>"),
        (sample("all", (0, 3, 3)), "<b><i>all</i></b>"),
        (sample("ab", (0, 1, 1), (1, 2, 4)), "<b>a</b><u>b</u>"),
        (sample("plain", (2, 2, 1), (0, 5, 0)), "plain"),
        (sample(""), ""),
        (b"", ""),
        (b"\0\x30short", "short"),
        (sample("x") + b"\0\0\0\1hlit\0\0", "x"),
        (sample("x") + b"\0\0\0\x10styl\0\xff" + bytes(6), "x"),
    ],
)
def test_text_and_its_style(data, text):
    assert to_srt(data).decode() == text
