"""The images and command outputs of docs/guides.md: runs the commands of the page on images made from one photo.

    python benchmarks/flow_guides.py                (or: python benchmarks/flow_guides.py --only group --output FOLDER)

Each guide gets the folder that it assumes, with photos made from scikit-image's astronaut. Its models folder has the
networks and the detector of the demonstration under the released names. Images are written to docs/. The output
of the commands is printed, to be copied into the page. The video requires PyAV.
"""

from __future__ import annotations

import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks"), str(ROOT / "tests")]

import helpers  # noqa: E402
from docs_images import GAP, asked_for, concatenate_row, resize, with_title  # noqa: E402
from swap_threshold import RGB8  # noqa: E402

from gpen_core.tools.demo import weights as demo  # noqa: E402
from gpen_core.tools.demo.images import HEAD_BOX, astronaut, collage, degrade  # noqa: E402

PAGE = (ROOT / "docs" / "guides.md").read_text("utf-8")
WIDE = 976  # px: of an image
LARGEST = 90_000  # bytes
# Per band of a crop of 2048, the finest first: as the demonstration's, and one that takes grain away and sharpens below it.
GAINS = demo.DEMO_GAINS
WITHOUT_GRAIN = (0.0, 0.0, 0.0, -0.6, 1.8, 1.2)
SIZES = (2048, 1024, 512)


def write_models(folder: Path, sizes: tuple[int, ...], gains: tuple[float, ...] = GAINS) -> None:
    """The networks of those sizes, and the detector as what each of the guides' commands asks for."""
    files = {f"GPEN-BFR-{size}.safetensors": demo.sharpening_state_dict(size, gains[SIZES.index(size) :]) for size in sizes}
    detector = demo.tiny_retinaface_state_dict()
    helpers.write_weights(
        folder, {**files, helpers.DETECTOR_FILE: detector, "detection_Resnet50_Final.safetensors": detector}
    )


def run(folder: Path, command: str, *, instead: tuple[str, str] | None = None, status: int = 0) -> None:
    """Prints what the command of the page says, on stdout and stderr; `instead` is a part of it and what takes its place."""
    assert command in PAGE, command
    words = shlex.split(command.replace(*instead) if instead else command)[1:]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "GPEN_MODELS_DIR": "carried", "GPEN_OFFLINE": "1"}
    environ |= {"XDG_CACHE_HOME": "cache", "COLUMNS": "100"}
    ran = subprocess.run(
        [sys.executable, "-m", "gpen_core", *words], cwd=folder, env=environ, capture_output=True, text=True
    )
    assert ran.returncode == status, (command, ran.returncode, ran.stderr)
    print(f"$ {' '.join(['gpen', *words])}\n{ran.stdout}{ran.stderr}", flush=True)


def read(path: Path) -> RGB8:
    return np.asarray(Image.open(path).convert("RGB"), np.uint8)


def save(path: Path, image: RGB8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def pair(before: RGB8, after: RGB8, box: tuple[int, int, int, int], width: int) -> RGB8:
    """The same part of both images, with a title above each."""
    x0, y0, x1, y1 = box
    cells = [resize(image[y0:y1, x0:x1], width) for image in (before, after)]
    return concatenate_row([with_title(*cell) for cell in zip(("before", "after"), cells)])


# The guides


def seen(folder: Path) -> RGB8:
    """See what would happen."""
    write_models(folder / "carried", ())
    save(folder / "photo.jpg", degrade(collage()))
    run(folder, "gpen detect photo.jpg -o seen/")
    return resize(read(folder / "seen" / "photo.jpg"), WIDE)


def old(folder: Path) -> RGB8:
    """An old photograph: faded, gray, soft, with grain and a scratch over an eye."""
    write_models(folder / "carried", (1024,), WITHOUT_GRAIN)
    gray = cv2.cvtColor(astronaut(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    soft = 55 + 0.68 * cv2.GaussianBlur(gray, (0, 0), 1.8)
    cv2.polylines(soft, [np.array([(262, 20), (254, 80), (250, 140), (238, 260)], np.int32)], False, 235, 1, cv2.LINE_AA)
    grain = cv2.GaussianBlur(np.random.default_rng(5).normal(0, 9, gray.shape), (0, 0), 0.6)
    before = np.repeat(np.rint(np.clip(soft + grain, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)
    save(folder / "old.png", before)
    run(folder, "gpen restore old.png -o restored/ --model gpen-bfr-1024 --grain 1")
    return pair(before, read(folder / "restored" / "old.png"), HEAD_BOX, (WIDE - GAP) // 2)


def group(folder: Path) -> RGB8:
    """A group: 36 faces, the demonstration's six on each tile, every other tile mirrored."""
    write_models(folder / "carried", SIZES)
    tile = np.asarray(cv2.resize(collage(), (600, 400), interpolation=cv2.INTER_AREA), np.uint8)
    mirrored = tile[:, ::-1]
    before = degrade(np.vstack([np.hstack([tile, mirrored, tile]), np.hstack([mirrored, tile, mirrored])]), sigma=1.1)
    save(folder / "group.jpg", before)
    run(folder, "gpen restore group.jpg -o restored/ --model auto --min-face-size 20 --report group.json")
    run(folder, "gpen detect group.jpg -o seen/")
    before, after = read(folder / "group.jpg"), read(folder / "restored" / "group.jpg")
    return np.vstack(
        [resize(read(folder / "seen" / "group.jpg"), WIDE), pair(before, after, (0, 0, 450, 200), (WIDE - GAP) // 2)]
    )


def film(folder: Path) -> RGB8:
    """A video: a window that moves over the photograph."""
    import av

    write_models(folder / "carried", (512,))
    with av.open(str(folder / "video.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 640, 360, "yuv420p", 3_000_000
        for n in range(75):
            x, y = round(1.4 * n), round(20 + 20 * np.sin(n / 12))
            picture = cv2.resize(astronaut()[y : y + 225, x : x + 400], (640, 360), interpolation=cv2.INTER_CUBIC)
            picture = degrade(np.asarray(picture, np.uint8), sigma=2, seed=n)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    run(folder, "gpen video video.mp4 -o video.preview.jpg --preview 3 --model gpen-bfr-512")
    return resize(read(folder / "video.preview.jpg"), WIDE)


def archive(folder: Path) -> None:
    """A whole archive: twelve images, one of them damaged."""
    write_models(folder / "carried", SIZES)
    for n in range(12):
        place = folder / "photos" / f"{1950 + n // 4}" / f"{n:03}.jpg"
        save(place, degrade(astronaut()[: 300 + 10 * n, 40:360] if n % 5 else astronaut()[300:, :300]))
    place.write_bytes(place.read_bytes()[:5000])
    run(folder, "gpen restore photos/ -o restored/ --recursive --skip-existing --report run.jsonl --model auto", status=1)
    run(folder, "gpen report run.jsonl")


def memory(folder: Path) -> None:
    """Little memory: far too little."""
    write_models(folder / "carried", (512,))
    save(folder / "photo.jpg", degrade(astronaut()))
    command = (
        "gpen restore photo.jpg -o restored/ --model gpen-bfr-512 --detector retinaface_mobile0.25 --detection-size 1000"
    )
    run(folder, f"{command} --max-memory 2G")
    run(folder, f"{command} --max-memory 2G", instead=("2G", "300M"), status=5)


def offline(folder: Path) -> None:
    """No internet: nothing was carried along."""
    (folder / "carried").mkdir()
    save(folder / "photo.jpg", degrade(astronaut()))
    run(folder, "gpen restore photo.jpg -o restored/ --model gpen-bfr-512 --models-dir carried --offline", status=4)


def tuned(folder: Path) -> RGB8:
    """A fine-tuned checkpoint: one that sharpens more."""
    write_models(folder / "carried", (512,))
    helpers.write_weights(folder / "carried", {"my-gpen.pth": demo.sharpening_state_dict(512, (0.8, 2.4, 1.2))})
    save(folder / "photo.jpg", degrade(astronaut(), sigma=1.8))
    run(folder, "gpen restore photo.jpg -o restored/ --model carried/my-gpen.pth")
    run(folder, "gpen compare photo.jpg -o sheet.png --models gpen-bfr-512,carried/my-gpen.pth --strengths 0.5,1")
    return resize(read(folder / "sheet.png"), WIDE)


def program(folder: Path) -> None:
    """From another program: the lines that one reads."""
    write_models(folder / "carried", (512,))
    save(folder / "photo.jpg", degrade(collage()))
    run(folder, "gpen restore photo.jpg -o restored/ --model gpen-bfr-512 --progress json")


GUIDES: dict[str, Callable[[Path], RGB8 | None]] = {
    "seen": seen,
    "old": old,
    "group": group,
    "film": film,
    "archive": archive,
    "memory": memory,
    "offline": offline,
    "tuned": tuned,
    "program": program,
}


def jpeg(image: RGB8) -> bytes:
    """As good as fits."""
    for quality in range(90, 50, -4):
        out = io.BytesIO()
        Image.fromarray(image).save(out, "JPEG", quality=quality, optimize=True)
        if len(out.getvalue()) <= LARGEST:
            return out.getvalue()
    raise SystemExit(f"An image of {image.shape[1]} x {image.shape[0]} px is more than {LARGEST} bytes.")


def main() -> None:
    """Runs the guides."""
    names, output = asked_for(__doc__, GUIDES)
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            image = GUIDES[name](Path(folder))
        if image is not None:
            (output / f"guide-{name}.jpg").write_bytes(jpeg(image))


if __name__ == "__main__":
    main()
