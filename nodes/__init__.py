"""ComfyUI nodes over gpen_core. There are none yet: the folder loads in ComfyUI and adds nothing."""

from __future__ import annotations

NODE_CLASS_MAPPINGS: dict[str, type] = {}
