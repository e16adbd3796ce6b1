"""`gpen restore` of folders with what lies in them, of lists, and of what another run began; `gpen report`."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli_fixtures import DETECTOR, file_names, write_broken_png
from PIL import Image

pytest_plugins = ["cli_fixtures"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def tree(tmp_path, plain, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/b/a.png", "in/b/c/d.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(plain.read_bytes())
    plain.unlink()
    return tmp_path


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


def statuses(path):
    return [row["status"] for row in map(json.loads, Path(path).read_text("utf-8").splitlines()) if row["row"] == "image"]


@pytest.mark.slow
def test_a_folder_with_what_lies_deeper_twice_over(restore, tree):
    for _ in range(2):  # the second time OUT, which lies in it, is not an input
        assert restore(".", "-o", "out", "--recursive").status == 0
        assert below("out") == ["in/a.png", "in/b/a.png", "in/b/c/d.png"]


@pytest.mark.slow
def test_a_list(restore, tree):
    Path("list.txt").write_text("# mine\nin/a.png\n\nin/b/a.png\n")
    assert restore("-o", "out", "--input-list", "list.txt").status == 0
    assert restore("--input-list", "list.txt", "in/b/c", "-o", "other").status == 0
    assert below("out") == ["in/a.png", "in/b/a.png"]
    assert below("other") == ["d.png", "in/a.png", "in/b/a.png"]


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (("-o", "out"), 2, "INPUT"),
        (("--input-list", "none.txt", "-o", "out"), 3, "none.txt cannot be read"),
        (("--input-list", "empty.txt", "-o", "out"), 3, "No images in empty.txt"),
        (("--input-list", "-", "-o", "out"), 3, "No images in the standard input."),
        (("in", "in/b", "-o", "out"), 2, "would both become"),
        (("in", "in/b/c", "--recursive", "-o", "in"), 2, "is an input"),
        (("in", "--in-place", "--skip-existing"), 2, "--skip-existing would skip every image"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(restore, tree, arguments, status, why):
    Path("empty.txt").write_text("# nothing\n")
    ran = restore(*arguments)
    assert ran.status == status and why in ran.err
    assert not Path("out").exists()


@pytest.mark.slow
def test_a_run_goes_on_where_another_ended(restore, tree):
    assert restore("in", "-o", "out", "--report", "report.jsonl").status == 0
    before = Path("out/a.png").stat()
    write_broken_png(Path("in/x.png"))
    again = ("in", "--recursive", "-o", "out", "--report", "report.jsonl", "--skip-existing")
    assert restore(*again).status == 1
    assert Path("out/a.png").stat() == before
    assert statuses("report.jsonl") == ["unchanged", "skipped", "failed", "unchanged", "unchanged"]
    Path("in/x.png").write_bytes(Path("in/a.png").read_bytes())
    ran = restore(*again)
    assert (ran.status, ran.err) == (0, "")
    assert statuses("report.jsonl")[5:] == ["skipped", "unchanged", "skipped", "skipped"]


def test_other_options_than_the_reports_are_warned_of_once(restore, tree, caplog):
    assert restore("in", "-o", "out", "--report", "report.json").status == 0
    assert restore("in", "-o", "out", "--report", "report.json", "--skip-existing", "--strength", 0.5).status == 0
    (said,) = (text for text in caplog.messages if "report.json" in text)
    assert "strength: 1.0, now 0.5" in said
    assert json.loads(Path("report.json").read_text())["inputs"][0]["status"] == "skipped"


def test_reports_are_summed_up(restore, gpen, tree, face):
    assert restore(face, "in/a.png", "missing.png", "-o", "out", "--report", "a.json").status == 1
    assert restore("in/b/a.png", "-o", "other", "--report", "b.jsonl").status == 0
    ran = gpen("report", "a.json", "b.jsonl")
    assert ran.status == 0
    assert "4 images in 2 runs: 2 unchanged, 1 restored, 1 failed" in ran.out
    assert "1 face found, 1 restored" in ran.out and "failed: 1 x FILE cannot be read" in ran.out
    assert "per second" in ran.out and "network" in ran.out
    assert gpen("report", "none.json").status == 3


@pytest.mark.slow
def test_urls_name_inputs_and_outputs(restore, gpen, tree, models):
    store = pytest.importorskip("fsspec").filesystem("memory")
    store.store.clear()
    store.pipe_file("/shop/in/a.png", Path("in/a.png").read_bytes())
    store.pipe_file("/shop/in/b/a.png", b"broken")
    report = ("--report", "report.jsonl")
    assert restore("memory://shop/in", "-o", "memory://shop/out", "--recursive", *report).status == 1
    assert store.cat_file("/shop/out/a.png") == Path("in/a.png").read_bytes()
    assert statuses("report.jsonl") == ["unchanged", "failed"]
    Path("list.txt").write_text("memory://shop/in/a.png\nin/b/a.png\n")
    assert restore("--input-list", "list.txt", "-o", "memory://shop/out", "--skip-existing").status == 0
    assert sorted(store.find("/shop/out")) == ["/shop/out/a.png", "/shop/out/in/b/a.png", "/shop/out/shop/in/a.png"]
    named = ("--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu")
    ran = gpen("detect", "memory://shop/in/a.png", "-o", "memory://shop/faces", *named)
    assert ran.status == 0 and store.find("/shop/faces") == ["/shop/faces/a.png"]


@pytest.mark.parametrize("option", ["--report", "--input-list", "--region-mask", "--before-swap", "--background"])
def test_what_is_no_image_is_a_file_of_this_machine(restore, tree, option):
    ran = restore("in", "-o", "out", option, "s3://bucket/file.txt")
    assert ran.status == 2 and "expected a local file or folder, got 's3://bucket/file.txt'" in ran.err


@pytest.mark.skipif(os.name == "nt", reason="has no kill -9")
@pytest.mark.slow
def test_what_was_killed_leaves_whole_lines_and_goes_on(models, restore, tree, portrait):
    """Killed when it has told of the third image, whatever it does by then."""
    for n in range(12):
        Image.fromarray(portrait).save(f"in/face{n:02d}.png")
    named = ("--model", models / "red-256.pth", "--detector", models / DETECTOR, "--device", "cpu")
    command = [sys.executable, "-m", "gpen_core", "restore", "in", "-o", "out", "--report", "report.jsonl", *map(str, named)]
    running = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    report = Path("report.jsonl")
    end = time.monotonic() + 120
    while time.monotonic() < end and not (report.exists() and report.read_bytes().count(b"\n") >= 4):
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    running.wait()
    done = statuses("report.jsonl")
    assert 3 <= len(done) < 13 and report.read_bytes().endswith(b"\n")
    whole = [name for name in file_names(Path("out")) if not name.startswith(".")]
    assert len(done) <= len(whole) <= len(done) + 1  # one may have been written and not yet told
    assert restore("in", "-o", "out", "--report", "report.jsonl", "--skip-existing").status == 0
    assert statuses("report.jsonl")[len(done) :] == ["skipped"] * len(whole) + ["restored"] * (13 - len(whole))
    assert file_names(Path("out")) == sorted(["a.png", *(f"face{n:02d}.png" for n in range(12))])
