"""Detects a file's format by its first bytes."""

from __future__ import annotations

import struct

HEADER_BYTES = 512  # enough to detect every format
ONNX_FIRST_FIELDS = (0x12, 0x1A, 0x22, 0x3A, 0x42)  # keys of a string or message that may follow the version
ZIP, LEGACY_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def file_format(start: bytes, size: int) -> str:
    """Return the format for a file's first bytes and size: `zip`, `legacy` (torch before 1.6), `safetensors`, `onnx`,
    `html` or `unknown`."""
    if start.startswith(ZIP):
        return "zip"
    if start.startswith(LEGACY_TORCH):
        return "legacy"
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= size:
        return "safetensors"
    if start[:1] == b"\x08" and len(start) > 2 and 3 <= start[1] < 32 and start[2] in ONNX_FIRST_FIELDS:
        return "onnx"  # its first field is the format's version, a small number
    return "html" if is_web_page(start) else "unknown"


def is_web_page(start: bytes) -> bool:
    """Whether the file is a web page, which some servers and captive portals send instead of the file."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
