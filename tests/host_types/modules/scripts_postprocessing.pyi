from typing import Any

from PIL import Image

class PostprocessedImage:
    image: Image.Image
    info: dict[str, Any]
    gpen_before: Image.Image  # ours

class ScriptPostprocessing:
    name: str
    @property
    def order(self) -> int: ...  # or a plain attribute
    args_from: int
    args_to: int
    controls: dict[str, Any]
    def ui(self) -> dict[str, Any]: ...
    def process_firstpass(self, pp: PostprocessedImage, **args: Any) -> None: ...
    def process(self, pp: PostprocessedImage, **args: Any) -> None: ...
