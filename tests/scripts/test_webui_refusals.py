"""Values of txt2img's and img2img's script arguments that cannot be, over the host's own API."""

import types

import fake_webui
import pytest
from webui_fixtures import RED

fastapi = pytest.importorskip("fastapi")
pytest_plugins = ["webui_fixtures"]


@pytest.fixture
def script(webui_models, monkeypatch):
    host = fake_webui.Host(webui_models, monkeypatch)
    host.opts.gpen_model = RED
    return host.script_classes[0]()


def begin(script, *args, is_api=True):
    """As `process_images` does: what a script raises in `before_process` is only logged."""
    p = types.SimpleNamespace(is_api=is_api, setup_prompts=lambda: "sampled")
    script.before_process(p, *args)
    return p.setup_prompts()


@pytest.mark.parametrize(
    "args",
    [
        ("GPEN-BFR-4096.pth",),
        ("../../etc/passwd",),
        (5,),
        (RED, 7),
        (RED, float("nan")),
        (RED, "high"),
        (RED, 1, "some"),
        ({"order": "random"},),
        ({"enable": True, "min_face_size": -1},),
        (RED, {"mask_type": "round"}),
        (RED, {"color": "blue"}),
        ({"colour": "auto"},),
        ({"upscaler": "/etc/passwd"},),
        ({"enable": "false"},),
        ({"enable": True, "only_swapped": "no"},),
        ({"save_before": "false"},),
        ({"strength": "0.5"},),
    ],
)
def test_what_cannot_be_is_refused_before_sampling(script, args):
    with pytest.raises(fastapi.HTTPException) as refused:
        begin(script, True, *args)
    assert refused.value.status_code == 422 and "GPEN Face Restore" in refused.value.detail


@pytest.mark.parametrize(
    "args",
    [(), (None, None), (RED.upper(), 0.5), ("gpen-bfr-2048", 1), (RED, 1, "0,2-4"), ({"faces": "0", "preserve": ["eyes"]},)],
)
def test_what_can_be_goes_on(script, args):
    assert begin(script, True, *args) == "sampled"


def test_off_and_in_the_page_nothing_is_refused(script):
    assert begin(script, False, "none", 7) == begin(script) == "sampled"
    assert begin(script, {"enable": False, "strength": 7}) == "sampled"
    assert begin(script, True, "none", 7, is_api=False) == "sampled"  # there it is shown below the image
