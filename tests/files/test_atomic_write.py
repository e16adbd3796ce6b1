"""Files that are written completely or not at all."""

import errno
import os
import stat
from pathlib import Path

import pytest

from gpen_core import OutputError
from gpen_core.files.atomic_write import write_bytes


@pytest.fixture
def windows_rules(monkeypatch):
    """Read-only files can be neither replaced nor deleted, as on Windows."""

    def guarded(function, index):
        def call(*paths, **options):
            path = Path(paths[index])
            if path.exists() and not path.stat().st_mode & stat.S_IWRITE:
                raise PermissionError(errno.EACCES, "Access is denied", str(path))
            return function(*paths, **options)

        return call

    monkeypatch.setattr(os, "replace", guarded(os.replace, 1))
    monkeypatch.setattr(os, "unlink", guarded(os.unlink, 0))


@pytest.mark.usefixtures("windows_rules")
def test_a_read_only_file_of_windows_is_refused_and_nothing_is_left(tmp_path):
    target = tmp_path / "photo.png"
    target.write_bytes(b"before")
    target.chmod(stat.S_IREAD)
    with pytest.raises(OutputError, match=r"photo\.png cannot be written: .*denied\. It was not changed"):
        write_bytes(target, b"after")
    assert target.read_bytes() == b"before" and list(tmp_path.iterdir()) == [target]
    target.chmod(stat.S_IREAD | stat.S_IWRITE)  # so that the folder can be deleted
