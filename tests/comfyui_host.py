"""A real ComfyUI, started from the checkout that GPEN_COMFYUI_DIR names and driven over HTTP.

It runs with GPEN_COMFYUI_PYTHON, else with this interpreter, in a folder of its own (`--base-directory`): nothing is
written into the checkout. The project is linked in under a folder name with spaces, dots and letters beyond ASCII."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PACK = "sd gpen v1.0 (été)"
PATIENCE = 300  # seconds


class ComfyUI:
    """The running host."""

    def __init__(self, base, *flags):
        self.base = base
        self.log = base / "log.txt"
        checkout = Path(os.environ["GPEN_COMFYUI_DIR"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.python = os.environ.get("GPEN_COMFYUI_PYTHON", sys.executable)
        command = [self.python, "main.py", "--cpu", "--port", str(self.port), "--base-directory", str(base), *flags]
        environment = {**os.environ, "GPEN_OFFLINE": "1"}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, cwd=checkout, env=environment, stdout=log, stderr=subprocess.STDOUT)
        self.wait_for(lambda: self.get("/system_stats"), urllib.error.URLError)
        self.version = self.get("/system_stats")["system"]["comfyui_version"]

    def stop(self):
        self.process.terminate()
        self.process.wait(30)

    def wait_for(self, ask, *expected):
        """What `ask` returns once it is true."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text("utf-8")[-3000:]
            with contextlib.suppress(*expected):
                if answer := ask():
                    return answer
            time.sleep(0.1)
        raise TimeoutError(self.log.read_text("utf-8")[-3000:])

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=PATIENCE) as answer:
            content = answer.read()
        return json.loads(content) if answer.headers.get_content_type() == "application/json" else content

    def post(self, path, content=None):
        data = json.dumps(content or {}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return json.loads(error.read())

    def queue(self, graph):
        """Queues a graph in API form and returns its id."""
        answer = self.post("/prompt", {"prompt": graph})
        assert "prompt_id" in answer, answer
        return answer["prompt_id"]

    def finished(self, prompt_id):
        """What became of it, once it has ended: `outputs` and `status`."""
        return self.wait_for(lambda: self.get(f"/history/{prompt_id}").get(prompt_id))

    def run(self, graph):
        """The outputs of a graph that must succeed."""
        done = self.finished(self.queue(graph))
        assert done["status"]["status_str"] == "success", done["status"]["messages"][-1]
        return done["outputs"]

    def error(self, graph):
        """What the page shows for a graph that must fail: (type, message)."""
        done = self.finished(self.queue(graph))
        assert done["status"]["status_str"] == "error"
        told = dict(done["status"]["messages"])["execution_error"]
        return told["exception_type"], told["exception_message"]

    def picture(self, output):
        """The images of a SaveImage or PreviewImage node's output as [H, W, C] uint8."""
        pictures = []
        for image in output["images"]:
            query = urllib.parse.urlencode({key: image[key] for key in ("filename", "subfolder", "type")})
            pictures.append(np.asarray(Image.open(BytesIO(self.get(f"/view?{query}")))))
        return pictures

    def save_input(self, name, array):
        Image.fromarray(array).save(self.base / "input" / name)
        return name

    def resident_bytes(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) * 1024


def make_base(folder):
    """ComfyUI's folders, with the project in custom_nodes."""
    for name in ("custom_nodes", "input", "output", "temp", "user", "models/GPEN", "models/facedetection"):
        (folder / name).mkdir(parents=True)
    (folder / "custom_nodes" / PACK).symlink_to(ROOT, target_is_directory=True)
    return folder


def api_form(workflow, definitions):
    """A workflow as the page saves it -> the graph that the page submits for it. `definitions` are `/object_info`'s."""
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    graph = {}
    for part in workflow["nodes"]:
        if part["type"] == "MarkdownNote":
            continue
        links = {socket["name"]: sources[socket["link"]] for socket in part["inputs"] if socket["link"] is not None}
        sockets = {socket["name"] for socket in part["inputs"]}
        wanted = definitions[part["type"]]["input"]
        widgets = [name for name in (*wanted.get("required", {}), *wanted.get("optional", {})) if name not in sockets]
        values = part["widgets_values"]
        if part["type"] in ("LoadImage", "LoadVideo"):
            values, widgets = values[:1], widgets[:1]  # the upload button is a widget, too
        assert len(widgets) == len(values), (part["type"], widgets, values)
        graph[str(part["id"])] = node(part["type"], **links, **dict(zip(widgets, values)))
    return graph


def node(class_type, **inputs):
    return {"class_type": class_type, "inputs": inputs}


def load(model="gpen-red-256.pth", precision="fp32"):
    return node("GPEN_LoadModel", model=model, precision=precision, detector="detection_mobilenet0.25_Final.pth")


FACES = {
    "order": "reading",
    "min_face_size": 0,
    "max_face_size": 0,
    "max_faces": 0,
    "confidence": 0.9,
    "detection_size": 2000,
    "angles": "auto",
    "min_duration": 0.3,
    "join_people": "auto",
    "box_format": "xywh",
    "aligned": False,
}
LOOK = {
    "fidelity": 0.0,
    "min_identity": 0.0,
    "template": "gpen",
    "mask_type": "feather",
    "mask_expand": 0.0,
    "color": "none",
    "grain": 0.0,
    "preserve": "",
}
RESTORE = {"model": "auto", "strength": 1.0, "faces": "all"}
LINKS = {"gpen_model": ["model", 0], "face_options": ["face", 0], "look_options": ["look", 0]}


def options(**more):
    """The nodes for `LINKS`, and which of the values are for none of them."""
    face = {name: more.pop(name) for name in (*FACES, "bboxes") if name in more}
    look = {name: more.pop(name) for name in (*LOOK, "background") if name in more}
    nodes = {
        "face": node("GPEN_FaceOptions", **{**FACES, **face}),
        "look": node("GPEN_LookOptions", **{**LOOK, **look}),
    }
    return nodes, more


def restore(image, model="gpen-red-256.pth", **more):
    """The nodes of a graph that restores `image` (a link) and shows image, mask and summary."""
    nodes, more = options(**more)
    return {
        "model": load(model),
        **nodes,
        "restore": node("GPEN_RestoreFaces", image=image, **{**RESTORE, **LINKS, **more}),
        "image": node("PreviewImage", images=["restore", 0]),
        "as_image": node("MaskToImage", mask=["restore", 1]),
        "mask": node("PreviewImage", images=["as_image", 0]),
        "summary": node("PreviewAny", source=["restore", 3]),
    }


def restore_video(model="gpen-red-256.pth", **links):
    """The nodes of a graph that restores a video or frames (a link)."""
    nodes, _ = options()
    restoring = node("GPEN_RestoreVideo", temporal_smoothing=1.0, **RESTORE, **LINKS, **links)
    return {"model": load(model), **nodes, "restore": restoring}
