"""The nodes in a fake ComfyUI, see fake_comfyui.py; tests/nodes/test_comfyui_host.py has the real one."""

import asyncio
import collections
import contextlib
import gc
import hashlib
import os
import re
import shutil
import sys
import weakref

import fake_comfyui
import helpers
import numpy as np
import pytest
import torch
from simulated_device import SimulatedDevice

from gpen_core import Face
from gpen_core.images.image import ImageData
from gpen_core.network import GPENConfig
from gpen_core.options import RestoreOptions, declared_options
from gpen_core.tools.demo import images as demo_pictures

pytest_plugins = ["onnx_files"]

ROOT = fake_comfyui.ROOT
NODES = fake_comfyui.NODES


@pytest.fixture(scope="session")
def comfy_models(tmp_path_factory, detector_weights):
    folder = tmp_path_factory.mktemp("comfyui") / "models"
    files = {
        f"facedetection/{helpers.DETECTOR_FILE}": detector_weights,
        "GPEN/gpen-red-256.pth": helpers.constant_weights(256, (1, 0, 0)),
        "GPEN/my-gpen.pth": helpers.identity_weights(256),
        "GPEN/codeformer.pth": b"another restorer's",
    }
    helpers.write_weights(folder, files)
    return folder


@pytest.fixture
def host(comfy_models, monkeypatch):
    return fake_comfyui.Host(comfy_models, monkeypatch)


@pytest.fixture
def computed_red(host):
    return host.run(
        "GPEN_LoadModel", model="gpen-red-256.pth", precision="fp32", detector="detection_mobilenet0.25_Final.pth"
    )[0]


@pytest.fixture
def red(computed_red, monkeypatch):
    """Gives what its network gives, without computing it."""

    def forward(x, on_tick, strip_bytes):
        on_tick()
        return torch.tensor([1.0, -1, -1]).view(1, 3, 1, 1).repeat(len(x), 1, 256, 256)

    monkeypatch.setattr(computed_red.restorer.network, "forward", forward)
    return computed_red


@pytest.fixture(scope="session")
def portrait():
    return torch.from_numpy(demo_pictures.astronaut())[None].float() / 255


@pytest.fixture(scope="session")
def gray():
    return torch.full((1, 100, 120, 3), 0.5)


def is_red(image):
    return (image[..., 0] > 0.99) & (image[..., 1] < 0.01) & (image[..., 2] < 0.01)


def test_the_pack_has_its_nodes_and_help_pages(host):
    assert set(host.nodes) == NODES and host.pack.WEB_DIRECTORY == "./web"
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "nodes").glob("*.py"))
    assert set(re.findall(r'node_id="(\w+)"', sources)) == NODES  # registries read them from the source


def test_help_pages_have_an_address_without_the_folders_name(host):
    given = sys.modules["server"].PromptServer.instance.routes.given
    (help_at, help_page), (_, code), _ = given.items()
    pattern = address(help_at)
    asked = pattern.fullmatch("/extensions/sd gpen v1/docs/GPEN_LoadModel/zh.md")
    request = fake_comfyui.types.SimpleNamespace(match_info=asked.groupdict())
    assert asyncio.run(help_page(request)) == ROOT / "web" / "docs" / "GPEN_LoadModel" / "zh.md"
    assert not pattern.fullmatch("/extensions/x/docs/GPEN_LoadModel/../../secret.md")
    request.match_info["page"] = "fr.md"
    assert asyncio.run(help_page(request)) == 404 and asyncio.run(code(request)) == ROOT / "web" / "gpen_nodes.js"


def test_examples_have_an_address_whatever_the_folder_is_called(host):
    example_at, example = list(sys.modules["server"].PromptServer.instance.routes.given.items())[-1]
    pattern = address(example_at)
    asked = pattern.fullmatch(f"/workflow_templates/{ROOT.name}/restore_photograph.json")
    request = fake_comfyui.types.SimpleNamespace(match_info=asked.groupdict())
    assert asyncio.run(example(request)) == ROOT / "example_workflows" / "restore_photograph.json"
    assert not pattern.fullmatch("/workflow_templates/another pack/restore_photograph.json")
    assert not pattern.fullmatch(f"/workflow_templates/{ROOT.name}/../../secret.json")
    request.match_info["file"] = "none.jpg"
    assert asyncio.run(example(request)) == 404


def address(given):
    """What ComfyUI's server matches a path with."""
    return re.compile(re.sub(r"\{(\w+)(?::([^}]+))?\}", lambda m: f"(?P<{m[1]}>{m[2] or '[^/]+'})", given))


def test_without_a_server_the_pack_loads(comfy_models, monkeypatch):
    given = fake_comfyui.modules(comfy_models)
    del given["server"].PromptServer.instance
    monkeypatch.setattr(fake_comfyui, "modules", lambda folder: given)
    assert set(fake_comfyui.Host(comfy_models, monkeypatch).nodes) == NODES


def test_every_input_says_what_it_is_for(host):
    for node in host.nodes.values():
        schema = node.define_schema()
        assert schema.description and schema.display_name
        for part in [*schema.inputs, *schema.outputs]:
            assert part.tooltip, (schema.node_id, part.id)


def test_search_words_are_given_where_they_are_known(host, monkeypatch):
    given = {}

    def newer(node_id, display_name, category, description, inputs, outputs, hidden=None, search_aliases=()):
        given[node_id] = search_aliases

    monkeypatch.setattr(host.module("nodes.comfy").io, "Schema", newer)
    for node in host.nodes.values():
        node.define_schema()
    assert set(given) == NODES and "reactor" in given["GPEN_CleanUpFaceSwap"]
    searched = {"upscale face", "face enhance", "enhance face", "old photo", "face detailer", "restore"}
    assert searched <= set(given["GPEN_RestoreFaces"])


def test_search_words_stand_in_the_description_where_they_are_not_known(host):
    description = host.nodes["GPEN_CleanUpFaceSwap"].define_schema().description
    assert description.endswith(
        " Search words: face swap, reactor, facefusion, inswapper, swap cleanup, restore swapped faces."
    )


def test_a_core_that_is_too_old_is_told_so(comfy_models, monkeypatch):
    for name in ("comfy_api", "comfy_api.v0_0_2", "comfy_api.latest"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(fake_comfyui, "modules", lambda folder: {"folder_paths": fake_comfyui.folder_paths(folder)} | REST)
    with pytest.raises(ImportError, match=r"sd-gpen needs ComfyUI 0\.3\.48 or newer"):
        fake_comfyui.Host(comfy_models, monkeypatch)


REST = {"comfy.model_management": fake_comfyui.Management()}


def test_folder_keys_are_added_to_not_assigned(comfy_models, monkeypatch, tmp_path):
    def users(paths):
        paths.folder_names_and_paths["GPEN"] = ([str(tmp_path)], {".onnx"})
        paths.folder_names_and_paths["facedetection"] = ([str(tmp_path)], set())  # as extra_model_paths.yaml makes it

    known = fake_comfyui.Host(comfy_models, monkeypatch, prepare=users).folder_paths.folder_names_and_paths
    assert known["GPEN"] == ([str(tmp_path), str(comfy_models / "GPEN")], {".onnx"})
    assert known["facedetection"][0][0] == str(tmp_path) and ".safetensors" in known["facedetection"][1]


def test_replaced_files_are_loaded_anew(host, comfy_models):
    loader, known = (
        host.nodes["GPEN_LoadModel"],
        {"model": "gpen-replaced.pth", "detector": "detection_mobilenet0.25_Final.pth"},
    )
    file = comfy_models / "GPEN" / "gpen-replaced.pth"
    file.write_bytes(b"one")
    before = loader.fingerprint_inputs(**known, precision="fp32")
    assert before == loader.fingerprint_inputs(**known, precision="fp16") and str(file) in before
    os.utime(file, ns=(1, 1))
    changed = loader.fingerprint_inputs(**known)
    assert changed != before and loader.fingerprint_inputs(model=None, detector=None) == ""
    file.write_bytes(b"another")
    os.utime(file, ns=(1, 1))
    assert loader.fingerprint_inputs(**known) != changed
    file.unlink()


def test_what_was_fetched_meanwhile_is_not_loaded_twice(host, tmp_path, comfy_models, monkeypatch):
    loader = host.nodes["GPEN_LoadModel"]
    target = comfy_models / "GPEN" / "GPEN-BFR-512.pth"
    known = {"model": "GPEN-BFR-512.pth", "detector": "detection_mobilenet0.25_Final.pth", "precision": "fp32"}
    before = loader.fingerprint_inputs(**known)
    monkeypatch.setattr(host.module("nodes.model").GpenModel, "load", lambda *_: target.write_bytes(b"fetched"))
    try:
        loader.execute(**known)
        assert loader.fingerprint_inputs(**known) == before
        target.write_bytes(b"replaced later")
        assert loader.fingerprint_inputs(**known) != before
    finally:
        target.unlink()


def test_missing_files_are_told_in_the_hosts_words(host, monkeypatch):
    server = sys.modules["server"].PromptServer.instance
    said = []
    server.send_progress_text = lambda text, node_id: said.append((text, node_id))
    monkeypatch.setattr(host.nodes["GPEN_LoadModel"], "hidden", fake_comfyui.types.SimpleNamespace(unique_id="5"))
    with pytest.raises(Exception, match="2 files are missing, 394 MB in total") as raised:
        host.run("GPEN_LoadModel", model="GPEN-BFR-512.pth", precision="fp32", detector="detection_Resnet50_Final.pth")
    text = str(raised.value)
    assert type(raised.value).__name__ == "MissingWeights" and "GPEN-BFR-512.pth" in text and "detection_Resnet50" in text
    assert "extra_model_paths.yaml" in text and "--" not in text
    assert "GPEN_MIRROR" not in text  # downloads are switched off
    host.run("GPEN_LoadModel", model="my-gpen.pth", precision="fp32", detector="detection_mobilenet0.25_Final.pth")
    assert ("Loaded", "5") in said and any("my-gpen.pth" in text for text, _ in said)
    assert said[-1] == ("Done", "5")  # the last text stays


@pytest.mark.parametrize("name", ["GPEN_RestoreFaces", "GPEN_CropFaces"])
@pytest.mark.parametrize("is_downloading", [False, True])
def test_a_missing_parser_says_where_it_belongs(host, red, portrait, monkeypatch, name, is_downloading):
    monkeypatch.setattr(host.module("nodes.folders"), "is_downloading", lambda: is_downloading)
    (look,) = host.run("GPEN_LookOptions", mask_type="parse")
    with pytest.raises(Exception, match=r"parsing_parsenet\.pth") as raised:
        host.run(name, gpen_model=red, image=portrait, look_options=look)
    text = str(raised.value)
    assert text.count("extra_model_paths.yaml") == 1 and ("GPEN_MIRROR" in text) == is_downloading


def test_a_node_shows_how_far_it_is(host):
    server, shown = sys.modules["server"].PromptServer.instance, fake_comfyui.ProgressBar.shown
    said = []
    server.send_progress_text = lambda text, node_id: said.append(text)
    shown.clear()
    event, reporter = host.module("gpen_core").ProgressEvent, host.module("nodes.host_progress").NodeProgress("5")
    reporter(event("analyze", 1200, None, "frame", "Looking for faces"))
    reporter(event("download", 2_000_000, None, "byte", "Downloading"))
    reporter(event("restore", 1, 4, "face", "Restoring faces"))
    later = reporter.subrange(0.5, 1.0)
    later(event("load", 1, 1, "model", "Loaded"))
    later(event("detect", 0, None, "image", "Detecting faces"))
    later(event("restore", 1, 2, "face", "Restoring faces"))
    reporter(event("load", 2, 2, "model", "Loaded"))  # not a full bar while nothing is restored yet
    reporter.subrange(0.0, 0.5)(event("detect", 0, None, "image", "Detecting faces"))
    reporter(event("analyze", 10, 1000, "frame", "Looking for faces (pass 1 of 2)", 740.0))
    reporter(event("restore", 4, 4, "face", "Restoring faces"))
    assert said == [
        "Looking for faces: frame 1,200",
        "Downloading",
        "Restoring faces: 25%",
        "Loaded",
        "Detecting faces: 50%",
        "Restoring faces: 75%",
        "Loaded",
        "Detecting faces",
        "Looking for faces (pass 1 of 2): 1%, about 12 min left in all",
        "Restoring faces",
    ]
    assert [done / total for done, total in shown] == [0.25, 0.5, 0.75, 0, 0.01, 1]


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("GPEN_RestoreFaces", ["Detecting faces", "Restoring faces: 0%", "Restoring faces", "Done"]),
        ("GPEN_CropFaces", ["Detecting faces", "Done"]),
        ("GPEN_DetectFaces", ["Detecting faces", "Done"]),
    ],
)
def test_a_node_says_what_it_does(host, red, portrait, monkeypatch, name, texts):
    server, said = sys.modules["server"].PromptServer.instance, []
    server.send_progress_text = lambda text, node_id: said.append(text)
    monkeypatch.setattr(host.nodes[name], "hidden", fake_comfyui.types.SimpleNamespace(unique_id="5", prompt=None))
    host.run(name, gpen_model=red, image=portrait)
    assert said == texts


def test_half_precision_is_offered_where_the_device_has_it(host):
    def offered():
        return {one.id: one for one in host.nodes["GPEN_LoadModel"].define_schema().inputs}["precision"].options

    assert offered() == ["auto", "fp32", "bf16"]
    host.management.get_torch_device = lambda: torch.device("cuda")
    assert "fp16" in offered()


def test_every_choice_has_a_default_that_is_among_them(host):
    combos = [one for node in host.nodes.values() for one in node.define_schema().inputs if one.kind == "COMBO"]
    assert len(combos) > 10 and all(one.default in one.options for one in combos)


def test_the_choices_are_bare_names_and_stay_the_same_after_a_download(comfy_models, monkeypatch, tmp_path):
    empty = fake_comfyui.Host(tmp_path, monkeypatch).module("nodes.folders")
    before = empty.model_choices()
    assert before[:3] == ["auto", "auto:256", "GPEN-BFR-2048.pth"] and before[2:] == empty.missing_models()
    (tmp_path / "GPEN").mkdir()
    (tmp_path / "GPEN" / "gpen-bfr-2048.safetensors").touch()
    assert empty.model_choices() == before and empty.missing_models() == before[3:]


def test_other_files_are_offered_if_they_are_gpens(host):
    choices = host.module("nodes.folders").model_choices()
    assert choices[-2:] == ["gpen-red-256.pth", "my-gpen.pth"] and "codeformer.pth" not in choices


def test_a_copy_that_cannot_download_offers_only_networks_that_are_there(host, monkeypatch):
    module = host.module("nodes.folders")
    monkeypatch.setattr(module, "can_download", lambda: False)
    assert module.model_choices() == ["auto", "auto:256", "gpen-red-256.pth", "my-gpen.pth"]
    assert module.detector_choices() == ["auto", "detection_mobilenet0.25_Final.pth"]
    assert module.detector_file("auto") == "detection_mobilenet0.25_Final.pth"
    monkeypatch.setattr(module, "detection_dirs", lambda: ())
    assert module.detector_choices() == ["auto"]  # the page tells by the list that a file is missing
    assert module.detector_file("auto") == "detection_Resnet50_Final.pth"
    assert module.detector_file("mine.pth") == "mine.pth"


def test_auto_uses_the_detector_that_is_there_if_downloads_are_switched_off(host, monkeypatch):
    module = host.module("nodes.folders")
    assert module.detector_file("auto") == "detection_mobilenet0.25_Final.pth"
    monkeypatch.delenv("GPEN_OFFLINE")
    assert module.detector_file("auto") == "detection_Resnet50_Final.pth"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert module.detector_file("auto") == "detection_mobilenet0.25_Final.pth"


def test_a_replaced_file_is_accepted_by_its_digest(host, comfy_models, portrait):
    file = comfy_models / "GPEN" / "gpen-mine.pth"
    asked = {"model": file.name, "precision": "fp32", "detector": "detection_mobilenet0.25_Final.pth"}
    core = host.module("gpen_core")
    try:
        helpers.write_weights(file.parent, {file.name: helpers.constant_weights(256, (1, 0, 0))})
        host.run("GPEN_LoadModel", **asked)
        helpers.write_weights(file.parent, {file.name: helpers.constant_weights(256, (0, 1, 0))})
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        for wrong in ("", "0" * 64):
            with pytest.raises(core.WeightsChanged, match=r"paste the SHA-256 .* accept_changed") as refused:
                host.run("GPEN_LoadModel", **asked, accept_changed=wrong)
            assert digest in str(refused.value)
        with pytest.raises(core.OptionsError, match=r"accept_changed is 'yes'\. Expected a SHA-256 \(64 hex digits\)"):
            host.run("GPEN_LoadModel", **asked, accept_changed="yes")
        host.run("GPEN_LoadModel", **asked, accept_changed=f" {digest.upper()}\n")
        host.run("GPEN_LoadModel", **asked)  # it is remembered
    finally:
        for path in comfy_models.rglob("*gpen-mine*"):
            path.unlink()


def test_a_replaced_detector_is_accepted_by_its_digest(host, comfy_models, detector_weights):
    file = comfy_models / "facedetection" / "faces-mine.pth"
    asked = {"model": "gpen-red-256.pth", "precision": "fp32", "detector": file.name}
    try:
        helpers.write_weights(file.parent, {file.name: detector_weights})
        host.run("GPEN_LoadModel", **asked)
        name, tensor = next(iter(detector_weights.items()))
        helpers.write_weights(file.parent, {file.name: {**detector_weights, name: tensor + 1e-6}})
        with pytest.raises(host.module("gpen_core").WeightsChanged):
            host.run("GPEN_LoadModel", **asked)
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        host.run("GPEN_LoadModel", **asked, accept_changed=digest)
        assert host.module("gpen_core").accept_digest(digest.upper(), [file.name, "none.pth"], file.parent) == [file]
        assert host.module("gpen_core").accept_digest("0" * 64, [file.name], file.parent) == []
    finally:
        for path in comfy_models.rglob("*faces-mine*"):
            path.unlink()


def test_what_is_advanced_is_folded_away(host):
    """By the page, from what the definition says; the classic canvas needs the script for it."""
    inputs = {one.id: one for one in host.nodes["GPEN_LoadModel"].define_schema().inputs}
    assert [name for name, one in inputs.items() if getattr(one, "extra_dict", {}).get("advanced")] == ["accept_changed"]
    assert inputs["accept_changed"].default == "" and inputs["accept_changed"].optional
    assert "widget.advanced = true" in (ROOT / "web" / "gpen_nodes.js").read_text("utf-8")


def test_networks_in_the_folder_of_other_restorers_are_found(host, comfy_models):
    file = "facerestore_models/gpen-elsewhere.pth"
    helpers.write_weights(comfy_models, {file: helpers.identity_weights(256)})
    try:
        folders = host.module("nodes.folders")
        assert "gpen-elsewhere.pth" in folders.model_choices()
        assert [path.name for path in folders.model_dirs()] == ["GPEN", "facerestore_models"]  # what is fetched goes first
    finally:
        (comfy_models / file).unlink()


@pytest.mark.slow
def test_a_folder_with_only_an_onnx_file_restores(comfy_models, monkeypatch, tmp_path, portrait, exported_onnx):
    """As ReActor keeps it: the list names the network, and what is made of the file goes to our own folder."""
    for name in ("facedetection", "facerestore_models"):
        (tmp_path / name).mkdir()
    shutil.copy(comfy_models / "facedetection" / helpers.DETECTOR_FILE, tmp_path / "facedetection")
    shutil.copy(exported_onnx, tmp_path / "facerestore_models" / "GPEN-BFR-256.onnx")
    host = fake_comfyui.Host(tmp_path, monkeypatch)
    folders = host.module("nodes.folders")
    assert "GPEN-BFR-256.pth" in folders.model_choices() and "GPEN-BFR-256.pth" not in folders.missing_models()
    detector = "detection_mobilenet0.25_Final.pth"
    (model,) = host.run("GPEN_LoadModel", model="GPEN-BFR-256.pth", precision="fp32", detector=detector)
    image, *_ = host.run("GPEN_RestoreFaces", image=portrait, gpen_model=model)
    assert not torch.equal(image, portrait)
    assert (tmp_path / "GPEN" / "GPEN-BFR-256.safetensors").exists()
    assert "GPEN-BFR-256.safetensors" not in {path.name for path in (tmp_path / "facerestore_models").iterdir()}


WIDGETS = {
    "GPEN_RestoreFaces": ["model", "strength", "faces"],
    "GPEN_CleanUpFaceSwap": ["model", "strength", "faces"],
    "GPEN_RestoreVideo": ["model", "strength", "faces", "temporal_smoothing"],
    "GPEN_DetectFaces": [],
    "GPEN_CropFaces": ["size", "faces"],
}
KINDS = {"COMBO", "FLOAT", "INT", "STRING", "BOOLEAN"}


@pytest.mark.parametrize("node", WIDGETS)
def test_a_node_shows_few_widgets_at_first_sight(host, node):
    inputs = host.nodes[node].define_schema().inputs
    assert [one.id for one in inputs if one.kind in KINDS] == WIDGETS[node]
    needed = {one.id for one in inputs if one.kind not in KINDS and not getattr(one, "optional", False)}
    assert needed <= {"image", "swapped", "before_swap"}


@pytest.fixture
def loaded(host, red, monkeypatch):
    """What nodes without Load GPEN Model load: (model, detector, precision)."""
    calls = []
    model = host.module("nodes.model").GpenModel
    monkeypatch.setattr(model, "load", lambda *asked: (calls.append(asked[:3]), red)[1])
    return calls


def test_the_hosts_accelerator_restores(host, monkeypatch, tmp_path, portrait):
    monkeypatch.setenv("GPEN_MODELS_DIR", str(tmp_path))  # where the check of the device is recorded
    with SimulatedDevice("mps") as simulated:
        host.management.get_torch_device = lambda: simulated.device
        asked = {"model": "gpen-red-256.pth", "precision": "fp32", "detector": "detection_mobilenet0.25_Final.pth"}
        (model,) = host.run("GPEN_LoadModel", **asked)
        image, *_ = host.run("GPEN_RestoreFaces", image=portrait, gpen_model=model, mask_type="feather")
        places = {value.device for network in model.restorer.modules() for value in network.state_dict().values()}
    assert image.device.type == "cpu" and is_red(image).any() and not is_red(image).all() and places == {simulated.device}


def test_nodes_that_only_find_faces_need_no_network(tmp_path, monkeypatch, detector_weights, portrait):
    folder = tmp_path / "models"
    helpers.write_weights(folder / "facedetection", {"detection_Resnet50_Final.safetensors": detector_weights})
    host = fake_comfyui.Host(folder, monkeypatch)
    assert host.run("GPEN_DetectFaces", image=portrait)[3] == 1 and host.run("GPEN_CropFaces", image=portrait)[3] == 1
    with pytest.raises(Exception, match=r"GPEN-BFR-2048\.pth"):
        host.run("GPEN_RestoreFaces", image=portrait)


def test_restore_faces_works_alone_and_keeps_its_model(host, loaded, comfy_models, portrait):
    image, *_ = host.run("GPEN_RestoreFaces", image=portrait, model="gpen-red-256.pth")
    host.run("GPEN_RestoreFaces", image=portrait, model="gpen-red-256.pth", strength=0.5)
    assert is_red(image).any() and loaded == [("gpen-red-256.pth", "detection_mobilenet0.25_Final.pth", "auto")]
    assert host.run("GPEN_DetectFaces", image=portrait)[3] == 1 and host.run("GPEN_CropFaces", image=portrait)[3] == 1
    assert len(loaded) == 1  # the detector of the model that is loaded
    (file,) = comfy_models.rglob("gpen-red-256.pth")
    status = file.stat()
    os.utime(file, ns=(1, 1))
    try:
        host.run("GPEN_RestoreFaces", image=portrait, model="gpen-red-256.pth")
        host.run("GPEN_RestoreFaces", image=portrait)
    finally:
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert [model for model, *_ in loaded] == ["gpen-red-256.pth", "gpen-red-256.pth", "auto"]


def test_a_linked_model_replaces_the_chosen_one(host, loaded, red, portrait):
    assert is_red(host.run("GPEN_RestoreFaces", image=portrait, gpen_model=red)[0]).any() and loaded == []


def test_a_replaced_file_restores_again(host, comfy_models):
    node, file = host.nodes["GPEN_RestoreFaces"], comfy_models / "GPEN" / "gpen-replaced.pth"
    file.write_bytes(b"one")
    try:
        before = node.fingerprint_inputs(model=file.name, strength=1.0)
        os.utime(file, ns=(1, 1))
        assert node.fingerprint_inputs(model=file.name) != before
    finally:
        file.unlink()


def test_a_gray_image_stays_gray_unless_asked_otherwise(host, red, portrait):
    gray = portrait.mean(dim=3, keepdim=True).expand(-1, -1, -1, 3).contiguous()
    for color, is_gray in (("auto", True), ("none", False)):
        image, mask, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=gray, color=color)
        assert mask.max() == 1 and bool((image[..., 0] - image[..., 1]).abs().max() < 1e-6) == is_gray


def test_the_masks_edge_moves_and_what_cannot_stay_is_said(host, red, portrait):
    masks = [host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, mask_expand=grow)[1] for grow in (0.0, -0.2)]
    assert (masks[1] <= masks[0]).all() and masks[1].sum() < 0.8 * masks[0].sum()
    with pytest.raises(host.module("gpen_core").OptionsError, match="nostrils"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, preserve="nostrils")


def test_restoring(host, computed_red, portrait):
    before = portrait.clone()
    image, mask, crops, summary = host.run("GPEN_RestoreFaces", gpen_model=computed_red, image=portrait)
    assert image.dtype == torch.float32 and image.shape == portrait.shape and mask.shape == (1, 512, 512)
    assert torch.equal(image[mask == 0], portrait[mask == 0]) and torch.equal(portrait, before)
    assert is_red(image[mask == 1]).all() and (mask == 1).sum() > 1000
    assert [tuple(crop.shape) for crop in crops] == [(1, 256, 256, 3)]
    assert summary.splitlines()[0] == "1 face found, 1 restored, 0 skipped"
    assert fake_comfyui.ProgressBar.shown[-1] == (1, 1)


def test_the_memory_manager_gets_the_networks_at_each_run(host, computed_red, portrait):
    host.run("GPEN_RestoreFaces", gpen_model=computed_red, image=portrait)
    host.run("GPEN_RestoreFaces", gpen_model=computed_red, image=portrait, strength=0.5)
    (first, memory, full), (second, *_) = host.management.loaded
    assert first == second and len(first) == 2 and full and memory >= 1 << 28
    assert [patcher.model for patcher in first] == list(computed_red.restorer.modules())


def test_half_precision_and_alpha_are_kept(host, red, portrait):
    rgba = torch.cat((portrait, torch.rand(1, 512, 512, 1, generator=torch.Generator().manual_seed(1))), 3).half()
    image, mask, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=rgba)
    assert image.dtype == torch.float16 and torch.equal(image[..., 3], rgba[..., 3])
    assert is_red(image[mask == 1]).all() and torch.equal(image[mask == 0], rgba[mask == 0])


def test_bfloat16_goes_through_float32(host, red, portrait):
    image, mask, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait.bfloat16())
    assert image.dtype == torch.bfloat16 and torch.equal(image[mask == 0], portrait.bfloat16()[mask == 0])


def test_no_step_of_eight_bits(host, red, portrait):
    fine = portrait * 0.999 + 0.0003
    image, mask, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=fine)
    assert torch.equal(image[mask == 0], fine[mask == 0])


def test_no_face(host, red, gray):
    image, mask, (crop,), summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=gray)
    assert torch.equal(image, gray) and not mask.any()
    assert re.fullmatch(r"no face found; detectable faces: about 16 to \d+ px\. Try a lower confidence", summary)
    assert isinstance(crop, fake_comfyui.ExecutionBlocker) and crop.message is None


def test_strength_zero_needs_no_model(host, gray):
    wanted = host.nodes["GPEN_RestoreFaces"].check_lazy_status
    assert wanted(strength=0.0, model="auto", gpen_model=None) == []
    assert wanted(strength=0.1, model="auto", gpen_model=None) == ["gpen_model"]
    assert wanted(strength=0.1, model="auto") == []  # not linked
    image, mask, *_ = host.run("GPEN_RestoreFaces", image=gray, strength=0.0)
    assert image is gray and not mask.any()


@pytest.mark.slow
def test_an_empty_mask_restores_nothing_but_load_images_placeholder_is_none(host, red, portrait):
    """Load Image gives 64 x 64 zeros where there is no alpha."""
    image, mask, _, summary = host.run(
        "GPEN_RestoreFaces", gpen_model=red, image=portrait, region_mask=torch.zeros(1, 512, 512)
    )
    assert image is portrait and not mask.any()
    assert summary == "The mask is empty (zero everywhere): nothing was restored."
    placeholder = torch.zeros(1, 64, 64)
    image, *_, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, region_mask=placeholder)
    assert is_red(image).any() and "1 restored" in summary and "placeholder mask counts as no mask" in summary
    image, *_, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, region_mask=torch.ones(64, 64))
    assert is_red(image).any() and "placeholder" not in summary


def test_the_summary_stands_on_the_node(host, red, portrait):
    for strength in (0.0, 1.0):
        out = host.execute("GPEN_RestoreFaces", gpen_model=red, image=portrait, strength=strength)
        assert out.ui == {"text": (out.args[3],)} and out.args[3]
    script = (ROOT / "web" / "gpen_nodes.js").read_text("utf-8")
    assert "GPEN_" in script
    modules = re.findall(r'from "(.+)"', script)
    assert modules == ["../../scripts/api.js", "../../scripts/app.js"]  # all other modules are internal
    assert "customtext" not in script  # which the new nodes draw themselves, without the text


def test_the_registry_knows_every_environment():
    """Of the others it warns, and takes none at all."""
    classifiers = re.findall(r'"Environment :: (.+)"', (ROOT / "pyproject.toml").read_text("utf-8"))
    known = {"GPU :: NVIDIA CUDA", "GPU :: AMD ROCm", "GPU :: Intel Arc", "NPU :: Huawei Ascend", "GPU :: Apple Metal"}
    assert classifiers and set(classifiers) <= known


@pytest.mark.slow
def test_values_beyond_white_are_cut_off_with_one_warning(host, red, portrait, caplog):
    bright = torch.where(portrait > 0.95, 6.4, portrait)  # highlights
    bright[0, 0, 0] = -0.6
    film = torch.cat((bright, bright, torch.zeros_like(portrait)))
    image, mask, _, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=film)
    assert "2 restored" in summary and is_red(image[mask == 1]).all()
    assert torch.equal(image[mask == 0], film[mask == 0])
    warned = [record.getMessage() for record in caplog.records if "clipped to 0 to 1" in record.getMessage()]
    assert warned == ["GPEN: the image has values from -0.6 to 6.4. They are clipped to 0 to 1."]
    assert host.run("GPEN_DetectFaces", gpen_model=red, image=film)[3] == 2


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_the_frame_with_what_is_no_number_is_named(host, red, portrait, value):
    film = portrait.repeat(3, 1, 1, 1)
    film[1, 5, 5:8] = value
    with pytest.raises(Exception, match=r"Image 1 of the batch has values that are not finite .* in 3 of 262144 pixels"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=film)
    with pytest.raises(Exception, match="The background has values that are not finite"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, background=film[1:2])


def test_a_batch_of_none_comes_back(host, red, portrait):
    image, mask, (crop,), summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait[:0])
    assert image.shape == (0, 512, 512, 3) and mask.shape == (0, 512, 512) and "batch is empty" in summary
    assert isinstance(crop, fake_comfyui.ExecutionBlocker)
    host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait[:0], region_mask=torch.ones(1, 8, 8), bboxes=FACE)
    none = portrait[:0]
    assert "batch is empty" in host.run("GPEN_CleanUpFaceSwap", gpen_model=red, swapped=none, before_swap=none)[3]
    boxes, mask, preview, count = host.run("GPEN_DetectFaces", gpen_model=red, image=portrait[:0])
    assert (boxes, len(mask), len(preview), count) == ([], 0, 0, 0)


def test_frames_with_their_own_masks(host, red, portrait):
    masks = torch.stack((torch.zeros(512, 512), torch.ones(512, 512)))
    image, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait.repeat(2, 1, 1, 1), region_mask=masks)
    assert [bool(is_red(one).any()) for one in image] == [False, True]


FACE, ELSEWHERE = {"x": 170, "y": 60, "width": 110, "height": 130}, {"x": 400, "y": 400, "width": 50, "height": 50}


@pytest.mark.parametrize(
    ("boxes", "restored"),
    [
        (FACE, [True, True]),
        ([FACE], [True, True]),
        ([ELSEWHERE, FACE], [True, True]),
        ([[FACE], [ELSEWHERE]], [True, False]),
        ([[FACE]], [True, True]),
        ([FACE, []], [True, False]),
        ([[], []], [False, False]),
        ([[(170, 60, 110, 130)], []], [True, False]),
        ((170, 60, 110, 130), [True, True]),
        ([(170, 60, 110, 130, 0.98)], [True, True]),
        (np.array([[170, 60, 110, 130], [400, 400, 50, 50]]), [True, True]),
        (torch.tensor([[[170.0, 60, 110, 130]], [[400, 400, 50, 50]]]), [True, False]),
        ([np.array([170, 60, 110, 130]), []], [True, False]),
        (None, [True, True]),
    ],
)
@pytest.mark.slow
def test_boxes_in_every_shape(host, red, portrait, boxes, restored):
    image, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait.repeat(2, 1, 1, 1), bboxes=boxes)
    assert [bool(is_red(one).any()) for one in image] == restored


def test_boxes_may_be_corners(host, red, portrait):
    boxes, corners = [(170, 60, 110, 130)], [(170, 60, 280, 190)]
    image, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, bboxes=corners, box_format="xyxy")
    same, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, bboxes=boxes)
    assert is_red(image).any() and torch.equal(image, same)


Seg = collections.namedtuple("Seg", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper")


@pytest.mark.parametrize("enlarged", [1, 2])
@pytest.mark.slow
def test_segments_of_impact_pack(host, red, portrait, enlarged):
    """They hold corners, in pixels of the image that they were found in."""
    boxes = [np.array([170, 60, 280, 190]), (400, 400, 450, 450)]
    segs = ((512, 512), [Seg(None, None, 0.9, (150, 40, 300, 210), box, "face", None) for box in boxes])
    image = portrait.repeat_interleave(enlarged, 1).repeat_interleave(enlarged, 2)
    restored, *_, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=image, bboxes=segs)
    assert is_red(restored).any() and "no face was found in box 1" in summary
    nothing, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=image, bboxes=((512, 512), []))
    assert torch.equal(nothing, image)


def test_a_box_of_nan_is_refused(host, red, portrait):
    with pytest.raises(Exception, match=r"Box 0 is .*finite"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, bboxes=[(float("nan"), 1, 2, 3)])


@pytest.mark.slow
def test_face_options_reach_the_core(host, red, portrait):
    lying = torch.rot90(portrait, 1, (1, 2))
    counts = [host.run("GPEN_DetectFaces", gpen_model=red, image=lying, angles=angles)[3] for angles in ("auto", "all")]
    assert counts == [1, 1]
    image, *_, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, max_faces=1)
    assert is_red(image).any() and "1 restored" in summary
    restored, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, detection_size=64, angles="upright")
    assert restored.shape == portrait.shape
    with pytest.raises(Exception, match="angles is 'sideways'"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, angles="sideways")


def test_files_of_the_users_own_are_listed(host, comfy_models, detector_weights):
    files = {
        "facedetection/my-detector.safetensors": detector_weights,
        "GPEN/portraits.safetensors": helpers.identity_weights(256),
    }
    helpers.write_weights(comfy_models, files)
    try:
        inputs = {one.id: one for one in host.nodes["GPEN_LoadModel"].define_schema().inputs}
        assert inputs["detector"].options[3:] == ["my-detector.safetensors"]
        assert "portraits.safetensors" in inputs["model"].options and "codeformer.pth" not in inputs["model"].options
        (model,) = host.run(
            "GPEN_LoadModel", model="portraits.safetensors", precision="fp32", detector="my-detector.safetensors"
        )
        assert model.restorer.detector.name == "retinaface_mobile0.25"
    finally:
        for name in files:
            (comfy_models / name).unlink()


@pytest.mark.parametrize("boxes", ["face", [{"x": 1}], [[FACE], [FACE], [FACE]], [["a", "b", "c", "d"]], 7])
@pytest.mark.slow
def test_what_is_no_box_is_refused(host, red, portrait, boxes):
    with pytest.raises(Exception, match="bounding box") as raised:
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait.repeat(2, 1, 1, 1), bboxes=boxes)
    assert type(raised.value).__name__ == "InputError"


def test_a_background_gives_the_size(host, red, portrait):
    large = torch.nn.functional.interpolate(portrait.movedim(-1, 1), scale_factor=1.5, mode="bilinear").movedim(1, -1)
    image, mask, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, background=large)
    assert image.shape == (1, 768, 768, 3) and mask.shape == (1, 768, 768)
    assert is_red(image[mask == 1]).all() and torch.equal(image[mask == 0], large[mask == 0])


@pytest.mark.parametrize(
    ("node", "first", "second"), [("RestoreFaces", "image", "background"), ("CleanUpFaceSwap", "swapped", "before_swap")]
)
def test_batches_of_different_lengths_are_refused(host, red, gray, node, first, second):
    with pytest.raises(Exception, match=f"Got a batch of 3 as {second} for a batch of 2"):
        host.run(f"GPEN_{node}", gpen_model=red, **{first: gray.repeat(2, 1, 1, 1), second: gray.repeat(3, 1, 1, 1)})


def test_detected_boxes_select_the_same_faces(host, red, portrait):
    boxes, mask, preview, count = host.run("GPEN_DetectFaces", gpen_model=red, image=portrait)
    assert count == 1 and preview.shape == portrait.shape and not torch.equal(preview, portrait)
    (box,) = boxes[0]
    assert box["label"] == "0" and 0.9 < box["score"] <= 1 and mask[0, round(box["y"]) + 5, round(box["x"]) + 5] == 1
    assert mask.sum() == pytest.approx(box["width"] * box["height"], rel=0.05)
    image, *_ = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, bboxes=boxes)
    assert is_red(image).any()
    assert len(host.management.loaded[0][0]) == 1  # the detector alone


def test_detecting_in_gray_and_alpha(host, red, portrait):
    for channels in (portrait[..., :1], torch.cat((portrait, portrait[..., :1]), 3)):
        _, _, preview, count = host.run("GPEN_DetectFaces", gpen_model=red, image=channels)
        assert count == 1 and preview.shape[-1] == 3


def test_faces_are_chosen_by_a_text(host, red, portrait):
    with pytest.raises(
        Exception, match=r"^faces is 'a;b'; expected all, largest, center, or numbers from 0 such as 0,2 or 1-3\.$"
    ):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, faces="a;b")
    summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, faces="1")[3]
    assert "not asked for" in summary and "there is no face 1: the only face is 0" in summary


def test_options_that_a_node_cannot_follow_are_refused(host, red, portrait):
    with pytest.raises(Exception, match="Disconnect or switch off bboxes of Face Options"):
        host.run("GPEN_DetectFaces", gpen_model=red, image=portrait, bboxes=[FACE])
    with pytest.raises(Exception, match=r"Crop Faces .* does not support a background"):
        host.run("GPEN_CropFaces", gpen_model=red, image=portrait, background=portrait)


def test_only_swapped_faces_are_cleaned_up(host, red, portrait):
    both = torch.cat((portrait, portrait), 2)
    swapped = both.clone()
    swapped[:, 60:190, 170:280] = swapped[:, 60:190, 170:280].flip(2) * 0.6
    image, mask, _, summary = host.run("GPEN_CleanUpFaceSwap", gpen_model=red, swapped=swapped, before_swap=both)
    assert "1 restored, 1 skipped" in summary and "change" in summary and mask.max() == pytest.approx(0.8)
    assert torch.equal(image[:, :, 512:], swapped[:, :, 512:])


@pytest.mark.slow
def test_a_video_goes_through_in_parts_and_only_changed_frames_are_copied(host, red, portrait, gray, monkeypatch):
    empty = torch.full_like(portrait, 0.25)
    film = torch.cat((portrait, empty, portrait, empty, empty))
    whole = host.run("GPEN_RestoreFaces", gpen_model=red, image=film)
    parts, copies, shown = [], [], fake_comfyui.ProgressBar.shown
    restore_batch, writable = type(red.restorer).restore_batch, ImageData.writable
    monkeypatch.setattr(host.module("nodes.model"), "MAX_CHUNK_BYTES", portrait[0].numel() * 4)  # two frames are more

    def watched(self, frames, *args, **kwargs):
        parts.append(len(frames))
        return restore_batch(self, frames, *args, **kwargs)

    monkeypatch.setattr(type(red.restorer), "restore_batch", watched)
    picture = sys.modules[f"{host.name}.gpen_core.images.image"].ImageData
    monkeypatch.setattr(picture, "writable", lambda self: (copies.append(self), writable(self))[1])
    shown.clear()
    image, mask, _, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=film)
    assert parts == [2, 2, 1] and len(copies) == 2
    assert torch.equal(image, whole[0]) and torch.equal(mask, whole[1]) and summary == whole[3]
    assert torch.equal(image[1], empty[0]) and is_red(image[2]).any()
    at = [done / total for done, total in shown]
    assert at == sorted(at) and at[-1] == 1 and 0.3 < at[len(at) // 2] < 0.9


@pytest.mark.parametrize("name", ["GPEN_RestoreFaces", "GPEN_RestoreVideo", "GPEN_CropFaces", "GPEN_DetectFaces"])
def test_an_image_without_the_batch_dimension_is_refused(host, red, gray, name):
    with pytest.raises(host.module("gpen_core").InputError, match=r"Expected an IMAGE \[B, H, W, C\]"):
        host.run(name, gpen_model=red, image=gray[0])


def test_the_number_of_masks_is_told(host, red, gray):
    masks = torch.ones(3, 64, 64)
    for count, expected in ((1, r"1 \(one for each image\)\."), (2, r"2 \(one for each image\) or 1 \(for all\)\.")):
        with pytest.raises(host.module("gpen_core").InputError, match=f"Number of masks: 3. Expected {expected}"):
            host.run("GPEN_RestoreFaces", gpen_model=red, image=gray.repeat(count, 1, 1, 1), region_mask=masks)


def test_the_image_that_comes_back_is_never_the_one_that_came(host, red, gray):
    image = host.run("GPEN_RestoreFaces", gpen_model=red, image=gray)[0]
    assert torch.equal(image, gray) and image.data_ptr() != gray.data_ptr()


def test_faces_taken_out_and_put_back_untouched_change_nothing(host, red, portrait):
    film = torch.cat((portrait, torch.full_like(portrait, 0.5), portrait.flip(2)))
    crops, placements, masks, count, summary = host.run("GPEN_CropFaces", gpen_model=red, image=film, size=256)
    assert crops.shape == (2, 256, 256, 3) and [tuple(one.shape) for one in masks] == [(1, 256, 256)] * 2
    assert count == 2 and summary.startswith("2 faces found, 2 cropped, 0 skipped")
    (back,), (mask,), (count,) = host.run(
        "GPEN_PasteFaces", image=[film], crops=[crops], placements=[placements], strength=[1.0]
    )
    assert count == 2 and (back - film).abs().max() < 1 / 255 and torch.equal(back[mask == 0], film[mask == 0])


def test_crop_faces_names_the_look_options_that_it_does_not_use(host, red, portrait):
    """It needs no weights for them, either: SFace is not there."""
    plain = host.run("GPEN_CropFaces", gpen_model=red, image=portrait)
    crops, _, masks, _, summary = host.run("GPEN_CropFaces", gpen_model=red, image=portrait, min_identity=0.5, grain=0.2)
    assert torch.equal(crops, plain[0]) and torch.equal(masks[0], plain[2][0])
    note = "Not used here, because cropped faces are not restored: grain, min_identity of Look Options (GPEN)."
    assert summary.splitlines() == [*plain[4].splitlines(), note] and "Not used" not in plain[4]


def test_crop_faces_uses_or_names_each_look_option(host):
    known = {option.name for option in declared_options(RestoreOptions, "comfyui", "look")} - {"strength"}
    unused = set(host.module("nodes.crop").UNUSED_LOOK)
    tooltip = next(one.tooltip for one in host.nodes["GPEN_CropFaces"].define_schema().inputs if one.id == "look_options")
    assert {name for name in known if name in tooltip} == known - unused and unused < known


def test_faces_come_back_as_a_list_of_other_sizes_with_masks_of_their_own(host, red, portrait):
    film = portrait.repeat(2, 1, 1, 1)
    crops, placements, masks, *_ = host.run("GPEN_CropFaces", gpen_model=red, image=film, size=128)
    edited = [torch.ones(1, 300, 300, 3), crops[1:]]
    (back,), (mask,), _ = host.run(
        "GPEN_PasteFaces", image=[film], crops=edited, placements=[placements], strength=[0.5], masks=masks
    )
    assert mask[0].max() == pytest.approx(0.5) and not mask[1].any() and torch.equal(back[1], film[1])
    nowhere = [torch.zeros(1, 512, 512), torch.ones(1, 512, 512)]
    values = {"image": [film], "crops": edited, "placements": [placements], "strength": [1.0]}
    assert not host.run("GPEN_PasteFaces", **values, region_mask=[torch.stack([one[0] for one in nowhere])])[1][0].any()
    with pytest.raises(Exception, match=r"Expected one crop per face \(2\), got 1"):
        host.run("GPEN_PasteFaces", **{**values, "crops": [crops[:1]]})
    with pytest.raises(Exception, match="Got a batch of 1 for crops from a batch of 2"):
        host.run("GPEN_PasteFaces", **{**values, "image": [portrait]})


def test_crops_of_a_list_of_images_of_several_sizes_are_pasted(host, red, portrait, gray):
    """ComfyUI runs Crop Faces for each image of a list, and gives Paste Faces the lists of its outputs."""
    images = [portrait, gray, portrait.repeat(2, 1, 1, 1)[:, :400], portrait.flip(2)[:, :, 30:]]
    cropped = [host.run("GPEN_CropFaces", gpen_model=red, image=image, size=128) for image in images]
    crops, placements, masks = ([one[n] for one in cropped] for n in range(3))
    values = {"image": images, "placements": placements, "masks": [mask for some in masks for mask in some]}
    black = [torch.zeros_like(some) for some in crops]
    back, mask, count = host.run("GPEN_PasteFaces", **values, crops=black, strength=[1.0])
    assert count == [1, 0, 2, 1] and [one.shape for one in back] == [image.shape for image in images]
    for one, image, blend in zip(back, images, mask):
        assert torch.equal(one[blend == 0], image[blend == 0]) and (one[blend > 0.99] <= 0.01).all()
    assert [bool(one.any()) for one in mask] == [True, False, True, True]
    single = [crop[None] for some in (crops[0], crops[2], crops[3]) for crop in torch.zeros_like(some)]
    again = host.run("GPEN_PasteFaces", **values, crops=single, strength=[1.0])[0]
    assert all(map(torch.equal, again, back))
    half = host.run("GPEN_PasteFaces", **values, crops=black, strength=[0.0, 1.0, 0.0, 1.0], region_mask=[mask[3] * 0 + 1])[
        1
    ]
    assert [bool(one.any()) for one in half] == [False, False, False, True]
    with pytest.raises(Exception, match=r"Got 4 images or batches for crops from 3\. Connect the same images"):
        host.run("GPEN_PasteFaces", **{**values, "placements": placements[:3]}, crops=black, strength=[1.0])


def test_without_a_face_the_image_passes_through(host, red, gray):
    crops, placements, masks, count, text = host.run("GPEN_CropFaces", gpen_model=red, image=gray, size=128)
    assert crops.shape == (1, 128, 128, 3) and len(masks) == 1 and count == 0
    first, placeholder = text.splitlines()
    assert first.startswith("no face found; detectable faces: about 16 to ") and first.endswith("Try a lower confidence")
    assert placeholder.startswith("No face was cropped: crops is one gray image")
    (back,), (mask,), (count,) = host.run(
        "GPEN_PasteFaces", image=[gray], crops=[crops * 0], placements=[placements], strength=[1.0]
    )
    assert torch.equal(back, gray) and not mask.any() and count == 0


def test_crop_faces_says_which_number_no_face_has(host, red, portrait):
    text = host.run("GPEN_CropFaces", gpen_model=red, image=portrait, size=128, faces="0,3")[4]
    assert text.splitlines()[-1] == "there is no face 3: the only face is 0"
    text = host.run("GPEN_CropFaces", gpen_model=red, image=portrait, size=128, faces="3")[4]
    assert text.startswith("1 face found, 0 cropped, 1 skipped") and "No face was cropped" in text.splitlines()[-1]


def test_taken_out_in_parts(host, red, portrait, monkeypatch):
    film = portrait.repeat(5, 1, 1, 1)
    monkeypatch.setattr(host.module("nodes.model"), "MAX_CHUNK_BYTES", portrait[0].numel() * 4)
    module, parts = sys.modules[f"{host.name}.gpen_core.pipeline.restorer"], []
    find = module.FaceRestorer.start_sessions
    monkeypatch.setattr(
        module.FaceRestorer,
        "start_sessions",
        lambda self, frames, *more: (parts.append(len(frames)), find(self, frames, *more))[1],
    )
    assert host.run("GPEN_CropFaces", gpen_model=red, image=film, size=64)[3] == 5 and parts == [2, 2, 1]


def test_an_aligned_face_is_not_looked_for(host, red):
    squares = torch.full((2, 128, 128, 3), 0.5)
    image, mask, crops, summary = host.run("GPEN_RestoreFaces", gpen_model=red, image=squares, aligned=True, color="none")
    assert is_red(image).all() and (mask == 1).all() and len(crops) == 2 and "2 restored" in summary
    with pytest.raises(Exception, match="an aligned face crop must be square"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=squares[:, :100], aligned=True)


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_box_that_is_not_finite_is_in_no_mask(host, gray, value):
    face = Face((0.0, 0.0, value, 9.0), 0.9, np.zeros((5, 2)))
    assert not host.module("nodes.tensors").box_mask(gray[0].numpy(), [face]).any()


def test_what_is_moved_after_a_partial_load_is_counted_as_loaded(host, computed_red, portrait):
    """The fake loads nothing at all, as --novram does."""
    host.run("GPEN_RestoreFaces", gpen_model=computed_red, image=portrait)
    patchers, _, _ = host.management.loaded[-1]
    assert len(patchers) == 2
    for patcher in patchers:
        assert patcher.model.model_loaded_weight_memory == patcher.model_size() > 100_000


def test_interrupt_within_a_face(host, computed_red, portrait):
    host.management.interrupted_after = 6
    with pytest.raises(fake_comfyui.InterruptProcessingException):
        host.run("GPEN_RestoreFaces", gpen_model=computed_red, image=portrait)
    host.management.interrupted_after = None
    assert is_red(host.run("GPEN_RestoreFaces", gpen_model=computed_red, image=portrait)[0]).any()


def test_interrupt_within_the_detection_of_an_image(host, red, portrait):
    host.management.interrupted_after = 1
    with pytest.raises(fake_comfyui.InterruptProcessingException):
        host.run("GPEN_DetectFaces", gpen_model=red, image=portrait)
    host.management.interrupted_after = None
    assert host.run("GPEN_DetectFaces", gpen_model=red, image=portrait)[3] == 1


def test_out_of_memory_is_the_error_that_comfyui_acts_on(host, red, portrait, monkeypatch):
    def forward(x, on_tick, strip_bytes):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(red.restorer.network, "forward", forward)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="not enough memory for a single face"):
        host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait)


class Network(torch.nn.Module):
    """Stands in for a GPEN of any size."""

    dtype, config = torch.float32, GPENConfig(256, 0.5, 1)

    def __init__(self, size):
        super().__init__()
        self.size = size

    def release_memory(self):
        pass


@pytest.fixture
def auto(host):
    """The model `auto` on a device that has room for one network, and its networks."""
    module, alive = host.module, weakref.WeakSet()

    def load(size, progress):
        if len(alive) > 0:
            raise module("gpen_core.errors").OutOfMemory("full")
        network = Network(size)
        alive.add(network)
        return module("gpen_core.pipeline.gpen_runner").GPENRunner(network, torch.device("cpu"))

    networks = module("gpen_core.pipeline.gpen_runner").SizeSelector((256, 512), torch.float32, load)
    models = module("gpen_core.pipeline.model_set").ModelSet(networks, helpers.FakeDetector([]), torch.device("cpu"))
    return module("nodes.model").GpenModel(module("gpen_core").FaceRestorer(models)), networks


def at_work(host, model):
    return model.device_session(host.module("gpen_core").RestoreOptions(), host.module("nodes.host_progress").NodeProgress())


def test_networks_that_auto_drops_are_freed_for_the_next(host, auto):
    model, networks = auto
    gc.disable()  # memory must be free at once
    try:
        for side in (200, 300, 200, 300):
            with at_work(host, model):  # ComfyUI gets the network of the last turn
                assert len(host.management.loaded[-1][0]) == 1 + len(networks.loaded_runners)
                host.management.loaded.clear()  # ComfyUI refers to them weakly
                networks.for_face_size(side, lambda *what: None)
    finally:
        gc.enable()


def test_networks_of_auto_that_do_not_fit_together_are_dropped_and_the_rest_loaded(host, auto, monkeypatch):
    model, networks = auto
    networks.for_face_size(200, lambda *what: None)
    tried = []

    def load_models_gpu(patchers, memory_required=0, force_full_load=False):
        tried.append(len(patchers))
        if len(patchers) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(host.management, "load_models_gpu", load_models_gpu)
    with at_work(host, model):
        assert tried == [2, 1] and networks.loaded_runners == ()


def test_out_of_memory_while_loading_is_the_error_that_comfyui_acts_on(host, monkeypatch):
    def load(*what):
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(host.module("gpen_core.pipeline.model_set"), "pick_device", load)
    with pytest.raises(torch.cuda.OutOfMemoryError, match="not enough memory for the networks"):
        host.run("GPEN_LoadModel", model="gpen-red-256.pth", precision="fp32", detector="detection_mobilenet0.25_Final.pth")


def test_out_of_memory_at_work_keeps_nothing_of_what_was_at_work(host, auto):
    """ComfyUI makes room at once, before the garbage collector runs."""
    model, _ = auto
    kept = []

    def restore():
        picture = host.module("gpen_core").RestoreOptions()
        kept.append(weakref.ref(picture))
        raise host.module("gpen_core").OutOfMemory("no room")

    gc.disable()
    try:
        with contextlib.suppress(torch.cuda.OutOfMemoryError), at_work(host, model):
            restore()
        assert kept[0]() is None
    finally:
        gc.enable()


def test_crops_are_kept_only_where_something_hangs_on_them(host, red, portrait, monkeypatch):
    def queue(output, id_="7", class_type="GPEN_RestoreFaces"):
        graph = {"7": {"class_type": class_type, "inputs": {}}, "9": {"inputs": {"images": ["7", output], "x": 3}}}
        prompt = sys.modules["server"].PromptServer.instance.queue(graph)
        hidden = fake_comfyui.types.SimpleNamespace(unique_id=id_, prompt=prompt)
        monkeypatch.setattr(host.nodes["GPEN_RestoreFaces"], "hidden", hidden, raising=False)
        return prompt["7"]["inputs"]

    def crops():
        return host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait)[2]

    unused = queue(0)
    assert isinstance(crops()[0], fake_comfyui.ExecutionBlocker)
    used = queue(2)
    assert crops()[0].shape == (1, 256, 256, 3)
    assert used != unused  # else ComfyUI would reuse the outputs without crops
    assert queue(1) == unused and queue(2, class_type="GPEN_RestoreVideo") == {}
    queue(0, id_="7.0.0.1")  # of a loop: not in the graph that was queued
    assert crops()[0].shape == (1, 256, 256, 3)


@pytest.mark.parametrize("request_", [{}, {"prompt": []}, {"prompt": {"1": None, "2": {}, "3": {"inputs": 5}}}])
def test_what_comfyui_will_refuse_is_left_as_it_is(host, request_):
    (handler,) = sys.modules["server"].PromptServer.instance.handlers
    assert handler(request_) is request_


OPENING = {"ray_cluster.py", "http_stream.py", "request.py", "transfer.py"}


def test_without_the_files_that_open_connections(comfy_models, monkeypatch, tmp_path):
    import shutil

    pack = tmp_path / "pack"
    ignore = shutil.ignore_patterns("__pycache__", *OPENING)
    for name in ("gpen_core", "nodes"):
        shutil.copytree(ROOT / name, pack / name, ignore=ignore)
    shutil.copy(ROOT / "__init__.py", pack)
    host = fake_comfyui.Host(comfy_models, monkeypatch, folder=pack)
    monkeypatch.delenv("GPEN_OFFLINE", raising=False)
    values = {"precision": "fp32", "detector": "detection_mobilenet0.25_Final.pth"}
    (model,) = host.run("GPEN_LoadModel", model="gpen-red-256.pth", **values)
    assert model.restorer.network.size == 256
    with pytest.raises(Exception, match="this copy cannot download") as raised:
        host.run("GPEN_LoadModel", model="GPEN-BFR-512.pth", **values)
    assert "https://" in str(raised.value) and str(comfy_models / "GPEN") in str(raised.value)
    assert "GPEN_MIRROR" not in str(raised.value)  # which is for downloads


def test_only_these_files_open_connections():
    opening = re.compile(
        r"^\s*(?:import|from) (?:requests|urllib\.request|http|socket|aiohttp|httpx|urllib3)\b", re.MULTILINE
    )
    core = {path for folder in ("gpen_core", "nodes") for path in (ROOT / folder).rglob("*.py")}
    found = {path.name for path in core if opening.search(path.read_text("utf-8"))}
    assert found == OPENING
    ignored = (ROOT / ".comfyignore").read_text("utf-8").splitlines()
    assert {line.rpartition("/")[2] for line in ignored if line.startswith("gpen_core/")} == OPENING


@pytest.mark.parametrize("asked", ["model", "detector"])
def test_a_name_that_is_in_no_list_is_refused(host, comfy_models, tmp_path, asked):
    """A node of another pack may give out a path as a choice, which ComfyUI does not compare with the list."""
    known = {"model": "gpen-red-256.pth", "detector": "detection_mobilenet0.25_Final.pth", "precision": "fp32"}
    (found,) = comfy_models.rglob("gpen-red-256.pth")
    elsewhere = tmp_path / "elsewhere.pth"
    elsewhere.write_bytes(found.read_bytes())
    with pytest.raises(Exception, match="Unknown model"):
        host.run("GPEN_LoadModel", **{**known, asked: str(elsewhere)})
    assert [path.name for path in tmp_path.iterdir() if "elsewhere" in path.name] == ["elsewhere.pth"]


def test_no_message_of_the_core_names_the_command_lines_options():
    """Hosts have none; the command line adds them itself. `cli`, `demo` and `batch` serve the command line alone."""
    shared = [path for path in (ROOT / "gpen_core").rglob("*.py") if path.parent.name not in ("cli", "demo", "batch")]
    options_of_pip = {"--no-deps", "--python", "--upgrade"}
    found = {path.name: set(re.findall(r"--[a-z-]+", path.read_text("utf-8"))) - options_of_pip for path in shared}
    assert len(shared) > 80 and not {name for name, options in found.items() if options}


def test_nothing_is_written_to(host, red, portrait):
    held = portrait.numpy().copy()
    host.run("GPEN_RestoreFaces", gpen_model=red, image=portrait, color="match")
    assert (held == portrait.numpy()).all()
