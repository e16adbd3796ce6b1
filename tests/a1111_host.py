"""A real host of A1111's family, started from a checkout and driven over HTTP, without a checkpoint of Stable Diffusion.

GPEN_A1111_DIR names one of A1111, Forge, reForge or Forge classic, GPEN_SDNEXT_DIR one of SD.Next; GPEN_A1111_PYTHON and
GPEN_SDNEXT_PYTHON the interpreter, else it is this one. Each runs in a data folder of its own: we write nothing into the
checkout (SD.Next writes its log there). `webui_fake_model.py` stands in for the Stable Diffusion model; SD.Next has none."""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from io import BytesIO
from pathlib import Path

import helpers
import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = "sd gpen (été)"
PATIENCE = 600  # seconds
COMMON = (
    "--skip-prepare-environment --skip-torch-cuda-test --no-download-sd-model --do-not-download-clip --ui-debug-mode --api"
)
A1111 = "--skip-ort --skip-load-model-at-start --use-cpu all --no-half"
FORGE = "--always-cpu"
TICK = "Restore faces with GPEN"
SDNEXT = "--skip-all --skip-git --skip-env --use-cpu all"


class WebUI:
    """The running host."""

    kind = "A1111"
    said = "Startup time"  # in its log; A1111 ends if it is asked anything before, since it adds to its server then

    def __init__(self, data, *flags, **environment):
        self.data, self.log = data, data / "log.txt"
        checkout = Path(os.environ[f"GPEN_{self.kind}_DIR"])
        self.is_forge = (checkout / "modules_forge").is_dir()
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.python = os.environ.get(f"GPEN_{self.kind}_PYTHON", sys.executable)
        command = [self.python, "launch.py", "--port", str(self.port), "--data-dir", str(data), *self.own_flags(), *flags]
        environment = {**os.environ, "GPEN_OFFLINE": "1", "HF_HUB_OFFLINE": "1", **environment}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self.wait()

    def own_flags(self):
        known = (Path(os.environ["GPEN_A1111_DIR"]) / "modules" / "cmd_args.py").read_text("utf-8")
        given = [*COMMON.split(), *(FORGE if self.is_forge else A1111).split()]
        return [word for word in given if word != "--do-not-download-clip" or word in known]  # Forge classic has none

    def wait(self):
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
            with contextlib.suppress(OSError):
                if self.said in self.log.read_text("utf-8", "replace") and self.call("/gpen/v1/models")[0] in (200, 401):
                    return
            time.sleep(0.5)
        raise TimeoutError(self.log.read_text("utf-8")[-3000:])

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:  # it waits for open connections
            self.process.kill()
            self.process.wait(20)

    def call(self, path, body=None, account=None):
        """Status and answer: a GET, or a POST of JSON."""
        headers = {"Content-Type": "application/json"}
        if account:
            headers["Authorization"] = "Basic " + base64.b64encode(account.encode()).decode()
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null")

    def press(self, elem_id):
        """What a button without inputs shows."""
        config = self.call("/config")[1]
        (button,) = [part["id"] for part in config["components"] if part["props"].get("elem_id") == elem_id]
        (number,) = [n for n, one in enumerate(config["dependencies"]) if button in _targets(one)]
        return self.run_event(config, number)[0]

    def run_event(self, config, number):
        """What an event gives to its outputs in a page that was just loaded."""
        event = config["dependencies"][number]
        values = {part["id"]: part["props"].get("value") for part in config["components"]}
        number = event.get("id", number)
        data = [values[key] for key in event["inputs"]]
        given = {"fn_index": number, "data": data, "session_hash": f"test{number}"}
        if config["version"].startswith("3"):
            status, answer = self.call("/run/predict", given)
            assert status == 200, answer
            return answer["data"]
        assert self.call("/queue/join", given)[0] == 200
        with urllib.request.urlopen(
            f"http://127.0.0.1:{self.port}/queue/data?session_hash={given['session_hash']}", timeout=PATIENCE
        ) as stream:
            for line in stream:
                said = json.loads(line.partition(b":")[2] or b"{}")
                if said.get("msg") == "process_completed":
                    assert said["success"], said
                    return said["output"]["data"]
        raise ConnectionError("the stream ended before the event")

    def generate(self, kind, **more):
        """The images [H, W, 3] of txt2img or img2img, and their infotexts."""
        body = {"prompt": "a face", "steps": 1, "width": 512, "height": 512, "sampler_name": "Euler", **more}
        status, answer = self.call(f"/sdapi/v1/{kind}", body)
        assert status == 200, answer
        return [decoded(image)[..., :3] for image in answer["images"]], json.loads(answer["info"])["infotexts"]


class SDNext(WebUI):
    """SD.Next; its page is pressed through gradio's own HTTP API."""

    kind = "SDNEXT"
    said = ""

    def own_flags(self):
        folders = ("--models-dir", str(self.data / "models"), "--extensions-dir", str(self.data / "extensions"))
        return [*SDNEXT.split(), *folders]

    def press_process(self, image, **changes):
        """The button of the Process page with GPEN's box ticked: the images that come out, and the text below them.
        `changes` are values of its controls by their labels."""
        config = self.call("/config")[1]
        parts = {part["id"]: part["props"] for part in config["components"]}
        button = next(key for key, props in parts.items() if props.get("elem_id") == "extras_generate")
        number, press = next((n, one) for n, one in enumerate(config["dependencies"]) if button in _targets(one))
        labels = [parts[key].get("label") for key in press["inputs"]]
        data = [parts[key].get("value") for key in press["inputs"]]
        ours = labels.index(TICK)  # and what follows it: other operations have controls of the same labels
        data[labels.index("Source")] = "data:image/png;base64," + encoded(image)
        for label, value in {TICK: True, **changes}.items():
            data[labels.index(label, ours)] = value
        data[0] = "task(test)"
        status, answer = self.call("/run/predict", {"fn_index": number, "data": data, "session_hash": "test"})
        assert status == 200, answer
        gallery, _, text, _ = answer["data"]
        return [one["name"] for one in gallery["value"] or []], text


def _targets(dependency):
    return [target[0] if isinstance(target, list) else target for target in dependency["targets"]]


def make_data(folder, detector_weights):
    """A data folder with hand-made weights, the project and the stand-in for the model as extensions."""
    (folder / "extensions" / "fake-model" / "scripts").mkdir(parents=True)
    helpers.write_weights(folder / "models" / "GPEN", {helpers.DETECTOR_FILE: detector_weights, **helpers.host_networks()})
    shutil.copy(ROOT / "tests" / "webui_fake_model.py", folder / "extensions" / "fake-model" / "scripts")
    (folder / "extensions" / EXTENSION).symlink_to(ROOT, target_is_directory=True)
    config = {"gpen_detector": "retinaface_mobile0.25", "gpen_model": "gpen-red-256.pth", "gpen_precision": "fp32"}
    config["live_previews_enable"] = False  # reForge downloads a network for them
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def encoded(image):
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    buffer = BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def opened(text):
    return Image.open(BytesIO(base64.b64decode(text)))


def decoded(text):
    return np.asarray(opened(text))
