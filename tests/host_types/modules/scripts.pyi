from typing import Any

AlwaysVisible: object
scripts_data: list[Any]
postprocessing_scripts_data: list[Any]
scripts_postproc: Any

class Script:
    infotext_fields: list[tuple[Any, Any]]
    paste_field_names: list[str]
    def title(self) -> str: ...
    def show(self, is_img2img: bool) -> Any: ...
    def ui(self, is_img2img: bool) -> list[Any]: ...
