import hashlib
import platform
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from gpen_core import cli
from gpen_core.cli import doctor_report, environment
from gpen_core.pipeline import devices
from gpen_core.tools import self_test as selftest
from gpen_core.version import __version__
from gpen_core.weights.catalog import CATALOG


@pytest.fixture(autouse=True)
def tested(monkeypatch):
    """The self-test has tests of its own and takes seconds: here it says what it is told to."""
    said = [selftest.SelfTest(True, "passed (as it was told)")]

    def self_test(device, dtype):
        if isinstance(said[-1], Exception):
            raise said[-1]
        return said[-1]

    monkeypatch.setattr(selftest, "self_test", self_test)
    return said


@pytest.fixture
def examine(capsys):
    """`gpen doctor`: what it prints."""

    def run(folder, *arguments, status=0):
        assert cli.main(["doctor", "--models-dir", str(folder), *arguments]) == status
        out, err = capsys.readouterr()
        assert err == ""
        return out

    return run


def line_of(text, start):
    (line,) = [line for line in text.splitlines() if line.strip().startswith(start)]
    return line.strip()


def test_versions_are_those_that_are_running(examine, tmp_path):
    text = examine(tmp_path)
    first = text.splitlines()[0]
    assert __version__ in first
    assert platform.python_version() in first
    assert line_of(text, "torch ").split()[-1] in torch.__version__
    assert line_of(text, "opencv-python").split()[-1].startswith(cv2.__version__.split("-")[0])
    for package in environment.requirements().required:
        assert re.search(r" \d+\.\d+", line_of(text, f"{package} "))
    for package in environment.requirements().optional:
        assert re.search(r" (\d+\.\d+|not installed)", line_of(text, f"{package} "))


@pytest.mark.parametrize(
    ("cuda", "mps", "line"),
    [
        (0, False, "devices: cpu; auto uses cpu with fp32"),
        (2, False, "devices: cuda:0, cuda:1, cpu; auto uses cuda:0 with fp16"),
        (0, True, "devices: mps, cpu; auto uses mps with fp32"),
    ],
)
def test_the_devices_and_what_auto_takes(examine, tmp_path, monkeypatch, cuda, mps, line):
    monkeypatch.setattr(devices, "cpu_supports_bf16", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert line_of(examine(tmp_path), "devices") == line


def test_present_and_missing_weights(examine, tmp_path):
    (tmp_path / "gpen-bfr-512.PTH").write_bytes(bytes(1234))
    (tmp_path / "pytorch_model-2048.pt").write_bytes(bytes(5))
    text = examine(tmp_path)
    assert line_of(text, "models folder") == f"models folder: {tmp_path}"
    assert "gpen-bfr-512.PTH, 1,234 bytes" in line_of(text, "gpen-bfr-512")
    assert "pytorch_model-2048.pt, 5 bytes" in line_of(text, "gpen-bfr-2048")
    missing = [entry.name for entry in CATALOG if "not downloaded" in line_of(text, f"{entry.name} ")]
    assert missing == [entry.name for entry in CATALOG if entry.name not in ("gpen-bfr-512", "gpen-bfr-2048")]


def test_weights_under_other_names_are_listed_too(examine, tmp_path):
    (tmp_path / "my-own.safetensors").write_bytes(bytes(2048))
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "folder.pth").mkdir()
    text = examine(tmp_path)
    assert line_of(text, "other weights") == "other weights          my-own.safetensors, 2,048 bytes"
    assert "notes.txt" not in text


@pytest.mark.parametrize(("make", "said"), [(None, "does not exist yet"), ("file", "is not a folder")])
def test_a_folder_that_is_not_there_is_said_and_not_made(examine, tmp_path, make, said):
    folder = tmp_path / "models"
    if make:
        folder.write_text("x")
    text = examine(folder)
    assert line_of(text, "models folder") == f"models folder: {folder} ({said})"
    assert text.count("not downloaded") == len(CATALOG)
    assert folder.exists() == bool(make)


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ("torch", ImportError("No module named 'torch'")),
        ("opencv-python", ImportError("libGL.so.1: cannot open shared file")),
    ],
)
def test_a_package_that_cannot_be_imported_is_said(examine, tmp_path, monkeypatch, package, error):
    whole = environment.import_module

    def broken(name):
        if name == environment.module_of(package):
            raise error
        return whole(name)

    monkeypatch.setattr(environment, "import_module", broken)
    text = examine(tmp_path, status=1)
    assert f"cannot be imported: {error}" in line_of(text, f"{package} ")
    assert text.count("cannot be imported") == 1


def test_it_works_without_torch(examine, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpen_core.pipeline.devices", None)
    assert line_of(examine(tmp_path), "devices") == "devices: unknown without torch"


HALTED = "import of filelock halted; None in sys.modules"


@pytest.mark.parametrize(
    ("package", "said", "status"),
    [
        ("numpy", "installed, version unknown", 0),
        ("filelock", f"MISSING ({HALTED}). Install it: {sys.executable} -m pip install filelock", 1),
        ("ray", "not installed", 0),
    ],
)
def test_a_package_that_is_not_installed_is_said(examine, tmp_path, monkeypatch, package, said, status):
    """Some distributions' own packages, such as conda's OpenCV, go by another name; then the module is there."""
    monkeypatch.setattr(environment.metadata, "distributions", lambda name: [])
    if status:
        monkeypatch.setitem(sys.modules, package, None)
    assert said in line_of(examine(tmp_path, status=status), f"{package} ")


@pytest.mark.parametrize(
    ("came", "said"),
    [
        (selftest.SelfTest(False, "FAILED: pixels outside the face were changed (cpu)"), "pixels outside the face"),
        (RuntimeError("no kernel image is available\nand more"), "FAILED: RuntimeError: no kernel image is available"),
    ],
)
@pytest.mark.parametrize("arguments", [(), ("--report",)])
def test_a_self_test_that_fails_is_said_and_is_the_exit_status(examine, tmp_path, tested, came, said, arguments):
    assert line_of(examine(tmp_path), "self-test") == "self-test: passed (as it was told)"
    tested.append(came)
    line = line_of(examine(tmp_path, *arguments, status=1), "self-test")
    assert said in line and "and more" not in line


def test_without_the_packages_there_is_no_self_test(examine, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "gpen_core.tools.self_test", None)
    assert line_of(examine(tmp_path), "self-test").startswith("self-test: not run: ")


@pytest.mark.parametrize("arguments", [(), ("--report",)])
def test_without_platformdirs_the_default_models_folder_is_unknown(capsys, monkeypatch, arguments):
    monkeypatch.delenv("GPEN_MODELS_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert cli.main(["doctor", *arguments]) == 1
    line = line_of(capsys.readouterr().out, "models folder")
    assert line.startswith("models folder: unknown. The package platformdirs, which finds the default models folder, ")
    assert line.endswith(" -m pip install platformdirs")


def test_the_report_has_digests_and_no_name_of_the_users(examine, tmp_path, monkeypatch, models):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "aunt may")
    monkeypatch.setenv("GPEN_MIRROR", "https://me:secret@example.org")
    folder = tmp_path / "aunt may" / "models"
    folder.mkdir(parents=True)
    (folder / "GPEN-BFR-2048.pth").write_bytes(b"x" * 20)
    (folder / "detection_Resnet50_Final.pth").write_bytes(b"y" * 30)
    (folder / "uncle-ben-gpen.pth").write_bytes((models / "red-256.pth").read_bytes())
    text = examine(folder, "--report")
    assert line_of(text, "models folder") == "models folder: ~" + str(folder).removeprefix(str(folder.parent))
    assert line_of(text, "gpen-bfr-2048 ").endswith(f"20 bytes, SHA-256 {hashlib.sha256(b'x' * 20).hexdigest()}")
    pin = next(entry.sha256 for entry in CATALOG if entry.name == "retinaface_resnet50")
    assert line_of(text, "retinaface_resnet50 ").endswith(f"(does NOT match the catalog: {pin})")
    assert re.fullmatch(r"other file +gpen, .pth, [\d,]+ bytes, SHA-256 [0-9a-f]{64}", line_of(text, "other file"))
    assert "gpen-bfr-512" in line_of(text, "not downloaded:") and "gpen-bfr-2048" not in line_of(text, "not downloaded:")
    assert "GPEN_MIRROR" in line_of(text, "environment variables set:")
    for secret in ("aunt", "uncle", "secret"):
        assert secret not in text
    assert all(line_of(text, start) for start in ("devices", "cpu ", "torch ", "Python in", "free disk space", "self-test"))


@pytest.mark.parametrize("is_present", [True, False])
def test_the_report_does_not_name_a_models_folder_outside_the_home(examine, tmp_path, monkeypatch, is_present):
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    (tmp_path / ("uncle ben" if is_present else "other")).mkdir()
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "uncle ben", Path("uncle ben")):
        text = examine(folder, "--report")
        state = "" if is_present else " (does not exist yet)"
        assert line_of(text, "models folder") == f"models folder: not in the home folder{state}"
        assert "uncle" not in text and "uncle" in examine(folder)


def test_weights_that_cannot_be_read_are_said_without_their_name(examine, tmp_path, monkeypatch):
    from gpen_core.errors import WeightsError

    def refused(path):
        raise WeightsError(f"{path} cannot be read: Permission denied.")

    (tmp_path / "uncle-ben.pth").write_bytes(b"x")
    monkeypatch.setattr(doctor_report.digest, "file_sha256", refused)
    text = examine(tmp_path, "--report")
    assert "cannot be read: the file cannot be read: Permission denied." in line_of(text, "other file")
    assert "uncle" not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("/home/jo/models and /home/jo", "~/models and ~"),
        ("/home/jo2/models, /home/jo.old, /home/jo-an", "/home/jo2/models, /home/jo.old, /home/jo-an"),
        ("No such file: '/home/jo'", "No such file: '~'"),
    ],
)
def test_only_the_home_itself_is_shortened(text, said):
    assert doctor_report.redact_home_dirs(text, ("/home/jo",)) == said
    assert doctor_report.redact_home_dirs(text, ("/",)) == text  # an account whose home is the root


def test_accelerators_are_named(examine, tmp_path, monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    told = SimpleNamespace(name="NVIDIA H100", total_memory=80 << 30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: told)
    assert "NVIDIA H100, 80.00 GiB, CUDA" in line_of(examine(tmp_path, "--report"), "cuda:0 ")


@pytest.mark.parametrize("arguments", [(), ("--report",)])
def test_it_works_where_nothing_is_installed(tmp_path, arguments):
    """As in a host whose installation went wrong."""
    (tmp_path / "gpen-bfr-512.pth").write_bytes(b"x")
    hidden = [environment.module_of(package).partition(".")[0] for package in environment.requirements().required]
    code = "import sys\nfor name in sys.argv.pop(1).split(): sys.modules[name] = None\n"
    code += "from gpen_core.cli import main\nsys.exit(main(sys.argv[1:]))"
    run = [sys.executable, "-c", code, " ".join(hidden), "doctor", "--models-dir", str(tmp_path), *arguments]
    done = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 1 and done.stderr == ""
    assert done.stdout.count("cannot be imported") == len(hidden)
    assert line_of(done.stdout, "self-test").startswith("self-test: not run: ")
    assert line_of(done.stdout, "gpen-bfr-512 ")


# The list of packages

ROOT = Path(__file__).parents[2]


def named(lines):
    return [re.match(r"[\w.-]+", line)[0] for line in lines]


def test_the_packages_are_those_of_the_project_file():
    """The file is read without tomllib, which Python 3.10 has not."""
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    users = [line for name, lines in extras.items() if name not in environment.FOR_DEVELOPERS for line in lines]
    found = environment.requirements()
    assert list(found.required) == [*named(project["dependencies"]), "facexlib"]
    assert list(found.optional) == [name for name in dict.fromkeys(named(users)) if name not in found.required]
    assert {"av", "pyarrow", "spandrel"} <= set(found.optional) and not {"mypy", "sd-gpen"} & set(found.optional)


METADATA = """Metadata-Version: 2.4
Name: sd-gpen
Version: 0.1.0
Requires-Dist: torch>=2.1
Requires-Dist: Pillow>=9.5
Provides-Extra: facexlib
Requires-Dist: facexlib>=0.3.0; extra == "facexlib"
Provides-Extra: video
Requires-Dist: av>=14.2; extra == "video"
Provides-Extra: ray
Requires-Dist: ray[data]<2.64,>=2.51; extra == "ray"
Provides-Extra: dev
Requires-Dist: sd-gpen[ray,video]; extra == "dev"
Requires-Dist: mypy>=1.11; extra == "dev"
"""


@pytest.mark.parametrize("beside", [None, '[project]\nname = "another"\ndependencies = ["numpy"]\n'])
def test_an_installed_project_has_the_packages_of_its_metadata(tmp_path, monkeypatch, beside):
    """Some package may have left its pyproject.toml in site-packages."""
    installed = tmp_path / "sd_gpen-0.1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(METADATA)
    if beside:
        (tmp_path / "pyproject.toml").write_text(beside)
    monkeypatch.syspath_prepend(tmp_path)
    assert environment.requirements(tmp_path) == (("torch", "Pillow", "facexlib"), ("av", "ray"))


def test_without_the_project_file_and_an_installation_the_packages_are_unknown(examine, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "requirements", lambda: environment.Requirements((), ()))
    assert line_of(examine(tmp_path), "required packages unknown") == "required packages unknown: pyproject.toml is missing"


# What is missing or old

COMMAND = """
import sys
sys.modules[sys.argv[1]] = None
from gpen_core.cli import main
sys.exit(main(sys.argv[2:]))
"""


def without(module, *arguments):
    """The command where the module cannot be imported: status, output, messages."""
    command = [sys.executable, "-c", COMMAND, module, *map(str, arguments)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=300)
    return ran.returncode, ran.stdout, ran.stderr


@pytest.mark.parametrize(
    ("module", "package"), [("numpy", "numpy"), ("PIL", "Pillow"), ("cv2", "opencv-python"), ("safetensors", "safetensors")]
)
@pytest.mark.slow
def test_a_missing_package_is_one_sentence_with_the_command(module, package, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    status, out, err = without(module, "restore", tmp_path / "a.png", "-o", tmp_path / "b.png", "--models-dir", tmp_path)
    assert status == 1 and "gpen" not in out  # OpenCV itself says what it is without
    assert err == f"gpen: The package {package} is not installed. Install it: {sys.executable} -m pip install {package}\n"


NO_LIBRARY = "libGL.so.1: cannot open shared object file: No such file or directory"


@pytest.mark.parametrize(
    ("reason", "advice"),
    [
        (NO_LIBRARY, r"Replace OpenCV by .*: {pip} uninstall opencv-\S+ && {pip} install opencv-python-headless"),
        ("the file is broken", "Install it again: {pip} install --force-reinstall opencv-python"),
    ],
)
def test_a_broken_opencv_is_said_with_the_command_that_helps(tmp_path, reason, advice):
    """To install it again does not bring a library of the system."""
    (tmp_path / "cv2.py").write_text(f"raise ImportError({reason!r}, name='cv2')")
    for command in (["doctor"], ["detect", "photo.jpg"]):
        code = (
            "import sys\nsys.path.insert(0, sys.argv.pop(1))\nfrom gpen_core.cli import main\nsys.exit(main(sys.argv[1:]))"
        )
        run = [sys.executable, "-c", code, str(tmp_path), *command, "--models-dir", str(tmp_path)]
        done = subprocess.run(run, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
        assert done.returncode == 1
        line = line_of(done.stdout + done.stderr, "opencv-python " if command == ["doctor"] else "gpen: ")
        expected = advice.format(pip=re.escape(f"{sys.executable} -m pip"))
        assert re.search(re.escape(reason) + r"\)?\. .*" + expected + "$", line), line


@pytest.mark.parametrize("arguments", [(), ("--report",)])
def test_without_facexlib_the_command_and_its_purpose_are_given(examine, tmp_path, tested, monkeypatch, arguments):
    monkeypatch.setattr(environment.metadata, "distributions", lambda name: [])
    monkeypatch.setitem(sys.modules, environment.module_of("facexlib"), None)
    text = examine(tmp_path, *arguments, status=1)
    line = line_of(text, "facexlib ")
    assert line.startswith("facexlib         MISSING, it parses faces (import of facexlib.parsing.parsenet halted")
    assert line.endswith(" -m pip install --no-deps facexlib")


@pytest.mark.parametrize(
    ("package", "version", "fixed"),
    [
        ("Pillow", "9.5.0", "10.0.1"),
        ("opencv-python-headless", "4.8.0.76", "4.8.1.78"),
        ("requests", "2.31.0", "2.32.4"),
        ("filelock", "3.20.0", "3.20.1"),
        ("ray", "2.51.2", "2.52.0"),
    ],
)
def test_a_version_with_known_holes_is_named_with_the_fixed_one(examine, tmp_path, monkeypatch, package, version, fixed):
    said = {package: version}
    found = environment.metadata.distributions

    def distributions(name):
        versions = [type("Installed", (), {"version": said[name]})] if name in said else []
        return versions or (
            found(name=name) if name not in environment.OPENCV_NAMES + tuple(environment.SECURE_VERSIONS) else []
        )

    monkeypatch.setattr(environment.metadata, "distributions", distributions)
    (warning,) = re.findall("^warning: .*$", examine(tmp_path), re.MULTILINE)
    assert (
        warning
        == f'warning: {package} {version} has known security holes, fixed in {fixed}: pip install "{package}>={fixed}"'
    )
    assert "note: if a host such as A1111 pins an older version, keep the host's version" in examine(tmp_path)
    for good in (fixed, f"{fixed}+local", "99.0"):
        said[package] = good
        assert "warning" not in examine(tmp_path) and "note: if a host" not in examine(tmp_path)
