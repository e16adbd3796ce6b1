"""`gpen download`, `gpen models`, `gpen convert`, and what `gpen restore` does about weights that are not there."""

import hashlib
import io
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import helpers
import numpy as np
import onnx_files
import pytest
import torch
import weights_server as ws
from cli_fixtures import file_names
from safetensors.torch import load_file

from gpen_core import FaceRestorer, ProgressEvent, RestoreOptions
from gpen_core.errors import MissingWeights
from gpen_core.weights import catalog, digest

pytest_plugins = ["cli_fixtures", "onnx_files"]

ROOT = Path(__file__).resolve().parents[2]
FILE = "GPEN-BFR-256.pth"


@pytest.fixture(scope="module")
def weights_256():
    """The bytes of a checkpoint as torch.save writes it: GPEN-256, adding red."""
    out = io.BytesIO()
    torch.save(helpers.red_weights(256), out)
    return out.getvalue()


@pytest.fixture
def online(monkeypatch):
    """Downloads are on, and the catalog's own sources are out of reach."""
    monkeypatch.delenv("GPEN_OFFLINE")
    nowhere = catalog.Source("http://nowhere.invalid/weights.pth")  # not https: refused without being asked
    entries = tuple(replace(entry, sources=(nowhere,), exports=()) for entry in catalog.CATALOG)
    monkeypatch.setattr(catalog, "CATALOG", entries)


@pytest.fixture
def mirror(weights_256):
    with ws.running(weights_256) as server:
        server.pages[f"/{FILE}"] = lambda handler, body, start: ws.serve(handler, weights_256, start)
        yield server


def line_of(text, start):
    (line,) = [line for line in text.splitlines() if line.startswith(start)]
    return line


# download


def test_download_from_a_mirror(gpen, online, mirror, tmp_path, weights_256, caplog):
    ran = gpen("download", "GPEN-BFR-256", "--models-dir", tmp_path, "--mirror", mirror.root)
    assert ran.status == 0
    assert ran.out == f"gpen-bfr-256: {tmp_path / FILE} (only its structure was checked, no SHA-256 is published)\n"
    assert (tmp_path / FILE).read_bytes() == weights_256
    assert file_names(tmp_path) == [f".{FILE}.gpen.json", f".{FILE}.lock", FILE]
    assert [record.message.split(".")[0] for record in caplog.records if record.levelname == "WARNING"] == [
        "Downloading GPEN-BFR-256",
        "GPEN-BFR-256",
    ]
    again = gpen("download", "GPEN-BFR-256", "--models-dir", tmp_path, "--mirror", mirror.root)
    assert again.status == 0 and again.out == ran.out and len([r for r in mirror.requests if r.method == "GET"]) == 1


def test_download_takes_the_mirror_from_the_environment(gpen, online, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_MIRROR", mirror.root)
    assert gpen("download", "gpen-bfr-256", "--models-dir", tmp_path).status == 0


def test_download_without_names_is_what_restoring_needs(gpen, online, tmp_path):
    ran = gpen("download", "--models-dir", tmp_path)
    assert ran.status == 4
    for file in ("GPEN-BFR-2048.pth", "detection_Resnet50_Final.pth", "parsing_parsenet.pth"):
        assert f"{file} (" in ran.err


@pytest.mark.slow
def test_download_goes_on_after_one_that_fails(gpen, online, mirror, tmp_path):
    ran = gpen("download", "gpen-bfr-512", "gpen-bfr-256", "--models-dir", tmp_path, "--mirror", mirror.root)
    assert ran.status == 4
    assert f"{mirror.root}/GPEN-BFR-512.pth: answered 404" in ran.err and "gpen-bfr-256: " in ran.out


def test_download_can_demand_a_digest(gpen, online, mirror, tmp_path):
    ran = gpen("download", "gpen-bfr-256", "--models-dir", tmp_path, "--mirror", mirror.root, "--require-digest")
    assert ran.status == 4 and "no source publishes a digest of its file" in ran.err
    assert FILE not in file_names(tmp_path)


@pytest.mark.parametrize("wrong", [("no-such-model",), ("gpen-bfr-256", "--mirror", "ftp://a.example")])
def test_a_wrong_name_or_mirror_is_a_usage_error(gpen, tmp_path, wrong):
    ran = gpen("download", *wrong, "--models-dir", tmp_path)
    assert ran.status == 2 and file_names(tmp_path) == []


def test_download_offline_says_so(gpen, tmp_path):
    ran = gpen("download", "gpen-bfr-256", "--models-dir", tmp_path)  # the tests' GPEN_OFFLINE
    assert ran.status == 4 and "downloads are switched off" in ran.err and "MIRROR" not in ran.err


def spoiled(weights, change):
    sd = torch.load(io.BytesIO(weights), weights_only=True)
    out = io.BytesIO()
    torch.save(change(sd), out)
    return out.getvalue()


def without(sd):
    del sd["final_linear.0.bias"]
    return sd


BAD_CHECKPOINTS = {
    "a wrong shape": (lambda sd: {**sd, "ecd0.0.1.bias": torch.zeros(3)}, "ecd0.0.1.bias has shape [3]"),
    "NaN": (lambda sd: {**sd, "ecd0.0.1.bias": sd["ecd0.0.1.bias"] * torch.nan}, "has non-finite values"),
    "float64": (lambda sd: {**sd, "ecd0.0.1.bias": sd["ecd0.0.1.bias"].double()}, "is float64"),
    "a missing tensor": (without, "final_linear.0.bias is missing"),
    "another network": (lambda sd: {"weight": torch.zeros(3)}, "not a GPEN generator"),
}


@pytest.mark.parametrize("kind", BAD_CHECKPOINTS)
@pytest.mark.parametrize("how", ["downloaded", "by hand"])
@pytest.mark.slow
def test_a_checkpoint_that_is_not_the_network_is_refused(
    gpen, online, mirror, models, weights_256, tmp_path, face, kind, how
):
    change, words = BAD_CHECKPOINTS[kind]
    body = spoiled(weights_256, change)
    mirror.body = body
    mirror.pages[f"/{FILE}"] = lambda handler, _, start: ws.serve(handler, body, start)
    if how == "by hand":
        (tmp_path / FILE).write_bytes(body)
        found = ("--detector", models / helpers.DETECTOR_FILE)
        ran = gpen("restore", face, "-o", tmp_path / "out.png", "--model", "gpen-bfr-256", "--models-dir", tmp_path, *found)
    else:
        ran = gpen("download", "gpen-bfr-256", "--models-dir", tmp_path, "--mirror", mirror.root)
        assert FILE not in file_names(tmp_path)
    assert ran.status == 4
    assert words in ran.err


# restore


@pytest.mark.slow
def test_restore_fetches_what_is_missing(gpen, online, mirror, models, tmp_path, face, monkeypatch):
    detector = models / "detection_mobilenet0.25_Final.safetensors"
    monkeypatch.setenv("GPEN_MIRROR", mirror.root)
    folder = tmp_path / "models"
    command = ("restore", face, "-o", tmp_path / "out.png", "--model", "gpen-bfr-256", "--detector", detector)
    ran = gpen(*command, "--models-dir", folder, "--offline")
    assert ran.status == 4 and "downloads are switched off" in ran.err and mirror.requests == []
    assert gpen(*command, "--models-dir", folder).status == 0
    assert (tmp_path / "out.png").exists() and FILE in file_names(folder)
    assert gpen(*command, "--models-dir", folder, "--offline").status == 0


def test_restore_can_demand_a_digest(restore, face, tmp_path):
    ran = restore(face, "-o", tmp_path / "out.png", "--require-digest")
    assert ran.status == 4 and "a digest is required, but no source publishes one of this file" in ran.err


def test_a_smaller_network_under_a_larger_ones_name_is_refused(gpen, models, weights_256, tmp_path, face):
    (tmp_path / "GPEN-BFR-2048.pth").write_bytes(weights_256)
    found = ("--detector", models / helpers.DETECTOR_FILE)
    ran = gpen("restore", face, "-o", tmp_path / "out.png", "--models-dir", tmp_path, *found)
    assert ran.status == 4
    assert "the weights of GPEN-256, but the file name is that of GPEN-2048" in ran.err


def test_load_tells_its_progress_and_can_be_stopped(online, mirror, models, tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_MIRROR", mirror.root)
    told = []
    detector = models / "detection_mobilenet0.25_Final.safetensors"
    FaceRestorer.load("gpen-bfr-256", detector, tmp_path, "cpu", progress=told.append)
    texts = [event.text for event in told]
    assert f"{FILE}: Downloading from 127.0.0.1" in texts and f"Verifying {FILE}" in texts
    assert told[-1] == ProgressEvent("load", 2, 2, "model", "Loaded") and f"Loading {FILE}" in texts
    units = {"download": "byte", "verify": "byte", "load": "model"}
    assert {(event.stage, event.unit) for event in told} == set(units.items())


def test_auto_masks_do_without_a_parser_that_cannot_be_fetched(caplog):
    tried = []

    def load(progress):
        tried.append(progress)
        raise MissingWeights("parsing_parsenet.pth is not there.")

    restorer = helpers.restorer(helpers.identity_weights(256), [], load_parser=load)
    restorer.models.device = torch.device("cuda")
    for _ in range(3):
        restorer.prepare(RestoreOptions(mask_type="auto"))
    assert (
        len(tried) == 1 and "Using feathered masks instead of parsed ones: parsing_parsenet.pth is not there." in caplog.text
    )
    with pytest.raises(MissingWeights):
        restorer.prepare(RestoreOptions(mask_type="parse"))


@pytest.mark.slow
def test_a_copy_that_opens_no_connections_says_so_and_goes_on(models, tmp_path):
    """As the ComfyUI registry has it: verifying and demanding a digest end in a sentence, not in a traceback."""
    without = shutil.ignore_patterns("__pycache__", "line.py", "request.py", "transfer.py")
    shutil.copytree(ROOT / "gpen_core", tmp_path / "gpen_core", ignore=without)
    folder = tmp_path / "models"
    shutil.copytree(models, folder)
    (folder / "red-256.pth").rename(folder / "GPEN-BFR-256.pth")  # of the catalog, without a pin
    (tmp_path / "in.png").write_bytes(cv2.imencode(".png", np.zeros((60, 60, 3), np.uint8))[1].tobytes())

    def run(*arguments):
        environment = {**os.environ, "GPEN_OFFLINE": "0"}
        command = [sys.executable, "-m", "gpen_core", *map(str, arguments), "--models-dir", str(folder)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)

    verified = run("models", "--verify")
    assert "cannot fetch the digest of" in verified.stderr and "Traceback" not in verified.stderr
    assert "OK: only its structure" in line_of(verified.stdout, "gpen-bfr-256 ")
    named = ("--model", "gpen-bfr-256", "--detector", "retinaface_mobile0.25", "--device", "cpu")
    refused = run("restore", "in.png", "-o", "out.png", *named, "--require-digest")
    assert refused.returncode == 4 and "a digest is required" in refused.stderr and "Traceback" not in refused.stderr


# models


def test_models_lists_what_is_known_and_what_is_there(gpen, weights_256, tmp_path):
    (tmp_path / "gpen-bfr-256.PTH").write_bytes(weights_256)
    (tmp_path / "GPEN-BFR-512.pth").write_bytes(b"x")
    (tmp_path / "my-own.safetensors").write_bytes(b"x")
    ran = gpen("models", "--models-dir", tmp_path)
    assert ran.status == 0
    assert ran.out.splitlines()[0] == f"models folder: {tmp_path}"
    here = line_of(ran.out, "gpen-bfr-256 ")
    assert re.search(rf"gpen-bfr-256\.PTH +{len(weights_256):,} bytes +new: checked on first load", here)
    assert here.endswith(str(tmp_path))
    assert "1 bytes  SHA-256 known: checked on every load" in line_of(ran.out, "gpen-bfr-512 ")
    assert re.search(r"my-own\.safetensors +1 bytes +new: checked on first load", line_of(ran.out, "(other weights)"))
    missing = line_of(ran.out, "gpen-bfr-2048 ")
    assert re.search(r"GPEN-BFR-2048\.pth +about 285 MB +not downloaded$", missing)
    assert "109,497,761 bytes  not downloaded" in line_of(ran.out, "retinaface_resnet50 ")
    assert "unknown size  not downloaded" in line_of(ran.out, "realesrnet_x4 ")
    assert len(ran.out.splitlines()) == 2 + len(catalog.CATALOG)


def test_models_verify_compares_and_reads(gpen, weights_256, tmp_path):
    path = tmp_path / FILE
    path.write_bytes(weights_256)
    ran = gpen("models", "--verify", "--models-dir", tmp_path)
    sha256 = hashlib.sha256(weights_256).hexdigest()
    assert ran.status == 0
    assert f"OK: only its structure was checked, no SHA-256 is published, SHA-256 {sha256}" in line_of(
        ran.out, "gpen-bfr-256 "
    )
    assert "used before: only its structure" in line_of(gpen("models", "--models-dir", tmp_path).out, "gpen-bfr-256 ")
    path.write_bytes(weights_256[:-1] + b"x")
    (tmp_path / "GPEN-BFR-512.pth").write_bytes(b"x")
    (tmp_path / "other.pth").write_bytes(b"x")
    ran = gpen("models", "--verify", "--models-dir", tmp_path)
    assert ran.status == 4
    assert re.search("REJECTED: .* it has changed since it was first used here", line_of(ran.out, "gpen-bfr-256 "))
    assert re.search("REJECTED: .* was refused and not used: its SHA-256 is", line_of(ran.out, "gpen-bfr-512 "))
    assert re.search("REJECTED: .* torch.save did not write it", line_of(ran.out, "(other weights)"))


def test_models_verify_learns_that_a_source_publishes_the_digest(gpen, monkeypatch, weights_256, tmp_path):
    monkeypatch.delenv("GPEN_OFFLINE")
    sha256 = hashlib.sha256(weights_256).hexdigest()
    (tmp_path / FILE).write_bytes(weights_256)
    with ws.running(b"") as server:
        server.head = ws.status(302, Location="https://cdn.invalid/", X_Linked_Etag=f'"{sha256}"')
        source = replace(server.source, linked_etag=True)
        entries = tuple(replace(e, sources=(source,) if e.name == "gpen-bfr-256" else ()) for e in catalog.CATALOG)
        monkeypatch.setattr("gpen_core.cli.weights_report.CATALOG", entries)
        monkeypatch.setattr(catalog, "CATALOG", entries)
        ran = gpen("models", "--verify", "--models-dir", tmp_path)
    assert f"OK: the SHA-256 published at {source.url}" in line_of(ran.out, "gpen-bfr-256 ")
    assert digest.load_record(tmp_path / FILE).checked_by == "published"


# convert


@pytest.mark.slow
def test_convert_writes_the_same_tensors_which_are_preferred_from_then_on(gpen, restore, face, tmp_path, weights_256):
    path = tmp_path / FILE
    path.write_bytes(weights_256)
    ran = gpen("convert", path)
    target = path.with_suffix(".safetensors")
    assert ran.status == 0 and ran.out == f"{target}\n"
    before, after = torch.load(path, weights_only=True), load_file(target)
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    listed = gpen("models", "--models-dir", tmp_path).out
    assert "GPEN-BFR-256.safetensors" in line_of(listed, "gpen-bfr-256 ") and FILE in line_of(listed, "(other weights)")
    assert restore(face, "-o", tmp_path / "out.png", model=target).status == 0
    again = gpen("convert", FILE, "--models-dir", tmp_path)
    assert again.status == 2 and "is already a .safetensors file" in again.err


def test_convert_leaves_what_is_there(gpen, tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "a.pth")
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    ran = gpen("convert", tmp_path / "a.pth")
    assert ran.status == 1 and "already exists" in ran.err
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"


@pytest.mark.parametrize(("name", "status"), [("gpen-bfr-2048", 4), ("no-such-file.pth", 4)])
def test_convert_needs_a_file(gpen, tmp_path, name, status):
    assert gpen("convert", name, "--models-dir", tmp_path).status == status


def test_the_command_for_a_file_that_convert_lacks_can_be_copied(gpen, tmp_path):
    """Another sentence follows it, which once looked like a part of the command."""
    assert "Run `gpen download gpen-bfr-512` first. " in gpen("convert", "gpen-bfr-512", "--models-dir", tmp_path).err


def test_convert_reads_an_onnx_file(gpen, tmp_path, exported_onnx):
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported_onnx.read_bytes())
    ran = gpen("convert", path)
    assert ran.status == 0 and ran.out == f"{tmp_path / 'mine.safetensors'}\n"
    assert load_file(tmp_path / "mine.safetensors").keys() == onnx_files.narrow_weights().keys()


def test_convert_says_why_a_file_can_only_be_run(gpen, tmp_path, unmapped_onnx):
    path = tmp_path / "mine.onnx"
    path.write_bytes(unmapped_onnx.read_bytes())
    ran = gpen("convert", path)
    assert ran.status == 4 and "This ONNX file can be run, but not converted: the order of its weights is unknown" in ran.err
    assert not path.with_suffix(".safetensors").exists()
    line = line_of(gpen("models", "--verify", "--models-dir", tmp_path).out, "(other weights)")
    assert "OK: only its structure was checked" in line


def test_models_says_what_a_file_was_converted_from(gpen, tmp_path):
    digests = {}
    for kind in (digest.PIN, digest.PUBLISHED, digest.STRUCTURE):
        path = tmp_path / f"{kind}.safetensors"
        path.write_bytes(kind.encode())
        digests[kind] = digest.file_sha256(path)
        digest.save_record(path, digest.DigestRecord(digests[kind], kind, f"{kind}.onnx {digests[kind]}"))
    lines = gpen("models", "--models-dir", tmp_path).out.splitlines()
    words = {
        digest.PIN: "the catalog's SHA-256",
        digest.PUBLISHED: "a published SHA-256",
        digest.STRUCTURE: "only its structure was checked",
    }
    for kind, start in words.items():
        (line,) = (line for line in lines if f" {kind}.safetensors " in line)
        assert start in line and f", converted from {kind}.onnx {digests[kind]}" in line


def test_convert_refuses_other_networks_in_one_sentence(gpen, tmp_path):
    path = tmp_path / "GFPGANv1.4.onnx"
    path.write_bytes(onnx_files.model(onnx_files.graph(made=(1, 3, 512, 512))))
    ran = gpen("convert", path)
    assert ran.status == 4 and "it is not an export of GPEN" in ran.err and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("is_installed", "words"),
    [(True, "converted to .safetensors on first load"), (False, "needs ONNX Runtime to be converted: ")],
)
def test_models_says_what_an_onnx_file_needs(gpen, tmp_path, monkeypatch, is_installed, words):
    monkeypatch.setattr("gpen_core.cli.weights_report.has_runtime", lambda: is_installed)
    (tmp_path / "GPEN-BFR-2048.onnx").write_bytes(b"x")
    line = line_of(gpen("models", "--models-dir", tmp_path).out, "gpen-bfr-2048 ")
    assert "GPEN-BFR-2048.onnx" in line and words in line


@pytest.mark.slow
def test_restore_with_only_an_onnx_file(gpen, models, tmp_path, face, exported_onnx):
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "GPEN-BFR-256.onnx").write_bytes(exported_onnx.read_bytes())
    command = ("restore", face, "--model", "gpen-bfr-256", "--detector", models / helpers.DETECTOR_FILE)
    assert gpen(*command, "-o", tmp_path / "from_onnx.png", "--models-dir", folder).status == 0
    torch.save(onnx_files.narrow_weights(), tmp_path / "gpen-bfr-256.pth")
    assert gpen(*command, "-o", tmp_path / "from_pth.png", "--models-dir", tmp_path).status == 0
    one, other = (cv2.imread(str(tmp_path / name)).astype(int) for name in ("from_onnx.png", "from_pth.png"))
    assert abs(one - other).max() <= 1
    assert "GPEN-BFR-256.safetensors" in file_names(folder)


def test_convert_takes_the_state_dict_out_of_a_checkpoint(gpen, tmp_path):
    torch.save({"g_ema": {"module.a": torch.ones(2).t(), "b": torch.zeros(2, 3).t()}, "step": 5}, tmp_path / "a.pth")
    assert gpen("convert", tmp_path / "a.pth").status == 0
    assert {key: tuple(t.shape) for key, t in load_file(tmp_path / "a.safetensors").items()} == {
        "module.a": (2,),
        "b": (3, 2),
    }
    assert digest.load_record(tmp_path / "a.safetensors").checked_by == "structure"


def test_models_says_what_is_wrong_with_a_record_and_with_values(gpen, tmp_path):
    torch.save({"weight": torch.tensor([1.0, torch.inf])}, tmp_path / "other.pth")
    ran = gpen("models", "--verify", "--models-dir", tmp_path)
    assert ran.status == 4
    assert "have non-finite values: weight" in line_of(ran.out, "(other weights)")
    digest.record_path(tmp_path / "other.pth").write_text("{")
    assert "accept it" in line_of(gpen("models", "--models-dir", tmp_path).out, "(other weights)")


def test_models_trust_remembers_a_replaced_file_anew(gpen, models, weights_256, plain, tmp_path):
    path = tmp_path / FILE
    path.write_bytes(weights_256)
    assert gpen("models", "--verify", "--models-dir", tmp_path).status == 0
    torch.save(helpers.red_weights(256), path)
    digest_now = hashlib.sha256(path.read_bytes()).hexdigest()
    found = ("--detector", models / helpers.DETECTOR_FILE)
    refused = gpen("restore", plain, "-o", tmp_path / "out", "--model", "gpen-bfr-256", "--models-dir", tmp_path, *found)
    assert refused.status == 4 and "gpen models --accept-changed NAME" in refused.err
    trusted = gpen("models", "--accept-changed", "gpen-bfr-256", "--models-dir", tmp_path)
    assert trusted.status == 0 and f"{path} is accepted: only its structure" in trusted.out and digest_now in trusted.out
    assert gpen("models", "--verify", "--models-dir", tmp_path).status == 0
    path.write_bytes(b"x")
    assert gpen("models", "--accept-changed", FILE, "--models-dir", tmp_path).status == 4
    assert digest.load_record(path).sha256 == digest_now
