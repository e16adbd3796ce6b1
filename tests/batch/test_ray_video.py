"""`gpen video --ray`: the video of a local run, whatever happens to a worker. The tests of videos need Ray and PyAV."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import av
import pytest
import video_files
from ray_fixtures import worker_pids
from video_fakes import SIZE, frames

from gpen_core.video.work_dir import WorkDir

pytest_plugins = ["cli_fixtures", "ray_fixtures"]

COUNT = 50  # five segments of ten, at 2 a second


@pytest.fixture
def film(tmp_path):
    path = tmp_path / "film.mkv"
    return video_files.write_video(path, COUNT, SIZE, "ffv1", rate=2, pictures=list(frames(COUNT)), sound="aac")


@pytest.fixture
def video(gpen, models):
    """`gpen video` with the small detector and a network of 256 pixels."""

    def run(film, target, *arguments):
        named = ("--model", "red-256", "--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline")
        return gpen("video", film, "-o", target, "--codec", "ffv1", *arguments, *named, "--device", "cpu")

    return run


def packets(path):
    """Of all streams: each packet's stream, times and content."""
    with av.open(str(path)) as container:
        return [(packet.stream_index, packet.pts, packet.dts, bytes(packet)) for packet in container.demux() if packet.size]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (("--workers", "2"), "--workers needs --ray"),
        (("--ray", "--preview", "2"), "--preview does not use --ray"),
        (("--ray", "here"), "expected host:port, auto or local"),
    ],
)
def test_what_contradicts_is_refused(video, film, tmp_path, arguments, why):
    ran = video(film, tmp_path / "out.mkv", *arguments)
    assert ran.status == 2 and why in ran.err


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds a worker by /proc")
def test_a_killed_worker_changes_nothing(ray, video, film, tmp_path):
    assert video(film, tmp_path / "local.mkv", "--report", tmp_path / "local.json").status == 0
    target, before, killed = tmp_path / "out.mkv", set(worker_pids()), []

    def kill():
        while not list(WorkDir(target).folder.glob("*/*.json")):
            time.sleep(0.01)
        (one, *_) = sorted(set(worker_pids()) - before)
        os.kill(one, signal.SIGKILL)
        killed.append(one)

    threading.Thread(target=kill, daemon=True).start()
    ran = video(film, target, "--ray", "--workers", "2", "--report", tmp_path / "ray.json")
    assert killed and ran.status == 0
    assert packets(target) == packets(tmp_path / "local.mkv")
    here, there = (json.loads((tmp_path / name).read_text("utf-8")) for name in ("local.json", "ray.json"))
    differs = {key for key in here if here[key] != there[key]}
    assert differs <= {"output", "seconds"} and there["segments"] == 5 and there["device"] == "cpu"
    assert not WorkDir(target).folder.exists()
