"""The disk fails at each call in turn: the old file or the whole new one, an error that names it, nothing half-written.

Each operation is done again and again, failing one call later each time, until it gets by without a fault; then once more
with a disk that works.
"""

import errno
import hashlib
import json

import helpers
import numpy as np
import pytest
import torch
import weights_server as ws
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from gpen_core import cli
from gpen_core.batch import local
from gpen_core.batch.job import ImageJob
from gpen_core.errors import GpenError, OutputError
from gpen_core.images import codecs
from gpen_core.network import GPEN
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.weights import convert, digest
from gpen_core.weights.catalog import Entry
from gpen_core.weights.download import Download
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.store import Store

from .faults import Disk, parts, replace

FAULTS = {"full": (errno.ENOSPC, True), "failing": (errno.EIO, False), "no descriptors": (errno.EMFILE, False)}
MOST_CALLS = 60  # more would be without end
BODY = bytes(range(256)) * 300


@pytest.fixture(params=FAULTS)
def disk(request, monkeypatch, tmp_path):
    code, for_good = FAULTS[request.param]
    made = Disk(monkeypatch, tmp_path, code)
    made.for_good_of_it = for_good
    return made


@pytest.fixture(scope="module")
def restorer():
    network = GPEN.from_state_dict(helpers.identity_weights(256))
    network.forward = lambda x, on_tick, strip_bytes: x * 0.5
    return helpers.build_restorer(network, helpers.FakeDetector([helpers.make_face((60, 60), 40)]))


def at_each_call(disk, begin, work, check):
    """`begin()`, `work()` with a fault, `check(error or None)`, then both without the fault; how many calls there were."""
    for at in range(1, MOST_CALLS):
        begin()
        disk.arm(at, disk.for_good_of_it)
        error = None
        try:
            work()
        except GpenError as told:
            error = told
        has_failed = disk.has_failed
        disk.arm(0, False)
        check(error)
        assert error is None or disk.folder in str(error)
        work()
        check(None)
        if not has_failed:
            assert error is None
            return at - 1
    raise AssertionError("it never got by")


def old_or_new(path, old, is_new):
    """What lies there is whole."""
    if old is not None and path.exists() and path.read_bytes() == old:
        return "old"
    assert old is None or path.exists(), "the old file is gone"
    if not path.exists():
        return "none"
    assert is_new(path.read_bytes()), "torn"
    return "new"


# Images and reports


def is_picture(data):
    return codecs.decode(data).image.size == (150, 150)


@pytest.mark.parametrize("in_place", [False, True])
def test_an_image(disk, restorer, tmp_path, in_place):
    source, out = tmp_path / "a.png", tmp_path / "out" / "a.png"
    Image.fromarray(np.rint(helpers.texture(150, 150, sigma=1) * 255).astype(np.uint8)).save(source)
    before = source.read_bytes()
    target = source if in_place else out

    def begin():
        source.write_bytes(before)
        out.unlink(missing_ok=True)

    def work():
        (outcome,) = local.process_all(restorer, [ImageJob(source, target)], RestoreOptions(), lambda outcome: None)
        if outcome.error is not None:
            raise outcome.error

    def check(error):
        found = old_or_new(target, before if in_place else None, is_picture)
        assert (found == "new") == (error is None)
        assert parts(tmp_path) == [] and (in_place or source.read_bytes() == before)

    assert at_each_call(disk, begin, work, check) >= 4


@pytest.mark.slow
def test_a_report(disk, restorer, tmp_path, monkeypatch, capsys):
    """The image is written all the same, and the exit status is not 0."""
    report, source, out = tmp_path / "report.json", tmp_path / "a.png", tmp_path / "out" / "a.png"
    Image.new("RGB", (150, 150)).save(source)
    monkeypatch.setattr(FaceRestorer, "load", lambda *_, **__: restorer)

    def work():
        status = cli.main(["restore", str(source), "-o", str(out), "--report", str(report), "--model", "any"])
        told = capsys.readouterr().err
        assert "Unexpected" not in told and (status == 0 or told)
        if status:
            raise OutputError(told)

    def check(error):
        found = old_or_new(report, b"before", lambda data: json.loads(data)["inputs"][0]["status"])
        assert error is None or "report.json" in str(error) or "Nothing can be written" in str(error) or found == "new"
        old_or_new(out, None, is_picture)
        assert parts(tmp_path) == []

    assert at_each_call(disk, lambda: report.write_bytes(b"before"), work, check) >= 8


# Weights


@pytest.mark.parametrize("pinned", [True, False])
def test_a_download(disk, tmp_path, pinned):
    folder = tmp_path / "models"
    target = folder / "GPEN-TEST.pth"
    known = {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()} if pinned else {}
    with ws.running(BODY) as server:
        entry = Entry("gpen-test", target.name, "tests", "For tests.", (server.source,), **known)

        def begin():
            for path in folder.iterdir() if folder.exists() else ():
                path.unlink()

        def work():
            Download(entry, folder, DownloadOptions(), lambda *_: None, lambda path: None).run()

        def check(error):
            found = old_or_new(target, None, lambda data: data == BODY)
            assert (found == "new") == (error is None)
            record = digest.load_record(target)
            assert record is None or record.sha256 == hashlib.sha256(BODY).hexdigest()
            left = [folder / name for name in parts(folder)]
            assert len(left) <= (error is not None) and all(BODY.startswith(path.read_bytes()) for path in left)

        assert at_each_call(disk, begin, work, check) >= 8


def test_the_record_beside_weights(disk, tmp_path):
    """Where it cannot be written, the weights are loaded all the same."""
    path = tmp_path / "few.safetensors"
    save_file({"a": torch.arange(12.0)}, path)
    whole, note = digest.file_sha256(path), digest.record_path(path)

    def work():
        assert Store([tmp_path], DownloadOptions(offline=True)).load_file(path, lambda content, _: content)[0]["a"][3] == 3

    def check(error):
        found = old_or_new(note, None, lambda data: json.loads(data)["sha256"] == whole)
        assert found in ("none", "new") and parts(tmp_path) == []

    assert at_each_call(disk, lambda: note.unlink(missing_ok=True), work, check) >= 3
    assert note.exists()


def test_a_conversion(disk, tmp_path, monkeypatch):
    """`save_file` opens and writes outside of Python: it fails in its own way, half-way."""
    path, target = tmp_path / "few.pth", tmp_path / "few.safetensors"
    helpers.write_weights(tmp_path, {"few.pth": {"a": torch.arange(12.0)}})
    source = path.read_bytes()

    def save(whole, tensors, part, metadata):
        try:
            disk.call("open and write", part)
        except OSError as error:
            part.write_bytes(b"half")
            raise SafetensorError(f"Error while serializing: I/O error: {error.strerror}") from error
        whole(tensors, part, metadata)

    replace(monkeypatch, convert, "save_file", save)

    def begin():
        for name in (target, digest.record_path(target)):
            name.unlink(missing_ok=True)

    def work():
        if not target.exists():
            convert.save_safetensors(path, digest.DigestRecord("a" * 64, digest.STRUCTURE), {"a": torch.arange(12.0)})

    def check(error):
        assert target.exists() == (error is None) and path.read_bytes() == source and parts(tmp_path) == []
        record = digest.load_record(target)
        if error is None:
            assert load_file(target)["a"][3] == 3
            assert record is None or record.sha256 == digest.file_sha256(target)
        else:
            assert record is None

    assert at_each_call(disk, begin, work, check) >= 5
