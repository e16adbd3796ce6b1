import os
import pickle
import random
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from gpen_core.errors import MissingWeights, WeightsError
from gpen_core.weights import checkpoint, folders
from gpen_core.weights.catalog import CATALOG, find_entry

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


# Folders


def test_the_folder_given_comes_before_the_environment_and_that_before_the_cache(tmp_path):
    environ = {"GPEN_MODELS_DIR": str(tmp_path / "environment"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert folders.models_dir(tmp_path / "given", environ) == tmp_path / "given"
    assert folders.models_dir(str(tmp_path / "given"), environ) == tmp_path / "given"
    assert folders.models_dir(None, environ) == tmp_path / "environment"


@pytest.mark.parametrize(
    ("platform", "environ", "folder"),
    [
        ("linux", {}, ".cache/sd-gpen"),
        ("linux", {"GPEN_MODELS_DIR": ""}, ".cache/sd-gpen"),
        ("linux", {"XDG_CACHE_HOME": "elsewhere"}, "elsewhere/sd-gpen"),
        ("darwin", {"XDG_CACHE_HOME": "elsewhere"}, "Library/Caches/sd-gpen"),
        ("win32", {}, "AppData/Local/sd-gpen"),
        ("win32", {"LOCALAPPDATA": "elsewhere"}, "elsewhere/sd-gpen"),
    ],
)
def test_the_cache_directory_is_the_systems(monkeypatch, tmp_path, platform, environ, folder):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    environ = {name: str(tmp_path / value) if value else value for name, value in environ.items()}
    assert folders.models_dir(None, environ) == tmp_path / folder


def test_a_tilde_stands_for_the_home_folder():
    assert folders.models_dir("~/models", {}) == Path.home() / "models"
    assert folders.models_dir(None, {"GPEN_MODELS_DIR": "~/models"}) == Path.home() / "models"


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        ("GPEN-BFR-2048.pth", "gpen-bfr-2048"),
        ("gpen-bfr-2048.pth", "GPEN-BFR-2048"),
        ("gpen-bfr-2048.PTH", "GPEN-BFR-2048.pth"),
        ("GPEN-BFR-2048.safetensors", "gpen-bfr-2048"),
        ("pytorch_model-2048.pt", "gpen-bfr-2048"),
        ("pytorch_model-2048.pt", "pytorch_model-2048.pt"),
        ("GPEN-BFR-2048.pth", "pytorch_model-2048.pt"),
        ("gpen-bfr-512.pth", "gpen-bfr-512"),
        ("detection_Resnet50_Final.pth", "retinaface_resnet50"),
        ("DETECTION_mobilenet0.25_final.PTH", "retinaface_mobile0.25"),
        ("detection_mobilenet0.25_Final.safetensors", "retinaface_mobile0.25"),
        ("parsing_parsenet.pth", "parsenet"),
        ("My-Own.Model.pth", "my-own.model"),
        ("My-Own.Model.pth", "MY-OWN.MODEL.PTH"),
        ("my-own.pt", "my-own"),
    ],
)
def test_a_name_finds_its_file_without_regard_to_case(tmp_path, there, asked):
    folder = touch(tmp_path, there, "something-else.pth", "notes.txt")
    assert folders.locate(asked, folder) == folder / there


def test_safetensors_come_before_pth_and_pth_before_pt(tmp_path):
    folder = touch(tmp_path, "gpen-bfr-512.pt", "gpen-bfr-512.pth", "gpen-bfr-512.safetensors")
    for suffix in (".safetensors", ".pth", ".pt"):
        assert folders.locate("gpen-bfr-512", folder).suffix == suffix
        (folder / f"gpen-bfr-512{suffix}").unlink()


def test_a_folder_that_bears_the_name_is_not_taken(tmp_path):
    touch(tmp_path / "gpen-bfr-512.safetensors", "x")
    touch(tmp_path, "GPEN-BFR-512.pth")
    assert folders.locate("gpen-bfr-512", tmp_path).name == "GPEN-BFR-512.pth"


def test_a_path_is_taken_as_it_is_before_anything_in_the_folder(tmp_path, monkeypatch):
    own = touch(tmp_path / "own", "a.pth") / "a.pth"
    folder = touch(tmp_path / "models", "a.safetensors")
    assert folders.locate(str(own), folder) == own
    monkeypatch.chdir(own.parent)
    assert folders.locate("a.pth", folder) == Path("a.pth")


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_a_missing_file_is_named_with_its_folder_source_and_licence(tmp_path, entry):
    for folder in (tmp_path, tmp_path / "not" / "there"):
        with pytest.raises(MissingWeights) as missing:
            folders.locate(entry.name, folder)
        for what in (entry.file, str(folder), entry.url, entry.licence, "--models-dir"):
            assert what in str(missing.value)


@pytest.mark.parametrize("name", ["no-such-model", "sub/no-such-model.pth", "", "x" * 5000])
def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path, name):
    touch(tmp_path, "other.pth")
    with pytest.raises(MissingWeights) as missing:
        folders.locate(name, tmp_path)
    for what in (repr(name), str(tmp_path), "gpen-bfr-2048", "retinaface_resnet50"):
        assert what in str(missing.value)


def test_no_name_in_the_catalog_stands_for_two_files():
    names = [name.lower() for entry in CATALOG for name in {entry.name, entry.file, *entry.aliases}]
    assert len(names) == len(set(names))
    assert all(entry.url.startswith("https://") and entry.licence for entry in CATALOG)
    assert find_entry("no-such-model") is None


# Checkpoints


def equal(left, right):
    return left.keys() == right.keys() and all(
        torch.equal(left[key], right[key]) and left[key].dtype == right[key].dtype for key in left
    )


@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.PTH", "a.bin", "legacy.pth", "a.safetensors", "a.SAFETENSORS"])
def test_every_format_gives_the_same_tensors(tmp_path, name):
    path = tmp_path / name
    if path.suffix.lower() == ".safetensors":
        save_file(TENSORS, path)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization="legacy" not in name)
    assert equal(checkpoint.load(path), TENSORS)


def test_a_missing_file_is_missing_weights(tmp_path):
    with pytest.raises(MissingWeights, match=r"x\.pth does not exist"):
        checkpoint.load(tmp_path / "x.pth")
    with pytest.raises(MissingWeights):
        checkpoint.load(tmp_path)


def zip_of_something(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/readme.txt", "no checkpoint")


NOT_WEIGHTS = {
    "empty": lambda path: path.write_bytes(b""),
    "web page": lambda path: path.write_bytes(b"<!DOCTYPE html><html><body>404</body></html>"),
    "git lfs pointer": lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
    "zip": zip_of_something,
    "pickled function": lambda path: path.write_bytes(pickle.dumps(os.getcwd)),
    "python object": lambda path: torch.save({"a": Path("x")}, path),
}


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_what_is_no_weights_file_is_refused(tmp_path, kind, suffix):
    path = tmp_path / f"a{suffix}"
    NOT_WEIGHTS[kind](path)
    with pytest.raises(WeightsError) as refused:
        checkpoint.load(path)
    message = str(refused.value)
    assert message.startswith(f"{path} was refused: ")
    assert "Expected a file of tensors" in message
    assert "weights_only" not in message  # torch's advice to load it without the check
    assert "\n" not in message


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("share", [0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(TENSORS, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(WeightsError):
        checkpoint.load(path)


@pytest.mark.parametrize("legacy", [False, True])
def test_damaged_bytes_never_end_in_another_error(tmp_path, legacy):
    path = tmp_path / "a.pth"
    torch.save(TENSORS, path, _use_new_zipfile_serialization=not legacy)
    data = path.read_bytes()
    rng = random.Random(1)
    refused = 0
    for _ in range(400):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 2, 5))):
            damaged[rng.randrange(min(len(data), 700))] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert checkpoint.load(path) is not None
        except WeightsError:
            refused += 1
    assert refused > 50


class Executes:
    """Unpickled, it makes a file."""

    def __init__(self, canary):
        self.canary = str(canary)

    def __reduce__(self):
        return open, (self.canary, "w")


def as_torch(path, content):
    torch.save(content, path)


def as_old_torch(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def as_pickle(path, content):
    path.write_bytes(pickle.dumps(content))


@pytest.mark.parametrize("write", [as_torch, as_old_torch, as_pickle])
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.safetensors"])
def test_nothing_in_a_file_is_run(tmp_path, write, name):
    canary = tmp_path / "canary"
    pickle.loads(pickle.dumps(Executes(canary))).close()
    assert canary.exists()  # the bait works
    canary.unlink()
    write(tmp_path / name, {**TENSORS, "x": Executes(canary)})
    with pytest.raises(WeightsError):
        checkpoint.load(tmp_path / name)
    assert not canary.exists()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_script_module_is_refused_before_it_is_built(tmp_path, monkeypatch):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pth"))
    built = []
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: built.append(args) or TENSORS)
    with pytest.raises(WeightsError, match="TorchScript archive, which holds code"):
        checkpoint.load(tmp_path / "a.pth")
    assert not built


def test_torch_is_told_to_read_tensors_only(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "a.pth")
    asked = []
    monkeypatch.setattr(torch, "load", lambda path, **kwargs: asked.append(kwargs) or TENSORS)
    checkpoint.load(tmp_path / "a.pth")
    assert asked == [{"map_location": "cpu", "weights_only": True}]


def test_none_from_a_hosts_own_torch_load_is_a_refusal(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: None)
    with pytest.raises(WeightsError, match=r"a\.pth was refused by the host"):
        checkpoint.load(tmp_path / "a.pth")


STRANGE = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "quantised": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"x": t}, lambda t: {"params": {"y": TENSORS["b"], "x": t}}])
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_tensors_without_plain_values_are_refused(tmp_path, kind, wrap):
    torch.save(wrap(STRANGE[kind]()), tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"a\.pth was refused"):
        checkpoint.load(tmp_path / "a.pth")


def test_a_file_that_holds_itself_ends(tmp_path):
    content = dict(TENSORS)
    content["again"] = content
    torch.save(content, tmp_path / "a.pth")
    assert checkpoint.load(tmp_path / "a.pth")["again"]["again"].keys() == content.keys()
