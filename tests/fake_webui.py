"""A1111 as far as scripts/ touches it, on the CPU; faithful to what tests/scripts/test_a1111_host.py saw 1.10 do."""

import contextlib
import importlib.util
import inspect
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("fastapi")  # a host's own: tests that need the fake are skipped where it is not installed

COUNTERS = ("job_no", "job_count", "sampling_steps", "sampling_step")
GRADIO = (
    "Row",
    "Dropdown",
    "Slider",
    "Textbox",
    "Checkbox",
    "CheckboxGroup",
    "Number",
    "HTML",
    "Accordion",
    "Button",
    "Image",
    "Gallery",
    "State",
    "SelectData",
)
ROOT = Path(__file__).resolve().parents[1]


class Component:
    """A gradio component: what it was made with; a context manager as rows and accordions are."""

    made = ()

    def __init__(self, *args, **kwargs):
        self.args, self.label, self.value = args, kwargs.get("label"), kwargs.get("value", args[0] if args else None)
        self.choices, self.kwargs, self.visible = kwargs.get("choices"), kwargs, kwargs.get("visible", True)
        Component.made = (*Component.made, self)

    @property
    def kind(self):
        return type(self).__name__

    def change(self, **event):
        self.changed = event

    def select(self, **event):
        self.selected = event

    def load(self, **event):
        self.loaded = event

    def click(self, fn, inputs, outputs, **more):
        self.clicked, self.inputs = (fn, outputs), inputs

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None


def component(name):
    return type(name, (Component,), {})


class AxisOption:
    def __init__(self, label, kind, apply, confirm=None, choices=None):
        self.label, self.kind, self.apply, self.confirm, self.choices = label, kind, apply, confirm, choices


class Script:
    """modules.scripts.Script."""


class ScriptPostprocessing:
    """modules.scripts_postprocessing.ScriptPostprocessing."""

    name, order, controls = None, 1000, None

    def process_firstpass(self, pp, **args):
        return None


class OptionInfo:
    category_id, do_not_save = None, False

    def __init__(self, default=None, label="", component=None, component_args=None, section=None, refresh=None):
        self.default, self.label, self.component_args, self.section = default, label, component_args, section
        self.refresh, self.told, self.component = refresh, "", component

    def html(self, text):
        self.told += text
        return self


class Options(types.SimpleNamespace):
    @property
    def data(self):
        return vars(self)

    def add_option(self, key, info):
        setattr(self, key, getattr(self, key, info.default))
        self.added = {**getattr(self, "added", {}), key: info}


class State(types.SimpleNamespace):
    """modules.shared_state.State; keeps what the page's progress bar would have shown, in percent with its text."""

    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "textinfo" and "job_count" in vars(self) and self.job_count > 0:
            share = self.sampling_step / self.sampling_steps if self.sampling_steps else 0
            self.shown = (
                *getattr(self, "shown", ()),
                (min(round(100 * (self.job_no + share) / self.job_count), 100), value),
            )


class Upscale(ScriptPostprocessing):
    name = "Upscale"

    def ui(self):
        return {"factor": Component()}

    def process(self, pp, factor=None):
        if factor:
            pp.image = pp.image.resize((pp.image.width * factor, pp.image.height * factor))
            pp.info["Postprocess upscale by"] = factor


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


def create_infotext(p, all_prompts, all_seeds, all_subseeds, index=None, all_negative_prompts=None):
    """modules.processing.create_infotext."""
    written = {"Seed": all_seeds[index], **p.extra_generation_params}
    parameters = ", ".join(f"{key}: {value}" for key, value in written.items())
    return f"{all_prompts[index]}\nNegative prompt: {all_negative_prompts[index]}\n{parameters}"


def module(name, **members):
    made = types.ModuleType(name)
    vars(made).update(members)
    return made


class Host:
    """The fake with scripts/gpen.py loaded as the host loads it."""

    def __init__(self, models, monkeypatch, sdnext=False, operation_order=(), api_account=None, **flags):
        self.events, self.saved, self.collected, self.toasts = {}, [], 0, []
        self.page, self.models = Component(), models
        self.buttons, self.refreshed = [], []
        self.opts = Options(postprocessing_operation_order=list(operation_order), samples_format="png")
        self.opts.gpen_detector, self.opts.gpen_precision = "retinaface_mobile0.25", "fp32"
        self.state = State(
            interrupted=False, skipped=False, textinfo="", job="", job_timestamp="0", **dict.fromkeys(COUNTERS, 0)
        )
        self.state.begin = (lambda title="": self.jobs.append(title)) if sdnext else (lambda job="": self.jobs.append(job))
        self.state.end = self._end
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
        for name in ("on_ui_settings", "on_after_component", "on_before_ui", "on_app_started", "on_script_unloaded"):
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
            "modules.processing": module("modules.processing", create_infotext=create_infotext),
            "modules.images": module("modules.images", save_image=lambda *args, **more: self.saved.append((args, more))),
            "modules.call_queue": module("modules.call_queue", queue_lock=self.lock),
            "modules.ui_common": module("modules.ui_common", create_refresh_button=self._refresh_button),
            "gradio": module(
                "gradio",
                update=dict,
                Warning=self.toasts.append,
                context=types.SimpleNamespace(Context=types.SimpleNamespace(root_block=self.page)),
                **{name: component(name) for name in GRADIO},
            ),
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

    def report(self):
        """The text below the result of the Extras page, once its run has ended."""
        return sys.modules["gpen_webui.run_report"].lines_html()

    def fire(self, event, *args, **more):
        for callback in self.events.get(event, []):
            callback(*args, **more)

    def add_plot(self):
        """The X/Y/Z plot's module."""
        plot = types.SimpleNamespace(axis_options=[], AxisOption=AxisOption)
        script_class = type("Plot", (), {"__module__": "xyz_grid.py"})
        self.scripts.scripts_data.append(types.SimpleNamespace(module=plot, script_class=script_class))
        return plot

    def in_order(self):
        place = {name: n for n, name in enumerate(self.opts.postprocessing_operation_order)}
        return sorted(self.extras, key=lambda one: (place.get(one.name, len(self.extras)), one.order, one.name))

    def run_extras(self, image, is_video=False, filename=None, **given):
        """As `ScriptPostprocessingRunner.run`: arguments by operation, None for what is not given. `is_video`: in Neo."""
        shared = types.SimpleNamespace(is_video=is_video)
        pp = types.SimpleNamespace(image=image, info={}, extra_images=[], shared=shared)
        args, self.state.textinfo = {}, filename
        for one in self.in_order():
            one.controls = one.ui()
            args[one] = {name: given.get(one.name, {}).get(name) for name in one.controls}
        for one in () if self.sdnext else args:
            one.process_firstpass(pp, **args[one])
        for one in args:
            if self.state.skipped and not self.sdnext:
                break
            self.state.job = one.name
            one.process(pp, **args[one])
        return pp

    def extras_page(self, images, **given):
        """As `run_postprocessing` over a batch: what is saved, and the text on the page."""
        saved, info = [], ""
        self.state.interrupted, self.state.job_no, self.state.job_count = False, 0, 1 if self.sdnext else len(images)
        self.state.job_timestamp += "1"
        try:
            for image in images:
                self.state.job_no += 0 if self.sdnext else 1
                self.state.skipped = False
                if self.state.interrupted:
                    break
                pp = self.run_extras(image, **given)
                if self.state.skipped and not self.sdnext:
                    continue
                info = ", ".join(f"{key}: {value}" for key, value in pp.info.items())
                saved.append(pp)
        except Exception as error:
            assert self.sdnext, "A1111 does not catch it"
            info = str(error)
        return saved, info

    def generate(self, arrays, *args, swapped=False, mask=None, paste_to=None, whole=None, **more):
        """The end of `process_images_inner` for a batch; ReActor's place is before the composite. Images and infotexts."""
        script = self.script_classes[0]()
        p = types.SimpleNamespace(
            extra_generation_params={}, comments=[], mask_for_overlay=mask, paste_to=paste_to, outpath_samples="out", **more
        )
        p.comment, p.seeds, p.prompts = p.comments.append, list(range(9)), ["a face"] * 9
        p.subseeds, p.negative_prompts = [0] * 9, ["a hand"] * 9
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

    def apply_ui_config(self, saved, parts):
        """As `UiLoadsave.add_component`; `saved` is ui-config.json, which gets the values of the first start."""
        for part in parts:
            if not getattr(part, "do_not_save_to_config", False):
                part.value = saved.setdefault(f"{part.label}/value", part.value)

    def setting(self, key):
        """As `create_setting_component`."""
        info = self.opts.added[key]
        return info.component(label=info.label, value=self.opts.data[key], elem_id=f"setting_{key}")

    def _end(self):
        self.jobs.append("end")

    def _refresh_button(self, refreshed, method, args, elem_id):
        """As `create_refresh_button`; the button is kept with what a click does to the component."""
        self.buttons.append((method, args))
        self.refreshed.append(Component())
        return self.refreshed[-1]

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
