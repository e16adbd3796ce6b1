"""Which kind of file lies there, by its first bytes."""

from __future__ import annotations

import struct

HEADER_BYTES = 512  # bytes that tell
ONNX_FIRST_FIELDS = (0x12, 0x1A, 0x22, 0x3A, 0x42)  # the keys that may follow the version, each of a text or a message
ZIP, LEGACY_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def file_format(start: bytes, size: int) -> str:
    """A file's format by its first bytes and size: `zip`, `legacy` (torch before 1.6), `safetensors`, `onnx`, `html`,
    `unknown`."""
    if start.startswith(ZIP):
        return "zip"
    if start.startswith(LEGACY_TORCH):
        return "legacy"
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size:
        return "safetensors"
    if start[:1] == b"\x08" and len(start) > 2 and 3 <= start[1] < 32 and start[2] in ONNX_FIRST_FIELDS:
        return "onnx"  # its first field is the version of the format, a small number
    return "html" if is_web_page(start) else "unknown"


def is_web_page(start: bytes) -> bool:
    """Whether a file's first bytes are those of a web page: what a server sends in place of a file, or a captive portal."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
