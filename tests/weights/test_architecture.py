"""Which network a file holds, told by its tensors' names."""

import os
import pickle
import time
import zipfile

import helpers
import pytest
import torch
from safetensors.torch import save_file

from gpen_core.weights import architecture
from gpen_core.weights.architecture import GPEN, RETINAFACE, detect_architecture
from gpen_core.weights.folders import list_detectors, list_networks, match_network_name

# Names as the other restorers' files in the same folders have them.
CODEFORMER = {"params_ema": {"quantize.embedding.weight": torch.zeros(2), "encoder.blocks.0.weight": torch.zeros(2)}}
GFPGAN = {"params_ema": {"stylegan_decoder.to_rgb1.bias": torch.zeros(2), "final_linear.weight": torch.zeros(2)}}


@pytest.fixture
def folder(tmp_path, detector_weights):
    files = {
        "portraits.pth": helpers.identity_weights(256),
        "fine-tuned.pt": {"g_ema": {f"module.{key}": value for key, value in helpers.identity_weights(256).items()}},
        "mine.safetensors": helpers.identity_weights(256),
        "faces.safetensors": detector_weights,
        "faces.pth": detector_weights,
        "detection_mobilenet0.25_Final.safetensors": detector_weights,
        "codeformer.pth": CODEFORMER,
        "GFPGANv1.4.pth": GFPGAN,
        "damaged.pth": b"PK\x03\x04 this is no checkpoint",
        "gpen-damaged.pth": b"PK\x03\x04 this is no checkpoint",
        "empty.pth": b"",
        "header.safetensors": (1 << 40).to_bytes(8, "little") + b"{}",
        "deep.safetensors": (600_007).to_bytes(8, "little") + b'{"a":' + b"[" * 300_000 + b"]" * 300_000 + b"}" * 2,
    }
    helpers.write_weights(tmp_path, files)
    torch.save(helpers.identity_weights(256), tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    return tmp_path


def test_kinds_are_told_by_names_of_tensors(folder):
    told = {path.name: detect_architecture(path) for path in folder.iterdir() if detect_architecture(path) is not None}
    assert told == {
        "portraits.pth": GPEN,
        "fine-tuned.pt": GPEN,
        "mine.safetensors": GPEN,
        "faces.safetensors": RETINAFACE,
        "faces.pth": RETINAFACE,
        "detection_mobilenet0.25_Final.safetensors": RETINAFACE,
    }
    assert detect_architecture(folder / "missing.pth") is None


def test_choices_have_them_and_no_others(folder):
    assert list_networks([folder]) == [
        *(f"GPEN-BFR-{size}.pth" for size in (2048, 1024, 512, 256)),
        *("GPEN-Colorization-1024.pth", "GPEN-Inpainting-1024.pth"),
        *("fine-tuned.pt", "gpen-damaged.pth", "mine.safetensors", "portraits.pth"),
    ]
    assert list_detectors([folder]) == [
        *("retinaface_resnet50", "retinaface_mobile0.25"),
        *("faces.pth", "faces.safetensors"),
    ]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_damaged_compressed_files_are_no_choice_and_do_not_hide_the_others(folder, method):
    with zipfile.ZipFile(folder / "zipped.pth", "w", method) as archive:
        archive.writestr("archive/data.pkl", bytes(range(256)) * 40)
    data = bytearray((folder / "zipped.pth").read_bytes())
    data[80:120] = b"\xff" * 40
    (folder / "zipped.pth").write_bytes(data)
    assert {"portraits.pth", "zipped.pth"} & set(list_networks([folder])) == {"portraits.pth"}


def test_encrypted_files_are_no_choice_and_do_not_hide_the_others(folder):
    with zipfile.ZipFile(folder / "secret.pth", "w") as archive:
        archive.writestr("archive/data.pkl", b"x" * 100)
    data = bytearray((folder / "secret.pth").read_bytes())
    for header, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(header) + flags] |= 1
    (folder / "secret.pth").write_bytes(data)
    assert {"portraits.pth", "secret.pth"} & set(list_networks([folder])) == {"portraits.pth"}


def test_nothing_in_a_pickle_is_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "canary"),))

    torch.save({"ecd0.0.0.weight": Canary()}, tmp_path / "bad.pth")
    (tmp_path / "bare.pth").write_bytes(pickle.dumps(Canary()))
    assert detect_architecture(tmp_path / "bad.pth") is None and detect_architecture(tmp_path / "bare.pth") is None
    assert not (tmp_path / "canary").exists()


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path, monkeypatch, detector_weights):
    path = tmp_path / "some.safetensors"
    save_file(detector_weights, path)
    reads = []
    container = architecture.file_format.file_format
    monkeypatch.setattr(
        architecture.file_format, "file_format", lambda start, size: reads.append(size) or container(start, size)
    )
    assert [detect_architecture(path) for _ in range(3)] == [RETINAFACE] * 3 and len(reads) == 1
    save_file(helpers.identity_weights(256), path)
    os.utime(path, (time.time() + 5,) * 2)
    assert detect_architecture(path) == GPEN and len(reads) == 2


def test_telling_is_fast_beside_reading(tmp_path):
    """285 MB are not read for 30 kB of names: none of the storages is opened."""
    torch.save(helpers.identity_weights(512), tmp_path / "large.pth")
    opened = []
    read = architecture.zipfile.ZipFile.read

    class Watching(architecture.zipfile.ZipFile):
        def read(self, name, *args):
            opened.append(name)
            return read(self, name, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture.zipfile, "ZipFile", Watching)
        assert detect_architecture(tmp_path / "large.pth") == GPEN
    assert [name.split("/")[-1] for name in opened] == ["data.pkl"]


def test_a_choice_is_named_in_any_capitals(folder):
    named = {match_network_name(name, [folder]) for name in ("gpen-BFR-512", "GPEN-BFR-512.SafeTensors")}
    assert named == {"GPEN-BFR-512.pth"}
    for name in list_networks([folder]):
        assert match_network_name(name.upper(), [folder]) == name
    assert all(match_network_name(name, [folder]) is None for name in ("", "parsenet", "../GPEN-BFR-512", "/etc/passwd"))
