"""Which kind of file lies there, by its first bytes."""

from __future__ import annotations

import struct
from pathlib import Path

ZIP, OLD_TORCH = b"PK\x03\x04", b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def container(path: Path) -> str:
    """The file's format by its first bytes: `zip`, `legacy` (torch before 1.6), `safetensors`, `html` or `unknown`."""
    with open(path, "rb") as file:
        start = file.read(512)
    if start.startswith(ZIP):
        return "zip"
    if start.startswith(OLD_TORCH):
        return "legacy"
    if start[8:9] == b"{" and struct.unpack("<Q", start[:8])[0] <= path.stat().st_size:
        return "safetensors"
    return "html" if is_web_page(start) else "unknown"


def is_web_page(start: bytes) -> bool:
    """Whether a file's first bytes are those of a web page: what a server sends in place of a file, or a captive portal."""
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()[:15].lower()
    return text.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml"))
