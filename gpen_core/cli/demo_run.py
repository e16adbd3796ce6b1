"""Creates demonstration weights and images, and restores them like any other files."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO

import numpy as np
import torch

from ..batch import local
from ..batch.job import ImageJob
from ..files.atomic_write import atomic_write, write_bytes
from ..images import codecs
from ..images.image import RGB8
from ..options import RestoreOptions
from ..pipeline import report
from ..pipeline.report import ImageOutcome
from ..pipeline.restorer import FaceRestorer
from ..progress import Progress
from ..tools.demo import images as demo_pictures
from ..tools.demo import weights as demo
from ..weights import digest
from .report_text import stages_text

SIZE = 2048
MODEL_FILE = f"demo-sharpen-{SIZE}.pth"
DETECTOR_FILE = "demo-retinaface-mobile0.25.pth"


def run_demo(folder: Path, out: TextIO, progress: Progress | None = None) -> None:
    """Write to `folder` the weights, the inputs, the results, both side by side with boxes, and report.json."""
    out.write(demo.NOTICE + "\n")
    images = {"astronaut": demo_pictures.astronaut(), "collage": demo_pictures.collage()}
    model, detector = _write_weights(folder / "models")
    jobs = []
    for name, image in images.items():
        source = folder / f"{name}-input.png"
        _write_png(source, demo_pictures.degrade(image))
        jobs.append(ImageJob(source, folder / f"{name}-restored.png"))
    options = RestoreOptions()
    restorer = FaceRestorer.load(model, detector)
    out.write(f"Restoring at {SIZE} x {SIZE} on {restorer.device} in {restorer.dtype} ...\n")
    outcomes = local.process_all(restorer, jobs, options, lambda outcome: _write_side_by_side(outcome, out), progress)
    failed = [outcome.error for outcome in outcomes if outcome.error is not None]
    if failed:
        raise failed[0]
    names = {"model": str(model), "detector": str(detector), "notice": demo.NOTICE}
    write_bytes(folder / "report.json", report.format_report(restorer, names, options, outcomes).encode())
    out.write(f"Open {folder}/*-side-by-side.png. Details are in {folder}/report.json.\n")


def _write_weights(folder: Path) -> tuple[Path, Path]:
    builders = {
        MODEL_FILE: lambda: demo.sharpening_state_dict(SIZE, demo.DEMO_GAINS),
        DETECTOR_FILE: demo.tiny_retinaface_state_dict,
    }
    for name, make in builders.items():
        with atomic_write(folder / name) as part:
            torch.save(make(), part)
        digest.delete_record(folder / name)
    return folder / MODEL_FILE, folder / DETECTOR_FILE


def _write_png(path: Path, rgb: RGB8) -> None:
    write_bytes(path, codecs.encode_array(rgb, "PNG"))


def _write_side_by_side(outcome: ImageOutcome, out: TextIO) -> None:
    if outcome.result is None:
        return
    source, target = Path(str(outcome.files.source)), Path(str(outcome.files.target))
    before, after = codecs.read(source).image.to_input_type(), codecs.read(target).image.to_input_type()
    name = source.name.replace("-input.png", "-side-by-side.png")
    _write_png(source.with_name(name), np.asarray(demo_pictures.side_by_side(before, after, outcome.result.faces)))
    out.write(f"{source.name}: {outcome.result.summary} ({stages_text(outcome.seconds)})\n")
