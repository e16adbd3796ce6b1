"""The work folder beside the output: links and other people's files are neither written through nor deleted."""

import errno
import os
import shutil

import pytest
from video_fakes import restorer
from video_files import write_lossless_video

from gpen_core import OutputError, VideoOptions, restore_video
from gpen_core.video.work_dir import WorkDir

EXACT = VideoOptions(codec="ffv1", temporal_smoothing=0)
KEY = "0123456789abcdef"


@pytest.fixture
def linked(tmp_path):
    """A function that makes a symbolic link."""

    def link(path, target, is_folder=False):
        try:
            path.symlink_to(target, target_is_directory=is_folder)
        except OSError:
            pytest.skip("links cannot be made here")
        return path

    return link


def test_a_work_folder_that_is_a_link_is_refused(tmp_path, linked):
    film = write_lossless_video(tmp_path / "film.mkv", 3)
    (tmp_path / "mine").mkdir()
    linked(tmp_path / "out.mkv.unfinished", tmp_path / "mine", is_folder=True)
    with pytest.raises(OutputError, match=r"out\.mkv\.unfinished is a link"):
        restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT)
    assert list((tmp_path / "mine").iterdir()) == [] and not (tmp_path / "out.mkv").exists()


def test_a_part_of_the_work_folder_that_is_a_link_is_refused(tmp_path, linked):
    (tmp_path / "mine").mkdir()
    work = WorkDir(tmp_path / "out.mkv")
    with work.lock(False):
        linked(work.folder / KEY, tmp_path / "mine", is_folder=True)
        with pytest.raises(OutputError, match=f"{KEY} is a link"):
            work.subfolder(KEY)
        assert work.clear() is not None
    assert (tmp_path / "mine").is_dir()


@pytest.mark.parametrize("restart", [False, True])
def test_a_folder_of_that_name_that_gpen_did_not_make_is_refused(tmp_path, restart):
    mine = tmp_path / "out.mkv.unfinished" / "novel.txt"
    mine.parent.mkdir()
    mine.write_text("chapter 1")
    with (
        pytest.raises(OutputError, match=r"contains novel\.txt, which gpen did not create"),
        WorkDir(tmp_path / "out.mkv").lock(restart),
    ):
        pytest.fail("it was used")
    assert mine.read_text() == "chapter 1"


def test_files_that_others_put_into_the_work_folder_stay(tmp_path):
    work = WorkDir(tmp_path / "out.mkv")
    with work.lock(False):
        (work.subfolder(KEY) / "000000.json").write_text("{}")
        for name in ("notes.txt", ".DS_Store"):
            (work.folder / name).write_text("mine")
    with work.lock(True):
        assert not (work.folder / KEY).exists()
        work.subfolder(KEY)
        assert "contains files of others" in str(work.clear())
    assert (work.folder / "notes.txt").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="replaces a function of POSIX systems")
def test_a_file_system_without_locks_has_a_work_folder(tmp_path, monkeypatch):
    def unsupported(descriptor, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("fcntl.flock", unsupported)
    work = WorkDir(tmp_path / "out.mkv")
    with work.lock(False):
        assert work.subfolder(KEY).is_dir()
    assert list(tmp_path.iterdir()) == []


def test_what_a_file_browser_leaves_does_not_count(tmp_path):
    work = WorkDir(tmp_path / "out.mkv")
    work.folder.mkdir()
    (work.folder / ".DS_Store").write_bytes(b"x")
    with work.lock(False):
        assert work.clear() is None
    assert not list(tmp_path.iterdir())


def test_a_file_of_that_name_is_refused_and_stays(tmp_path):
    (tmp_path / "out.mkv.unfinished").write_text("mine")
    with pytest.raises(OutputError, match="Rename it, or choose"), WorkDir(tmp_path / "out.mkv").lock(False):
        pytest.fail("it was used")
    assert (tmp_path / "out.mkv.unfinished").read_text() == "mine"


def test_a_lock_that_is_a_link_is_refused(tmp_path, linked):
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    linked(tmp_path / ".out.mkv.unfinished.lock", mine)
    with pytest.raises(OutputError, match="is a link, not a lock file"), WorkDir(tmp_path / "out.mkv").lock(False):
        pytest.fail("it was used")
    assert mine.read_text() == "mine"


def test_a_work_folder_that_cannot_be_deleted_does_not_fail_the_finished_video(tmp_path, monkeypatch):
    """As on Windows, where another program has a file in it open."""
    film = write_lossless_video(tmp_path / "film.mkv", 3)

    def locked(path, ignore_errors=False):
        if not ignore_errors:
            raise PermissionError(13, "used by another process", str(path))

    monkeypatch.setattr(shutil, "rmtree", locked)
    result = restore_video(film, tmp_path / "out.mkv", restorer()[0], None, EXACT)
    assert "could not be deleted (used by another process)" in result.notes[-1]
    assert (tmp_path / "out.mkv").exists() and WorkDir(tmp_path / "out.mkv").has_progress


def test_the_longest_names_are_written(tmp_path):
    """File systems allow 255 bytes; the work folder and its lock stay below that, and apart from similar names."""
    film = write_lossless_video(tmp_path / "film.mkv", 3)
    for name in ("n" * 251, "ü" * 125 + "x", "a" * 235):
        target = tmp_path / f"{name}.mkv"
        restore_video(film, target, restorer()[0], None, EXACT)
        assert target.exists() and len(WorkDir(target).folder.name.encode()) < 240
    assert WorkDir(tmp_path / ("n" * 250 + "a.mkv")).folder != WorkDir(tmp_path / ("n" * 250 + "b.mkv")).folder
