"""The help pages, the page's own code and the examples, under addresses that do not depend on the folder's name.

ComfyUI serves them under the name of the pack's folder, which fails where that holds spaces or letters beyond ASCII, and the
page asks for help only by what stands before the first dot of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import quote

import server

WEB = Path(__file__).resolve().parents[1] / "web"
SCRIPT = "gpen_nodes.js"
EXAMPLES = Path(__file__).resolve().parents[1] / "example_workflows"
PACK = Path(__file__).parents[1].name  # as ComfyUI calls it: not of where a link leads


def register() -> None:
    """Adds the addresses to ComfyUI's server; there is none where its nodes are used as a library."""
    running = getattr(server.PromptServer, "instance", None)
    if running is None:
        return
    running.routes.get(r"/extensions/{pack}/docs/{node:GPEN_\w+}/{page:\w+\.md}")(_get_help_page)
    running.routes.get(f"/extensions/{{pack}}/{SCRIPT}")(_get_script)
    if not set("{}") & set(PACK):  # which stand for something in an address
        pack_pattern = f"{re.escape(PACK)}|{re.escape(quote(PACK, safe='()'))}"  # older servers compare what is quoted
        running.routes.get(f"/workflow_templates/{{pack:{pack_pattern}}}/{{file:\\w+[.](?:json|jpg)}}")(_get_example)


async def _get_help_page(request: Any) -> Any:
    path = WEB / "docs" / request.match_info["node"] / request.match_info["page"]
    return server.web.FileResponse(path) if path.is_file() else server.web.Response(status=404)


async def _get_script(request: Any) -> Any:
    return server.web.FileResponse(WEB / SCRIPT)


async def _get_example(request: Any) -> Any:
    path = EXAMPLES / request.match_info["file"]
    return server.web.FileResponse(path) if path.is_file() else server.web.Response(status=404)
