"""First contact with the released files: `python -m tests.real_files`, or `make real`. It needs a network.

Every file of the catalog is downloaded by the project's own downloader and checked. The ONNX exports are compared with the
`.pth` of their size. `pytest -m real` runs with each network, and each network restores a few photos. The results are
`report.json`, `summary.txt` and `sheet.jpg`. What the catalog could pin is printed; a person reviews it. Ends with 1 if a
file could not be downloaded or a check failed. The report is written after each row, so it is there if the run ends early.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from PIL import Image

from gpen_core import FaceRestorer, GpenError, RestoreOptions
from gpen_core.faces.align import align_face, crop_face
from gpen_core.images.image import from_array
from gpen_core.network import validate_state_dict
from gpen_core.pipeline.network_loading import validate_checkpoint
from gpen_core.progress import no_progress
from gpen_core.tools.contact_sheet import CELL_SIZE, caption, header_row, sheet_row
from gpen_core.tools.demo import images as demo
from gpen_core.weights import catalog, checkpoint
from gpen_core.weights.catalog import COLORIZE, INPAINT, RESTORE, Entry, Export
from gpen_core.weights.digest import PIN, DigestRecord, file_sha256
from gpen_core.weights.download import Download
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.onnx_graph import read_graph
from gpen_core.weights.onnx_mapping import map_state_dict
from gpen_core.weights.onnx_proof import MAX_DIFFERENCE, largest_difference, tensors_sha256
from gpen_core.weights.onnx_runtime import installed_runtime
from gpen_core.weights.remote_digest import fetch_info
from gpen_core.weights.request import RetryPolicy
from gpen_core.weights.store import Store
from gpen_core.weights.unpickler import UnsafeCheckpoint
from gpen_core.weights.weights_file import open_weights

ROOT = Path(__file__).resolve().parents[1]
OFFLINE = DownloadOptions(offline=True)
REPORT, SUMMARY, SHEET = "report.json", "summary.txt", "sheet.jpg"
MOUTH = (slice(125, 165), slice(195, 255))  # rows and columns of the astronaut, for networks that fill a region
DETECTORS = ("retinaface_resnet50", "retinaface_mobile0.25")
FAILURES = (GpenError, UnsafeCheckpoint)

Row = dict[str, Any]


def main(argv: list[str] | None = None) -> int:
    args = make_parser().parse_args(argv)
    args.output.mkdir(parents=True, exist_ok=True)
    entries = [one for one in catalog.CATALOG if not args.only or one.name in args.only]
    entries.sort(key=lambda one: one.size or 0)  # the largest need most time and memory
    options = DownloadOptions.from_environment(mirror=args.mirror)
    report: Row = {"complete": False, "date": datetime.date.today().isoformat(), "versions": versions()}
    steps: dict[str, Callable[[], Iterator[Row]]] = {
        "files": lambda: fetch_all(entries, args.weights, options),
        "parity": lambda: compare_all(entries, args.weights),
        "tests": lambda: run_tests(entries, args.weights),
        "detections": lambda: detect_all(entries, args.weights),
        "restorations": lambda: restore_all(entries, args.weights, args.output / SHEET),
    }
    for name, run in steps.items():
        rows: list[Row] = []
        report[name] = rows
        if name in args.skip:
            continue
        for row in run():
            rows.append(row)
            print(f"{name}: {json.dumps(row)}", flush=True)
            write(args.output / REPORT, report)
    report["pins"] = pins(report)
    report["errors"] = [row for name in steps for row in report[name] if row["error"]]
    report["complete"] = True
    write(args.output / REPORT, report)
    text = summary(report)
    (args.output / SUMMARY).write_text(text, "utf-8")
    print(f"\n{text}\nReport: {args.output / REPORT}")
    return 1 if report["errors"] else 0


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "real", help="folder of the report and the sheet")
    parser.add_argument(
        "--weights", type=Path, default=ROOT / "build" / "real-weights", help="folder of the downloads, 3 GB"
    )
    parser.add_argument("--mirror", help="folder's URL that is tried first, such as http://127.0.0.1:8000")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="catalog names; by default all")
    parser.add_argument("--skip", nargs="+", default=[], metavar="STEP", help="steps to leave out, such as parity or tests")
    return parser


def versions() -> Row:
    runtime = installed_runtime()
    named = {name: version(name) for name in ("torch", "numpy", *([runtime] if runtime else ()))}
    return {"system": platform.platform(), "python": platform.python_version(), **named}


def write(path: Path, report: Row) -> None:
    path.write_text(json.dumps(report, indent=1) + "\n", "utf-8")


def summary(report: Row) -> str:
    suggested = [
        f"  {one['name']}, {one['file']}: {one['field']}={one['value']!r}  # {one['why']}" for one in report["pins"]
    ]
    failed = [f"  {one['name']}: " + one["error"].replace("\n", "\n    ") for one in report["errors"]]
    lines = ["Pins for gpen_core/weights/catalog.py, after a review:", *suggested] if suggested else ["No new pins."]
    lines += [f"{len(failed)} rows with an error:", *failed] if failed else ["No errors."]
    return "\n".join(lines) + "\n"


def export_folder(folder: Path, export: Export) -> Path:
    """A folder for each export, because two have the same file name."""
    return folder / "onnx" / export.sha256[:8]


def released_path(folder: Path, entry: Entry) -> Path | None:
    """The downloaded file of an entry, or None."""
    path = folder / entry.file
    return path if path.is_file() else None


def network_path(folder: Path, entry: Entry) -> Path | None:
    """The downloaded `.pth` of a network, or else one of its exports, or None."""
    exports = [export_folder(folder, one) / one.file for one in entry.exports]
    return released_path(folder, entry) or next((path for path in exports if path.is_file()), None)


def networks(entries: list[Entry], folder: Path) -> list[tuple[Entry, Path]]:
    return [(one, path) for one in entries if one.size and (path := network_path(folder, one))]


def fetch_all(entries: list[Entry], folder: Path, options: DownloadOptions) -> Iterator[Row]:
    """A row for each file of the catalog and each ONNX export."""
    for entry in entries:
        yield fetch(entry, folder, options)
        for export in entry.exports:
            yield fetch(entry.for_export(export), export_folder(folder, export), options)


def fetch(entry: Entry, folder: Path, options: DownloadOptions) -> Row:
    """Download a file, verify it as the store does, and say what each of its sources publishes."""

    def check(path: Path) -> None:
        with open_weights(path) as file:
            validate_checkpoint(checkpoint.read(file, is_pinned=False), entry)

    row: Row = {"name": entry.name, "file": entry.file, "bytes": None, "sha256": None, "checked_by": None, "source": None}
    start = time.perf_counter()
    try:
        path = Download(entry, folder, options, no_progress, check).run()
        row |= {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
        if path.suffix == ".onnx" and not entry.is_graph:  # an export is read when it is compared
            record = DigestRecord(row["sha256"], PIN)
            row["error"] = None if row["sha256"] == entry.sha256 else f"the file is another one, expected {entry.sha256}"
        else:
            _, record = Store([folder], OFFLINE).load_as_is(path, validate_checkpoint)
            row["error"] = None
        row |= {"checked_by": record.checked_by, "source": record.source}
    except FAILURES as error:
        row["error"] = str(error)
    row["seconds"] = round(time.perf_counter() - start, 1)
    row["published"] = [published(source) for source in entry.sources]
    return row


def published(source: catalog.Source) -> Row:
    """What a source says of its file without a download; all None if it does not answer."""
    known = fetch_info(source, RetryPolicy())
    return {"url": source.url, "bytes": known.bytes, "sha256": known.sha256, "validator": known.validator}


def compare_all(entries: list[Entry], folder: Path) -> Iterator[Row]:
    """A row for each downloaded ONNX export."""
    for entry in entries:
        exports = [(one, export_folder(folder, one) / one.file) for one in entry.exports]
        for export, path in exports:
            if path.is_file():
                yield {"name": entry.name, "file": export.file, "sha256": export.sha256, **compare(entry, path, folder)}


def compare(entry: Entry, path: Path, folder: Path) -> Row:
    """Compare an ONNX export with its converted tensors, and with the `.pth` of that network if there is one.

    Differences of outputs are in standard deviations, on three images; those of tensors are relative to the largest
    value of each."""
    row: Row = {"tensors_sha256": None, "difference": None, "pth_tensors": None, "pth_difference": None, "error": None}
    start = time.perf_counter()
    try:
        held = io.BytesIO(path.read_bytes())
        graph = read_graph(held, len(held.getbuffer()))
        released = released_path(folder, entry)
        weights = None if released is None else Store([folder], OFFLINE).load_as_is(released, read_state_dict)[0]
        if weights is not None:
            row["pth_difference"] = largest_difference(held, weights)
        converted, _ = map_state_dict(graph)
        row |= {"tensors_sha256": tensors_sha256(converted), "difference": largest_difference(held, converted)}
        if weights is not None:
            row["pth_tensors"] = max(relative_difference(converted[key], weights[key]) for key in converted)
        differences = [one for one in (row["difference"], row["pth_difference"]) if one is not None]
        if not all(one <= MAX_DIFFERENCE for one in differences):
            row["error"] = f"the outputs differ by more than {MAX_DIFFERENCE:g} standard deviations"
        elif row["tensors_sha256"] != (pinned := pinned_tensors(entry, path)) and pinned:
            row["error"] = f"the catalog pins other tensors ({pinned})"
    except FAILURES as error:
        row["error"] = str(error)
    return {**row, "seconds": round(time.perf_counter() - start, 1)}


def pinned_tensors(entry: Entry, path: Path) -> str | None:
    return next(one.tensors_sha256 for one in entry.exports if path.parent.name == one.sha256[:8])


def read_state_dict(content: object, entry: Entry | None) -> dict[str, torch.Tensor]:
    state_dict, _ = validate_state_dict(content, entry.size if entry else None)
    return {key: tensor.float() for key, tensor in state_dict.items()}


def relative_difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).abs().max() / other.abs().max().clamp_min(torch.finfo(torch.float32).tiny))


def run_tests(entries: list[Entry], folder: Path) -> Iterator[Row]:
    """Run `pytest -m real` with each network that restores."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "real", "-p", "no:cacheprovider", "tests/test_real_weights.py"]
    for entry, path in networks(entries, folder):
        if entry.operation == RESTORE:
            environ = {**os.environ, "GPEN_REAL_WEIGHTS": str(path.resolve())}
            done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True)
            last = done.stdout.strip().rpartition("\n")[2]
            error = None if done.returncode == 0 and "passed" in last else (done.stdout + done.stderr)[-2000:]
            yield {"name": entry.name, "file": path.name, "result": last, "error": error}


def photos() -> dict[str, np.ndarray]:
    """Photos [H, W, 3] uint8 by title: one face, blurred and noisy, at two sizes, and six faces."""
    astronaut = demo.astronaut()
    small = cv2.resize(astronaut, (224, 224), interpolation=cv2.INTER_AREA)
    return {
        "astronaut": demo.degrade(astronaut),
        "astronaut, small": demo.degrade(small, sigma=0.8),
        "collage": demo.degrade(demo.collage(), sigma=1.0),
    }


def found_detectors(entries: list[Entry], folder: Path) -> list[str]:
    names = [one.name for one in entries if released_path(folder, one)]
    return [name for name in DETECTORS if name in names]


def load(path: Path, detector: str, folder: Path) -> FaceRestorer:
    return FaceRestorer.load(path, detector, folder, downloads=OFFLINE)


def detect_all(entries: list[Entry], folder: Path) -> Iterator[Row]:
    """What each detector finds in each photo."""
    for detector in found_detectors(entries, folder):
        for _, path in networks(entries, folder)[:1]:
            yield from detect(detector, path, folder)


def detect(detector: str, path: Path, folder: Path) -> Iterator[Row]:
    try:
        restorer = load(path, detector, folder)
        found = restorer.detect(list(photos().values()))
    except FAILURES as error:
        yield {"name": detector, "error": str(error)}
        return
    for title, faces in zip(photos(), found):
        scores = [round(face.score, 3) for face in faces if face.reason is None]
        yield {"name": detector, "photo": title, "scores": scores, "error": None if scores else "found no face"}


def restore_all(entries: list[Entry], folder: Path, sheet: Path) -> Iterator[Row]:
    """Restore each photo with each network, and the first with ParseNet's mask, and write the sheet after each network."""
    detectors = found_detectors(entries, folder)
    found = networks(entries, folder)
    for name, list_ in (("a detector", detectors), ("a network", found)):
        if not list_:
            yield {"name": "all", "error": f"{name} is missing"}
            return
    cells = {title: {} for title in photos()}
    boxed = dict.fromkeys(photos())
    has_parser = any(one.name == "parsenet" and released_path(folder, one) for one in entries)
    for number, (entry, path) in enumerate(found):
        try:
            restorer = load(path, detectors[0], folder)
        except FAILURES as error:
            yield {"name": entry.name, "error": str(error)}
            continue
        for title, photo in photos().items():
            if entry.operation != INPAINT or title == "astronaut":
                row, result = restore(restorer, entry, photo, "feather")
                yield {**row, "photo": title}
                if result is not None and result.faces:
                    boxed[title] = boxed[title] or max(result.faces, key=lambda face: face.area)
                    cells[title][entry.name] = result.image
        if has_parser and number == 0:
            row, _ = restore(restorer, entry, photos()["astronaut"], "parse")
            yield {**row, "photo": "astronaut"}
        columns = [one.name for one, _ in found[: number + 1]]
        Image.fromarray(draw_sheet(columns, cells, boxed)).save(sheet, quality=92)


def restore(restorer: FaceRestorer, entry: Entry, photo: np.ndarray, mask_type: str) -> tuple[Row, object]:
    row: Row = {"name": entry.name, "mask_type": mask_type, "weights": list(restorer.weights)}
    options = RestoreOptions(mask_type=mask_type)
    gray = cv2.cvtColor(photo, cv2.COLOR_RGB2GRAY)
    region_mask, given = None, photo
    if entry.operation == COLORIZE:
        given = cv2.cvtColor(gray, cv2.COLOR_GRAY2RGB)
    if entry.operation == INPAINT:
        region_mask = np.zeros(gray.shape, np.float32)
        region_mask[MOUTH] = 1
    start = time.perf_counter()
    try:
        result = restorer.restore(gray if entry.operation == COLORIZE else photo, options, region_mask=region_mask)
    except FAILURES as error:
        return {**row, "error": str(error)}, None
    row |= {"seconds": round(time.perf_counter() - start, 1), "mask_mean": round(float(result.mask.mean()), 4)}
    row |= {"faces": [face.outcome_text() for face in result.faces], "notes": list(result.notes)}
    image = np.asarray(result.image)
    row["mean_change"] = None if image.shape != given.shape else round(float(cv2.absdiff(image, given).mean()), 3)
    is_restored = any(face.restored for face in result.faces) and result.is_changed
    return {**row, "error": None if is_restored else "restored no face"}, result


def draw_sheet(columns: list[str], cells: dict[str, dict], boxed: dict[str, object]) -> np.ndarray:
    """Each photo's largest face: before, then after each network. White where a network gave no result."""
    rows = [header_row(["before", *columns])]
    for title, photo in photos().items():
        images = [photo, *(cells[title].get(name) for name in columns)]
        rows.append(sheet_row(caption(title, CELL_SIZE), [draw_cell(image, boxed[title]) for image in images]))
    return np.vstack(rows)


def draw_cell(image: np.ndarray | None, face: object) -> np.ndarray:
    alignment = None if face is None else align_face(face.landmarks, CELL_SIZE)
    if image is None or alignment is None or isinstance(alignment, str):
        return np.full((CELL_SIZE, CELL_SIZE, 3), 255, np.uint8)
    return np.asarray(np.rint(crop_face(from_array(image), alignment) * 255), np.uint8)


def pins(report: Row) -> list[Row]:
    """What the catalog does not pin yet, with the reason to believe it."""
    return [*file_pins(report["files"]), *tensor_pins(report["parity"])]


def file_pins(rows: list[Row]) -> Iterator[Row]:
    for row in rows:
        known = catalog.find_export(row["sha256"]) if row["sha256"] else None
        known = known or catalog.find_entry(row["name"])
        reasons = {"pin": "the catalog pins its digest", "published": f"published by {row['source']}"}
        why = reasons.get(row["checked_by"], f"only its structure was checked, from {row['source']}: compare other sources")
        for field in ("bytes", "sha256"):
            if row["error"] is None and getattr(known, field) is None:
                yield {"name": row["name"], "file": row["file"], "field": field, "value": row[field], "why": why}


def tensor_pins(rows: list[Row]) -> Iterator[Row]:
    for row in rows:
        if row["error"] is None and catalog.find_export(row["sha256"]).tensors_sha256 is None:
            beside = "" if row["pth_difference"] is None else f", with the .pth within {row['pth_difference']:.1e}"
            why = f"export {row['sha256'][:8]}: the outputs agree within {row['difference']:.1e}{beside}"
            value = row["tensors_sha256"]
            yield {"name": row["name"], "file": row["file"], "field": "tensors_sha256", "value": value, "why": why}


if __name__ == "__main__":
    sys.exit(main())
