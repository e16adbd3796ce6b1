"""Routes for the help pages, the script of the web page and the examples, which work for any name of the pack's folder.

ComfyUI serves them under the folder's name. This fails for names with spaces or non-ASCII letters, and ComfyUI requests help
pages only by the part of the name before the first dot."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import server

WEB = Path(__file__).resolve().parents[1] / "web"
SCRIPT = "gpen_nodes.js"
EXAMPLES = Path(__file__).resolve().parents[1] / "example_workflows"
PACK = Path(__file__).parents[1].name  # not resolved: ComfyUI uses the name of a symbolic link


def register() -> None:
    """Add the routes to ComfyUI's server. There is no server if ComfyUI is used as a library."""
    running = getattr(server.PromptServer, "instance", None)
    if running is None:
        return
    running.routes.get(r"/extensions/{pack}/docs/{node:GPEN_\w+}/{page:\w+\.md}")(_get_help_page)
    running.routes.get(f"/extensions/{{pack}}/{SCRIPT}")(_get_script)
    if not set("{}") & set(PACK):  # these are special in a route
        pack_pattern = f"{re.escape(PACK)}|{re.escape(quote(PACK, safe='()'))}"  # older servers match the quoted name
        running.routes.get(f"/workflow_templates/{{pack:{pack_pattern}}}/{{file:\\w+[.](?:json|jpg)}}")(_get_example)


async def _get_help_page(request: Any) -> Any:
    path = WEB / "docs" / request.match_info["node"] / request.match_info["page"]
    return server.web.FileResponse(path) if path.is_file() else server.web.Response(status=404)


async def _get_script(request: Any) -> Any:
    return server.web.FileResponse(WEB / SCRIPT)


async def _get_example(request: Any) -> Any:
    path = EXAMPLES / request.match_info["file"]
    return server.web.FileResponse(path) if path.is_file() else server.web.Response(status=404)
