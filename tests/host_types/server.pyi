from collections.abc import Callable
from pathlib import Path
from typing import Any

class web:
    @staticmethod
    def FileResponse(path: Path) -> Any: ...
    @staticmethod
    def Response(*, status: int) -> Any: ...

class _Routes:
    def get(self, path: str) -> Callable[[Callable[[Any], Any]], Any]: ...

class PromptServer:
    instance: PromptServer
    routes: _Routes

    def add_on_prompt_handler(self, handler: Callable[[dict[str, Any]], dict[str, Any]]) -> None: ...
    def send_progress_text(self, text: str, node_id: str) -> None: ...
