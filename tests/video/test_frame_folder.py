"""A video restored to a folder of frames: it can go on after a kill, and the user's files stay as they were."""

import shutil

import numpy as np
import pytest
from PIL import Image
from video_fakes import frames, restorer
from video_files import write_lossless_video

from gpen_core import Interrupted, OutputError, VideoOptions, restore_video
from gpen_core.video.segments import SegmentStore
from gpen_core.video.work_dir import WorkDir

COUNT = 6
EXACT = VideoOptions(temporal_smoothing=0)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number, frame in enumerate(frames(COUNT)):
        Image.fromarray(frame).save(folder / f"{number}.png")
    return folder


def run(source, target, progress=None):
    return restore_video(source, target, restorer()[0], None, EXACT, progress=progress)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def is_restored(source, target):
    before, after = (np.asarray(Image.open(folder / "5.png"), float)[88:104, 112:128] for folder in (source, target))
    return np.abs(255 - before - after).mean() < 4


def killed(*_):
    raise SystemExit("killed")


def test_a_run_that_was_killed_before_it_reported_a_segment_goes_on(source, tmp_path, monkeypatch):
    target = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(SegmentStore, "write_report", killed)
        with pytest.raises(SystemExit):
            run(source, target)
    run(source, target)
    assert names(target) == names(source) and is_restored(source, target) and names(tmp_path) == ["in", "out"]


def test_an_interrupted_move_leaves_the_folder_as_it_was_and_goes_on(source, tmp_path):
    target = tmp_path / "out"
    target.mkdir()
    (target / "notes.txt").write_text("mine")

    def stop(event):
        if (event.stage, event.unit, event.done) == ("join", "frame", 2):
            raise Interrupted

    with pytest.raises(Interrupted):
        run(source, target, stop)
    assert names(target) == ["notes.txt"]
    run(source, target)
    assert names(target) == [*names(source), "notes.txt"] and is_restored(source, target)
    assert names(tmp_path) == ["in", "out"]


def test_a_killed_move_goes_on(source, tmp_path, monkeypatch):
    target = tmp_path / "out"
    target.mkdir()
    with pytest.raises(SystemExit):
        run(source, target, lambda event: killed() if event.stage == "join" else None)
    (staged,) = (tmp_path / "out.unfinished").glob("*/frames.part")
    for name in ("0.png", "1.png"):
        shutil.copy(staged / name, target / name)
    result = run(source, target)
    assert result.segments == (1, 1) and names(target) == names(source) and is_restored(source, target)


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_run_that_was_killed_before_it_deleted_its_work_goes_on(source, tmp_path, monkeypatch, is_kept):
    target = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(WorkDir, "clear", killed)
        with pytest.raises(SystemExit):
            run(source, target)
    assert names(target) == names(source)
    if not is_kept:
        shutil.rmtree(target)
    run(source, target)
    assert names(target) == names(source) and is_restored(source, target) and names(tmp_path) == ["in", "out"]


@pytest.mark.parametrize("is_folder", [False, True])
def test_a_name_that_is_taken_is_refused_before_any_work(source, tmp_path, is_folder):
    """Neither a file nor a folder with a frame's name is touched."""
    taken = tmp_path / "out" / "5.png"
    taken.mkdir(parents=True) if is_folder else taken.parent.mkdir()
    if not is_folder:
        taken.write_bytes(b"mine")
    runner, network = restorer()
    with pytest.raises(OutputError, match=r"already contains 5\.png\. Choose a new or empty folder"):
        restore_video(source, taken.parent, runner, None, EXACT)
    assert network.faces == 0 and names(tmp_path) == ["in", "out"] and names(tmp_path / "out") == ["5.png"]
    assert names(taken) == [] if is_folder else taken.read_bytes() == b"mine"


def test_a_number_that_is_taken_is_refused_for_a_video(tmp_path):
    film = write_lossless_video(tmp_path / "film.mkv", COUNT)
    (tmp_path / "out").mkdir()
    for name in ("000003.png", "000099.png", "cover.png"):
        (tmp_path / "out" / name).write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"already contains 000003\.png\. Choose"):
        run(film, tmp_path / "out")


def test_a_name_that_was_taken_meanwhile_is_refused_and_the_frames_are_kept(source, tmp_path):
    target = tmp_path / "out"
    target.mkdir()

    def take(event):
        if event.stage == "restore":
            (target / "5.png").write_bytes(b"mine")

    with pytest.raises(OutputError, match=r"already contains 5\.png"):
        run(source, target, take)
    assert (target / "5.png").read_bytes() == b"mine" and names(target) == ["5.png"]
    (target / "5.png").unlink()
    assert run(source, target).segments == (1, 1) and is_restored(source, target)
