"""A file that gets another's name, or other bytes, between being hashed and being read."""

import os
import threading

import pytest
import torch
from safetensors.torch import save_file
from weights_fixtures import sha

from gpen_core.errors import MissingWeights, WeightsError
from gpen_core.weights import checkpoint, digest
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.store import Store
from gpen_core.weights.weights_file import WeightsFile

pytest_plugins = ["weights_fixtures"]
OFFLINE = DownloadOptions(offline=True)
NAMES = ["a.pth", "a.safetensors"]


def save(path, number):
    tensors = {"weight": torch.full((3,), float(number))}
    (save_file if path.suffix == ".safetensors" else torch.save)(tensors, path)
    return path


def load(path):
    return Store([path.parent], OFFLINE).load_file(path, lambda content, _: content["weight"][0].item())


@pytest.fixture
def after_hashing(monkeypatch):
    """Has something done between hashing and reading for the first time."""

    def arrange(action):
        hash_first, todo = WeightsFile.sha256, [action]

        def hashed(self):
            told = hash_first(self)
            while todo:
                todo.pop()()
            return told

        monkeypatch.setattr(WeightsFile, "sha256", hashed)

    return arrange


@pytest.mark.skipif(os.name == "nt", reason="an open file keeps its name there")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("link", [False, True])
def test_what_was_hashed_is_what_is_loaded_and_recorded(tmp_path, after_hashing, name, link):
    real = save(tmp_path / f"real-{name}", 1)
    path = real
    if link:
        path = tmp_path / name
        path.symlink_to(real)
    other, before = save(tmp_path / f"other-{name}", 2), digest.file_sha256(real)
    after_hashing(lambda: os.replace(other, path))
    number, record = load(path)
    assert (number, record.sha256) == (1.0, before)
    if not link:  # what a link led to before keeps its own record
        with pytest.raises(WeightsError, match="changed since it was first used"):
            load(path)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_that_is_written_to_meanwhile_is_refused(tmp_path, after_hashing, name):
    path = save(tmp_path / name, 1)
    other = save(tmp_path / f"other-{name}", 2).read_bytes()

    def overwrite():
        with open(path, "r+b") as file:
            file.write(other)
        os.utime(path, ns=(0, 0))

    after_hashing(overwrite)
    with pytest.raises(WeightsError, match="changed while it was read and was not loaded"):
        load(path)
    assert digest.load_record(path) is None


@pytest.mark.skipif(os.name == "nt", reason="an open file keeps its name there")
def test_a_pinned_file_too(tmp_path, publish, load, place, after_hashing):
    body = save(tmp_path / "x.pth", 1).read_bytes()
    publish(sha256=sha(body))
    path = place(body)
    other = save(tmp_path / "y.pth", 2)
    after_hashing(lambda: os.replace(other, path))
    assert load() == 1


def test_a_safetensors_file_is_built_from_while_it_is_hashed(tmp_path, monkeypatch):
    path, is_hashing, is_building = save(tmp_path / "a.safetensors", 1), threading.Event(), threading.Event()
    hash_first = WeightsFile.sha256

    def sha256(self):
        is_hashing.set()
        assert is_building.wait(60)
        return hash_first(self)

    def build(content, entry):
        is_building.set()
        assert is_hashing.wait(60)
        return content["weight"][0].item()

    monkeypatch.setattr(WeightsFile, "sha256", sha256)
    number, record = Store([tmp_path], OFFLINE).load_file(path, build)
    assert (number, record.sha256) == (1.0, sha(path.read_bytes()))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_changed_safetensors_file_is_refused_for_its_digest(tmp_path, is_damaged):
    path = save(tmp_path / "a.safetensors", 1)
    load(path)
    other = save(tmp_path / "b.safetensors", 2).read_bytes()
    path.write_bytes(other[:-1] if is_damaged else other)
    before = digest.load_record(path)
    with pytest.raises(WeightsError, match="was refused and not used: it has changed since it was first used"):
        load(path)
    assert digest.load_record(path) == before


def test_an_unknown_safetensors_file_that_is_damaged_is_refused_and_not_recorded(tmp_path):
    path = save(tmp_path / "a.safetensors", 1)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(WeightsError, match=r"a\.safetensors was refused: "):
        load(path)
    assert digest.load_record(path) is None


def test_a_pickled_file_is_not_read_before_its_digest_is_known(tmp_path, publish, place, monkeypatch):
    body = save(tmp_path / "a.pth", 1).read_bytes()
    publish(sha256=sha(b"another file"))
    path, read = place(body), []
    monkeypatch.setattr(checkpoint, "read", lambda *args, **kwargs: read.append(args))
    with pytest.raises(WeightsError, match="refused and not used"):
        load(path)
    assert read == []


def test_pinned_files_are_read_by_our_reader_where_torchs_has_holes(tmp_path, monkeypatch):
    path = save(tmp_path / "a.pth", 3)
    monkeypatch.setattr(checkpoint, "TORCH_READS_SAFELY", False)
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: pytest.fail("torch read it"))
    assert checkpoint.load(path, is_pinned=True)["weight"][0] == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_of_that_name_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.pth")
    with pytest.raises(MissingWeights, match="not a regular file"):
        load(tmp_path / "a.pth")


@pytest.mark.skipif(not hasattr(os, "truncate"), reason="no sparse files here")
def test_what_is_larger_than_weights_are_is_not_hashed(tmp_path, monkeypatch):
    (tmp_path / "a.pth").touch()
    os.truncate(tmp_path / "a.pth", 30 << 30)
    monkeypatch.setattr(WeightsFile, "sha256", lambda self: pytest.fail("it was hashed"))
    with pytest.raises(WeightsError, match="32,212,254,720 bytes"):
        load(tmp_path / "a.pth")
