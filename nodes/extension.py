"""The list of nodes."""

from __future__ import annotations

from .clean_up import CleanUpFaceSwap
from .comfy import ComfyExtension, ComfyNode
from .crop import CropFaces
from .detect import DetectFaces
from .load import LoadModel
from .option_nodes import FaceOptionsNode, LookOptionsNode
from .paste import PasteFaces
from .restore import RestoreFaces
from .video import RestoreVideo


class GpenExtension(ComfyExtension):
    """The nodes of this pack."""

    async def get_node_list(self) -> list[type[ComfyNode]]:
        return [
            RestoreFaces,
            RestoreVideo,
            CleanUpFaceSwap,
            FaceOptionsNode,
            LookOptionsNode,
            LoadModel,
            DetectFaces,
            CropFaces,
            PasteFaces,
        ]
