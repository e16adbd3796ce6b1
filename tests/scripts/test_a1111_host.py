"""The extension in a real A1111 or Forge on the CPU."""

import json
import os
import threading
import time

import a1111_host
import cv2
import helpers
import numpy as np
import onnx_files
import pytest
from a1111_host import decoded, encoded, opened
from PIL import Image
from webui_fixtures import is_red

from gpen_core.tools.demo import images as demo_pictures

pytest_plugins = ["onnx_files"]
pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif("GPEN_A1111_DIR" not in os.environ, reason="GPEN_A1111_DIR names no A1111 or Forge checkout"),
]
SCRIPT = "gpen face restore"
ACCOUNT = "user:secret"


@pytest.fixture(scope="module")
def data(tmp_path_factory, detector_weights):
    folder = a1111_host.make_data(tmp_path_factory.mktemp("a1111"), detector_weights)
    Image.fromarray(demo_pictures.astronaut()).save(folder / "astronaut.png")
    return folder


@pytest.fixture(scope="module")
def host(data):
    running = a1111_host.WebUI(data, FAKE_PICTURE=str(data / "astronaut.png"))
    yield running
    running.stop()


@pytest.fixture(scope="session")
def photo():
    return demo_pictures.astronaut()


def args(*values):
    return {"alwayson_scripts": {SCRIPT: {"args": list(values)}}}


ON = args(True, "gpen-red-256.pth", 1.0)


def test_it_loads(host):
    log = host.log.read_text("utf-8")
    assert "Error loading script" not in log and "gpen" not in log.partition("Traceback")[2].partition("\n---")[0]
    assert SCRIPT in host.call("/sdapi/v1/scripts")[1]["txt2img"]
    restorers = [one["name"] for one in host.call("/sdapi/v1/face-restorers")[1]]
    assert restorers.count("GPEN") == 1 and restorers[-1] == "GPEN"


def test_models(host):
    models = {one["name"]: one["downloaded"] for one in host.call("/gpen/v1/models")[1]}
    assert next(iter(models)) == "auto" and models["auto"]
    assert models["gpen-red-256.pth"] and models["GPEN-BFR-1024.pth"] and not models["GPEN-BFR-512.pth"]
    assert {"/gpen/v1/restore", "/gpen/v1/models"} <= set(host.call("/openapi.json")[1]["paths"])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_restoring_over_the_api(host, photo, mode):
    image = Image.fromarray(photo).convert(mode)
    status, answer = host.call("/gpen/v1/restore", {"image": encoded(image), "model": "gpen-red-256.pth"})
    assert status == 200 and [face["restored"] for face in answer["faces"]] == [True]
    restored = opened(answer["image"])
    assert restored.mode == {"P": "RGB"}.get(mode, mode) and restored.size == image.size
    if mode.startswith("RGB"):
        found = is_red(np.asarray(restored))
        assert found.sum() > 10_000 and not found[300:].any()
        assert (np.asarray(restored)[300:, :, :3] == photo[300:]).all()


def test_onnx_files_in_the_list_restore_as_the_pth_does(host, photo, exported_onnx, unmapped_onnx):
    """One that is converted, with no other file of that network, and one that cannot be. The host needs ONNX Runtime."""
    onnx_files.require_runtime_in_host(host.python)
    files = {
        "facerestore_models/GPEN-BFR-256.onnx": exported_onnx.read_bytes(),
        "GPEN/gpen-as-it-is.onnx": unmapped_onnx.read_bytes(),
        "GPEN/gpen-narrow.pth": onnx_files.narrow_weights(),
    }
    helpers.write_weights(host.data / "models", files)
    names = ("gpen-narrow.pth", "GPEN-BFR-256.pth", "gpen-as-it-is.onnx")
    models = {one["name"]: one["downloaded"] for one in host.call("/gpen/v1/models")[1]}
    assert all(models[name] for name in names)
    out = []
    for name in names:
        status, answer = host.call("/gpen/v1/restore", {"image": encoded(photo), "model": name})
        assert status == 200 and answer["faces"][0]["restored"], answer
        out.append(decoded(answer["image"]).astype(int))
    expected, converted, as_it_is = out
    assert np.abs(expected - photo).max() > 20
    assert np.abs(converted - expected).max() <= 1 and np.abs(as_it_is - expected).max() <= 1


def test_lying_faces_and_boxes_over_the_api(host):
    lying = np.ascontiguousarray(np.rot90(demo_pictures.collage()))
    status, answer = host.call("/gpen/v1/restore", {"image": encoded(lying), "model": "gpen-red-256.pth"})
    assert status == 200 and [face["restored"] for face in answer["faces"]] == [True] * 6
    boxes = [[5, 5, 40, 40]]
    status, answer = host.call("/gpen/v1/restore", {"image": encoded(lying), "boxes": boxes, "model": "gpen-red-256.pth"})
    assert status == 200 and answer["notes"] == ["no face was found in box 0 (5, 5, 40, 40)"]
    assert not any(face["restored"] for face in answer["faces"])


def test_the_settings_page_has_detection(host):
    page = str(host.call("/config")[1])
    assert "Detection size (px)" in page and "setting_gpen_angles" in page and "setting_gpen_preserve" in page


def pairs(targets):
    """Component and trigger; gradio 3 has the component alone."""
    return [target if isinstance(target, list) else (target, None) for target in targets]


def events_of(config, trigger, elem_id):
    """Numbers of the events of that kind that change a component whose id begins so."""
    ours = {one["id"] for one in config["components"] if str(one["props"].get("elem_id")).startswith(elem_id)}
    return [
        number
        for number, one in enumerate(config["dependencies"])
        if ours & set(one["outputs"]) and trigger in (one.get("trigger"), *(target[1] for target in pairs(one["targets"])))
    ]


def test_a_page_that_is_loaded_again_lists_the_files_of_now(host):
    config = host.call("/config")[1]
    (number,) = events_of(config, "load", "gpen_model_")
    helpers.write_weights(host.data / "models" / "GPEN", {"gpen-later.pth": helpers.constant_weights(256, (0, 1, 0))})
    assert "gpen-later.pth" not in str(config) and str(host.run_event(config, number)).count("gpen-later.pth") >= 3


def test_the_extras_page_has_a_place_for_what_went_wrong(host):
    assert len(events_of(host.call("/config")[1], "change", "gpen_report_extras")) == 1


def test_the_self_test_of_the_settings_page(host):
    assert host.call("/sdapi/v1/options", {"gpen_strength": 1.0})[0] == 200  # which saves all that is to be saved
    saved = json.loads((host.data / "config.json").read_text("utf-8"))
    assert "gpen_strength" in saved and "gpen_self_test" not in saved
    assert host.press("gpen_self_test").startswith("self-test: passed (")


def test_identity_gives_the_input_back(host, photo):
    smooth = cv2.GaussianBlur(cv2.resize(photo, None, fx=2, fy=2), (0, 0), 2)
    status, answer = host.call("/gpen/v1/restore", {"image": encoded(smooth), "model": "gpen-identity-256.pth"})
    assert status == 200 and helpers.psnr(decoded(answer["image"]), smooth, 255) > 45


def test_sixteen_bits_one_pixel_and_no_face(host, photo):
    for image in (photo[..., 1].astype(np.uint16) * 257, photo[:1, :1], np.full((80, 90, 3), 99, np.uint8)):
        status, answer = host.call("/gpen/v1/restore", {"image": encoded(image)})
        assert status == 200 and decoded(answer["image"]).dtype.itemsize == image.dtype.itemsize
    assert not answer["faces"] and (decoded(answer["image"]) == 99).all()


@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        ({"image": "no base64"}, 400, "format is unknown"),
        ({"image": "no image"}, 400, "not a base64-encoded image"),
        ({"model": "/etc/passwd"}, 404, "Unknown model"),
        ({"strength": 2}, 422, "1"),
        ({"mask-type": "parse"}, 422, "mask-type"),
        ({"upscaler": "/etc/passwd"}, 422, "upscaler"),
        ({"faces": "some"}, 422, "faces"),
        ({"model": "GPEN-BFR-512.pth"}, 503, "https://"),
        ({"model": "gpen-broken.pth"}, 503, "gpen-broken.pth"),
    ],
)
def test_refusals(host, photo, body, status, text):
    got, answer = host.call("/gpen/v1/restore", {"image": encoded(photo), **body})
    assert got == status and text in str(answer) and "Traceback" not in str(answer)


def test_the_hosts_own_extras_api_leaves_the_image_alone(host, photo):
    body = {"image": encoded(photo), "upscaling_resize": 1, "upscaler_1": "None"}
    status, answer = host.call("/sdapi/v1/extra-single-image", body)
    assert status == 200 and (decoded(answer["image"])[..., :3] == photo).all()


def test_txt2img(host, photo):
    (plain,), (info,) = host.generate("txt2img")
    assert (plain == photo).all() and "GPEN" not in info
    (restored,), (info,) = host.generate("txt2img", **ON)
    assert is_red(restored).sum() > 10_000 and "GPEN model: gpen-red-256.pth, GPEN faces: 1" in info


def test_arguments_may_be_a_dict(host):
    chosen = {"model": "gpen-red-256.pth", "strength": 0.5, "faces": "0", "preserve": ["occluders"]}
    for given in ([chosen], [True, chosen]):
        _, (info,) = host.generate("txt2img", **args(*given))
        assert "GPEN faces: 1, GPEN strength: 0.5, " in info and "GPEN preserve: occluders" in info
    body = {"prompt": "a face", "steps": 1, **args({"colour": "auto"})}
    status, answer = host.call("/sdapi/v1/txt2img", body)
    assert status == 422 and "colour" in str(answer)


def test_a_batch_has_its_keys_in_every_image(host):
    pictures, infos = host.generate("txt2img", batch_size=3, do_not_save_grid=True, **ON)
    assert len(infos) == 3 and all("GPEN faces: 1" in info for info in infos)
    assert all(is_red(picture).sum() > 10_000 for picture in pictures[-3:])


def test_hires_fix(host):
    more = {"enable_hr": True, "hr_scale": 1.5, "hr_upscaler": "Lanczos", "denoising_strength": 0.5}
    if host.is_forge:
        more["hr_additional_modules"] = ["Use same choices"]
    (restored,), _ = host.generate("txt2img", **more, **ON)
    assert restored.shape[:2] == (768, 768) and is_red(restored).sum() > 20_000


@pytest.mark.parametrize("only_masked", [False, True])
def test_inpainting_is_limited_to_the_mask(host, photo, only_masked):
    mask = np.zeros((512, 512), np.uint8)
    mask[:, :220] = 255
    more = {
        "init_images": [encoded(photo)],
        "mask": encoded(mask),
        "mask_blur": 0,
        "inpaint_full_res": only_masked,
        "inpaint_full_res_padding": 32,
        "inpainting_fill": 1,
        "denoising_strength": 0.5,
    }
    pictures, infos = host.generate("img2img", **more, **ON)
    found = is_red(pictures[0])
    assert found[:, :220].sum() > 5000 and not found[:, 224:].any() and "GPEN faces: 1" in infos[0]


def test_restore_faces_with_the_setting(host):
    host.call("/sdapi/v1/options", {"face_restoration_model": "GPEN"})
    (restored,), (info,) = host.generate("txt2img", restore_faces=True)
    assert is_red(restored).sum() > 10_000 and "Face restoration: GPEN" in info


def test_a_missing_file_keeps_the_image(host, photo):
    (restored,), (info,) = host.generate("txt2img", **args(True, "GPEN-BFR-512.pth", 1.0))
    assert (restored == photo).all() and "GPEN faces: 0, GPEN failed: weights are missing" in info
    assert "GPEN-BFR-512.pth" in host.log.read_text("utf-8")


def test_interrupt_within_twelve_faces(host):
    collage = demo_pictures.collage()
    body = {"image": encoded(np.vstack((collage, collage))), "model": "GPEN-BFR-1024.pth"}
    answers = []
    worker = threading.Thread(target=lambda: answers.append(host.call("/gpen/v1/restore", body)))
    worker.start()
    while "Restoring faces" not in str(host.call("/sdapi/v1/progress")[1]["textinfo"]):
        time.sleep(0.2)
    start = time.monotonic()
    host.call("/sdapi/v1/interrupt", {})
    worker.join()
    print(f"interrupted after {time.monotonic() - start:.2f} s")
    assert answers[0][0] == 409
    assert is_red(host.generate("txt2img", **ON)[0][0]).any()


def test_a_wrong_password_is_refused(data):
    running = a1111_host.WebUI(data, "--api-auth", ACCOUNT)
    try:
        for account in (None, "user:wrong", "other:secret", "user:"):
            assert running.call("/gpen/v1/models", account=account)[0] == 401
            assert running.call("/gpen/v1/restore", {"image": ""}, account=account)[0] == 401
        assert running.call("/gpen/v1/models", account=ACCOUNT)[0] == 200
    finally:
        running.stop()
