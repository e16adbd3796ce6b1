"""scripts/ in a fake A1111, see fake_webui.py; test_a1111_host.py has the real ones."""

import argparse
import gc
import re
import shutil
import sys
import types
import weakref

import fake_webui
import helpers
import numpy as np
import pytest
import torch
from fake_webui import Component
from PIL import Image
from webui_fixtures import RED, is_red, script_arguments

from gpen_core import (
    FaceRestorer,
    GpenError,
    InputError,
    MissingDependency,
    MissingWeights,
    OutOfMemory,
    ProgressEvent,
    RestoreOptions,
    declared_options,
)

pytest_plugins = ["onnx_files", "webui_fixtures"]


@pytest.fixture
def photo(astronaut):
    return Image.fromarray(astronaut)


ON = {"GPEN": {"enable": True, "model": RED, "strength": 1.0}}


# Extras


def test_extras_is_off_unless_ticked(host, photo):
    for given in ({}, {"GPEN": {}}, {"GPEN": {"enable": False, "model": RED}}):
        pp = host.run_extras(photo, **given)
        assert pp.image is photo and pp.info == {}


def test_extras_restores_and_says_so(host, photo):
    pp = host.run_extras(photo, **ON)
    assert is_red(pp.image).sum() > 10_000 and (np.asarray(pp.image)[300:] == np.asarray(photo)[300:]).all()
    detector = {"GPEN detector": "retinaface_mobile0.25"}  # another than the default
    assert pp.info == {"GPEN model": RED, "GPEN faces": 1, **detector}
    assert host.state.textinfo.startswith("GPEN: ")


def test_extras_keeps_alpha(host, photo):
    rgba = photo.convert("RGBA")
    rgba.putalpha(Image.linear_gradient("L").resize(rgba.size))
    out = host.run_extras(rgba, **ON).image
    assert out.mode == "RGBA" and out.getchannel("A").tobytes() == rgba.getchannel("A").tobytes() and is_red(out).any()


@pytest.mark.parametrize("image", [Image.new("RGB", (1, 1)), Image.new("L", (70, 50), 9), Image.new("RGBA", (64, 64))])
def test_extras_without_a_face(host, image):
    pp = host.run_extras(image, **ON)
    assert pp.image.tobytes() == image.tobytes() and pp.info["GPEN faces"] == 0


@pytest.mark.parametrize("folder", ["", "/photos/", "C:/photos/"])
def test_extras_names_the_file_of_a_batch_without_a_face(host, folder):
    for name in ("one.png", "two.png", None):
        host.run_extras(Image.new("RGB", (64, 64)), filename=name and folder + name, **ON)
    files = re.findall(r"<span>([^<]*)no face found", host.report())
    assert files == ["one.png: ", "two.png: ", ""]


def test_extras_works_after_upscaling_and_the_swap(host, photo):
    assert [one.name for one in host.in_order()] == ["Upscale", "ReActor", "GPEN"]
    pp = host.run_extras(photo, Upscale={"factor": 2}, ReActor={"enable": True}, **ON)
    assert pp.image.size == (1024, 1024) and is_red(pp.image).sum() > 40_000  # nothing came after it


@pytest.mark.slow
def test_extras_restores_only_what_the_swap_changed(host, photo):
    given = {"GPEN": {**ON["GPEN"], "only_swapped": True}}
    assert not is_red(host.run_extras(photo, Upscale={"factor": 2}, **given).image).any()
    pp = host.run_extras(photo, Upscale={"factor": 2}, ReActor={"enable": True}, **given)
    assert is_red(pp.image).any() and pp.info["GPEN faces"] == 1


@pytest.fixture(params=["a1111", "sdnext"])
def either(request, webui_models, monkeypatch):
    made = fake_webui.Host(webui_models, monkeypatch, sdnext=request.param == "sdnext")
    made.opts.gpen_model = RED
    return made


ABSENT = {"GPEN": {"enable": True, "model": "GPEN-BFR-512.pth"}}


@pytest.mark.parametrize("model", ["gpen-broken.pth", "GPEN-BFR-512.pth", "../../etc/passwd"])
@pytest.mark.slow
def test_an_image_that_was_not_restored_is_not_saved(either, photo, model, caplog):
    saved, info = either.extras_page([photo], GPEN={"enable": True, "model": model})
    assert saved == [] and (model in info) == either.sdnext  # which shows why a run ended
    assert model in caplog.text and model in either.report() and "This image is not saved" in either.report()
    (toast,) = either.toasts
    assert toast.startswith("GPEN restored nothing: ") and len(toast) < 130 and str(either.models) not in toast
    assert len(either.extras_page([photo], **ON)[0]) == 1 and either.report() == ""


@pytest.mark.parametrize(("model", "words"), [("GPEN-BFR-512.pth", "missing"), ("gpen-broken.pth", "refused")])
def test_the_setting_saves_it_with_one_short_line(either, photo, model, words):
    either.opts.gpen_keep_failed = True
    (pp,), _ = either.extras_page([photo], GPEN={"enable": True, "model": model})
    assert np.array_equal(np.asarray(pp.image), np.asarray(photo)) and pp.info == {"GPEN failed": f"weights {WERE[words]}"}
    assert WERE[words] in either.toasts[0] and model in either.report() and "This image is not saved" not in either.report()


WERE = {"missing": "are missing", "refused": "were refused"}


def test_bad_numbers_and_interrupts_save_nothing_either(host, photo, monkeypatch):
    bad = {"GPEN": {**ON["GPEN"], "faces": "first"}}
    assert host.extras_page([photo], **bad)[0] == [] and "first" in host.toasts[0]
    ui = host.extras[0].process  # the user stops while the operation before ours works
    monkeypatch.setattr(
        host.extras[0], "process", lambda pp, **given: (ui(pp, **given), setattr(host.state, "interrupted", True))
    )
    assert host.extras_page([photo, photo], **ON)[0] == [] and "interrupted" in host.toasts[1]


def test_what_earlier_operations_made_is_kept_and_not_called_restored(either, photo):
    """SD.Next has no first pass: there, operations that write parameters are seen."""
    (pp,), info = either.extras_page([photo], Upscale={"factor": 2}, **ABSENT)
    assert pp.image.size == (1024, 1024) and not is_red(pp.image).any()
    assert "GPEN failed: weights are missing" in info and "GPEN faces" not in info
    assert "The result of the earlier operations is kept" in either.report() and len(either.toasts) == 1
    (pp,), _ = either.extras_page([photo], Upscale={"factor": 2}, **ON)
    assert pp.info["GPEN faces"] == 1 and "GPEN failed" not in pp.info


def test_a_skipped_image_is_not_said_to_be_kept(host, photo, monkeypatch):
    """The host drops it, whatever earlier operations made."""
    restore = sys.modules["gpen_webui.engine"].restore

    def skipped_amid(*given, **named):
        host.state.skipped = True
        return restore(*given, **named)

    monkeypatch.setattr("gpen_webui.engine.restore", skipped_amid)
    assert host.extras_page([photo], Upscale={"factor": 2}, **ON) == ([], "")
    assert "Skipped. This image is not saved." in host.report() and host.toasts == []


def test_a_failure_that_depends_on_the_image_names_its_file(host, tmp_path, photo):
    photo.save(tmp_path / "photo.png")
    (tmp_path / "broken.png").write_bytes((tmp_path / "photo.png").read_bytes()[:9000])
    host.run_extras(Image.open(tmp_path / "broken.png"), filename=str(tmp_path / "broken.png"), **ON)
    assert "<span>broken.png:</span> <span>GPEN restored nothing" in host.report() and "broken.png" not in host.toasts[0]
    host.run_extras(photo, filename="photo.png", **ABSENT)
    assert "photo.png" not in host.report()  # each image of the folder would be listed


@pytest.mark.parametrize("order", [1, -1])
def test_a_run_that_takes_as_long_as_the_one_before_shows_its_own_report(host, order):
    """The report follows the host's log, whose only text is the duration. So the log is emptied when a run starts."""
    button, log = Component(), Component()
    host.fire("on_before_ui")
    for name, part in [("extras_generate", button), ("html_log_extras", log)][::order]:
        host.fire("on_after_component", part, elem_id=name)
    assert button.clicked == (None, [log]) and log.changed["outputs"][0].kwargs["elem_id"] == "gpen_report_extras"


def test_no_frame_of_a_video_is_skipped(host, photo):
    pp = host.run_extras(photo, is_video=True, **ABSENT)
    assert pp.image is photo and not host.state.skipped
    assert "no frame is missing" in host.report() and len(host.toasts) == 1
    assert is_red(host.run_extras(photo, is_video=True, **ON).image).any() and "gpen video" in host.report()


def test_in_the_main_page_the_image_is_always_kept(host, photo):
    """Where the operation runs as a Script, `skipped` would stop the generation."""
    host.state.job = "task(txt2img-1)"
    pp = types.SimpleNamespace(image=photo, info={})
    host.extras[-1].process(pp, **ABSENT["GPEN"])
    assert pp.image is photo and not host.state.skipped and pp.info == {"GPEN failed": "weights are missing"}


def watched_loads(monkeypatch):
    """The models that are loaded, also where that fails, and the restorers that exist."""
    models, restorers, load = [], weakref.WeakSet(), FaceRestorer.load

    def watched(model, *given, **named):
        models.append(model)
        restorers.add(restorer := load(model, *given, **named))
        return restorer

    monkeypatch.setattr(FaceRestorer, "load", watched)
    return models, restorers


def test_what_one_request_misses_does_not_fail_the_next_one(host, photo):
    """To keep eyes needs ParseNet, which is missing; to keep nothing, or what lies over the face, does not."""
    keeping = {"GPEN": {**ON["GPEN"], "mask_type": "feather", "preserve": "eyes"}}
    assert host.extras_page([photo], **keeping)[0] == []
    for preserve in ("", "occluders"):
        (pp,), _ = host.extras_page([photo], GPEN={**keeping["GPEN"], "preserve": preserve})
        assert pp.info["GPEN faces"] == 1
    assert host.extras_page([photo], **keeping)[0] == []


def test_a_missing_file_is_asked_for_once_in_a_run(host, photo, monkeypatch, webui_models):
    missing = sys.modules["gpen_webui.failure_cache"]
    asked, _ = watched_loads(monkeypatch)
    assert host.extras_page([photo] * 6, **ABSENT)[0] == [] and len(asked) == 1 and len(host.toasts) == 1
    host.extras_page([photo], **ABSENT)
    assert len(asked) == 1 and len(host.toasts) == 2  # a new run says it again
    assert len(host.extras_page([photo], **ON)[0]) == 1 and len(asked) == 2  # another model is another matter
    host.extras_page([photo] * 2, **ABSENT)
    assert len(asked) == 3
    (webui_models / "GPEN" / "new.txt").write_text("something was put there")
    host.extras_page([photo] * 2, **ABSENT)
    assert len(asked) == 4
    now = missing.time.monotonic()
    monkeypatch.setattr(missing.time, "monotonic", lambda: now + 60 * missing.RETRY_MINUTES + 1)
    host.extras_page([photo] * 2, **ABSENT)
    assert len(asked) == 5
    host.buttons[0][0]()  # "refresh"
    host.extras_page([photo] * 2, **ABSENT)
    assert len(asked) == 6
    host.extras[-1].image_changed()  # another image is put into the page
    host.extras_page([photo] * 2, **ABSENT)
    assert len(asked) == 7


def test_messages_name_what_this_host_has(host, photo, webui_models):
    host.extras_page([photo], **ABSENT)
    said = host.report()
    assert "--gpen-models-path" in said and "GPEN_MIRROR" in said and str(webui_models / "GPEN") in said
    assert not any(option in said for option in ("--models-dir", "--mirror", "--max-memory"))


def test_the_bar_moves_and_counts(host, photo):
    bar, state = sys.modules["gpen_webui.host_progress"], host.state
    state.job_no, state.job_count, state.sampling_step, state.sampling_steps = 2, 4, 20, 20  # at the second of four images
    tell = bar.HostProgress()
    with bar.progress_scope():
        tell(ProgressEvent("load", 0, None, "model", "Loading it"))
        tell(ProgressEvent("download", 0, None, "byte", "Waiting"))
        tell(ProgressEvent("download", 71_000_000, 284_000_000, "byte", "A.pth: Downloading from here"))
        tell(ProgressEvent("download", 2_000_000, None, "byte", "B.pth: Downloading from here"))
        tell(ProgressEvent("download", 50, 200, "byte", "C.pth: Downloading from here"))
        tell(ProgressEvent("load", 2, 2, "model", "Loaded"))
        tell(ProgressEvent("detect", 0, None, "image", "Detecting faces"))
        tell(ProgressEvent("restore", 3, 29, "face", "Restoring faces"))
        tell(ProgressEvent("restore", 150_000, 600_000, "frame", "Restoring frames"))
    assert [text for _, text in state.shown] == [
        "GPEN: Loading it",
        "GPEN: Waiting",
        "GPEN: 71 of 284 MB, A.pth: Downloading from here",
        "GPEN: 2 MB, B.pth: Downloading from here",
        "GPEN: 0 of 0 MB, C.pth: Downloading from here",
        "GPEN: Loaded 2/2",
        "GPEN: Detecting faces",
        "GPEN: Restoring faces 3/29",
        "GPEN: Restoring frames 150000/600000",
    ]
    assert [percent for percent, _ in state.shown] == [25, 25, 31, 25, 31, 50, 25, 28, 31]
    assert (state.job_no, state.job_count, state.sampling_step, state.sampling_steps) == (2, 4, 20, 20)


def test_the_rate_of_a_download(host, monkeypatch):
    bar = sys.modules["gpen_webui.host_progress"]
    clock = iter((10.0, 10.5, 12.0))
    monkeypatch.setattr(bar.time, "monotonic", lambda: next(clock))
    tell = bar.HostProgress()
    for done in (50_000_000, 51_000_000, 60_000_000):  # 50 MB were there from an earlier run
        tell(ProgressEvent("download", done, 284_000_000, "byte", "Downloading"))
    assert host.state.textinfo == "GPEN: 60 of 284 MB, 5.0 MB/s, Downloading"


@pytest.mark.parametrize(
    ("order", "warned"), [(["GPEN"], True), (["GPEN", "ReActor"], True), (["ReActor", "GPEN"], False), ([], False)]
)
def test_a_users_order_that_puts_it_before_reactor_is_warned_of(webui_models, monkeypatch, order, warned):
    host = fake_webui.Host(webui_models, monkeypatch, operation_order=order)
    host.extras[-1].ui()
    assert any("before ReActor" in str(one.args) for one in Component.made) == warned


def test_the_controls_are_what_is_understood(host):
    controls = sys.modules["gpen_webui.controls"]
    assert list(host.extras[-1].ui()) == ["enable", *controls.CONTROL_NAMES]
    script = host.script_classes[0]()
    assert len(script.ui(False)) == len(controls.CONTROL_NAMES) + 2
    assert all(one.label for one in script.ui(True))


# txt2img and img2img


def args(save=False, **chosen):
    return script_arguments(color="none", save_before=save, **chosen)


@pytest.mark.slow
def test_every_image_of_a_batch_has_its_keys(host, astronaut):
    blank = np.full_like(astronaut, 90)
    pictures, infos, _ = host.generate([astronaut, blank, astronaut], *args())
    assert [info["GPEN faces"] for info in infos] == [1, 0, 1]
    assert all(info["GPEN model"] == RED and info["GPEN color"] == "none" for info in infos)
    assert is_red(pictures[0]).any() and (pictures[1] == 90).all()


def test_off_and_strength_zero_change_nothing(host, astronaut):
    for given in ((), (False,), (None,) * 11):
        pictures, infos, _ = host.generate([astronaut], *given)
        assert (pictures[0] == astronaut).all() and infos == [{}]
    pictures, infos, _ = host.generate([astronaut], *args(strength=0))
    assert (pictures[0] == astronaut).all() and infos[0]["GPEN faces"] == 0


def test_fewer_arguments_take_defaults(host, astronaut):
    assert is_red(host.generate([astronaut], True)[0][0]).any()


def test_inpainting_is_limited_to_the_mask(host, astronaut):
    mask = Image.new("L", (512, 512), 0)
    mask.paste(255, (0, 0, 220, 512))
    (picture,), _, _ = host.generate([astronaut], *args(), mask=mask)
    assert is_red(picture)[:, :220].any() and (picture[:, 220:] == astronaut[:, 220:]).all()


@pytest.mark.slow
def test_only_masked_compares_with_what_was_sampled(host, astronaut):
    whole = Image.new("RGB", (700, 600), (40, 50, 60))
    place = {"paste_to": (100, 50, 512, 512), "whole": whole}
    assert not is_red(host.generate([astronaut], *args(only_swapped=True), **place)[0][0]).any()
    assert is_red(host.generate([astronaut], *args(only_swapped=True), swapped=True, **place)[0][0]).any()


@pytest.mark.slow
def test_only_masked_where_the_host_leaves_the_part_alone(host, astronaut):
    host.opts.overlay_inpaint = False
    mask = Image.new("L", (700, 600), 0)
    mask.paste(255, (0, 0, 320, 600))  # of the whole image, in which the part begins at 100, 50
    script = host.script_classes[0]()
    p = fake_webui.types.SimpleNamespace(
        extra_generation_params={}, mask_for_overlay=mask, paste_to=(100, 50, 512, 512), batch_index=0
    )
    pp = fake_webui.types.SimpleNamespace(image=Image.fromarray(astronaut))
    script.postprocess_image_after_composite(p, pp, *args())
    assert is_red(pp.image)[:, :220].any() and (np.asarray(pp.image)[:, 220:] == astronaut[:, 220:]).all()


def test_what_is_left_out_or_odd(host, photo, astronaut):
    assert is_red(host.run_extras(photo, GPEN={"enable": True, "faces": ""}).image).any()  # all
    assert host.extras_page([photo], GPEN={"enable": True, "strength": "high"})[0] == [] and "strength" in host.toasts[0]
    host.opts.gpen_model = "GPEN-BFR-512.pth"
    assert host.generate([astronaut], True, None, None)[1][0]["GPEN failed"] == "weights are missing"


def test_only_changed_faces_in_the_main_page(host, astronaut):
    assert host.generate([astronaut], *args(only_swapped=True))[1][0]["GPEN faces"] == 0
    assert host.generate([astronaut], *args(only_swapped=True), swapped=True)[1][0]["GPEN faces"] == 1


def test_an_error_is_shown_below_the_image(host, astronaut):
    pictures, infos, p = host.generate([astronaut], *args(model="GPEN-BFR-512.pth"))
    assert (pictures[0] == astronaut).all() and "GPEN-BFR-512.pth" in p.comments[0]
    failed = {"GPEN model": "GPEN-BFR-512.pth", "GPEN faces": 0, "GPEN failed": "weights are missing"}
    assert infos[0].items() >= failed.items()
    assert host.toasts == ["GPEN restored nothing: weights are missing."] and host.report() == ""


def test_the_image_before_is_saved_where_asked_for(host, astronaut):
    host.generate([astronaut, np.zeros_like(astronaut), astronaut], *args(save=True))
    first, second = host.saved
    assert (np.asarray(first[0][0]) == astronaut).all() and first[1]["suffix"] == "-before-gpen"
    assert [more["info"] for _, more in (first, second)] == [
        f"a face\nNegative prompt: a hand\nSeed: {seed}" for seed in (0, 2)
    ]  # without the entries of GPEN, also those of the images before it


def test_an_axis_of_the_plot_takes_over(host, astronaut):
    plot = host.add_plot()
    for _ in range(2):  # the plot's module outlives "Reload UI"
        host.fire("on_before_ui")
    axes = {one.label.removeprefix("[GPEN] "): one for one in plot.axis_options}
    assert len(axes) == len(plot.axis_options) and RED in axes["Model"].choices()
    p = types.SimpleNamespace()
    axes["Strength"].apply(p, 0.5, [])
    axes["Model"].apply(p, RED, [])
    _, infos, _ = host.generate([astronaut], gpen_xyz=p.gpen_xyz)
    assert infos[0]["GPEN strength"] == 0.5 and infos[0]["GPEN model"] == RED


@pytest.mark.parametrize(
    ("axis", "good", "bad"),
    [
        ("Model", [RED, "auto", "gpen-bfr-512"], "gpen-typo"),
        ("Detector", ["retinaface_mobile0.25"], "no detector"),
        ("Strength", [0.0, 1.0], 1.5),
        ("Faces", ["all", "0,2-4"], "biggest"),
        ("Preserve", ["eyes,mouth", ""], "eyes,tail"),
    ],
)
def test_an_axis_refuses_a_value_before_anything_is_generated(host, axis, good, bad):
    plot = host.add_plot()
    host.fire("on_before_ui")
    (found,) = [one for one in plot.axis_options if one.label == f"[GPEN] {axis}"]
    found.confirm(None, good)
    with pytest.raises(GpenError, match=str(bad).rpartition(",")[2]):
        found.confirm(None, [*good, bad])


# The restorer and ReActor


def test_the_restorer_is_listed_once_also_after_a_reload(host, astronaut):
    for _ in range(3):
        assert [one.name() for one in host.shared.face_restorers] == ["CodeFormer", "GPEN"]
        host.load()
    out = host.shared.face_restorers[-1].restore(astronaut)
    assert out.dtype == np.uint8 and out.shape == astronaut.shape and is_red(out).any()


def test_a_problem_of_the_restorer_is_told_at_the_next_image(host, astronaut):
    host.opts.gpen_model = "GPEN-BFR-512.pth"
    assert host.shared.face_restorers[-1].restore(astronaut) is astronaut
    _, infotexts, p = host.generate([astronaut, astronaut])
    assert len(p.comments) == 1 and "GPEN-BFR-512.pth" in p.comments[0]
    assert infotexts == [{"GPEN failed": "weights are missing"}, {}]


def reactor_module(monkeypatch, source="def restore_face(image, enhancement_options):\n    return 'GFPGAN'\n"):
    module = types.ModuleType("scripts.reactor_swapper")
    exec(source, vars(module))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


def choice(name, strength=1.0):
    restorer = types.SimpleNamespace(name=lambda: name)
    return types.SimpleNamespace(face_restorer=restorer, restorer_visibility=strength)


def test_reactor_runs_what_is_chosen_there(host, photo, monkeypatch):
    module = reactor_module(monkeypatch)
    host.fire("on_before_ui")
    wrapped = module.restore_face
    host.fire("on_app_started", None, None)
    assert module.restore_face is wrapped  # once
    assert wrapped(photo, choice("CodeFormer")) == "GFPGAN"
    assert wrapped(photo, types.SimpleNamespace(face_restorer=None)) == "GFPGAN"
    assert is_red(wrapped(photo, choice("GPEN"))).any()
    half = wrapped(photo, choice("GPEN", 0.5))
    assert (np.asarray(half).astype(int) - np.asarray(photo))[..., 0].max() > 20 and not is_red(half).any()
    host.opts.gpen_wrap_reactor = False
    assert wrapped(photo, choice("GPEN")) == "GFPGAN"


def test_reactor_is_left_alone_where_it_looks_different_or_the_setting_is_off(host, monkeypatch, caplog):
    module = reactor_module(monkeypatch, "def restore_face(image, options, more):\n    return 'new'\n")
    for _ in range(2):
        host.fire("on_before_ui")
    assert module.restore_face(1, 2, 3) == "new" and caplog.text.count("has unexpected parameters") == 1
    host.opts.gpen_wrap_reactor = False
    module = reactor_module(monkeypatch)
    host.fire("on_before_ui")
    assert not hasattr(module.restore_face, "gpen")


def test_a_failure_in_reactor_keeps_the_image(host, photo, monkeypatch, caplog):
    module = reactor_module(monkeypatch)
    host.fire("on_before_ui")
    host.opts.gpen_model = "GPEN-BFR-512.pth"
    assert module.restore_face(photo, choice("GPEN")) is photo and "restored nothing in ReActor: " in caplog.text


# Around it


def test_settings_and_the_flag(host):
    host.fire("on_ui_settings")
    names = {"model", "detector", "precision", "unload", "wrap_reactor", "models_path", "keep_failed", "self_test"}
    names |= {option.name for option in declared_options(RestoreOptions, "a1111", "look", "detection")}
    assert {key.removeprefix("gpen_") for key in host.opts.added} == names
    assert all(info.section == ("gpen", "GPEN") and info.label for info in host.opts.added.values())
    assert all(len(info.label) < 25 for info in host.opts.added.values())
    assert {info.category_id for info in host.opts.added.values()} == {"postprocessing"}
    sys.path.insert(0, str(fake_webui.ROOT))
    try:
        import preload
    finally:
        sys.path.pop(0)
    parser = argparse.ArgumentParser()
    preload.preload(parser)
    assert parser.parse_args(["--gpen-models-path", "x"]).gpen_models_path == "x"


@pytest.mark.slow
def test_a_model_that_was_replaced_is_refused_until_it_is_trusted_and_then_loaded(host, webui_models, photo):
    name, folder = "gpen-mine-256.pth", webui_models / "GPEN"
    file = folder / name
    shutil.copy(folder / RED, file)
    chosen = {"GPEN": {"enable": True, "model": name, "strength": 1.0}}
    host.extras[-1].ui()
    trust, _ = next(one for one in Component.made if one.kind == "Button" and "Accept" in str(one.args)).clicked
    try:
        assert is_red(host.run_extras(photo, **chosen).image).any()
        torch.save(helpers.identity_weights(256), file)
        host.state.skipped = False
        host.run_extras(photo, **chosen)
        host.state.skipped = False
        assert "Accept this model" in host.report()
        assert max(map(len, host.toasts[-1].split())) < 40  # toasts cut off long words
        assert "is now accepted" in trust(name)["value"] and "is not a model file" in trust("../x.pth")["value"]
        pp = host.run_extras(photo, **chosen)
        assert pp.info["GPEN faces"] == 1 and not is_red(pp.image).any()  # the new one's
    finally:
        file.unlink()


def test_the_lists_say_what_is_there_and_look_anew(host, webui_models):
    host.fire("on_ui_settings")
    model = host.opts.added["gpen_model"]
    host.extras[-1].ui()
    assert "the default everywhere else" in model.told
    assert "download" not in model.told + host.opts.added["gpen_detector"].told  # a text that no download could change
    assert host.buttons[0][1]()["choices"][:2] == ["auto", "auto:256"] and model.default == "auto"
    file = webui_models / "GPEN" / "any name.pth"
    shutil.copy(webui_models / "GPEN" / RED, file)
    try:
        _, choices = host.buttons[0]
        refreshed, outputs = host.refreshed[0].clicked
        shown = refreshed(RED, "as in the settings", "auto", [])
        assert file.name in choices()["choices"] and file.name in shown[0]["choices"]
        assert [one.kind for one in outputs] == ["Dropdown", "HTML", "Button"]
        assert file.name in model.component_args()["choices"] and all(isinstance(one, str) for one in choices()["choices"])
    finally:
        file.unlink()


@pytest.mark.slow
def test_a_folder_with_only_an_onnx_file_restores(webui_models, monkeypatch, tmp_path, photo, exported_onnx):
    for name in ("GPEN", "facerestore_models"):
        (tmp_path / name).mkdir()
    shutil.copy(webui_models / "GPEN" / helpers.DETECTOR_FILE, tmp_path / "GPEN")
    shutil.copy(exported_onnx, tmp_path / "facerestore_models" / "GPEN-BFR-256.onnx")
    host = fake_webui.Host(tmp_path, monkeypatch)
    assert sys.modules["gpen_webui.models_list"].is_downloaded("GPEN-BFR-256.pth")
    pp = host.run_extras(photo, GPEN={"enable": True, "model": "GPEN-BFR-256.pth", "strength": 1.0})
    assert pp.info["GPEN faces"] == 1 and pp.image.tobytes() != photo.tobytes()
    assert (tmp_path / "GPEN" / "GPEN-BFR-256.safetensors").exists()


def test_the_models_folder_is_made_where_it_can_be(webui_models, monkeypatch, tmp_path, caplog):
    host = fake_webui.Host(tmp_path, monkeypatch)
    host.extras[-1].ui()
    assert (tmp_path / "GPEN").is_dir() and not caplog.records
    host.opts.gpen_models_path = str(tmp_path / "no" / "such")
    host.extras[-1].ui()
    assert "could not create the folder" in caplog.text


def test_what_names_files_cannot_be_set_over_the_hosts_api(host):
    host.fire("on_ui_settings")
    assert {name for name, info in host.shared.opts.added.items() if info.restrict_api} == {
        "gpen_models_path",
        "gpen_detector",
    }


def test_a_page_that_is_loaded_again_shows_the_files_that_are_there_now(host, webui_models):
    host.fire("on_before_ui")
    for _ in range(2):
        host.extras[-1].ui()
    host.fire("on_after_component", Component(), elem_id="footer")
    event = host.page.loaded
    file = webui_models / "GPEN" / "gpen-later.pth"
    shutil.copy(webui_models / "GPEN" / RED, file)
    try:
        shown = event["fn"](*(one.value for one in event["inputs"]))
    finally:
        file.unlink()
    assert [one.kind for one in event["outputs"]] == ["Dropdown", "HTML", "Button"] * 2 and len(shown) == 6
    assert file.name in shown[0]["choices"] and file.name in shown[3]["choices"] and "value" not in shown[0]


def test_the_default_model_is_auto_and_auto_takes_what_is_there(host, webui_models, photo, monkeypatch):
    host.opts.gpen_model = None  # as it is where nothing was set
    host.extras[-1].ui()
    assert next(one for one in Component.made if one.label == "Model").value == "auto"
    models, _ = watched_loads(monkeypatch)
    (pp,), _ = host.extras_page([photo], Upscale={"factor": 2}, GPEN={"enable": True})
    assert models == ["auto"] and pp.info["GPEN failed"] == "weights are missing"
    assert "GPEN-BFR-2048.pth" in host.report()  # what would have been fetched
    file = webui_models / "GPEN" / "GPEN-BFR-512.safetensors"
    helpers.write_weights(file.parent, {file.name: helpers.constant_weights(512, (1, 0, 0))})
    try:
        (pp,), _ = host.extras_page([photo], Upscale={"factor": 4}, GPEN={"enable": True})
        assert pp.info["GPEN model"] == "auto" and pp.info["GPEN faces"] == 1 and is_red(pp.image).any()
        assert "GPEN-BFR-1024 would suit" in host.report()
    finally:
        file.unlink()


def test_a_missing_package_has_its_own_message(host, photo, monkeypatch):
    def load(*given, **named):
        raise MissingDependency("The package facexlib, which parses faces, is not installed.")

    monkeypatch.setattr(FaceRestorer, "load", load)
    assert host.extras_page([photo], **ON)[0] == []
    assert "package facexlib" in host.toasts[0] and "facexlib" in host.report() and "weights" not in host.report()


def test_detection_size_and_angles_come_from_the_settings(host):
    options = sys.modules["gpen_webui.controls"].parse_values(enable=True).options
    assert (options.detection_size, options.angles) == (2000, "auto")
    host.opts.gpen_detection_size, host.opts.gpen_angles = 1000.0, "all"  # gradio's sliders may give floats
    options = sys.modules["gpen_webui.controls"].parse_values(enable=True).options
    assert (options.detection_size, options.angles) == (1000, "all")


def test_models_folders(host, webui_models):
    dirs = sys.modules["gpen_webui.host"].models_dirs
    assert [path.name for path in dirs()] == ["GPEN", "facerestore_models", "GFPGAN"]
    host.opts.gpen_models_path = "/elsewhere"
    assert str(dirs()[0]).endswith("elsewhere")
    host.cmd_opts.gpen_models_path = "/by-flag"
    assert str(dirs()[0]).endswith("by-flag") and len(dirs()) == 3


@pytest.mark.parametrize(("use_cpu", "kind"), [(["all"], "cpu"), (["GPEN"], "cpu"), (["sd"], "meta"), (None, "meta")])
def test_use_cpu(host, use_cpu, kind):
    host.cmd_opts.use_cpu = use_cpu
    sys.modules["modules.devices"].get_device_for = lambda task: torch.device("meta")
    assert sys.modules["gpen_webui.host"].device().type == kind


def test_the_networks_leave_the_device_where_the_host_says_so(host, photo):
    host.run_extras(photo, **ON)
    before = host.collected
    host.opts.face_restoration_unload = True
    host.run_extras(photo, **ON)
    assert host.collected == before + 1


def test_the_networks_are_forgotten_with_the_scripts(host, photo, monkeypatch):
    models, restorers = watched_loads(monkeypatch)
    for _ in range(2):
        host.run_extras(photo, **ON)
    assert models == [RED] and len(restorers) == 1
    host.fire("on_script_unloaded")
    gc.collect()
    assert not restorers


def test_a_device_that_is_too_full_for_the_networks_is_said_in_a_sentence(host, photo, monkeypatch):
    host.run_extras(photo, **ON)

    def to(module, *what, **more):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.nn.Module, "to", to)
    with pytest.raises(OutOfMemory, match=r"not enough memory for the networks .CUDA .*use a smaller model"):
        sys.modules["gpen_webui.engine"].restore(photo, RED, RestoreOptions())


@pytest.mark.parametrize("name", ["utils", "forge_util"])
def test_forge_is_asked_to_make_room(host, monkeypatch, name):
    asked = []
    sys.modules["gpen_webui.host"].free_memory()  # elsewhere nothing happens
    utils = types.SimpleNamespace(prepare_free_memory=lambda: asked.append(1))
    monkeypatch.setitem(sys.modules, "modules_forge", types.ModuleType("modules_forge"))
    monkeypatch.setitem(sys.modules, f"modules_forge.{name}", utils)
    sys.modules["gpen_webui.host"].free_memory()
    assert asked == [1]


# SD.Next


@pytest.fixture
def sdnext(webui_models, monkeypatch):
    made = fake_webui.Host(webui_models, monkeypatch, sdnext=True, api_account="user:secret")
    made.opts.gpen_model = RED
    return made


def test_sdnext_has_no_list_of_restorers_and_its_folders_elsewhere(sdnext, photo):
    assert is_red(sdnext.run_extras(photo, **ON).image).any()
    assert [path.name for path in sys.modules["gpen_webui.host"].models_dirs()] == ["GPEN", "facerestore_models", "GFPGAN"]


def test_sdnext_makes_the_accordion_itself_and_ours_can_be_ticked(sdnext):
    enable = sdnext.extras[-1].ui()["enable"]
    assert enable.kind == "Checkbox" and not [one for one in Component.made if one.args[:1] == ("GPEN",)]
    enable = sdnext.script_classes[0]().ui(False)[0]
    titled = [one.kind for one in Component.made if one.args[:1] == ("GPEN Face Restore",)]
    assert enable.kind == "Checkbox" and titled == ["Accordion"]
    assert not [one for one in Component.made if one.kind == "InputAccordion"]


def test_sdnexts_page_for_images_does_not_offer_what_needs_the_image_before_a_swap(sdnext, host):
    offered = [made.extras[-1].ui()["only_swapped"].visible for made in (sdnext, host)]
    assert offered == [False, True] and sdnext.script_classes[0]().ui(False)
    assert [one.visible for one in Component.made if one.kwargs.get("label") == "Only swapped faces"] == [False, True, True]


def test_sdnexts_console_shows_our_messages_after_an_error(sdnext, photo, caplog):
    """Its ring buffer then formats a record in place and keeps the arguments, so that later handlers cannot format it."""
    with pytest.raises(MissingWeights):
        sdnext.run_extras(photo, **ABSENT)
    (record,) = [one for one in caplog.records if "GPEN restored nothing" in one.getMessage()]
    record.msg = record.getMessage()
    assert "weights are missing" in record.getMessage()


def test_sdnexts_videos_are_refused_with_the_command(sdnext):
    with pytest.raises(InputError, match="Use gpen video on the command line"):
        sdnext.run_extras(None, **ON)


def test_sdnext_has_one_place_for_finished_images(sdnext, host, astronaut):
    for running, expected in ((sdnext, True), (host, False)):  # elsewhere the later place would restore a second time
        p, pp = types.SimpleNamespace(extra_generation_params={}), types.SimpleNamespace(image=Image.fromarray(astronaut))
        running.script_classes[0]().postprocess_image(p, pp, *args())
        assert is_red(pp.image).any() == expected


def test_sdnexts_password_guards_our_routes(sdnext):
    pytest.importorskip("fastapi")
    sdnext.fire("on_app_started", None, object())
    routes = sdnext.shared.api.routes
    assert {"/gpen/v1/restore", "/gpen/v1/models"} <= set(routes) and all(routes.values())


def test_the_hosts_folder_holds_no_package_named_scripts():
    assert not (fake_webui.ROOT / "scripts" / "__init__.py").exists()


@pytest.mark.slow
def test_directml_that_fails_is_not_tried_again_until_the_host_restarts(host, photo, monkeypatch):
    engine = sys.modules["gpen_webui.engine"]
    directml = torch.device("privateuseone")
    monkeypatch.setattr(sys.modules["gpen_webui.host"], "device", lambda: directml)
    load, tried = FaceRestorer.load, []

    def on_device(model, finder, folders, device, *more, **named):
        tried.append(device.type)
        if device == directml:
            raise RuntimeError("aten::something is not implemented")
        return load(model, finder, folders, device, *more, **named)

    monkeypatch.setattr(FaceRestorer, "load", on_device)
    for _ in range(3):
        assert engine.restore(photo, RED, RestoreOptions()).is_changed
    assert tried == ["privateuseone", "cpu"]
