"""What is killed: a folder that is restored (elsewhere, in place), a video, a download, a conversion; what they leave."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from gpen_core.errors import WeightsError
from gpen_core.tools.demo.images import HEAD_BOX, astronaut
from gpen_core.tools.demo.weights import sharpening_state_dict, tiny_retinaface_state_dict
from gpen_core.weights import digest

from .. import rrdb
from .. import weights_server as ws
from . import videos

ROOT = Path(__file__).resolve().parents[2]
PICTURES = 6
DETECTOR = "detection_mobilenet0.25_Final.safetensors"
FETCHED = "realesrnet_x4"  # of which the catalog knows neither length nor digest: any network of its kind is it


class Operation:
    """In a folder of its own. `lasts` is about how many seconds the work itself takes where nothing else is done."""

    lasts = 1.0

    def __init__(self, folder):
        self.folder = folder

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def parts(self):
        return list(self.folder.rglob(".*.part"))

    def wrong_records(self):
        """Records of a file that is there and another one."""
        wrong = 0
        for note in self.folder.rglob(".*.gpen.json"):
            path = note.with_name(note.name[1:].removesuffix(".gpen.json"))
            try:
                wrong += path.exists() and digest.load_record(path).sha256 != digest.file_sha256(path)
            except WeightsError:  # it cannot be read
                wrong += 1
        return wrong


class RestoreOperation(Operation):
    lasts = 3.0
    in_place = False

    def __enter__(self):
        models = self.folder / "models"
        models.mkdir()
        save_file(sharpening_state_dict(256, [0.3, 0.3]), models / "killed.safetensors")
        save_file(tiny_retinaface_state_dict(), models / DETECTOR)
        x0, y0, x1, y1 = HEAD_BOX
        face = np.rint(astronaut()[y0:y1, x0:x1] * 0.9).astype(np.uint8)
        self.pictures = []
        for number in range(PICTURES):
            out = io.BytesIO()
            Image.fromarray(np.roll(face, number, 1)).save(out, "PNG")
            self.pictures.append(out.getvalue())
        return self

    @property
    def targets(self):
        return [self.folder / ("in" if self.in_place else "out") / f"{n}.png" for n in range(PICTURES)]

    def begin(self):
        for name in ("in", "out"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        (self.folder / "in").mkdir()
        for number, data in enumerate(self.pictures):
            (self.folder / "in" / f"{number}.png").write_bytes(data)

    def command(self):
        where = ["--in-place"] if self.in_place else ["-o", str(self.folder / "out")]
        named = ["--model", "killed", "--detector", "retinaface_mobile0.25", "--models-dir", str(self.folder / "models")]
        return ["restore", str(self.folder / "in"), *where, *named, "--device", "cpu", "--dtype", "fp32"]

    def has_begun(self):
        """The first is written, or about to be."""
        sizes = [path.stat().st_size if path.exists() else len(old) for path, old in zip(self.targets, self.pictures)]
        return bool(self.parts()) or sizes != list(map(len, self.pictures))

    def outputs(self):
        return [_picture(path, old) for path, old in zip(self.targets, self.pictures)]


def _picture(path, old):
    if not path.exists() or path.read_bytes() == old:
        return "old"
    try:
        with Image.open(path) as image:
            image.load()
        return "new"
    except (OSError, SyntaxError):
        return "torn"


class InPlaceOperation(RestoreOperation):
    in_place = True


class VideoOperation(RestoreOperation):
    """A video of three segments, restored to a new folder of frames, which must appear whole or not at all."""

    lasts = 4.0
    frames, seconds = 24, 12

    def __enter__(self):
        super().__enter__()
        self.source, self.target = self.folder / "in.mkv", self.folder / "frames"
        with Image.open(io.BytesIO(self.pictures[0])) as image:
            picture = np.asarray(image)[: image.height // 2 * 2, : image.width // 2 * 2]
        moving = (np.ascontiguousarray(np.roll(picture, number, 1)) for number in range(self.frames))
        rate = self.frames // self.seconds
        self.source.write_bytes(videos.encoded(moving, "matroska", "ffv1", "yuv420p", rate))
        return self

    def begin(self):
        for path in self.folder.glob("frames*"):
            shutil.rmtree(path)

    def command(self):
        if self.target.exists():  # a second run would be refused: the first one was killed behind its last step
            return ["models", "--models-dir", str(self.folder / "models")]
        named = ["--model", "killed", "--detector", "retinaface_mobile0.25", "--models-dir", str(self.folder / "models")]
        return ["video", str(self.source), "-o", str(self.target), *named, "--device", "cpu", "--dtype", "fp32"]

    def parts(self):
        return [] if self.target.exists() else list(self.folder.glob("frames.unfinished"))

    def has_begun(self):
        return bool(self.parts()) or self.target.exists()

    def outputs(self):
        if not self.target.exists():
            return ["old"]
        whole = {_picture(self.target / f"{number + 1:06d}.png", b"") for number in range(self.frames)}
        return ["new" if whole == {"new"} and len(list(self.target.iterdir())) == self.frames else "torn"]


class DownloadOperation(Operation):
    lasts = 1.5

    def __enter__(self):
        torch.save(rrdb.random_weights(features=32), self.folder / "served")
        self.body = (self.folder / "served").read_bytes()
        self._running = ws.running(self.body)
        self.server = self._running.__enter__()
        self.server.pages[f"/{FETCHED}.pth"] = self.serve
        self.target = self.folder / "models" / f"{FETCHED}.pth"
        return self

    def __exit__(self, *raised):
        return self._running.__exit__(*raised)

    def serve(self, handler, *_):
        asked = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        ws.slowly(16384, 0.008)(handler, self.body, int(asked[1]) if asked else 0)

    def begin(self):
        shutil.rmtree(self.folder / "models", ignore_errors=True)

    def command(self):
        return ["download", FETCHED, "--mirror", self.server.root, "--models-dir", str(self.folder / "models")]

    def has_begun(self):
        return bool(self.parts()) or self.target.exists()

    def outputs(self):
        if not self.target.exists():
            return ["old"]
        return ["new" if self.target.read_bytes() == self.body else "torn"]


class ConvertOperation(Operation):
    lasts = 0.3

    def __enter__(self):
        self.tensors = {f"{n}": torch.rand(2_000_000) for n in range(10)}
        torch.save(self.tensors, self.folder / "big.pth")
        self.target = self.folder / "big.safetensors"
        return self

    def begin(self):
        for path in (self.target, digest.record_path(self.target), *self.parts()):
            path.unlink(missing_ok=True)

    def command(self):
        # What is there already is left as it is: after a kill behind the last step there is nothing to convert any more.
        return (
            ["models", "--models-dir", str(self.folder)]
            if self.target.exists()
            else ["convert", str(self.folder / "big.pth")]
        )

    def has_begun(self):
        return bool(self.parts()) or self.target.exists()

    def outputs(self):
        if not self.target.exists():
            return ["old"]
        try:
            found = load_file(self.target)
        except Exception:  # whatever safetensors raises on a file that is cut off
            return ["torn"]
        return ["new" if all(torch.equal(found[key], value) for key, value in self.tensors.items()) else "torn"]


OPERATIONS = {
    "restore": RestoreOperation,
    "restore --in-place": InPlaceOperation,
    "video to frames": VideoOperation,
    "download": DownloadOperation,
    "convert": ConvertOperation,
}
