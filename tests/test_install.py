"""install.py changes nothing that a host has. Nothing is installed here: a stand-in for pip writes down its arguments."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PIP = """
import json, os, sys
with open(os.environ["PIP_SEEN"], "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
sys.stderr.write(os.environ.get("PIP_SAYS", ""))
sys.exit(1 if "PIP_SAYS" in os.environ else 0)
"""
BROKEN = "raise ImportError('libGL.so.1: cannot open shared object file')"
PRESENT = {"facexlib": "", "platformdirs": "", "cv2": "", "numpy": "__version__ = '1.26.4'"}


@pytest.fixture
def run(tmp_path):
    """Runs install.py where only these modules are there; returns what it asked pip for and what it printed."""

    def run(modules, *arguments, **environment):
        seen = tmp_path / "seen.txt"
        for name, source in {**modules, "pip": ""}.items():
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / "__init__.py").write_text(source)
        (tmp_path / "pip" / "__main__.py").write_text(PIP)
        # -S leaves out what is installed in this environment.
        done = subprocess.run(
            [sys.executable, "-S", ROOT / "install.py", *arguments],
            env={"PYTHONPATH": str(tmp_path), "PIP_SEEN": str(seen), "PATH": "", "SYSTEMROOT": "C:\\Windows", **environment},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0 and not done.stderr, done.stderr
        asked = [json.loads(line) for line in seen.read_text().splitlines()] if seen.exists() else []
        return asked, done.stdout

    return run


def without(*names, **others):
    return {name: source for name, source in PRESENT.items() if name not in names} | others


def test_a_host_that_has_all_is_left_alone(run):
    assert run(PRESENT) == ([], "")


def test_facexlib_comes_without_its_dependencies(run):
    assert run(without("facexlib")) == ([["install", "--no-deps", "facexlib>=0.3.0"]], "")


def test_a_host_without_platformdirs_gets_it(run):
    assert run(without("platformdirs")) == ([["install", "--no-deps", "platformdirs>=3.0"]], "")


@pytest.mark.parametrize(
    ("numpy", "opencv"), [("1.26.4", "opencv-python-headless>=4.8,<4.12"), ("2.3.0", "opencv-python-headless>=4.10,<5")]
)
@pytest.mark.parametrize("state", ["missing", "broken"])
def test_an_opencv_that_fits_numpy_where_there_is_none(run, numpy, opencv, state):
    modules = without("cv2", numpy=f"__version__ = '{numpy}'", **({"cv2": BROKEN} if state == "broken" else {}))
    assert run(modules) == ([["install", "--no-deps", opencv]], "")


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_skip_install_is_honored(run, how):
    given = {"COMMANDLINE_ARGS": "--api --skip-install"} if how == "environment" else {}
    assert run({}, *(["--skip-install"] if how == "argument" else []), **given) == ([], "")


def test_a_failure_is_said_and_does_not_stop_the_host(run):
    asked, said = run(without("facexlib"), PIP_SAYS="trying\nERROR: no matching distribution")
    assert len(asked) == 1
    assert "facexlib>=0.3.0 could not be installed (ERROR: no matching distribution)" in said and "--no-deps" in said


def test_without_pip_uv_installs_also_where_it_is_a_module_only(monkeypatch):
    spec = importlib.util.spec_from_file_location("sd_gpen_install", ROOT / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    asked = []

    def run(command, **how):
        asked.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(install.subprocess, "run", run)
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: name == "uv" or None)
    arguments = ["pip", "install", "--python", sys.executable, "--no-deps", "facexlib"]
    for program, start in ((None, [sys.executable, "-m", "uv"]), ("/bin/uv", ["/bin/uv"])):
        monkeypatch.setattr(install.shutil, "which", lambda name, program=program: program)
        assert install.install("facexlib") is None and asked.pop() == [*start, *arguments]


def test_without_pip_and_uv_it_says_so(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("sd_gpen_install", ROOT / "install.py")
    install = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(install)
    monkeypatch.setattr(install, "missing_packages", lambda: ["facexlib>=0.3.0"])
    monkeypatch.setattr(install.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["install.py"])
    install.main()
    assert "neither pip nor uv" in capsys.readouterr().out


def test_only_the_standard_library_is_imported():
    source = (ROOT / "install.py").read_text("utf-8")
    names = re.findall(r"^\s*(?:import|from) ([\w.]+)", source, re.MULTILINE)
    assert names and {name.split(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_requirements_are_light_and_without_versions():
    lines = (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    names = ["Pillow", "filelock", "platformdirs", "requests", "safetensors", "tqdm"]
    assert [line for line in lines if not line.startswith("#")] == names


def test_versions_are_those_of_the_project():
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    source = (ROOT / "install.py").read_text("utf-8")
    asked_for = re.findall(r'^(?:FACEXLIB|PLATFORMDIRS) = (".+")$', source, re.MULTILINE)
    assert len(asked_for) == 2 and all(one in project for one in asked_for)
