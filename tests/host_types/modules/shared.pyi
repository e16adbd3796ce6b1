from collections.abc import Callable
from typing import Any

opts: Any
cmd_opts: Any
face_restorers: list[Any]

class OptionInfo:
    section: tuple[str, str]
    restrict_api: bool
    category_id: str | None
    do_not_save: bool
    def __init__(
        self,
        default: Any = None,
        label: str = "",
        component: Any = None,
        component_args: Any = None,
        *,
        section: tuple[str, str] | None = None,
        refresh: Callable[[], object] | None = None,
    ) -> None: ...
    def info(self, info: str) -> OptionInfo: ...
    def html(self, html: str) -> OptionInfo: ...
    def needs_reload_ui(self) -> OptionInfo: ...

class State:
    interrupted: bool
    skipped: bool
    job: str
    job_no: int
    job_count: int
    job_timestamp: str
    sampling_steps: int
    sampling_step: int
    textinfo: str
    def begin(self, job: str = "(unknown)") -> None: ...
    def end(self) -> None: ...

state: State
