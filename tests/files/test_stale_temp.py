"""Unfinished files: a killed process's are deleted by the next that writes there, and no other file is."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gpen_core.files.atomic_write import atomic_write, write_bytes
from gpen_core.files.process_id import hostname
from gpen_core.files.stale_temp import ANY_KEY, DAY, create_empty, remove_stale, stale_files, temp_name, unlocked_name

ROOT = Path(__file__).resolve().parents[2]
GONE, LONG_AGO = 2**22 + 1, (1, 1)  # more than any system numbers its processes
OWNERS = ["elsewhere-7-", f"{hostname()}-{os.getpid()}-"]
WRITER = """
import os, signal, sys
from pathlib import Path
from gpen_core.files.atomic_write import atomic_write
with atomic_write(Path(sys.argv[1])) as part:
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
    with atomic_write(tmp_path / "a.png") as part:
        part.write_bytes(b"first")
        write_bytes(tmp_path / "a.png", b"second")
    assert names(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"first"


@pytest.mark.parametrize("owner", OWNERS, ids=["elsewhere", "this process"])
def test_what_may_be_at_work_stays_for_a_day(tmp_path, owner):
    path = left(tmp_path, "a.png", owner)
    write_bytes(tmp_path / "a.png", b"whole")
    assert path.exists()


@pytest.mark.parametrize("owner", OWNERS, ids=["elsewhere", "this process"])
def test_what_nobody_has_touched_for_a_day_is_deleted(tmp_path, owner):
    left(tmp_path, "a.png", owner, LONG_AGO)
    write_bytes(tmp_path / "a.png", b"whole")
    assert names(tmp_path) == ["a.png"]


@pytest.mark.parametrize(
    "name",
    [
        f".b.png.{hostname()}-{GONE}-0123456789ab.part",  # another image's
        f".a.png.{hostname()}-{GONE}-0123456789ab.part.png",
        f".a.png.0123456789abcdef.{hostname()}-{GONE}-0123456789ab.part",  # a download's
        ".a.png.0123456789abcdef.part",  # another download's
        ".a.png.0123456789ab.part",  # without an owner
        f"a.png.{hostname()}-{GONE}-0123456789ab.part",
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
    path = tmp_path / f".a.png.{hostname()}-{GONE}-0123456789ab.part"
    path.symlink_to("precious") if kind == "link" else path.mkdir()
    write_bytes(tmp_path / "a.png", b"whole")
    assert names(tmp_path) == sorted([path.name, "a.png", "precious"])


@pytest.mark.skipif(os.name != "posix", reason="links as Unix has them")
def test_through_a_link_to_an_image_it_is_tidied_where_the_image_lies(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "a.png").write_bytes(b"before")
    left(tmp_path / "there", "a.png", f"{hostname()}-{GONE}-")
    (tmp_path / "link.png").symlink_to(tmp_path / "there" / "a.png")
    write_bytes(tmp_path / "link.png", b"whole")
    assert names(tmp_path / "there") == ["a.png"]


@pytest.mark.skipif(os.name != "posix", reason="permissions as Unix has them")
def test_where_the_folder_may_not_be_listed_it_is_written_all_the_same(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "listdir", refuse)
    write_bytes(tmp_path / "a.png", b"whole")
    monkeypatch.undo()
    assert names(tmp_path) == ["a.png"]


KEY, OTHER_KEY = "0123456789abcdef", "f" * 16


def laid_down(folder, name):
    path = folder / name
    path.write_bytes(b"half of it")
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tar.gz", "ü" * 300, ".hidden", "a b-7-0123456789ab.part"])
@pytest.mark.parametrize("key", ["", KEY], ids=["without a key", "with a key"])
def test_the_owner_is_read_from_the_name(tmp_path, monkeypatch, name, key):
    """A name of this process belongs to nobody else, and to nobody at all once no such process runs."""
    path = laid_down(tmp_path, temp_name(name, key))
    assert stale_files(tmp_path / name, DAY, key) == []
    monkeypatch.setattr("gpen_core.files.stale_temp.process_exists", lambda pid: pid != os.getpid())
    assert stale_files(tmp_path / name, DAY, key) == [path]


def test_a_name_is_never_made_twice_and_fits_every_file_system():
    names = {temp_name("ü" * 300, KEY) for _ in range(100)}
    assert len(names) == 100 and max(len(name.encode()) for name in names) <= 255


@pytest.mark.skipif(not Path("/proc/self/ns/pid").exists(), reason="Linux only")
def test_a_container_is_a_host_of_its_own():
    assert hostname().endswith(re.sub(r"\D", "", str(Path("/proc/self/ns/pid").readlink())))


def test_the_caller_says_how_old_a_file_of_another_host_may_be(tmp_path):
    path = laid_down(tmp_path, ".a.png.elsewhere-7-0123456789ab.part")
    os.utime(path, (time.time() - 700,) * 2)
    assert stale_files(tmp_path / "a.png", DAY) == [] and stale_files(tmp_path / "a.png", 600) == [path]


def test_files_of_other_content_are_found_only_if_asked_for(tmp_path):
    owned = laid_down(tmp_path, f".a.pth.{KEY}.{hostname()}-{GONE}-0123456789ab.part")
    unlocked = laid_down(tmp_path, unlocked_name("a.pth", OTHER_KEY))
    target = tmp_path / "a.pth"
    assert stale_files(target, DAY) == []
    assert stale_files(target, DAY, KEY) == [owned] and stale_files(target, DAY, OTHER_KEY) == [unlocked]
    remove_stale(target, DAY, ANY_KEY)
    assert names(tmp_path) == []


def test_what_appears_later_is_found_unless_the_folder_is_listed_once(tmp_path):
    target = tmp_path / "a.png"
    assert stale_files(target, DAY, is_listed_once=True) == []
    path = left(tmp_path, "a.png", f"{hostname()}-{GONE}-")
    assert stale_files(target, DAY, is_listed_once=True) == [] and stale_files(target, DAY) == [path]


def test_an_existing_file_is_not_taken_for_a_new_one(tmp_path):
    path = laid_down(tmp_path, temp_name("a.png"))
    with pytest.raises(FileExistsError):
        create_empty(path)
    assert path.read_bytes() == b"half of it"
