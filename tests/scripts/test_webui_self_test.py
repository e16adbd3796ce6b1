"""The button "Self-test" of the settings, in a fake host; tests/scripts/test_a1111_host.py presses a real one."""

import html

import fake_webui
import pytest
from fake_webui import Component

from gpen_core.tools import self_test

pytest_plugins = ["webui_fixtures"]


@pytest.fixture(params=[False, True], ids=["A1111", "SD.Next"])
def host(request, webui_models, monkeypatch):
    made = fake_webui.Host(webui_models, monkeypatch, sdnext=request.param)
    made.fire("on_ui_settings")
    return made


@pytest.fixture
def press(host):
    """What the button's press shows, and what it is shown in; the setting's own component."""
    setting = host.setting("gpen_self_test")
    (button,) = [made for made in Component.made if made.kind == "Button" and made.args == ("Self-test",)]
    run, shown = button.clicked
    assert button.inputs == []
    return run, shown, setting


def test_it_passes_in_one_line_when_its_turn_comes(host, press, caplog):
    run, _, _ = press
    caplog.set_level("INFO")
    line = run()
    assert line.startswith("self-test: passed (") and "on cpu in fp32" in line
    assert host.lock.held == 1 and host.jobs == ["gpen", "end"] and host.collected
    assert [record.getMessage() for record in caplog.records if "self-test" in record.getMessage()] == [
        f"GPEN {html.unescape(line)}"
    ]


@pytest.mark.slow
def test_it_takes_the_precision_of_the_settings(host, press):
    host.opts.gpen_precision = "bf16"
    assert "on cpu in bf16" in press[0]()


def test_what_is_wrong_becomes_the_line_with_advice(host, press, caplog):
    host.opts.gpen_precision = "fp16"
    line = press[0]()
    assert line.startswith("self-test: FAILED: DeviceError: fp16 is not supported on the CPU")
    assert "<span>Try the precision fp32" in line and caplog.messages[-1].endswith(
        "See the Trouble page of the documentation."
    )
    assert caplog.records[-1].levelname == "ERROR" and host.jobs[-1] == "end"


def test_a_broken_package_says_so_and_nothing_of_it_is_taken_for_html(press, monkeypatch):
    def broken(device, dtype):
        raise OSError("<b>libGL.so.1</b>: cannot open shared object file")

    monkeypatch.setattr(self_test, "self_test", broken)
    assert "FAILED: OSError: &lt;b&gt;libGL.so.1&lt;/b&gt;: cannot open" in press[0]()


def test_the_host_has_nothing_of_it_to_save(host, press):
    """A1111 leaves out what is marked; SD.Next saves what differs from its default, and the component stays as it is."""
    _, shown, setting = press
    assert host.opts.added["gpen_self_test"].do_not_save
    assert setting not in shown and setting.value == host.opts.added["gpen_self_test"].default
