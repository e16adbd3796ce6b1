"""What is no file to be read whole is refused at once, with the reason."""

import os
from pathlib import Path

import pytest

from gpen_core.files.regular_file import FileTooLarge, NotARegularFile, open_regular_file

FDS = Path("/proc/self/fd")


def test_a_file_and_its_status(tmp_path):
    (tmp_path / "a").write_bytes(b"\r\n\x1a12")
    file, status = open_regular_file(tmp_path / "a", max_size=5)
    with file:
        assert file.read() == b"\r\n\x1a12" and status.st_size == 5


def test_a_longer_file_is_refused_with_both_sizes(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1001))
    with pytest.raises(FileTooLarge) as refused:
        open_regular_file(tmp_path / "a", max_size=1000)
    assert refused.value.strerror == "it has 1,001 bytes, and the limit is 1,000"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotARegularFile) as refused:
        open_regular_file(tmp_path / "pipe")
    assert refused.value.strerror == "it is not a regular file"


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("", IsADirectoryError, "it is a folder"),
        ("missing", FileNotFoundError, "No such file or directory"),
        ("a\0b", OSError, "no file can have such a name"),
    ],
)
def test_the_reason_is_in_plain_words(tmp_path, name, kind, reason):
    with pytest.raises(kind) as refused:
        open_regular_file(tmp_path / name)
    assert refused.value.strerror == reason


@pytest.mark.skipif(not FDS.is_dir(), reason="Linux only")
def test_what_is_refused_is_closed(tmp_path):
    (tmp_path / "a").write_bytes(bytes(2))
    before = len(list(FDS.iterdir()))
    for _ in range(3):
        with pytest.raises(FileTooLarge):
            open_regular_file(tmp_path / "a", max_size=1)
    assert len(list(FDS.iterdir())) == before
