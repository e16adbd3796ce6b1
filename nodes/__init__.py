"""ComfyUI nodes: they convert tensors, call gpen_core and report progress."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING or "folder_paths" in sys.modules:
    from . import comfy as comfy  # raises an error in a ComfyUI that is too old to call the function below

if TYPE_CHECKING:
    from .extension import GpenExtension


async def comfy_entrypoint() -> GpenExtension:
    """Return the extension to ComfyUI, which calls this function in every pack."""
    from . import folders, routes, used_crops
    from .extension import GpenExtension

    folders.register()
    folders.install_examples()
    routes.register()
    used_crops.register()
    return GpenExtension()
