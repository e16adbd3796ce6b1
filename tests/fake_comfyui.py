"""ComfyUI as far as the nodes touch it, on the CPU; faithful to what 0.3.64 was seen to do."""

import asyncio
import importlib
import importlib.util
import sys
import types
from pathlib import Path
from typing import ClassVar

import av
import torch

ROOT = Path(__file__).resolve().parents[1]
NODES = {
    "GPEN_FaceOptions",
    "GPEN_LoadModel",
    "GPEN_LookOptions",
    "GPEN_RestoreFaces",
    "GPEN_RestoreVideo",
    "GPEN_DetectFaces",
    "GPEN_CleanUpFaceSwap",
    "GPEN_CropFaces",
    "GPEN_PasteFaces",
}


class InterruptProcessingException(Exception):  # an Exception until April 2026
    pass


class ExecutionBlocker:
    def __init__(self, message):
        self.message = message


class Part:
    """An input or an output as the schema describes it."""

    def __init__(self, *args, **kwargs):
        self.id = args[0] if args else kwargs.pop("id", None)
        vars(self).update(kwargs)


def io_type(name):
    return types.SimpleNamespace(
        io_type=name, Input=type("Input", (Part,), {"kind": name}), Output=type("Output", (Part,), {"kind": name})
    )


class Schema:
    """Takes what 0.3.64's takes: no search words."""

    def __init__(
        self, node_id, display_name=None, category="sd", inputs=None, outputs=None, hidden=None, description="", **kwargs
    ):
        assert not kwargs.keys() - {"is_output_node", "is_input_list", "not_idempotent"}, f"0.3.64 has no {kwargs}"
        self.node_id, self.display_name, self.category = node_id, display_name, category
        self.inputs, self.outputs, self.hidden, self.description = inputs or [], outputs or [], hidden or [], description


class NodeOutput:
    def __init__(self, *args, ui=None):
        self.args, self.ui = args, ui


class ComfyNode:
    hidden = types.SimpleNamespace(prompt=None, unique_id=None)


class ComfyExtension:
    pass


class VideoInput:
    """What every VIDEO is at least; its stand-in for a file keeps all in memory."""

    def get_stream_source(self):
        raise AssertionError("0.3.64 asks PyAV for a container without a name here, which fails")


class VideoFromFile(VideoInput):
    """A path, or a file in memory."""

    def __init__(self, file):
        self.file = file

    def get_stream_source(self):
        return self.file

    def get_container_format(self):
        with av.open(self.file) as container:
            return container.format.name


class VideoFromComponents(VideoInput):
    """Frames [B, H, W, 3], as Create Video makes them."""

    def __init__(self, images, rate):
        self.images, self.rate = images, rate

    def save_to(self, path, format="auto", codec="auto", metadata=None):  # noqa: A002
        with av.open(path, "w") as out:
            stream = out.add_stream("h264", rate=self.rate)
            stream.height, stream.width = self.images.shape[1:3]
            stream.pix_fmt = "yuv420p"
            for image in (self.images * 255).byte().numpy():
                out.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24").reformat(format="yuv420p")))
            out.mux(stream.encode())


class ModelPatcher:
    made = 0

    def __init__(self, model, load_device, offload_device):
        self.model, self.load_device, self.offload_device = model, load_device, offload_device
        self.model.model_loaded_weight_memory = 0
        ModelPatcher.made += 1

    def model_size(self):
        return sum(value.nbytes for value in self.model.state_dict().values())


class ProgressBar:
    shown: ClassVar[list] = []

    def __init__(self, total):
        self.total = total

    def update_absolute(self, value, total=None):
        ProgressBar.shown.append((value, total))


class Routes:
    """What the server's route table was given."""

    def __init__(self):
        self.given = {}

    def get(self, path):
        return lambda handler: self.given.setdefault(path, handler)


class Server:
    """The running server: its routes, and what it calls with each graph before it is validated."""

    def __init__(self):
        self.routes, self.handlers = Routes(), []

    def add_on_prompt_handler(self, handler):
        self.handlers.append(handler)

    def queue(self, prompt):
        """The graph as it is executed."""
        request = {"prompt": prompt}
        for handler in self.handlers:
            request = handler(request)
        return request["prompt"]


class Management(types.ModuleType):
    """comfy.model_management."""

    InterruptProcessingException = InterruptProcessingException

    def __init__(self):
        super().__init__("comfy.model_management")
        self.loaded, self.interrupted_after = [], None

    def load_models_gpu(self, models, memory_required=0, force_patch_weights=False, force_full_load=False):
        self.loaded.append((list(models), memory_required, force_full_load))

    def throw_exception_if_processing_interrupted(self):
        if self.interrupted_after is not None:
            self.interrupted_after -= 1
            if self.interrupted_after < 0:
                raise InterruptProcessingException

    def get_torch_device(self):
        return torch.device("cpu")

    unet_offload_device = intermediate_device = get_torch_device

    def get_free_memory(self, device):
        return 4 << 30

    def should_use_fp16(self, device):
        return True


def folder_paths(models_dir):
    module = types.ModuleType("folder_paths")
    module.models_dir = str(models_dir)
    module.folder_names_and_paths = {}

    def add_model_folder_path(name, path, is_default=False):
        paths, _ = module.folder_names_and_paths.setdefault(name, ([], set()))
        if path not in paths:
            paths.append(path)

    module.get_input_directory = lambda: str(models_dir / "input")
    module.get_temp_directory = lambda: str(models_dir / "temp")
    module.add_model_folder_path = add_model_folder_path
    module.get_folder_paths = lambda name: list(module.folder_names_and_paths[name][0])
    return module


def modules(models_dir):
    """What a host's `sys.modules` has, by name."""
    io = types.SimpleNamespace(ComfyNode=ComfyNode, NodeOutput=NodeOutput, Schema=Schema, Custom=io_type)
    io.Hidden = types.SimpleNamespace(prompt="PROMPT", unique_id="UNIQUE_ID")
    for name in ("Image", "Mask", "Int", "Float", "String", "Boolean", "Combo", "Video"):
        setattr(io, name, io_type(name.upper()))
    api = types.ModuleType("comfy_api.v0_0_2")
    api.ComfyExtension, api.io = ComfyExtension, io
    api.Input = types.SimpleNamespace(Video=VideoInput)
    api.InputImpl = types.SimpleNamespace(VideoFromFile=VideoFromFile, VideoFromComponents=VideoFromComponents)
    api.ui = types.SimpleNamespace(
        PreviewImage=lambda image, cls=None: ("preview", image), PreviewText=lambda value: {"text": (value,)}
    )
    graph = types.ModuleType("comfy_execution.graph_utils")
    graph.ExecutionBlocker = ExecutionBlocker
    comfy, management = types.ModuleType("comfy"), Management()
    comfy.model_management = management
    comfy.model_patcher = types.ModuleType("comfy.model_patcher")
    comfy.model_patcher.ModelPatcher = ModelPatcher
    comfy.utils = types.ModuleType("comfy.utils")
    comfy.utils.ProgressBar = ProgressBar
    server = types.ModuleType("server")
    server.PromptServer = types.SimpleNamespace(instance=Server())
    server.web = types.SimpleNamespace(FileResponse=lambda path: path, Response=lambda status: status)
    packages = {name: types.ModuleType(name) for name in ("comfy_api", "comfy_execution")}
    named = (api, graph, server, comfy, management, comfy.model_patcher, comfy.utils, folder_paths(models_dir))
    return {**packages, **{module.__name__: module for module in named}}


class Host:
    """The fake with the pack loaded from `folder` as ComfyUI's nodes.py does it: under its path, not on sys.path."""

    def __init__(self, models_dir, monkeypatch, folder=ROOT, prepare=None):
        given = modules(models_dir)
        if prepare is not None:
            prepare(given["folder_paths"])
        for name, module in given.items():
            monkeypatch.setitem(sys.modules, name, module)
        self.management = given["comfy.model_management"]
        self.folder_paths = given["folder_paths"]
        ProgressBar.shown = []
        monkeypatch.setenv("GPEN_SELF_TEST", "0")  # else each host that is made would spend its second on it
        name = str(folder).replace(".", "_x_") + "/as a pack"
        for key in [key for key in sys.modules if key.startswith(name)]:
            monkeypatch.delitem(sys.modules, key)
        spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
        self.pack = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, self.pack)
        spec.loader.exec_module(self.pack)
        self.name = name
        extension = asyncio.run(self.pack.comfy_entrypoint())
        self.nodes = {node.define_schema().node_id: node for node in asyncio.run(extension.get_node_list())}

    def module(self, name):
        return importlib.import_module(f".{name}", self.name)

    def defaults(self, node_id):
        """The values that the page fills in."""
        inputs = self.nodes[node_id].define_schema().inputs
        return {part.id: part.default for part in inputs if hasattr(part, "default")}

    def run(self, node_id, **values):
        """The outputs of a node. Values that are inputs of an option node reach it through that node."""
        return self.execute(node_id, **values).args

    def execute(self, node_id, **values):
        own = {part.id for part in self.nodes[node_id].define_schema().inputs}
        for name, option_node in {"face_options": "GPEN_FaceOptions", "look_options": "GPEN_LookOptions"}.items():
            its = {part.id for part in self.nodes[option_node].define_schema().inputs} - own
            if name in own and its & values.keys():
                given = {key: values.pop(key) for key in its & values.keys()}
                (values[name],) = self.run(option_node, **given)
        return self.nodes[node_id].execute(**{**self.defaults(node_id), **values})
