"""A1111 as far as scripts/ touches it, on the CPU; faithful to what 1.10 was seen to do in tests/test_a1111_host.py."""

import contextlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image

GRADIO = ("Row", "Dropdown", "Slider", "Textbox", "Checkbox", "HTML", "Accordion")
ROOT = Path(__file__).resolve().parents[1]


class Component:
    """A gradio component: what it was made with; a context manager as rows and accordions are."""

    made = ()

    def __init__(self, *args, **kwargs):
        self.args, self.label, self.value = args, kwargs.get("label"), kwargs.get("value")
        self.choices = kwargs.get("choices")
        Component.made = (*Component.made, self)

    @property
    def kind(self):
        return type(self).__name__

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def component(name):
    return type(name, (Component,), {})


class Script:
    """modules.scripts.Script."""


class ScriptPostprocessing:
    """modules.scripts_postprocessing.ScriptPostprocessing."""

    name, order, controls = None, 1000, None

    def process_firstpass(self, pp, **args):
        return None


class OptionInfo:
    def __init__(self, default=None, label="", component=None, component_args=None, section=None):
        self.default, self.label, self.component_args, self.section = default, label, component_args, section


class Options(types.SimpleNamespace):
    def add_option(self, key, info):
        setattr(self, key, getattr(self, key, info.default))
        self.added = {**getattr(self, "added", {}), key: info}


class Upscale(ScriptPostprocessing):
    name = "Upscale"

    def ui(self):
        return {"factor": Component()}

    def process(self, pp, factor=None):
        if factor:
            pp.image = pp.image.resize((pp.image.width * factor, pp.image.height * factor))


class ReActor(ScriptPostprocessing):
    """Swaps: the middle of the face of `astronaut` is mirrored and darkened, at any scale."""

    name, order = "ReActor", 20000

    def ui(self):
        return {"enable": Component()}

    def process(self, pp, enable=None):
        if enable:
            pp.image = Image.fromarray(swap(np.asarray(pp.image)))


def swap(array):
    scale = array.shape[1] // 512
    part = (slice(60 * scale, 190 * scale), slice(170 * scale, 280 * scale))
    out = array.copy()
    out[part] = (array[part][:, ::-1] * 0.6).astype(np.uint8)
    return out


def module(name, **members):
    made = types.ModuleType(name)
    vars(made).update(members)
    return made


class Host:
    """The fake with scripts/gpen.py loaded as the host loads it."""

    def __init__(self, models, monkeypatch, sdnext=False, operation_order=(), api_account=None, **flags):
        self.events, self.saved, self.collected = {}, [], 0
        self.opts = Options(postprocessing_operation_order=list(operation_order), samples_format="png")
        self.opts.gpen_detector, self.opts.gpen_precision = "retinaface_mobile0.25", "fp32"
        self.state = types.SimpleNamespace(interrupted=False, skipped=False, sampling_steps=0, sampling_step=0, textinfo="")
        self.state.begin, self.state.end = self._begin, self._end
        self.jobs = []
        self.cmd_opts = types.SimpleNamespace(**{"use_cpu": [], "api": True, "api_auth": None, **flags})
        members = {"opts": self.opts, "cmd_opts": self.cmd_opts, "state": self.state, "OptionInfo": OptionInfo}
        self.shared = module("modules.shared", **members)
        if not sdnext:
            self.shared.face_restorers = [types.SimpleNamespace(name=lambda: "CodeFormer")]
        self.sdnext = sdnext
        if sdnext:
            self.shared.api = Api(api_account)
        devices = module("modules.devices", torch_gc=self._collect, get_optimal_device=lambda: torch.device("cpu"))
        if not sdnext:
            devices.get_device_for = lambda task: torch.device("cpu")
        callbacks = module("modules.script_callbacks")
        for name in ("on_ui_settings", "on_before_ui", "on_app_started", "on_script_unloaded"):
            setattr(callbacks, name, lambda callback, name=name: self.events.setdefault(name, []).append(callback))
        self.scripts = module("modules.scripts", Script=Script, AlwaysVisible=object(), scripts_data=[])
        self.scripts.scripts_postproc = None
        self.lock = Lock()
        given = {
            "modules": module("modules"),
            "modules.shared": self.shared,
            "modules.devices": devices,
            "modules.script_callbacks": callbacks,
            "modules.scripts": self.scripts,
            "modules.scripts_postprocessing": module(
                "modules.scripts_postprocessing", ScriptPostprocessing=ScriptPostprocessing
            ),
            "modules.paths": module("modules.paths", models_path=str(models)),
            "modules.paths_internal": module("modules.paths_internal", **({} if sdnext else {"models_path": str(models)})),
            "modules.ui_components": module("modules.ui_components", InputAccordion=component("InputAccordion")),
            "modules.images": module("modules.images", save_image=lambda *args, **more: self.saved.append((args, more))),
            "modules.call_queue": module("modules.call_queue", queue_lock=self.lock),
            "gradio": module("gradio", **{name: component(name) for name in GRADIO}),
        }
        for name, made in given.items():
            monkeypatch.setitem(sys.modules, name, made)
            if "." in name:
                setattr(given["modules"], name.rpartition(".")[2], made)
        for name in [name for name in sys.modules if name.partition(".")[0] == "gpen_webui"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setattr(Component, "made", ())
        self.load()

    def load(self):
        """As `load_scripts` does, also at "Reload UI": the extension is on sys.path only while its file runs."""
        self.events.clear()
        spec = importlib.util.spec_from_file_location("gpen.py", ROOT / "scripts" / "gpen.py")
        script = importlib.util.module_from_spec(spec)
        path = sys.path
        sys.path = [str(ROOT), *sys.path]
        try:
            spec.loader.exec_module(script)
        finally:
            sys.path = path
        classes = [value for value in vars(script).values() if inspect.isclass(value)]
        self.script_classes = [value for value in classes if issubclass(value, Script)]
        self.extras = [value() for value in (Upscale, ReActor)]
        self.extras += [value() for value in classes if issubclass(value, ScriptPostprocessing)]
        self.scripts.scripts_postproc = types.SimpleNamespace(scripts_in_preferred_order=self.in_order)

    def fire(self, event, *args):
        for callback in self.events.get(event, []):
            callback(*args)

    def in_order(self):
        place = {name: n for n, name in enumerate(self.opts.postprocessing_operation_order)}
        return sorted(self.extras, key=lambda one: (place.get(one.name, len(self.extras)), one.order, one.name))

    def run_extras(self, image, **given):
        """As `ScriptPostprocessingRunner.run`: arguments by operation, None for what is not given."""
        pp = types.SimpleNamespace(image=image, info={}, extra_images=[])
        args = {}
        for one in self.in_order():
            one.controls = one.ui()
            args[one] = {name: given.get(one.name, {}).get(name) for name in one.controls}
        for one in args:
            one.process_firstpass(pp, **args[one])
        for one in args:
            one.process(pp, **args[one])
        return pp

    def generate(self, arrays, *args, swapped=False, mask=None, paste_to=None, whole=None, **more):
        """The end of `process_images_inner` for a batch; ReActor's place is before the composite. Pictures and infotexts."""
        script = self.script_classes[0]()
        p = types.SimpleNamespace(
            extra_generation_params={}, comments=[], mask_for_overlay=mask, paste_to=paste_to, outpath_samples="out", **more
        )
        p.comment, p.seeds, p.prompts = p.comments.append, list(range(9)), ["a face"] * 9
        samples = [torch.from_numpy(array).movedim(2, 0).float() / 255 for array in arrays]
        script.postprocess_batch_list(p, types.SimpleNamespace(images=samples), *args, batch_number=0)
        pictures, infotexts = [], []
        for p.batch_index, array in enumerate(arrays):
            image = Image.fromarray(swap(array) if swapped else array)
            if paste_to is not None:
                x, y, width, height = paste_to
                base = whole.copy()
                base.paste(image.resize((width, height)), (x, y))
                image = base
            pp = types.SimpleNamespace(image=image)
            script.postprocess_image_after_composite(p, pp, *args)
            pictures.append(np.asarray(pp.image))
            infotexts.append(dict(p.extra_generation_params))
        return pictures, infotexts, p

    def _begin(self, job):
        self.jobs.append(job)

    def _end(self):
        self.jobs.append("end")

    def _collect(self):
        self.collected += 1


class Api:
    """`modules.api.api.Api` of SD.Next: its own routes and an extension's are behind its password."""

    def __init__(self, account):
        self.account, self.routes = account, {}

    def add_api_route(self, path, fn, auth=True, **kwargs):
        self.routes[path] = auth and self.account is not None


class Lock(contextlib.AbstractContextManager):
    """Counts how often it was held."""

    held = 0

    def __enter__(self):
        self.held += 1
        return self

    def __exit__(self, *error):
        return None
