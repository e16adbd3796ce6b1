"""`gpen export`."""

import importlib.util

import onnx_files as made
import pytest
import torch
from cli_fixtures import file_names

pytest_plugins = ["cli_fixtures"]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
def test_export_writes_a_file_and_says_how_near_it_is(gpen, tmp_path):
    torch.save(made.narrow_weights(), tmp_path / "GPEN-BFR-256.pth")
    out = tmp_path / "out" / "gpen.onnx"
    ran = gpen("export", "gpen-bfr-256", "-o", out, "--batch", "1", "--models-dir", tmp_path)
    assert ran.status == 0 and ran.out.startswith(f"{out}: GPEN-256; largest difference in ONNX Runtime ")
    assert file_names(out.parent) == ["gpen.onnx"]


@pytest.mark.parametrize("wrong", [("-o", "a.pth"), ("-o", "a.onnx", "--batch", "0"), ("-o", "a.onnx", "--batch", "x"), ()])
def test_wrong_usage(gpen, tmp_path, wrong):
    assert gpen("export", "gpen-bfr-256", *wrong, "--models-dir", tmp_path).status == 2


def test_what_is_missing_is_told_before_anything_is_downloaded(gpen, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None)
    ran = gpen("export", "gpen-bfr-256", "-o", tmp_path / "a.onnx", "--models-dir", tmp_path)
    assert ran.status == 1 and "The package onnx, which writes ONNX files, is not installed." in ran.err


def test_the_network_itself_is_never_overwritten(gpen, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(b"weights")
    for name in ("mine.onnx", tmp_path / "mine.onnx"):  # a name in the models folder, and a file
        ran = gpen("export", name, "-o", tmp_path / "mine.onnx", "--half", "--models-dir", tmp_path)
        assert ran.status == 2 and "mine.onnx is an input and would be overwritten" in ran.err


def test_other_weights_are_refused(gpen, tmp_path):
    torch.save({"weight": torch.ones(3)}, tmp_path / "other.pth")
    ran = gpen("export", tmp_path / "other.pth", "-o", tmp_path / "a.onnx")
    assert ran.status == 4 and "not a GPEN generator" in ran.err and not (tmp_path / "a.onnx").exists()
