"""Entry point for Automatic1111 and its forks. The code is in gpen_webui and gpen_core."""

import importlib.util
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def _import_package(name: str, folder: Path) -> None:
    """Import one of our packages under its name. Hosts remove the folder from sys.path after running this file."""
    if name in sys.modules:  # "Reload UI" runs this file again
        return
    spec = importlib.util.spec_from_file_location(name, folder / "__init__.py", submodule_search_locations=[str(folder)])
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:  # do not keep a half-initialized module
        del sys.modules[name]
        raise


_import_package("gpen_core", HERE.parent / "gpen_core")
_import_package("gpen_webui", HERE / "gpen_webui")

import gpen_webui.callbacks  # noqa: E402
from gpen_webui.extras import GpenExtras as GpenExtras  # noqa: E402  hosts search this module for classes
from gpen_webui.main_ui import GpenScript as GpenScript  # noqa: E402

gpen_webui.callbacks.register()
