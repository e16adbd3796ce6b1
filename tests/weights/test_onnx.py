"""GPEN's weights from ONNX files: mapped to the released names, proven, kept; and files that are refused."""

import importlib.util
import io
import os
from dataclasses import replace

import onnx_files as made
import pytest
import torch
import weights_server as ws
from safetensors.torch import load_file
from weights_fixtures import BODY, sha

from gpen_core.errors import MissingWeights, OutOfMemory, WeightsChanged, WeightsError
from gpen_core.network import RELEASED, OnnxModel, validate_state_dict
from gpen_core.weights import catalog, checkpoint, digest, onnx_as_is, onnx_export, onnx_proof, protobuf
from gpen_core.weights.catalog import Export, Source
from gpen_core.weights.download_options import DownloadOptions
from gpen_core.weights.folders import find_file, iter_weights, list_networks, needs_onnx_runtime, present_sizes
from gpen_core.weights.onnx_graph import OnnxGraph, OnnxTensor, read_graph
from gpen_core.weights.onnx_proof import tensors_sha256
from gpen_core.weights.store import Store
from gpen_core.weights.unpickler import UnsafeCheckpoint

needs_exporter = pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="torch exports with the package onnx")
needs_dynamo = pytest.mark.skipif(
    importlib.util.find_spec("onnxscript") is None, reason="torch's dynamo exporter needs the package onnxscript"
)
needs_runtime = pytest.mark.skipif(importlib.util.find_spec("onnxruntime") is None, reason="needs ONNX Runtime")
slow, nightly = pytest.mark.slow, pytest.mark.nightly


pytest_plugins = ["onnx_files", "weights_fixtures"]


@pytest.fixture
def exported(exported_onnx):
    return exported_onnx


@pytest.fixture
def unproven(monkeypatch):
    """Every mapping is believed: for tests of what comes after."""
    monkeypatch.setattr("gpen_core.weights.onnx_weights.prove", lambda *_: None)


def check(read, expected, is_exact):
    assert list(read) == list(expected)
    for key, tensor in read.items():
        error = float((tensor - expected[key]).abs().max() / expected[key].abs().max())
        assert tensor.dtype == torch.float32 and error <= (0 if is_exact else 2e-7), key
    validate_state_dict(read, None)


def test_a_folded_export_gives_the_state_dict_back(exported):
    check(checkpoint.load(exported), made.narrow_weights(), is_exact=False)


@needs_exporter
@needs_runtime
@pytest.mark.parametrize(
    ("folding", "opset"),
    [pytest.param(folding, opset, marks=nightly) for folding, opset in ((True, 16), (False, 11), (False, 16))]
    + [pytest.param(True, 11, marks=slow), pytest.param(False, 17, marks=slow)],
)
def test_torchscript_exports_give_the_state_dict_back(tmp_path, folding, opset):
    path = made.export(tmp_path / "a.onnx", folding=folding, opset=opset)
    check(checkpoint.load(path), made.narrow_weights(), is_exact=not folding)


@needs_dynamo
@needs_runtime
@nightly
@pytest.mark.parametrize("folding", [True, False])
def test_dynamo_exports_give_the_state_dict_back(tmp_path, folding):
    path = made.export(tmp_path / "a.onnx", folding=folding, opset=18, dynamo=True)
    check(checkpoint.load(path), made.narrow_weights(), is_exact=not folding)


@needs_exporter
@needs_runtime
@nightly
@pytest.mark.parametrize("size", [512, 1024, 2048])
@pytest.mark.parametrize("folding", [True, False])
def test_every_size_gives_its_state_dict_back(tmp_path, size, folding):
    path = made.export(tmp_path / "a.onnx", size, folding=folding)
    check(checkpoint.load(path), made.narrow_weights(size), is_exact=not folding)


def test_a_network_that_computes_otherwise_is_not_converted(exported):
    """The tensors fit, but the leaky ReLU of the file has another slope."""
    other = made.replaced(exported, made.floats(0.2), made.floats(0.3))
    read = checkpoint.load(other)
    assert isinstance(read, OnnxModel) and read.config == made.NARROW[256] and read.sha256 == digest.file_sha256(other)
    assert "the order of its weights is unknown: " in read.reason and " standard deviations from the file's" in read.reason
    with pytest.raises(WeightsError, match="This ONNX file can be run, but not converted: the order of its weights is"):
        validate_state_dict(read)


def test_an_unknown_order_of_the_weights_leaves_the_file_to_onnx_runtime(unmapped_onnx, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(unmapped_onnx.read_bytes())
    read, record = store(tmp_path).load_file(path, identity)
    assert read.data == path.read_bytes() and read.sha256 == record.sha256 and read.dtype == torch.float32
    assert read.reason == "the order of its weights is unknown (0 tensors, expected 7)"
    assert [one.name for one in tmp_path.iterdir() if one.suffix != ".json"] == ["mine.onnx"]


def test_a_failed_conversion_is_not_tried_again_by_the_same_version(exported, tmp_path, monkeypatch):
    path = tmp_path / "mine.onnx"
    path.write_bytes(made.replaced(exported, made.floats(0.2), made.floats(0.3)).read_bytes())
    proofs, prove = [], onnx_proof.prove
    monkeypatch.setattr("gpen_core.weights.onnx_weights.prove", lambda *args: (proofs.append(args), prove(*args)))
    first, record = store(tmp_path).load_file(path, identity)
    assert len(proofs) == 1 and digest.load_record(path).not_converted == record.not_converted == first.reason
    again, _ = store(tmp_path).load_file(path, identity)
    assert len(proofs) == 1 and (again.reason, again.data) == (first.reason, first.data)

    monkeypatch.setattr("gpen_core.weights.store.__version__", "99.0")  # it may know more exports
    for _ in range(2):
        store(tmp_path).load_file(path, identity)
        assert len(proofs) == 2

    path.write_bytes(exported.read_bytes())
    with pytest.raises(WeightsChanged):
        store(tmp_path).load_file(path, identity)
    store(tmp_path).accept_changed(str(path), identity)
    assert isinstance(store(tmp_path).load_file(path, identity)[0], dict)


def test_the_progress_says_that_a_file_is_converted_once(exported, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(exported.read_bytes())
    for expected in (["Loading mine.onnx", "Converting mine.onnx, only this once"], ["Loading mine.onnx"]):
        events = []
        store(tmp_path).load(str(tmp_path / "mine.onnx"), identity, events.append)
        assert [event.text for event in events] == expected


def test_without_onnx_runtime_an_earlier_failure_does_not_hide_that_it_is_missing(unmapped_onnx, tmp_path, monkeypatch):
    path = tmp_path / "mine.onnx"
    path.write_bytes(unmapped_onnx.read_bytes())
    _, record = store(tmp_path).load_file(path, identity)
    assert record.not_converted
    for module in ("store", "onnx_proof"):
        monkeypatch.setattr(f"gpen_core.weights.{module}.has_runtime", lambda: False)
    with pytest.raises(WeightsError, match="ONNX Runtime is not installed"):
        store(tmp_path).load_file(path, identity)


@needs_exporter
@made.needs_half
def test_half_precision_is_left_to_onnx_runtime(tmp_path):
    path = tmp_path / "half.onnx"
    onnx_export.export(made.narrow_weights(), made.NARROW[256], path, is_half=True)
    read = checkpoint.load(path)
    assert read.dtype == torch.float16 and read.reason.startswith("its weights are float16")


def test_a_file_that_is_to_stay_onnx_is_not_converted(exported, tmp_path):
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported.read_bytes())
    read, _ = Store([tmp_path], DownloadOptions(offline=True), keep_onnx=True).load_file(path, identity)
    assert read.data == exported.read_bytes() and read.reason is None


@needs_exporter
def test_equal_tensors_are_stored_once_and_count_as_often_as_they_are_used(tmp_path):
    path = tmp_path / "mine.onnx"
    weights = {key: torch.zeros_like(t) if "style" in key else t for key, t in made.narrow_weights().items()}
    path.write_bytes(onnx_export.export_model(weights, made.NARROW[256]).data)
    assert path.stat().st_size < 0.9 * sum(4 * tensor.numel() for tensor in weights.values())
    read, _ = Store([tmp_path], DownloadOptions(offline=True), keep_onnx=True).load_file(path, identity)
    assert read.config == made.NARROW[256]


def test_another_network_of_that_form_is_not_run():
    """GFPGAN has the same input, output and learned constant, but a fifth more weights."""
    count = sum(torch.Size(shape).numel() for shape in RELEASED[512].parameter_shapes().values())
    constant = OnnxTensor((1, 512, 4, 4), 1, None)
    for factor, is_run in ((1.0, True), (1.009, True), (1.2, False), (0.9, False)):
        tensors = {"base": constant, "w": OnnxTensor((int(count * factor) - 8192,), 1, None)}
        graph = OnnxGraph([], tensors, {"input": (1, 3, 512, 512)}, {"output": (1, 3, 512, 512)})
        if is_run:
            assert onnx_as_is.to_model(io.BytesIO(b"x"), graph, None).config == RELEASED[512]
        else:
            with pytest.raises(UnsafeCheckpoint, match="the number of its weights matches no layout"):
                onnx_as_is.to_model(io.BytesIO(b"x"), graph, None)


def test_a_changed_number_is_read_as_it_is(exported):
    """What the file holds decides, not what was exported."""
    bias = made.narrow_weights()["generator.to_rgb1.bias"]
    other = made.replaced(exported, made.floats(*bias.flatten()), made.floats(1, 2, 3))
    assert checkpoint.load(other)["generator.to_rgb1.bias"].flatten().tolist() == [1, 2, 3]


def test_values_that_are_not_finite_are_refused(exported):
    bias = made.narrow_weights()["generator.to_rgb1.bias"]
    other = made.replaced(exported, made.floats(*bias.flatten()), made.floats(1, float("nan"), 3))
    with pytest.raises(WeightsError, match=r"generator.to_rgb1.bias has non-finite values"):
        checkpoint.load(other)


def test_without_onnx_runtime_the_command_that_helps_is_told(exported, monkeypatch):
    monkeypatch.setattr(onnx_proof, "has_runtime", lambda: False)
    with pytest.raises(
        WeightsError, match=r"verified only in ONNX Runtime, which is not installed\. .*install.* onnxruntime"
    ):
        checkpoint.load(exported)


def publish(monkeypatch, path, **figures):
    """The catalog's 256 entry has this file as its only ONNX export."""
    export = Export("GPEN-BFR-256.onnx", digest.file_sha256(path), (), **figures)
    entries = tuple(replace(e, exports=(export,) if e.name == "gpen-bfr-256" else ()) for e in catalog.CATALOG)
    monkeypatch.setattr(catalog, "CATALOG", entries)


def test_with_the_tensors_digest_in_the_catalog_nothing_is_run(exported, monkeypatch):
    published = tensors_sha256(checkpoint.load(exported))
    publish(monkeypatch, exported, tensors_sha256=published)
    monkeypatch.setattr(onnx_proof, "has_runtime", lambda: False)
    check(checkpoint.load(exported), made.narrow_weights(), is_exact=False)
    bias = made.narrow_weights()["generator.to_rgb1.bias"]
    other = made.replaced(exported, made.floats(*bias.flatten()), made.floats(1, 2, 3))
    with pytest.raises(WeightsError, match="ONNX Runtime"):
        checkpoint.load(other)


def test_the_digest_of_tensors_sees_each_name_type_shape_and_number():
    tensors = {"b": torch.arange(4.0), "a": torch.ones(2, 2)}
    known = tensors_sha256(tensors)
    assert known == tensors_sha256(dict(reversed(tensors.items())))
    others = [{"c": tensors["b"], "a": tensors["a"]}, {**tensors, "b": torch.arange(4.0).half()}]
    others += [{**tensors, "a": torch.ones(4)}, {**tensors, "b": torch.arange(4.0).flip(0)}]
    assert known not in map(tensors_sha256, others)


# what is kept


def identity(content, entry):
    return content


def store(*folders):
    return Store(folders, DownloadOptions(offline=True))


def test_a_file_given_by_its_path_is_converted_once_and_kept_beside_it(exported, tmp_path, monkeypatch, caplog):
    path = tmp_path / "mine.onnx"
    path.write_bytes(exported.read_bytes())
    read, record = store(tmp_path / "models").load_file(path, identity)
    kept = path.with_suffix(".safetensors")
    assert record.checked_by == digest.STRUCTURE and digest.load_record(kept).source == f"mine.onnx {record.sha256}"
    check(load_file(kept), dict(sorted(read.items())), is_exact=True)
    monkeypatch.setattr(checkpoint, "onnx_weights", None)  # what would read the file again
    again, _ = store(tmp_path / "models").load_file(path, identity)
    assert all(torch.equal(again[key], read[key]) for key in read)
    path.write_bytes(path.read_bytes() + made.field(9, "more"))
    with pytest.raises(WeightsChanged):
        store(tmp_path / "models").load_file(path, identity)


@pytest.mark.usefixtures("unproven")
def test_a_file_of_a_shared_folder_is_kept_in_our_own(exported, tmp_path):
    """ReActor lists the files of facerestore_models."""
    own, shared = tmp_path / "GPEN", tmp_path / "facerestore_models"
    shared.mkdir()
    (shared / "GPEN-BFR-256.onnx").write_bytes(exported.read_bytes())
    read = store(own, shared).load("gpen-bfr-256", identity)
    assert find_file("gpen-bfr-256", (own, shared)) == own / "GPEN-BFR-256.safetensors"
    assert [path.name for path in shared.iterdir() if path.suffix != ".json"] == ["GPEN-BFR-256.onnx"]
    again = store(own, shared).load("gpen-bfr-256", identity)
    assert all(torch.equal(again[key], read[key]) for key in read)


@pytest.mark.usefixtures("unproven")
def test_a_file_that_was_replaced_after_its_conversion_is_noticed_by_its_name_too(exported, tmp_path):
    own, shared = tmp_path / "GPEN", tmp_path / "facerestore_models"
    shared.mkdir()
    (shared / "mine.onnx").write_bytes(exported.read_bytes())
    store(own, shared).load("mine.onnx", identity)
    assert (own / "mine.safetensors").exists()
    (shared / "mine.onnx").write_bytes(exported.read_bytes() + made.field(9, "more"))
    with pytest.raises(WeightsChanged, match=r"mine\.onnx was refused"):
        store(own, shared).load("mine.onnx", identity)
    assert store(own, shared).accept_changed("mine.onnx", identity)[0] == shared / "mine.onnx"


@pytest.mark.usefixtures("unproven")
def test_where_nothing_can_be_kept_the_weights_are_read_all_the_same(exported, tmp_path, caplog):
    path = tmp_path / "a.onnx"
    path.write_bytes(exported.read_bytes())
    (tmp_path / "a.safetensors").write_bytes(b"mine")
    assert len(store(tmp_path).load_file(path, identity)[0]) == len(made.narrow_weights())
    assert (tmp_path / "a.safetensors").read_bytes() == b"mine"
    assert "The conversion of a.onnx was not saved and is repeated on the next load" in caplog.text


@pytest.mark.usefixtures("unproven")
def test_what_the_name_does_not_fit_is_not_kept(exported, tmp_path):
    path = tmp_path / "GPEN-BFR-512.onnx"
    path.write_bytes(exported.read_bytes())
    with pytest.raises(WeightsError, match="the file name is that of GPEN-512"):
        store(tmp_path).load("gpen-bfr-512", lambda content, entry: validate_state_dict(content, entry.size))
    assert [one.name for one in tmp_path.iterdir()] == ["GPEN-BFR-512.onnx"]


@pytest.mark.usefixtures("unproven")
def test_a_published_digest_vouches_for_the_file_and_for_what_was_made_of_it(exported, tmp_path, monkeypatch):
    path = tmp_path / "GPEN-BFR-256.onnx"
    path.write_bytes(exported.read_bytes())
    strict = Store([tmp_path], DownloadOptions(offline=True, require_digest=True))
    with pytest.raises(WeightsError, match="a digest is required"):
        strict.load_file(path, identity)
    publish(monkeypatch, path)
    assert strict.load_file(path, identity)[1].checked_by == digest.PIN
    assert digest.load_record(path.with_suffix(".safetensors")).checked_by == digest.PIN
    strict.load("gpen-bfr-256", identity)


# what is downloaded


@pytest.fixture
def mirrored(exported, publish, monkeypatch, tmp_path):
    """Loads the catalog's only entry from a mirror that has these of its files. The paths that were asked for, and how far
    the file can be trusted."""
    monkeypatch.setattr(onnx_proof, "has_runtime", lambda: True)
    monkeypatch.setattr("gpen_core.weights.onnx_weights.prove", lambda *_: None)
    onnx = exported.read_bytes()
    export = Export("GPEN-TEST.onnx", sha(onnx), ("https://nowhere.invalid/GPEN-TEST.onnx",), len(onnx))
    publish(Source("http://nowhere.invalid/GPEN-TEST.pth"), exports=(export,))

    def run(*files, **options):
        bodies = {"GPEN-TEST.pth": BODY, "GPEN-TEST.onnx": onnx}
        with ws.running(BODY) as server:
            for name in files:
                server.pages[f"/{name}"] = lambda handler, _, start, name=name: ws.serve(handler, bodies[name], start)
            mirror = DownloadOptions(mirror=server.root, **options)
            path = Store([tmp_path], mirror).fetch("gpen-test", lambda content, entry: None)
            asked = dict.fromkeys(request.path for request in server.requests if request.method == "GET")
            return list(asked), Store([tmp_path], mirror).verify(path).checked_by

    return run


def test_an_export_is_downloaded_where_the_released_file_cannot_be(mirrored):
    assert mirrored("GPEN-TEST.onnx") == (["/GPEN-TEST.pth", "/GPEN-TEST.onnx"], digest.PIN)


def test_the_released_file_comes_first(mirrored):
    assert mirrored("GPEN-TEST.pth", "GPEN-TEST.onnx") == (["/GPEN-TEST.pth"], digest.STRUCTURE)


def test_the_export_comes_first_where_only_it_has_a_digest_and_one_is_required(mirrored):
    assert mirrored("GPEN-TEST.pth", "GPEN-TEST.onnx", require_digest=True) == (["/GPEN-TEST.onnx"], digest.PIN)


def test_an_export_that_could_not_be_converted_is_not_downloaded(mirrored, monkeypatch):
    monkeypatch.setattr("gpen_core.weights.store.has_runtime", lambda: False)
    with pytest.raises(MissingWeights, match=r"GPEN-TEST\.pth \(tests\) could not be downloaded") as refused:
        mirrored("GPEN-TEST.onnx")
    assert "GPEN-TEST.onnx" not in str(refused.value)


def test_where_nothing_can_be_had_every_source_is_named(mirrored):
    with pytest.raises(MissingWeights, match=r"(?s)GPEN-TEST\.pth: answered 404.*GPEN-TEST\.onnx: answered 404"):
        mirrored()


def test_a_file_that_cannot_be_converted_is_not_in_the_way_of_the_released_one(mirrored, monkeypatch, tmp_path, caplog):
    monkeypatch.setattr("gpen_core.weights.store.has_runtime", lambda: False)
    (tmp_path / "GPEN-TEST.onnx").write_bytes(b"x")
    assert mirrored("GPEN-TEST.pth") == (["/GPEN-TEST.pth"], digest.STRUCTURE)
    assert "GPEN-TEST.onnx was skipped, because converting it needs ONNX Runtime: " in caplog.text
    assert store(tmp_path).fetch(str(tmp_path / "GPEN-TEST.onnx"), identity) == tmp_path / "GPEN-TEST.onnx"


def test_offline_such_a_file_is_refused_with_the_command(exported, tmp_path, monkeypatch):
    for module in ("store", "onnx_proof"):
        monkeypatch.setattr(f"gpen_core.weights.{module}.has_runtime", lambda: False)
    (tmp_path / "GPEN-BFR-256.onnx").write_bytes(exported.read_bytes())
    with pytest.raises(WeightsError, match=r"install.* onnxruntime"):
        store(tmp_path).load("gpen-bfr-256", identity)


# what is found


@pytest.mark.parametrize("name", ["GPEN-BFR-256.onnx", "gpen_bfr_256.onnx", "gpen-bfr-256.ONNX"])
def test_a_folder_with_only_an_onnx_file_has_that_network(tmp_path, name):
    (tmp_path / name).write_bytes(b"x")
    assert find_file("gpen-bfr-256", [tmp_path]) == tmp_path / name and present_sizes([tmp_path]) == (256,)
    assert "GPEN-BFR-256.pth" in list_networks([tmp_path]) and name not in list_networks([tmp_path])
    (tmp_path / "GPEN-BFR-256.pth").write_bytes(b"x")
    assert find_file("gpen-bfr-256", [tmp_path]) == tmp_path / "GPEN-BFR-256.pth"


@pytest.mark.parametrize(("is_installed", "name"), [(True, "GPEN-BFR-256.onnx"), (False, "GPEN-BFR-256.pth")])
def test_nothing_is_missing_where_onnx_runtime_is_installed_or_not_needed(tmp_path, monkeypatch, is_installed, name):
    monkeypatch.setattr("gpen_core.weights.folders.has_runtime", lambda: is_installed)
    (tmp_path / name).write_bytes(b"x")
    assert not needs_onnx_runtime("gpen-bfr-256", [tmp_path]) and not needs_onnx_runtime("gpen-bfr-512", [tmp_path])


def test_onnx_runtime_is_missing_for_an_onnx_file(tmp_path, monkeypatch):
    monkeypatch.setattr("gpen_core.weights.folders.has_runtime", lambda: False)
    (tmp_path / "GPEN-BFR-256.onnx").write_bytes(b"x")
    assert needs_onnx_runtime("GPEN-BFR-256.pth", [tmp_path])


def test_an_export_under_any_name_is_a_choice_and_other_networks_are_none(exported, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(exported.read_bytes())
    (tmp_path / "GFPGANv1.4.onnx").write_bytes(made.model(made.graph(tensors=[made.zeros("conv.weight", (4, 3, 1, 1))])))
    (tmp_path / "broken.onnx").write_bytes(exported.read_bytes()[:-1000])
    assert {name for name in list_networks([tmp_path]) if name.endswith(".onnx")} == {"mine.onnx"}
    assert [path.name for path in iter_weights([tmp_path])] == ["mine.onnx"]


# what is refused

FIRST = made.zeros("w", (8, 3, 1, 1))
CONSTANT = made.zeros("generator.input.input", (1, 8, 4, 4))
CONV = made.node("Conv", ["input", "w"], ["output"])
EXTERNAL = made.field(13, made.field(1, "location") + made.field(2, "../secret")) + made.field(14, 1)
REFUSED = {
    "truncated": (made.model()[:-3], "it is truncated"),
    "empty": (b"", "it contains no graph"),
    "no protobuf": (b"\xff" * 64, "it is damaged, or not an ONNX file"),
    "a group": (made.field(1, 8) + b"\x13\x14", "it is damaged, or not an ONNX file"),
    "a web page": (b"<!DOCTYPE html><html>", "it is a web page"),
    "a zip file": (b"PK\3\4" + bytes(60), "rename it to .pth"),
    "a number for a graph": (made.field(1, 8) + made.field(7, 5), "a field in it has the wrong type"),
    "text for a number": (made.model(more=made.field(8, made.field(2, "17"))), "a field in it has the wrong type"),
    "no graph": (made.field(1, 8) + made.field(8, made.field(2, 17)), "it contains no graph"),
    "two graphs": (made.model(more=made.field(7, made.graph())), "it contains more than one graph"),
    "functions": (made.model(more=made.field(25, b"")), "functions or training steps"),
    "old": (made.model(opset=6), "its operator set is 6, expected 9 to 26"),
    "of the future": (made.model(opset=99), "its operator set is 99"),
    "no operator set": (made.model(domain="ai.onnx.ml"), "its operator set is none"),
    "external data": (made.model(made.graph(tensors=[made.tensor("w", (8,), more=EXTERNAL)])), "are in a second file"),
    "external constant": (
        made.model(
            made.graph([made.node("Constant", [], ["c"], made.field(5, made.field(1, "value") + made.field(5, EXTERNAL)))])
        ),
        "are in a second file",
    ),
    "a custom operator": (
        made.model(made.graph([made.node("FusedGPEN", ["input"], ["output"], made.field(7, "com.example"))])),
        "it uses an operator of 'com.example'",
    ),
    "a loop": (made.model(made.graph([made.node("Loop", ["input"], ["output"])])), "it uses the operator 'Loop'"),
    "a graph inside": (
        made.model(made.graph([made.node("Conv", ["input"], ["output"], made.field(5, made.field(6, made.graph())))])),
        "an operator in it contains a graph",
    ),
    "sparse": (made.model(made.graph(more=made.field(15, b""))), "sparse tensors"),
    "a name twice": (made.model(made.graph(tensors=[FIRST, FIRST])), "it contains 'w' twice"),
    "numbers twice": (made.model(made.graph(tensors=[FIRST + made.field(9, b"")])), "more than once"),
    "nine dimensions": (made.model(made.graph(tensors=[made.tensor("w", (1,) * 9)])), "a tensor in it has the shape"),
    "a negative side": (made.model(made.graph(tensors=[made.tensor("w", (-1,))])), "a tensor in it has the shape"),
    "no text": (made.model(made.graph(tensors=[made.tensor(b"\xff\xfe", (1,))])), "a name in it is not UTF-8"),
    "a long name": (made.model(made.graph(tensors=[made.tensor("w" * 5000, (1,))])), "more than the limit of 4,096"),
    "two inputs": (made.model(made.graph(more=made.field(11, made.image("weight", (1,))))), "it has 2 inputs"),
    "a classifier": (made.model(made.graph(made=(1, 1000))), r"maps \[1, 3, 256, 256\] to \[1, 1000\]"),
    "another network": (made.model(made.graph([CONV], [FIRST])), "it is not an export of GPEN: its layers match none"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_bad_file_is_refused_with_one_sentence(tmp_path, kind):
    data, words = REFUSED[kind]
    path = tmp_path / "GPEN-BFR-256.onnx"
    path.write_bytes(data)
    with pytest.raises(WeightsError, match=rf"GPEN-BFR-256.onnx was refused: .*{words}"):
        checkpoint.load(path)


def test_an_onnx_file_under_another_name_is_told(tmp_path):
    path = tmp_path / "GPEN-BFR-256.pth"
    path.write_bytes(made.model())
    with pytest.raises(WeightsError, match="it is an ONNX file under another name"):
        checkpoint.load(path)


@pytest.mark.skipif(os.name != "posix", reason="elsewhere such a file takes its space")
def test_a_file_of_2_gb_is_refused_unread(tmp_path):
    path = tmp_path / "GPEN-BFR-256.onnx"
    with open(path, "wb") as file:
        file.write(made.model())
        file.truncate(2**31)
    with pytest.raises(WeightsError, match="ONNX files are smaller than 2 GB"):
        checkpoint.load(path)


def test_the_number_of_fields_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(protobuf, "MAX_FIELDS", 1000)
    path = tmp_path / "a.onnx"
    path.write_bytes(made.model(made.graph(more=made.field(99, 0) * 1000)))
    with pytest.raises(WeightsError, match="it has more than 1,000 fields"):
        checkpoint.load(path)


def test_a_graph_that_lies_about_its_input_is_refused(exported):
    size = made.image("input", (1, 3, 256, 256))
    other = made.replaced(exported, size, made.image("input", (1, 3, 512, 512))[: len(size)])
    with pytest.raises(WeightsError, match=r"its input is 512 x 512 px, but its weights are those of GPEN-256"):
        checkpoint.load(other)


def test_a_tensor_that_lies_about_its_shape_is_refused(exported):
    data = exported.read_bytes()
    name = made.field(8, "generator.to_rgb1.bias")
    start = data.rindex(made.field(1, 3), 0, data.index(name))
    other = exported.with_name("lies.onnx")
    other.write_bytes(data[:start] + made.field(1, 5) + data[start + 2 :])
    with pytest.raises(WeightsError, match=r"was refused"):
        checkpoint.load(other)


def test_half_precision_is_refused_with_the_reason(exported):
    name = made.field(8, "generator.to_rgb1.bias")
    data = exported.read_bytes()
    start = data.rindex(made.field(2, 1), 0, data.index(name))
    other = exported.with_name("half.onnx")
    other.write_bytes(data[:start] + made.field(2, 10) + data[start + 2 :])
    with pytest.raises(WeightsError, match="its weights are float16, but only float32 exports can be converted"):
        checkpoint.load(other)


def test_memory_that_runs_out_in_onnx_runtime_is_told_as_such(exported, tmp_path, monkeypatch):
    def full(*_):
        raise RuntimeError("bad allocation")

    path = tmp_path / "a.onnx"
    path.write_bytes(exported.read_bytes())
    monkeypatch.setattr("onnxruntime.InferenceSession.run", full)
    with pytest.raises(OutOfMemory):
        store(tmp_path).load_file(path, identity)


def test_no_bit_that_changes_gives_anything_but_a_graph_or_a_refusal():
    nodes = [CONV, made.node("Constant", [], ["c"], made.field(5, made.field(1, "value") + made.field(5, FIRST)))]
    data = made.model(made.graph(nodes, [CONSTANT]))
    for number in range(0, 8 * len(data), 7):
        changed = bytearray(data)
        changed[number // 8] ^= 1 << number % 8
        try:
            read_graph(io.BytesIO(changed), len(changed))
        except UnsafeCheckpoint:
            continue
