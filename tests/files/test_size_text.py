"""Sizes as text: none is rounded to nothing."""

import pytest

from gpen_core.files.size_text import file_size_text, memory_text


@pytest.mark.parametrize(
    ("size", "as_memory", "as_file"),
    [
        (0, "0 bytes", "0 bytes"),
        (1234, "1,234 bytes", "1,234 bytes"),
        (1_785_000, "1.7 MiB", "1.8 MB"),
        (285_180_804, "272.0 MiB", "285 MB"),
        (4 << 30, "4.00 GiB", "4,295 MB"),
    ],
)
def test_the_unit_fits_the_size(size, as_memory, as_file):
    assert (memory_text(size), file_size_text(size)) == (as_memory, as_file)
