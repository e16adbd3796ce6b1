"""When the host is to hear of what."""

from __future__ import annotations

from typing import Any

from modules import script_callbacks

from . import api, downloads, engine, host, preview, reactor, restorer, run_report, settings, xyz


def register() -> None:
    """At each loading of the scripts; the host forgets earlier callbacks by itself."""
    restorer.register()
    script_callbacks.on_ui_settings(settings.add)
    script_callbacks.on_before_ui(_before_ui)
    script_callbacks.on_after_component(preview.on_component)
    script_callbacks.on_after_component(run_report.on_component)
    script_callbacks.on_after_component(downloads.on_component)
    script_callbacks.on_app_started(_app_started)
    script_callbacks.on_script_unloaded(engine.release)


def _before_ui() -> None:
    preview.reset()
    downloads.reset()
    xyz.add()
    reactor.wrap()


def _app_started(demo: Any, app: Any) -> None:
    reactor.wrap()  # under --nowebui nothing came before
    if app is not None:
        api.add_routes(host.routes(app))
