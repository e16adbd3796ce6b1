"""What a killed process has left of a picture is deleted by the next that writes there, and nothing else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gpen_core.files.atomic_write import whole_file, write_bytes
from gpen_core.files.process_id import host

ROOT = Path(__file__).resolve().parents[2]
GONE, LONG_AGO = 2**22 + 1, (1, 1)  # more than any system numbers its processes
OWNERS = ["", "elsewhere-7-", f"{host()}-{os.getpid()}-"]
WRITER = """
import os, signal, sys
from pathlib import Path
from gpen_core.files.atomic_write import whole_file
with whole_file(Path(sys.argv[1])) as part:
    part.write_bytes(b"half of it")
    print("begun", flush=True)
    sys.stdin.read()
"""


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def begun(target):
    """A process that has written half of the file and waits."""
    command = [sys.executable, "-c", WRITER, str(target)]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


def left(folder, target, owner, age=None):
    path = folder / f".{target[:40]}.{owner}0123456789ab.part"
    path.write_bytes(b"half of it")
    if age is not None:
        os.utime(path, age)
    return path


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize("name", ["a.png", "a" * 251 + ".png", "ü" * 60 + ".png"])
def test_what_a_killed_process_left_is_deleted(tmp_path, name):
    target = tmp_path / name
    process = begun(target)
    process.kill()
    process.communicate()
    assert len(names(tmp_path)) == 1
    write_bytes(target, b"whole")
    assert names(tmp_path) == [name] and target.read_bytes() == b"whole"


def test_what_a_living_process_writes_is_left_to_it(tmp_path):
    target = tmp_path / "a.png"
    process = begun(target)
    try:
        write_bytes(target, b"ours")
        assert len(names(tmp_path)) == 2 and target.read_bytes() == b"ours"
    finally:
        process.communicate("")
    assert process.returncode == 0
    assert names(tmp_path) == ["a.png"] and target.read_bytes() == b"half of it"


def test_what_this_process_writes_is_left_to_it(tmp_path):
    with whole_file(tmp_path / "a.png") as part:
        part.write_bytes(b"first")
        write_bytes(tmp_path / "a.png", b"second")
    assert names(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"first"


@pytest.mark.parametrize("owner", OWNERS, ids=["nobody", "elsewhere", "this process"])
def test_what_may_be_at_work_stays_for_a_day(tmp_path, owner):
    path = left(tmp_path, "a.png", owner)
    write_bytes(tmp_path / "a.png", b"whole")
    assert path.exists()


@pytest.mark.parametrize("owner", OWNERS, ids=["nobody", "elsewhere", "this process"])
def test_what_nobody_has_touched_for_a_day_is_deleted(tmp_path, owner):
    left(tmp_path, "a.png", owner, LONG_AGO)
    write_bytes(tmp_path / "a.png", b"whole")
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "name",
    [
        f".b.png.{host()}-{GONE}-0123456789ab.part",  # another picture's
        f".a.png.{host()}-{GONE}-0123456789ab.part.png",
        f".a.png.0123456789abcdef.{host()}-{GONE}-01234567.part",  # a download's
        f"a.png.{host()}-{GONE}-0123456789ab.part",
        ".a.png.part",
    ],
)
def test_what_is_not_of_that_name_stays(tmp_path, name):
    (tmp_path / name).write_bytes(b"somebody's")
    os.utime(tmp_path / name, LONG_AGO)
    write_bytes(tmp_path / "a.png", b"whole")
    assert names(tmp_path) == sorted([name, "a.png"])


@pytest.mark.skipif(os.name != "posix", reason="links as Unix has them")
@pytest.mark.parametrize("kind", ["link", "folder"])
def test_a_link_and_a_folder_of_such_a_name_stay(tmp_path, kind):
    (tmp_path / "precious").write_bytes(b"somebody's")
    os.utime(tmp_path / "precious", LONG_AGO)
    path = tmp_path / f".a.png.{host()}-{GONE}-0123456789ab.part"
    path.symlink_to("precious") if kind == "link" else path.mkdir()
    write_bytes(tmp_path / "a.png", b"whole")
    assert names(tmp_path) == sorted([path.name, "a.png", "precious"])


@pytest.mark.skipif(os.name != "posix", reason="links as Unix has them")
def test_through_a_link_to_a_picture_it_is_tidied_where_the_picture_lies(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"before")
    left(tmp_path / "there", "a.png", f"{host()}-{GONE}-")
    (tmp_path / "link.png").symlink_to(tmp_path / "there" / "a.png")
    write_bytes(tmp_path / "link.png", b"whole")
    assert names(tmp_path / "there") == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as Unix has them")
def test_where_the_folder_may_not_be_listed_it_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    write_bytes(tmp_path / "a.png", b"whole")
    monkeypatch.undo()
    assert names(tmp_path) == ["a.png"]
