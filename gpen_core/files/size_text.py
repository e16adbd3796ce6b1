"""Bytes as text, in a unit in which no size is rounded to nothing."""

from __future__ import annotations


def memory_text(size: int) -> str:
    """Format a size of memory, in the units in which a limit is given: `4.00 GiB`, `12.5 MiB`, `1,234 bytes`."""
    if size >= 2**30:
        return f"{size / 2**30:.2f} GiB"
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size:,} bytes"


def file_size_text(size: int) -> str:
    """Format about the size of a file: `285 MB`, `1.8 MB`, `1,234 bytes`."""
    if size >= 10**7:
        return f"{size / 1e6:,.0f} MB"
    return f"{size / 1e6:.1f} MB" if size >= 10**6 else f"{size:,} bytes"
