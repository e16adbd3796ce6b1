"""tests/real_files.py against a local server with hand-made files."""

import contextlib
import functools
import http.server
import json
import threading
from dataclasses import replace

import onnx_files as made
import pytest
import torch
from PIL import Image
from weights_fixtures import sha

from gpen_core.tools.contact_sheet import CELL_SIZE
from gpen_core.weights import catalog, checkpoint
from gpen_core.weights.catalog import Export
from gpen_core.weights.onnx_proof import tensors_sha256
from tests import real_files

pytest_plugins = ["onnx_files"]

GPEN, DETECTOR, PARSER = "GPEN-BFR-256.pth", "detection_mobilenet0.25_Final.pth", "parsing_parsenet.pth"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@contextlib.contextmanager
def served(folder):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def published(tmp_path, monkeypatch, exported_onnx, detector_weights):
    """A folder with a narrow network, its export and a detector, and a catalog that has these and a face parser."""
    folder = tmp_path / "server"
    folder.mkdir()
    torch.save(made.narrow_weights(), folder / GPEN)
    torch.save(detector_weights, folder / DETECTOR)
    (folder / "GPEN-BFR-256.onnx").write_bytes(exported_onnx.read_bytes())

    def put(**changes):
        export = Export("GPEN-BFR-256.onnx", sha(exported_onnx.read_bytes()), (), **changes)
        data = (folder / DETECTOR).read_bytes()
        known = {
            "gpen-bfr-256": {"exports": (export,)},
            "retinaface_mobile0.25": {"sha256": sha(data), "bytes": len(data)},
            "parsenet": {},
        }
        entries = (replace(one, sources=(), **known[one.name]) for one in catalog.CATALOG if one.name in known)
        monkeypatch.setattr(catalog, "CATALOG", tuple(entries))
        return folder

    return put


def run(folder, tmp_path, *arguments):
    output = tmp_path / "out"
    with served(folder) as url:
        options = ["--output", str(output), "--weights", str(tmp_path / "weights"), "--mirror", url, *arguments]
        status = real_files.main(options)
    return status, json.loads((output / real_files.REPORT).read_text("utf-8")), output


def by(rows, **values):
    (row,) = (one for one in rows if all(one.get(key) == value for key, value in values.items()))
    return row


@pytest.mark.slow
def test_the_report_has_every_file_what_can_be_pinned_and_what_is_missing(published, exported_onnx, tmp_path, capsys):
    folder = published()
    status, report, output = run(folder, tmp_path, "--skip", "tests")
    assert status == 1 and report["complete"]

    network = by(report["files"], file=GPEN)
    data = (folder / GPEN).read_bytes()
    assert (network["sha256"], network["bytes"], network["checked_by"]) == (sha(data), len(data), "structure")
    assert by(report["files"], file=DETECTOR)["checked_by"] == "pin"
    assert "404" in by(report["files"], file=PARSER)["error"]
    assert [one["name"] for one in report["errors"]] == ["parsenet"]

    (parity,) = report["parity"]
    tensors = tensors_sha256(checkpoint.load(exported_onnx))
    assert parity["tensors_sha256"] == tensors and parity["error"] is None
    assert max(parity["difference"], parity["pth_difference"]) < 1e-4 and parity["pth_tensors"] < 2e-7

    assert by(report["pins"], file=GPEN, field="sha256")["value"] == sha(data)
    assert by(report["pins"], field="tensors_sha256")["value"] == tensors
    summary = (output / real_files.SUMMARY).read_text("utf-8")
    assert f"GPEN-BFR-256.onnx: tensors_sha256='{tensors}'" in summary and summary in capsys.readouterr().out

    restored = by(report["restorations"], photo="astronaut")
    assert len(restored["faces"]) == 1 and restored["mean_change"] > 0 and restored["weights"][0]["sha256"] == sha(data)
    assert len(by(report["detections"], photo="collage")["scores"]) == 6
    with Image.open(output / real_files.SHEET) as sheet:
        assert sheet.height > 3 * CELL_SIZE and sheet.width > 2 * CELL_SIZE


def test_an_export_of_other_weights_is_reported(published, tmp_path):
    folder = published(tensors_sha256="0" * 64)
    torch.save(made.narrow_weights(seed=4), folder / GPEN)
    steps = ("tests", "detections", "restorations")
    status, report, _ = run(folder, tmp_path, "--only", "gpen-bfr-256", "--skip", *steps)
    (parity,) = report["errors"]
    assert status == 1 and parity["pth_difference"] > 0.1 and parity["pth_tensors"] > 0.1
    assert "differ by more than" in parity["error"] and by(report["pins"], field="sha256")["file"] == GPEN
    assert not [one for one in report["pins"] if one["field"] == "tensors_sha256"]


def test_other_tensors_than_those_that_the_catalog_pins_are_an_error(published, tmp_path):
    folder = published(tensors_sha256="0" * 64)
    (folder / GPEN).unlink()
    status, report, _ = run(folder, tmp_path, "--only", "gpen-bfr-256", "--skip", "tests", "detections", "restorations")
    missing, parity = report["errors"]
    assert status == 1 and "404" in missing["error"] and "the catalog pins other tensors" in parity["error"]
    assert parity["pth_difference"] is None


def test_with_all_as_the_catalog_says_it_ends_with_0(published, exported_onnx, tmp_path):
    folder = published(bytes=exported_onnx.stat().st_size, tensors_sha256=tensors_sha256(checkpoint.load(exported_onnx)))
    names, steps = ("gpen-bfr-256", "retinaface_mobile0.25"), ("tests", "detections", "restorations")
    status, report, _ = run(folder, tmp_path, "--only", *names, "--skip", *steps)
    assert status == 0 and report["errors"] == []
    assert {(one["file"], one["field"]) for one in report["pins"]} == {(GPEN, "bytes"), (GPEN, "sha256")}
