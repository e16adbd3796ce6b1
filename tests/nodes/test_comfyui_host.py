"""The pack in a real ComfyUI on the CPU."""

import json
import os
import re
import time
from fractions import Fraction
from pathlib import Path
from urllib.parse import quote

import av
import comfyui_host
import cv2
import helpers
import numpy as np
import onnx_files
import pytest
import video_files
from comfyui_host import load, node, restore

from gpen_core.tools.demo import images as demo_pictures

pytest_plugins = ["onnx_files"]
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif("GPEN_COMFYUI_DIR" not in os.environ, reason="GPEN_COMFYUI_DIR names no ComfyUI checkout"),
]


# Stands in for ReActor, whose models are not at hand: its node's inputs, and as a swap the largest head mirrored, darker.
SWAPPER = """
class Swap:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE", "FACE_MODEL"), "run", "test"
    @classmethod
    def INPUT_TYPES(cls):
        def one(*options):
            return (list(options),)
        return {
            "required": {
                "enabled": ("BOOLEAN",), "input_image": ("IMAGE",), "swap_model": one("inswapper_128.onnx"),
                "facedetection": one("retinaface_resnet50"), "face_restore_model": one("none"),
                "face_restore_visibility": ("FLOAT",), "codeformer_weight": ("FLOAT",), "detect_gender_input": one("no"),
                "detect_gender_source": one("no"), "input_faces_index": ("STRING",), "source_faces_index": ("STRING",),
                "console_log_level": one(1)},
            "optional": {"source_image": ("IMAGE",), "face_model": ("FACE_MODEL",), "face_boost": ("FACE_BOOST",)}}
    def run(self, input_image, **others):
        swapped = input_image.clone()
        swapped[:, 180:480, 180:480] = swapped[:, 180:480, 180:480].flip(2) * 0.7
        return swapped, None
NODE_CLASS_MAPPINGS = {"ReActorFaceSwap": Swap}
"""
# Stand in for Impact Pack's detector, and for one that gives bare corners.
DETECTORS = """
from collections import namedtuple
import numpy as np
Seg = namedtuple("SEG", "cropped_image cropped_mask confidence crop_region bbox label control_net_wrapper", defaults=[None])
class Segs:
    RETURN_TYPES, FUNCTION, CATEGORY = ("SEGS", "BOUNDING_BOX"), "run", "test"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "x0": ("FLOAT",), "y0": ("FLOAT",), "x1": ("FLOAT",), "y1": ("FLOAT",)}}
    def run(self, image, x0, y0, x1, y1):
        box = np.array([x0, y0, x1, y1])
        return (tuple(image.shape[1:3]), [Seg(None, None, 0.9, (0, 0, 9, 9), box, "face")]), [[(x0, y0, x1, y1)]]
NODE_CLASS_MAPPINGS = {"StandInForSegs": Segs}
"""
# Stands in for loops: a node that runs others, which are not in the graph that was queued.
LOOP = """
from comfy_execution.graph_utils import GraphBuilder
class Loop:
    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "model": ("GPEN_MODEL",)}}
    def run(self, image, model):
        graph, values = GraphBuilder(), {"model": "auto", "strength": 1.0, "faces": "all"}
        restored = graph.node("GPEN_RestoreFaces", image=image, gpen_model=model, **values)
        return {"result": (restored.out(2),), "expand": graph.finalize()}
NODE_CLASS_MAPPINGS = {"StandInForLoop": Loop}
"""

# Stands in for nodes that load a folder: images of several sizes cannot be a batch.
LISTS = """
class Images:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_IS_LIST = ("IMAGE",), "run", "test", (True,)
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"first": ("IMAGE",), "second": ("IMAGE",)}}
    def run(self, first, second):
        return ([first, second],)
NODE_CLASS_MAPPINGS = {"StandInForList": Images}
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory, detector_weights):
    base = comfyui_host.make_base(tmp_path_factory.mktemp("comfyui"))
    helpers.write_weights(base / "models" / "facedetection", {helpers.DETECTOR_FILE: detector_weights})
    helpers.write_weights(base / "models" / "GPEN", helpers.host_networks())
    (base / "custom_nodes" / "stand_in_for_reactor.py").write_text(SWAPPER)
    (base / "custom_nodes" / "stand_in_for_detectors.py").write_text(DETECTORS)
    (base / "custom_nodes" / "stand_in_for_loops.py").write_text(LOOP)
    (base / "custom_nodes" / "stand_in_for_lists.py").write_text(LISTS)
    own = {"faces-of-my-own.safetensors": detector_weights}
    helpers.write_weights(base / "models" / "facedetection", own)
    helpers.write_weights(base / "models" / "GPEN", {"portraits.pth": helpers.constant_weights(256, (0, 1, 0))})
    running = comfyui_host.ComfyUI(base)
    running.save_input("astronaut.png", demo_pictures.astronaut())
    running.save_input("collage.png", demo_pictures.collage())
    close = cv2.resize(demo_pictures.astronaut()[40:200, 145:305], (1600, 1600), interpolation=cv2.INTER_CUBIC)
    running.save_input("close.png", close)
    running.save_input("lying.png", np.ascontiguousarray(np.rot90(demo_pictures.collage())))
    running.save_input("gray.png", np.full((200, 300, 3), 128, np.uint8))
    yield running
    running.stop()


def near(a, b):
    """ComfyUI writes its 8-bit images truncated, masks too: what is shown as 0 may be a little more."""
    return np.abs(a.astype(int) - b).max() <= 1


def image(name):
    return {"load": node("LoadImage", image=name)}


def run(host, name, **more):
    out = host.run({**image(name), **restore(["load", 0], **more)})
    (restored,), (mask,) = host.picture(out["image"]), host.picture(out["mask"])
    return restored[..., :3], mask[..., 0], out["summary"]["text"][0]


def test_the_log_says_once_whether_it_works_here(host):
    for smallest in (1, 2):  # of one value it would remember the result
        run(host, "astronaut.png", min_face_size=smallest)
    told = re.findall(r"^.*self-test.*$", host.log.read_text("utf-8"), re.M)
    assert [line for line in told if "GPEN self-test: passed (" not in line] == []
    assert sum(" on cpu in fp32, " in line for line in told) == 1


def test_the_pack_loads(host):
    log = host.log.read_text("utf-8")
    seconds, failed = re.search(rf"([0-9.]+) seconds([^:]*):.*{re.escape(comfyui_host.PACK)}", log).groups()
    assert failed == ""  # " (IMPORT FAILED)"; nodes of ComfyUI may fail, such as the audio nodes without torchaudio
    print(f"ComfyUI {host.version}: the pack took {seconds} s to import")


def test_the_page_can_open_the_examples(host):
    address = "/api/workflow_templates/" + quote(comfyui_host.PACK, safe="()")
    (names,) = [names for pack, names in host.get("/workflow_templates").items() if pack == comfyui_host.PACK]
    assert all(host.get(f"{address}/{name}.json")["nodes"] for name in names)
    assert host.get(f"{address}/restore_photograph.jpg").startswith(b"\xff\xd8")
    assert host.get("/view?filename=gpen_example.jpg&type=input").startswith(b"\xff\xd8")
    assert b"ftyp" in host.get("/view?filename=gpen_example.mp4&type=input")[:16]


def test_the_red_checkpoint_turns_only_faces_red(host):
    restored, mask, summary = run(host, "collage.png")
    before = demo_pictures.collage()
    assert near(restored[mask == 0], before[mask == 0])
    assert near(restored[mask == 255], (255, 0, 0)) and (mask == 255).sum() > 10_000
    assert summary.startswith("6 faces found, 6 restored, 0 skipped")


def test_onnx_files_in_the_list_restore_as_the_pth_does(host, exported_onnx, unmapped_onnx):
    """One that is converted, in the folder of ReActor and with no other file of that network, and one that cannot be."""
    onnx_files.require_runtime_in_host(host.python)
    files = {
        "facerestore_models/GPEN-BFR-256.onnx": exported_onnx.read_bytes(),
        "GPEN/gpen-as-it-is.onnx": unmapped_onnx.read_bytes(),
        "GPEN/gpen-narrow.pth": onnx_files.narrow_weights(),
    }
    helpers.write_weights(host.base / "models", files)
    names = ("gpen-narrow.pth", "GPEN-BFR-256.pth", "gpen-as-it-is.onnx")
    offered = json.dumps(host.get("/object_info/GPEN_LoadModel")["GPEN_LoadModel"]["input"]["required"]["model"])
    assert all(name in offered for name in names)
    expected, converted, as_it_is = (run(host, "astronaut.png", model=name)[0] for name in names)
    assert not near(expected, demo_pictures.astronaut()) and near(converted, expected) and near(as_it_is, expected)
    assert (host.base / "models" / "GPEN" / "GPEN-BFR-256.safetensors").exists()
    assert not (host.base / "models" / "GPEN" / "gpen-as-it-is.safetensors").exists()


def test_the_workflow_that_fills_a_region(host):
    """With a network under its name that returns one color. The mask is the picture's transparency, as of the editor."""
    photo = demo_pictures.astronaut()
    alpha = np.full((512, 512), 255, np.uint8)
    alpha[100:130, 210:250] = 0
    host.save_input("masked.png", np.dstack((photo, alpha)))
    narrow = onnx_files.narrow_weights(1024)
    weights = {
        key: value * 0 if "to_rgb" in key and key.endswith(("conv.weight", ".bias")) else value
        for key, value in narrow.items()
    }
    helpers.write_weights(host.base / "models" / "GPEN", {"GPEN-Inpainting-1024.pth": weights})
    values = {"GPEN_LoadModel": {"model": "GPEN-Inpainting-1024.pth"}, "LoadImage": {"image": "masked.png"}}
    (filled,) = pictures_of(host, example(host, "fill_region", **values), "SaveImage")
    inside = alpha == 0
    assert near(filled[~inside][:, :3], photo[~inside]) and near(filled[105:125, 215:245, :3], 127)


def test_restore_faces_works_alone(host):
    """With its own model and the detector that is there, because downloads are switched off."""
    graph = {**image("astronaut.png"), **restore(["load", 0])}
    alone = node("GPEN_RestoreFaces", image=["load", 0], model="gpen-red-256.pth", strength=1.0, faces="largest")
    shown = {"load": graph["load"], "restore": alone, "image": node("PreviewImage", images=["restore", 0])}
    (restored,) = host.picture(host.run(shown)["image"])
    changed = (np.abs(restored[..., :3].astype(int) - demo_pictures.astronaut()) > 1).any(2)
    assert changed[90:150, 195:255].mean() > 0.9 and not changed[300:].any()
    shown["restore"]["inputs"].update(strength=0.0, gpen_model=["model", 0])
    host.run({**shown, "model": node("GPEN_LoadModel", **{**graph["model"]["inputs"], "model": "gpen-broken.pth"})})
    info = host.get("/object_info/GPEN_RestoreFaces")["GPEN_RestoreFaces"]["input"]
    assert list(info["required"]) == ["image", "model", "strength", "faces"]
    assert list(info["optional"]) == ["region_mask", "gpen_model", "face_options", "look_options"]


def test_identity_weights_give_the_input_back(host):
    before = cv2.GaussianBlur(cv2.resize(demo_pictures.astronaut(), None, fx=2, fy=2), (0, 0), 2)  # nothing that 256 px lose
    restored, mask, _ = run(host, host.save_input("smooth.png", before), model="gpen-identity-256.pth")
    assert near(restored[mask == 0], before[mask == 0])
    assert helpers.psnr(restored[mask == 255], before[mask == 255], 255) > 40


def test_chosen_faces(host):
    _, mask, summary = run(host, "collage.png", faces="1,4", order="left-right")
    assert "2 restored, 4 skipped" in summary
    assert run(host, "collage.png", faces="largest")[1].sum() < mask.sum()


def test_no_face_leaves_the_image_and_blocks_the_crops(host):
    graph = {**image("gray.png"), **restore(["load", 0]), "crops": node("PreviewImage", images=["restore", 2])}
    out = host.run(graph)
    (restored,), (mask,) = host.picture(out["image"]), host.picture(out["mask"])
    assert (restored[..., :3] == 128).all() and not mask[..., 0].any() and "crops" not in out


def test_the_crops_come_as_a_list(host):
    graph = {**image("collage.png"), **restore(["load", 0]), "crops": node("PreviewImage", images=["restore", 2])}
    crops = host.picture(host.run(graph)["crops"])
    assert len(crops) == 6 and all(crop.shape[:2] == (256, 256) for crop in crops)


def test_faces_of_a_list_of_images_are_cropped_and_pasted(host):
    graph = {
        "gray": node("LoadImage", image="gray.png"),
        **image("astronaut.png"),
        "model": load(),
        "list": node("StandInForList", first=["gray", 0], second=["load", 0]),
        "crop": node("GPEN_CropFaces", image=["list", 0], gpen_model=["model", 0], size=128, faces="all"),
        "edit": node("ImageInvert", image=["crop", 0]),
        "paste": node("GPEN_PasteFaces", image=["list", 0], crops=["edit", 0], placements=["crop", 1], strength=1.0),
        "shown": node("PreviewImage", images=["paste", 0]),
        "count": node("PreviewAny", source=["paste", 2]),
    }
    out = host.run(graph)
    gray, face = (one[..., :3] for one in host.picture(out["shown"]))
    photo = demo_pictures.astronaut()
    changed = (np.abs(face.astype(int) - photo) > 1).any(2)
    assert (gray == 128).all() and gray.shape == (200, 300, 3) and out["count"]["text"] == ["0", "1"]
    assert changed[90:150, 195:255].mean() > 0.9 and not changed[300:].any()


def test_a_node_that_is_connected_later_gets_the_crops(host):
    """ComfyUI takes the outputs of the first run from its cache unless an input has changed."""
    graph = {**image("collage.png"), **restore(["load", 0], strength=0.95)}
    host.run(graph)
    graph["crops"] = node("PreviewImage", images=["restore", 2])
    assert len(host.picture(host.run(graph)["crops"])) == 6


def test_a_node_within_a_loop_gives_its_crops(host):
    graph = {
        **image("astronaut.png"),
        "model": load(),
        "loop": node("StandInForLoop", image=["load", 0], model=["model", 0]),
    }
    graph["crops"] = node("PreviewImage", images=["loop", 0])
    assert len(host.picture(host.run(graph)["crops"])) == 1


def test_eight_frames(host):
    graph = {
        **image("astronaut.png"),
        "other": node("ImageScale", image=["load", 0], upscale_method="area", width=512, height=512, crop="disabled"),
        "two": node("ImageBatch", image1=["load", 0], image2=["other", 0]),
        "eight": node("RepeatImageBatch", image=["two", 0], amount=4),
        **restore(["eight", 0]),
    }
    out = host.run(graph)
    pictures = host.picture(out["image"])
    assert len(pictures) == 8 and all((one[..., :3] == pictures[0][..., :3]).all() for one in pictures)
    assert out["summary"]["text"][0].startswith("8 faces found, 8 restored")


def test_strength_zero_does_not_load_the_model(host):
    restored, mask, summary = run(host, "astronaut.png", model="gpen-broken.pth", strength=0.0)
    assert (restored == demo_pictures.astronaut()).all() and not mask.any() and "Strength is 0" in summary


def test_a_mask_and_boxes_select(host):
    graph = {
        **image("collage.png"),
        **restore(["load", 0], bboxes=["detect", 0]),
        "detect": node("GPEN_DetectFaces", image=["load", 0], gpen_model=["model", 0]),
        "count": node("PreviewAny", source=["detect", 3]),
    }
    out = host.run(graph)
    assert out["count"]["text"] == ["6"] and "6 restored" in out["summary"]["text"][0]
    (preview,) = host.picture(out["detect"])
    assert preview.shape[:2] == (1000, 1500) and (preview[..., :3] != demo_pictures.collage()).any()
    graph["solid"] = node("SolidMask", value=1.0, width=750, height=1000)
    graph["black"] = node("SolidMask", value=0.0, width=1500, height=1000)
    graph["left"] = node("MaskComposite", destination=["black", 0], source=["solid", 0], x=0, y=0, operation="add")
    graph["restore"]["inputs"]["region_mask"] = ["left", 0]
    out = host.run(graph)
    (restored,) = host.picture(out["image"])
    assert (restored[:, 750:, :3] == demo_pictures.collage()[:, 750:]).all()
    assert "outside the mask" in out["summary"]["text"][0]


@pytest.mark.parametrize(("name", "angles", "count"), [("close", "auto", 1), ("lying", "auto", 6), ("lying", "all", 6)])
def test_close_and_lying_faces_are_found_once(host, name, angles, count):
    out = host.run({**image(f"{name}.png"), **restore(["load", 0], angles=angles, detection_size=1500, max_faces=20)})
    noun = "face" if count == 1 else "faces"
    assert f"{count} {noun} found, {count} restored, 0 skipped" in out["summary"]["text"][0]


def test_segments_and_bare_corners_lead(host):
    def graph(box, **more):
        corners = dict(zip(("x0", "y0", "x1", "y1"), map(float, box)))
        return {
            **image("astronaut.png"),
            **restore(["load", 0], **more),
            "segs": node("StandInForSegs", image=["load", 0], **corners),
        }

    face, nowhere = (170, 60, 280, 190), (400, 400, 450, 450)
    for more in ({"bboxes": ["segs", 0]}, {"bboxes": ["segs", 1], "box_format": "xyxy"}):
        assert "1 restored" in host.run(graph(face, **more))["summary"]["text"][0]
        said = host.run(graph(nowhere, **more))["summary"]["text"][0]
        assert "0 restored" in said and "no face was found in box 0 (400, 400, 450, 450)" in said
    kind, message = host.error(graph((1e308, 1, 1e308, 3), bboxes=["segs", 1]))  # x + width is no number any more
    assert kind.endswith("InputError") and "Box 0 is" in message


def test_files_under_names_of_the_users_own(host):
    inputs = host.get("/object_info/GPEN_LoadModel")["GPEN_LoadModel"]["input"]["required"]
    options = {name: inputs[name][1].get("options") or inputs[name][0] for name in ("model", "detector")}
    assert "portraits.pth" in options["model"] and options["detector"][3:] == ["faces-of-my-own.safetensors"]
    graph = {**image("astronaut.png"), **restore(["load", 0])}
    graph["model"]["inputs"].update(model="portraits.pth", detector="faces-of-my-own.safetensors")
    out = host.run(graph)
    (green,) = host.picture(out["image"])
    assert "1 restored" in out["summary"]["text"][0] and (green[110:140, 210:240, 1] > 250).all()


def test_faces_go_into_an_upscaled_background(host):
    graph = {
        **image("astronaut.png"),
        "up": node("ImageScaleBy", image=["load", 0], upscale_method="lanczos", scale_by=2.0),
        **restore(["load", 0], background=["up", 0]),
    }
    out = host.run(graph)
    (restored,), (mask,) = host.picture(out["image"]), host.picture(out["mask"])
    assert restored.shape[:2] == (1024, 1024) and near(restored[mask[..., 0] == 255][:, :3], (255, 0, 0))


def test_a_face_swap_is_cleaned_up(host):
    before = demo_pictures.collage()
    swapped = before.copy()
    face = demo_pictures.COLLAGE[0][0]  # the largest head: its inner face is mirrored and darkened
    (x, y), half = face, 150
    part = swapped[y - half : y + half, x - half : x + half]
    swapped[y - half : y + half, x - half : x + half] = (part[:, ::-1] * 0.7).astype(np.uint8)
    host.save_input("swapped.png", swapped)
    values = {**comfyui_host.RESTORE, **comfyui_host.LINKS, "strength": 0.8}
    graph = {
        "before": node("LoadImage", image="collage.png"),
        **image("swapped.png"),
        **restore(["load", 0]),
        "restore": node("GPEN_CleanUpFaceSwap", swapped=["load", 0], before_swap=["before", 0], **values),
    }
    out = host.run(graph)
    assert ", 1 restored, " in out["summary"]["text"][0], out["summary"]
    graph["more"] = node("RepeatImageBatch", image=["before", 0], amount=3)
    graph["restore"]["inputs"]["before_swap"] = ["more", 0]
    kind, message = host.error(graph)
    assert "Got a batch of 3 as before_swap for a batch of 1" in message and kind.endswith("InputError")


def test_a_corrupt_file_gives_a_message(host):
    kind, message = host.error({**image("astronaut.png"), **restore(["load", 0], model="gpen-broken.pth")})
    assert "gpen-broken.pth" in message and kind.endswith("WeightsError") and "Traceback" not in message


def test_a_missing_file_says_where_it_belongs(host):
    _, message = host.error({**image("astronaut.png"), **restore(["load", 0], model="GPEN-BFR-512.pth")})
    assert "https://" in message and str(host.base / "models" / "GPEN") in message


def test_interrupt_stops_within_a_face_and_the_next_prompt_works(host):
    # Aligned crops need no detection, so the interrupt comes within a face. It also does if this machine is suddenly 30
    # times as fast.
    slow = {**image("astronaut.png"), **restore(["batch", 0], model="GPEN-BFR-1024.pth", aligned=True)}
    slow["batch"] = node("RepeatImageBatch", image=["load", 0], amount=2)
    start = time.monotonic()
    host.run(slow)
    both = time.monotonic() - start
    slow["batch"]["inputs"]["amount"] = 60
    prompt = host.queue(slow)
    host.wait_for(lambda: host.get("/queue")["queue_running"])
    time.sleep(both)
    start = time.monotonic()
    host.post("/interrupt")
    done = host.finished(prompt)
    assert any(kind == "execution_interrupted" for kind, _ in done["status"]["messages"])
    print(f"two faces {both:.1f} s, interrupted after {time.monotonic() - start:.2f} s")
    assert "6 restored" in run(host, "collage.png")[2]


def test_two_queued_prompts(host):
    graphs = [{**image("astronaut.png"), **restore(["load", 0], strength=strength)} for strength in (0.5, 0.7)]
    for done in [host.finished(prompt) for prompt in [host.queue(graph) for graph in graphs]]:
        assert done["status"]["status_str"] == "success"


def example(host, name, **values):
    """An example workflow as it is but for the small model and the inputs at hand."""
    workflow = json.loads((comfyui_host.ROOT / "example_workflows" / f"{name}.json").read_text("utf-8"))
    graph = comfyui_host.api_form(workflow, host.get("/object_info"))
    for one in graph.values():
        if one["class_type"] == "GPEN_LoadModel":
            one["inputs"].update(model="gpen-red-256.pth", detector="detection_mobilenet0.25_Final.pth")
        one["inputs"].update(values.get(one["class_type"], {}))
    return host.run(graph), graph


def pictures_of(host, ran, class_type):
    out, graph = ran
    return host.picture(next(out[key] for key in out if graph[key]["class_type"] == class_type))


@pytest.mark.parametrize(("name", "side"), [("restore_photograph", 512), ("upscale_then_restore", 1024)])
def test_example_workflows(host, name, side):
    ran = example(host, name, LoadImage={"image": "astronaut.png"})
    (restored,) = pictures_of(host, ran, "SaveImage")
    assert restored.shape[:2] == (side, side) and ((restored[..., :3] == (255, 0, 0)).all(2)).sum() > 1000


def test_the_swap_workflow(host):
    ran = example(host, "reactor_swap_then_cleanup", LoadImage={"image": "collage.png"})
    (restored,) = pictures_of(host, ran, "SaveImage")
    (summary,) = (value["text"][0] for key, value in ran[0].items() if ran[1][key]["class_type"] == "GPEN_CleanUpFaceSwap")
    assert "6 faces found, 1 restored, 5 skipped" in summary
    assert near(restored[500:, ..., :3], demo_pictures.collage()[500:])


def test_the_video_workflow(host):
    file = cv2.VideoWriter(str(host.base / "input" / "video.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 8, (512, 512))
    for n in range(8):
        file.write(np.roll(demo_pictures.astronaut(), 4 * n, axis=1)[..., ::-1])  # RGB -> BGR
    file.release()
    out, graph = example(host, "video_frames", LoadVideo={"file": "video.mp4"})
    saved = next(out[key] for key in out if graph[key]["class_type"] == "SaveVideo")["images"][0]
    file = cv2.VideoCapture(str(host.base / "output" / saved["subfolder"] / saved["filename"]))
    frames = []
    while (read := file.read())[0]:
        frames.append(read[1].astype(int))
    assert len(frames) == 8
    assert all((frame[..., 2] - frame[..., 1] > 150).sum() > 1000 for frame in frames)  # red, compressed


def times_and_frames(path):
    with av.open(str(path)) as container:
        return [(frame.time, frame.to_ndarray(format="rgb24").astype(int)) for frame in container.decode(video=0)]


def left_in_temp(host):
    return [path for path in (host.base / "temp").rglob("*") if path.is_file()]


def test_the_video_workflow_keeps_sound_and_timestamps(host):
    """From Load Video to the file that Save Video writes."""
    times = [n * 40 + 7 * (n % 3) for n in range(30)]  # ms
    source = video_files.write_video(
        host.base / "input" / "film.mp4",
        30,
        (512, 384),
        times=times,
        base=Fraction(1, 1000),
        sound="aac",
        pictures=(np.roll(demo_pictures.astronaut()[:384], n, axis=1) for n in range(30)),
    )
    start = time.monotonic()
    out, graph = example(host, "restore_video", LoadVideo={"file": source.name})
    saved = next(out[key] for key in out if graph[key]["class_type"] == "SaveVideo")["images"][0]
    target = host.base / "output" / saved["subfolder"] / saved["filename"]
    assert video_files.digests(target) == video_files.digests(source)
    before, after = times_and_frames(source), times_and_frames(target)
    assert [at for at, _ in after] == [at for at, _ in before] and len(after) == 30
    print(f"30 frames through the video workflow: {time.monotonic() - start:.1f} s")
    reds = [(frame[..., 0] > 200) & (frame[..., 1] < 60) for _, frame in after]
    assert all(one.sum() > 5000 for one in reds)
    far = np.s_[250:, :150]  # from the face
    assert np.mean([video_files.psnr(a[far], b[far]) for (_, a), (_, b) in zip(before, after)]) > 38
    (summary,) = (out[key]["text"][0] for key in out if graph[key]["class_type"] == "GPEN_RestoreVideo")
    assert summary.startswith("30 frames, 1 person: 1 restored, 0 skipped")
    assert [path.name for path in left_in_temp(host) if path.suffix == ".mp4"] == ["restored.mp4"]


def test_a_video_made_of_images_and_frames_that_are_one(host):
    graph = {
        "load": node("LoadImage", image="astronaut.png"),
        "three": node("RepeatImageBatch", image=["load", 0], amount=3),
        "video": node("CreateVideo", images=["three", 0], fps=12.0),
        **comfyui_host.restore_video(video=["video", 0]),
        "parts": node("GetVideoComponents", video=["restore", 0]),
        "shown": node("PreviewImage", images=["parts", 0]),
        "frames": comfyui_host.restore_video(image=["three", 0])["restore"],
        "shown_frames": node("PreviewImage", images=["frames", 1]),
        "summary": node("PreviewAny", source=["frames", 3]),
    }
    out = host.run(graph)
    assert out["summary"]["text"][0].startswith("3 frames, 1 person: 1 restored")
    for key in ("shown", "shown_frames"):
        pictures = host.picture(out[key])
        assert len(pictures) == 3
        assert all((one[..., 0].astype(int) - one[..., 1] > 150).sum() > 1000 for one in pictures)


def test_an_interrupted_video_leaves_nothing(host):
    video_files.write_video(
        host.base / "input" / "long.mkv",
        60,
        (256, 192),
        sound="aac",
        pictures=(np.ascontiguousarray(demo_pictures.astronaut()[40:232, 70 + n : 326 + n]) for n in range(60)),
    )
    before = left_in_temp(host)
    graph = {
        "load": node("LoadVideo", file="long.mkv"),
        **comfyui_host.restore_video("GPEN-BFR-1024.pth", video=["load", 0]),
        "save": node("SaveVideo", video=["restore", 0], filename_prefix="none", format="auto", codec="auto"),
    }
    prompt = host.queue(graph)
    host.wait_for(lambda: any(path.name == "analysis.npz" for path in left_in_temp(host)))  # the second pass has begun
    time.sleep(2)
    start = time.monotonic()
    host.post("/interrupt")
    done = host.finished(prompt)
    print(f"interrupted after {time.monotonic() - start:.2f} s")
    assert any(kind == "execution_interrupted" for kind, _ in done["status"]["messages"])
    assert left_in_temp(host) == before and not list((host.base / "temp").glob("gpen_*/*.unfinished"))


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's /proc")
def test_memory_does_not_grow_over_alternating_models(host):
    sizes = []
    for n in range(20):
        model = ("gpen-red-256.pth", "gpen-identity-256.pth")[n % 2]
        run(host, "astronaut.png", model=model, strength=1 - n / 100)
        sizes.append(host.resident_bytes() >> 20)
    print("resident MiB:", *sizes)
    assert max(sizes[10:]) < max(sizes[:10]) + 100
