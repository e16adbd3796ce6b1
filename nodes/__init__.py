"""ComfyUI nodes over gpen_core: they convert tensors, call it, and report progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "folder_paths" in sys.modules:
    from . import comfy as comfy  # a ComfyUI that is too old is told so now: it does not know of the function below

if TYPE_CHECKING:
    from .extension import GpenExtension


async def comfy_entrypoint() -> GpenExtension:
    """What ComfyUI asks a pack for."""
    from . import folders, routes
    from .extension import GpenExtension

    folders.register()
    folders.install_examples()
    routes.register()
    return GpenExtension()
