import math
import pkgutil
import sys
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from gpen_core import (
    accept_digest,
    download_size,
    find_file,
    fingerprint,
    list_detectors,
    list_networks,
    match_network_name,
    needs_onnx_runtime,
    parse_auto_model,
    present_sizes,
)
from gpen_core.errors import MissingDependency, MissingWeights, OptionsError, WeightsError
from gpen_core.network import GPENConfig
from gpen_core.weights import digest, folders
from gpen_core.weights.catalog import CATALOG, base_name, find_entry, find_export, restoring_networks
from gpen_core.weights.digest import is_sha256


def touch(folder, *names):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


# Folders


def test_the_folder_given_comes_before_the_environment_and_that_before_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path / "environment"))
    assert folders.models_dirs(tmp_path / "given") == (tmp_path / "given",)
    assert folders.models_dirs(str(tmp_path / "given")) == (tmp_path / "given",)
    assert folders.models_dirs(["a", Path("b")]) == (Path("a"), Path("b"))
    assert folders.models_dirs() == (tmp_path / "environment",)


def test_one_folder_or_several_may_be_searched_as_text_or_as_paths(tmp_path):
    file = touch(tmp_path, "GPEN-BFR-512.pth", "my-gpen.pth") / "GPEN-BFR-512.pth"
    for given in (tmp_path, str(tmp_path), [tmp_path], [str(tmp_path)]):
        assert find_file("gpen-bfr-512", given) == file
        assert fingerprint("gpen-bfr-512", given)[0] == str(file)
        assert present_sizes(given) == (512,) and list_networks(given)[-1] == "my-gpen.pth"
        assert match_network_name("MY-GPEN", given) == "my-gpen.pth" and list_detectors(given)
        assert not needs_onnx_runtime("gpen-bfr-512", given)


def test_a_name_may_be_a_path(tmp_path):
    file = touch(tmp_path, "GPEN-BFR-512.pth") / "GPEN-BFR-512.pth"
    name = Path("gpen-bfr-512")
    assert find_entry(name) is find_entry("gpen-bfr-512") and download_size(name) == find_entry(name).known_bytes
    assert find_file(name, tmp_path) == file and fingerprint(name, tmp_path)[0] == str(file)
    assert match_network_name(name, tmp_path) == file.name and not needs_onnx_runtime(name, tmp_path)
    assert fingerprint(Path("auto"), tmp_path) == fingerprint("auto", tmp_path) == (fingerprint(name, tmp_path),)
    assert parse_auto_model(Path("auto:1024")) == (1024, 2048)


def test_one_name_is_not_read_letter_by_letter(tmp_path):
    file = touch(tmp_path, "GPEN-BFR-512.pth") / "GPEN-BFR-512.pth"
    for names in ("gpen-bfr-512", Path("gpen-bfr-512"), ["gpen-bfr-512"]):
        with pytest.raises(WeightsError, match=file.name):  # which is no checkpoint, but is found
            accept_digest(digest.file_sha256(file), names, tmp_path)


def test_a_folder_that_may_not_be_read_has_no_files(tmp_path, monkeypatch, caplog):
    """A host that lists the models goes on."""
    closed, other = touch(tmp_path / "closed", "GPEN-BFR-512.pth"), touch(tmp_path / "other", "GPEN-BFR-256.pth")
    iterdir = Path.iterdir

    def refuse(folder):
        if folder == closed:
            raise PermissionError(13, "Permission denied")
        return iterdir(folder)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert folders.find_file("GPEN-BFR-512.pth", [closed, other]) is None
    assert folders.find_file("GPEN-BFR-256.pth", [closed, other]) == other / "GPEN-BFR-256.pth"
    assert f"{closed} cannot be read (Permission denied)" in caplog.text


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_a_link_that_cannot_be_followed_is_no_file_and_does_not_hide_the_others(tmp_path):
    """For root, a name that is too long stands for a folder that another user may not open: `Path.is_file` raises, too."""
    folder = touch(tmp_path, "my-gpen.pth")
    for name in ("GPEN-BFR-512.pth", "gpen-of-another-user.pth"):
        (folder / name).symlink_to("x" * 300)
    assert folders.list_networks([folder])[-1] == "my-gpen.pth"
    assert list(folders.iter_weights([folder])) == [folder / "my-gpen.pth"]
    assert folders.resolve_path("gpen-bfr-512", [folder]) is find_entry("gpen-bfr-512")


@pytest.mark.parametrize(
    ("system", "environ", "folder"),
    [
        ("unix.Unix", {}, ".cache/sd-gpen"),
        ("unix.Unix", {"GPEN_MODELS_DIR": ""}, ".cache/sd-gpen"),
        ("unix.Unix", {"XDG_CACHE_HOME": "elsewhere"}, "elsewhere/sd-gpen"),
        ("macos.MacOS", {}, "Library/Caches/sd-gpen"),
        ("windows.Windows", {}, "AppData/Local/sd-gpen"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="moves the home folder by $HOME")
def test_the_cache_directory_is_the_systems(monkeypatch, tmp_path, system, environ, folder):
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: str(tmp_path / "AppData" / "Local"))
    monkeypatch.setattr("platformdirs.PlatformDirs", pkgutil.resolve_name(f"platformdirs.{system}"))
    for name in ("GPEN_MODELS_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": ".", **environ}.items():
        monkeypatch.setenv(name, str(tmp_path / value) if value else value)
    assert folders.models_dirs() == (tmp_path / folder,)


def test_platformdirs_is_needed_only_where_no_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert folders.models_dirs(tmp_path) == (tmp_path,)
    monkeypatch.delenv("GPEN_MODELS_DIR", raising=False)
    with pytest.raises(
        MissingDependency, match=r"^The package platformdirs, which finds the default models folder, is not inst"
    ):
        folders.models_dirs()
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path / "environment"))
    assert folders.models_dirs() == (tmp_path / "environment",)


def test_a_tilde_stands_for_the_home_folder(monkeypatch):
    assert folders.models_dirs("~/models") == (Path.home() / "models",)
    monkeypatch.setenv("GPEN_MODELS_DIR", "~/models")
    assert folders.models_dirs() == (Path.home() / "models",)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows assumes that every user has a home folder")
def test_a_tilde_without_a_home_folder(tmp_path):
    folder = touch(tmp_path, "~no-such-user.pth")
    assert folders.resolve_path("~no-such-user.pth", [folder]) == folder / "~no-such-user.pth"
    with pytest.raises(MissingWeights, match="Unknown model"):
        folders.resolve_path("~no-such-user/a.pth", [folder])
    with pytest.raises(OptionsError, match="The home folder in ~no-such-user/models is unknown"):
        folders.models_dirs("~no-such-user/models")


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
    assert folders.resolve_path(asked, [folder]) == folder / there


def test_safetensors_come_before_pth_and_pth_before_pt(tmp_path):
    folder = touch(tmp_path, "gpen-bfr-512.pt", "gpen-bfr-512.pth", "gpen-bfr-512.safetensors")
    for suffix in (".safetensors", ".pth", ".pt"):
        assert folders.resolve_path("gpen-bfr-512", [folder]).suffix == suffix
        (folder / f"gpen-bfr-512{suffix}").unlink()


def test_the_whole_name_of_an_own_file_comes_before_other_suffixes_and_folders(tmp_path):
    first, second = touch(tmp_path / "1", "my-gpen.safetensors"), touch(tmp_path / "2", "my-gpen.onnx", "my-gpen.pth")
    files = [first / "my-gpen.safetensors", second / "my-gpen.onnx", second / "my-gpen.pth"]
    for path in files:
        assert folders.resolve_path(path.name, [first, second]) == path
        assert folders.match_network_name(path.name, [first, second]) == path.name
    assert folders.resolve_path("my-gpen", [first, second]) == files[0]


def test_a_folder_that_bears_the_name_is_not_taken(tmp_path):
    touch(tmp_path / "gpen-bfr-512.safetensors", "x")
    touch(tmp_path, "GPEN-BFR-512.pth")
    assert folders.resolve_path("gpen-bfr-512", [tmp_path]).name == "GPEN-BFR-512.pth"


def test_a_path_is_taken_as_it_is_before_anything_in_the_folder(tmp_path, monkeypatch):
    own = touch(tmp_path / "own", "a.pth") / "a.pth"
    folder = touch(tmp_path / "models", "a.safetensors")
    assert folders.resolve_path(str(own), [folder]) == own
    monkeypatch.chdir(own.parent)
    assert folders.resolve_path("a.pth", [folder]) == Path("a.pth")


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_what_is_not_there_is_the_catalogs_entry(tmp_path, entry):
    for name in (entry.name, entry.file.upper(), *entry.aliases):
        assert folders.resolve_path(name, [tmp_path, tmp_path / "not" / "there"]) is entry


def test_the_first_folder_that_has_the_file_is_taken(tmp_path):
    first, second = touch(tmp_path / "1", "my-own.pth"), touch(tmp_path / "2", "my-own.safetensors", "GPEN-BFR-512.pth")
    assert folders.resolve_path("my-own", [first, second]) == first / "my-own.pth"
    assert folders.resolve_path("gpen-bfr-512", [first, second]) == second / "GPEN-BFR-512.pth"
    assert folders.resolve_path("gpen-bfr-512", [tmp_path / "not there", second]) == second / "GPEN-BFR-512.pth"


def test_unfinished_downloads_and_records_are_no_weights(tmp_path):
    touch(tmp_path, ".GPEN-BFR-512.pth.0123456789abcdef.part", ".GPEN-BFR-512.pth.gpen.json", ".GPEN-BFR-512.pth", "a.pth")
    assert folders.resolve_path("gpen-bfr-512", [tmp_path]) is find_entry("gpen-bfr-512")
    assert [path.name for path in folders.iter_weights([tmp_path])] == ["a.pth"]


@pytest.mark.parametrize("name", ["no-such-model", "sub/no-such-model.pth", "", "x" * 5000])
def test_an_unknown_name_is_refused_with_the_known_ones(tmp_path, name):
    touch(tmp_path, "other.pth")
    with pytest.raises(MissingWeights) as missing:
        folders.resolve_path(name, [tmp_path])
    for what in (repr(name), str(tmp_path), "gpen-bfr-2048", "retinaface_resnet50"):
        assert what in str(missing.value)


# The catalog


def test_no_name_in_the_catalog_stands_for_two_files():
    names = [
        base_name(name)
        for entry in CATALOG
        for name in {base_name(entry.name), base_name(entry.file), *map(base_name, entry.aliases)}
    ]
    assert len(names) == len(set(names))
    assert find_entry("no-such-model") is None


@pytest.mark.parametrize("entry", CATALOG, ids=lambda entry: entry.name)
def test_an_entry_is_whole(entry):
    assert entry.sources and all(source.url.startswith("https://") for source in entry.sources)
    assert all(source.listing is None or source.listing.startswith("https://") for source in entry.sources)
    assert not any(source.allows_http for source in entry.sources)
    assert entry.license.endswith(".") and entry.purpose and entry.file.endswith(".onnx" if entry.is_graph else ".pth")
    assert (entry.sha256 is None) == (entry.bytes is None)
    assert entry.sha256 is None or digest.is_sha256(entry.sha256)
    assert entry.max_size >= (entry.bytes or entry.approximate_bytes or 0)
    with pytest.raises(FrozenInstanceError):
        entry.sha256 = "0" * 64


@pytest.mark.parametrize("entry", restoring_networks(), ids=lambda entry: entry.name)
def test_each_network_has_onnx_exports_with_their_digests(entry):
    assert entry.exports
    for export in entry.exports:
        assert is_sha256(export.sha256) and find_export(export.sha256) == export and find_entry(export.file) == entry
        download = entry.for_export(export)
        assert (download.file, download.sha256, download.size) == (export.file, export.sha256, entry.size)
        assert all(source.url.startswith("https://") and source.url.endswith(export.file) for source in download.sources)
        assert entry.digest_for(export.file) is None  # there are several


def test_the_figures_are_those_that_were_published():
    """From Git LFS pointers and facexlib's releases; the tensors' bytes from the networks' layouts."""
    pinned = {entry.name: (entry.bytes, entry.sha256[:12]) for entry in CATALOG if entry.sha256}
    assert pinned == {
        "gpen-bfr-512": (284_085_738, "f1002c41add9"),
        "retinaface_resnet50": (109_497_761, "6d1de9c2944f"),
        "retinaface_mobile0.25": (1_789_735, "2979b33ffafd"),
        "parsenet": (85_331_193, "3d558d8d0e42"),
        "realesrnet_x2": (77_228_423, "a8bc646e373d"),
        "sface": (38_696_353, "0ba9fbfa01b5"),
    }
    widths = {256: GPENConfig(256, 0.5, 1), 1024: GPENConfig(1024, 1, 2), 2048: GPENConfig(2048, 1, 2)}
    for size, config in widths.items():
        entry = find_entry(f"gpen-bfr-{size}")
        assert (
            entry.approximate_bytes == 4 * sum(math.prod(shape) for shape in config.parameter_shapes().values())
            and entry.size == size
        )


def test_a_pin_is_for_the_released_file_and_its_aliases_only():
    entry = find_entry("retinaface_resnet50")
    for name in ("detection_Resnet50_Final.pth", "DETECTION_resnet50_final.PTH", "/a/b/RetinaFace-R50.pth"):
        assert entry.digest_for(name) == entry.sha256
    assert entry.digest_for("detection_Resnet50_Final.safetensors") is None


def test_a_graph_is_pinned_under_its_own_name():
    entry = find_entry("sface")
    for name in ("/a/Face_recognition_SFace_2021dec.onnx", "SFace.onnx"):
        assert entry.digest_for(name) == entry.sha256
    assert entry.digest_for("sface.pth") is None


def test_the_state_of_auto_is_that_of_every_network_there(tmp_path):
    assert folders.fingerprint("auto", [tmp_path]) is None
    states = []
    for name in ("GPEN-BFR-512.pth", "my-gpen.pth"):
        (tmp_path / name).write_bytes(b"one")
        states.append(folders.fingerprint("auto", [tmp_path]))
    (tmp_path / "GPEN-BFR-512.pth").write_bytes(b"another")
    states.append(folders.fingerprint("auto:256", [tmp_path]))
    assert [len(state) for state in states] == [1, 2, 2] and len(set(states)) == 3
    assert states[1][1] == states[2][1] == folders.fingerprint("my-gpen.pth", [tmp_path])
