"""A package whose functions have changed is named, with the versions that work."""

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
import torch
from PIL import Image

from gpen_core import FaceRestorer, RestoreOptions
from gpen_core.cli import environment, main
from gpen_core.errors import MissingDependency, UnsupportedPackage
from gpen_core.faces.mask import FaceParser
from gpen_core.optional_packages import PACKAGES, install_command
from gpen_core.video import containers
from gpen_core.video.probe import probe

PROJECT = Path(__file__).parents[1] / "pyproject.toml"


def change(monkeypatch, owner, name, error):
    def changed(*args, **named):
        raise error

    monkeypatch.setattr(owner, name, changed)


@pytest.fixture
def newer_av(monkeypatch):
    """A PyAV that nobody has tested, of which `open` has lost an argument."""
    change(monkeypatch, containers.import_av(), "open", TypeError("open() got an unexpected keyword argument 'timeout'"))
    monkeypatch.setattr(metadata, "version", lambda name: "20.1.0")


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"anything")
    return path


def test_a_changed_function_names_the_package_and_the_versions_that_work(newer_av, video):
    with pytest.raises(
        UnsupportedPackage,
        match=r'^PyAV 20\.1\.0 is not supported \(open\(\) got .* \'timeout\'\)\. .*pip install "av>=14\.2,<20"$',
    ):
        probe(video)


def test_the_command_says_it_in_one_sentence(newer_av, video, capsys):
    assert main(["video", str(video), "-o", str(video.with_name("b.mp4"))]) == 1
    said = capsys.readouterr().err
    assert said.startswith("gpen: PyAV 20.1.0 is not supported") and "Unexpected" not in said and "report it" not in said


def test_with_a_tested_version_the_error_is_ours(monkeypatch, video):
    change(monkeypatch, containers.import_av(), "open", TypeError("a mistake of ours"))
    with pytest.raises(TypeError, match="a mistake of ours"):
        probe(video)


@pytest.mark.parametrize(
    ("python", "pip", "command"),
    [
        ("/usr/bin/python3", "pip", "/usr/bin/python3 -m pip install tqdm"),
        ("C:\\My Programs\\python.exe", "pip", '"C:\\My Programs\\python.exe" -m pip install tqdm'),
        ("/venv/bin/python", None, "uv pip install --python /venv/bin/python tqdm"),
    ],
)
def test_the_command_that_installs_is_for_the_python_that_runs(monkeypatch, python, pip, command):
    monkeypatch.setattr(sys, "executable", python)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: pip)
    assert install_command("tqdm") == command


LIGHT = """
import sys
for name in ("numba", "llvmlite", "filterpy", "matplotlib"):
    sys.modules[name] = None
import torch
from facexlib.parsing.parsenet import ParseNet
from gpen_core.faces.mask import FaceParser

with torch.device("meta"):
    network = ParseNet(in_size=512, out_size=512, parsing_ch=19)
zeros = {key: torch.zeros(value.shape, dtype=value.dtype) for key, value in network.state_dict().items()}
parser = FaceParser.from_state_dict(zeros, torch.device("cpu"))
assert len(parser.network.state_dict()) == len(zeros)
print(*(module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "facexlib"), sep="\\n")
"""
NEEDED = {"PIL", "cv2", "numpy", "torch", "torchvision"}
"""What facexlib's used modules import beside the standard library and facexlib itself."""


def test_the_used_part_of_facexlib_needs_none_of_its_large_dependencies():
    """Then `pip install --no-deps facexlib` is enough."""
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", LIGHT], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    imported = set()
    for file in done.stdout.splitlines():
        for node in ast.walk(ast.parse(Path(file).read_text("utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names - {"facexlib"} == NEEDED
    assert {environment.module_of(package).partition(".")[0] for package in environment.requirements().required} >= NEEDED


def test_facexlib_is_installed_without_its_dependencies():
    assert install_command("facexlib").endswith(" -m pip install --no-deps facexlib")
    assert "facexlib" not in re.search(r"\ndependencies = \[.*?\n\]", PROJECT.read_text("utf-8"), re.DOTALL)[0]


@pytest.mark.parametrize(
    "use",
    [
        lambda models: load_red(models).prepare(RestoreOptions(mask_type="parse")),
        lambda models: FaceParser.from_state_dict({}, torch.device("cpu")),
    ],
)
def test_without_facexlib_its_first_use_names_it_before_weights_are_looked_for(monkeypatch, models, use):
    monkeypatch.setitem(sys.modules, "facexlib", None)
    with pytest.raises(MissingDependency, match=r"^The package facexlib, which parses faces, .* --no-deps facexlib$"):
        use(models)


def load_red(models):
    return FaceRestorer.load("red-256", "retinaface_mobile0.25", models, "cpu", "fp32")


def test_feathered_masks_need_no_facexlib(monkeypatch, models, astronaut):
    monkeypatch.setitem(sys.modules, "facexlib", None)
    assert load_red(models)(astronaut, mask_type="feather").is_changed


def test_masks_chosen_for_a_gpu_are_feathered_without_facexlib(monkeypatch, models, caplog):
    monkeypatch.setitem(sys.modules, "facexlib", None)
    restorer = load_red(models)
    restorer.models.device = torch.device("cuda")
    restorer.prepare(RestoreOptions(mask_type="auto"))
    assert "Using feathered masks instead of parsed ones: The package facexlib, which parses faces," in caplog.text


def test_facexlib_is_named(monkeypatch):
    from facexlib.parsing import parsenet

    change(monkeypatch, parsenet, "ParseNet", TypeError("no argument in_size"))
    monkeypatch.setattr(metadata, "version", lambda name: "0.9")
    with pytest.raises(UnsupportedPackage, match=r"facexlib 0\.9 is not supported"):
        FaceParser.from_state_dict({"out_mask_conv.conv2d.weight": torch.zeros(1)}, torch.device("cpu"))


@pytest.fixture
def other_torchvision(monkeypatch):
    """A torchvision that was built for another torch: importing it fails."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("facexlib", "torchvision")]:
        monkeypatch.delitem(sys.modules, name)

    class Finder:
        @staticmethod
        def find_spec(name, path=None, target=None):
            if name == "torchvision":
                raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])


def test_a_torchvision_that_does_not_fit_is_not_needed_and_named_by_doctor(other_torchvision, models, tmp_path, capsys):
    photo = tmp_path / "photo.png"
    Image.new("RGB", (64, 64)).save(photo)
    arguments = ("--model", "red-256", "--detector", "retinaface_mobile0.25", "--models-dir", models, "--offline")
    assert main(["restore", str(photo), "-o", str(tmp_path / "out.png"), *map(str, arguments)]) == 0
    assert (tmp_path / "out.png").exists() and "torchvision" not in capsys.readouterr().err
    assert main(["doctor"]) != 0
    assert "cannot be imported: torchvision" in capsys.readouterr().out


@pytest.mark.parametrize("name", PACKAGES)
def test_the_minimum_is_what_the_project_requires(name):
    required = (Path(__file__).parents[1] / "pyproject.toml").read_text()
    assert re.search(rf'"{name}(\[\w+\])?>={re.escape(PACKAGES[name].minimum)}[",]', required)
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        return
    assert int(version.split(".")[0]) <= int(PACKAGES[name].below.split(".")[0])
