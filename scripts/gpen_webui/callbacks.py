"""Registers our callbacks with the host."""

from __future__ import annotations

from typing import Any

from modules import script_callbacks

from . import api, downloads, engine, host, preview, reactor, restorer, run_report, settings, xyz


def register() -> None:
    """Register the callbacks each time the scripts are loaded. The host removes earlier callbacks."""
    restorer.register()
    script_callbacks.on_ui_settings(settings.add)
    script_callbacks.on_before_ui(_before_ui)
    script_callbacks.on_after_component(preview.on_component)
    script_callbacks.on_after_component(run_report.on_component)
    script_callbacks.on_after_component(downloads.on_component)
    script_callbacks.on_app_started(_app_started)
    script_callbacks.on_script_unloaded(engine.release)


def _before_ui() -> None:
    settings.reset_invalid()
    preview.reset()
    downloads.reset()
    run_report.reset()
    xyz.add()
    reactor.wrap()


def _app_started(demo: Any, app: Any) -> None:
    reactor.wrap()  # with --nowebui, `_before_ui` is not called
    if app is not None:
        api.add_routes(host.routes(app))
