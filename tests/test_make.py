"""make.py: environments are brought up to date when, and only when, what they are made from has changed."""

from __future__ import annotations

import importlib.util
import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements-dev.lock"
PINNED = re.compile(r"(?P<requirement>[^\s\\][^\\]*?) \\\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+")


def pins():
    return [Requirement(match["requirement"]) for match in PINNED.finditer(LOCK.read_text("utf-8"))]


def test_the_lock_holds_nothing_but_pins_with_hashes():
    assert PINNED.sub("", LOCK.read_text("utf-8")) == ""
    assert all(str(pin.specifier).startswith("==") for pin in pins())


@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12", "3.13"])
@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_the_lock_has_each_tool_once_as_pyproject_asks_for_it(python, system):
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    here = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": system}
    here |= {"platform_python_implementation": "CPython", "implementation_name": "cpython"}
    found = [pin for pin in pins() if pin.marker is None or pin.marker.evaluate(here)]
    versions = {pin.name: str(pin.specifier).removeprefix("==") for pin in found}
    assert len(versions) == len(found)
    for tool in map(Requirement, extras["dev"]):
        assert tool.name == "sd-gpen" or tool.specifier.contains(versions[tool.name]), f"{tool}: run `make lock`"


def test_the_lock_leaves_the_networks_libraries_open():
    assert not {pin.name for pin in pins()} & {"torch", "torchvision", "numpy", "opencv-python", "pillow", "facexlib"}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """make.py in a folder of its own, and the commands that it would run."""
    spec = importlib.util.spec_from_file_location("make_py", ROOT / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("pyproject.toml", "oldest.txt", "requirements-dev.lock"):
        (tmp_path / name).write_text(name)
    paths = {"ROOT": tmp_path, "ENVIRONMENTS": tmp_path, "OLDEST": tmp_path / "oldest.txt", "LOCK": tmp_path / LOCK.name}
    for name, path in paths.items():
        monkeypatch.setattr(module, name, path)
    module.done = []

    def run(*command, mypy_path=None):
        module.done.append(" ".join(map(str, command[1:])))
        if command[2] == "venv":
            inside = Path(command[3]) / ("Scripts/python.exe" if module.os.name == "nt" else "bin/python")
            inside.parent.mkdir(parents=True)
            inside.touch()

    monkeypatch.setattr(module, "run", run)
    monkeypatch.setattr(sys, "argv", ["make.py", "task"])  # what follows goes to the command
    return module


def installs(make):
    done, make.done[:] = [line for line in make.done if " pip install " in f" {line} "], []
    return done


def test_the_tools_come_first_and_by_their_hashes(make):
    make.dev_python()
    locked, project, facexlib = installs(make)
    assert "--require-hashes" in locked and "--no-deps" in locked and str(make.LOCK) in locked and ".[dev]" in project
    assert facexlib.endswith("--no-deps facexlib>=0.3.0")
    make.dev_python()
    assert not installs(make)


def test_a_lock_that_changes_or_goes_back_is_installed_anew_and_costs_the_demo_nothing(make):
    make.ensure_venv(".venv", "demo")
    make.dev_python()
    before = make.LOCK.read_text()
    for text in ("another", before):
        make.LOCK.write_text(text)
        installs(make)
        make.dev_python()
        make.ensure_venv(".venv", "demo")
        assert len(installs(make)) == 3  # the lock, the project with its tools, facexlib


def test_the_oldest_and_the_newest_do_without_the_lock(make, monkeypatch):
    monkeypatch.setattr(make, "find_python", lambda version: "python")
    make.test_oldest()
    make.test_newest()
    oldest, newest = (done := installs(make))[:2], done[2:]
    assert all(f"--constraint {make.OLDEST}" in line for line in oldest) and all("--upgrade" in line for line in newest)
    assert oldest[1].endswith("--no-deps facexlib>=0.3.0") and newest[1].endswith("--no-deps facexlib>=0.3.0")
    assert str(make.LOCK) not in "".join(done)


def test_another_checkout_uses_the_same_environment_and_installs_only_itself(make, tmp_path, monkeypatch):
    make.dev_python()
    installs(make)
    other = tmp_path / "other"
    other.mkdir()
    for name in ("pyproject.toml", LOCK.name):
        (other / name).write_text((tmp_path / name).read_text())
    monkeypatch.setattr(make, "ROOT", other)
    make.dev_python()
    (only,) = installs(make)
    assert only.endswith("--no-deps --editable .")
    make.dev_python()
    assert not installs(make)


def test_the_newest_packages_are_looked_up_again_in_a_new_week(make, monkeypatch):
    import datetime

    monkeypatch.setattr(make, "find_python", lambda version: "python")

    def install_on(day):
        today = type("Date", (datetime.date,), {"today": classmethod(lambda cls: datetime.date(2026, 11, day))})
        monkeypatch.setattr(make.datetime, "date", today)
        make.test_newest()
        return installs(make)

    assert [len(install_on(day)) for day in (23, 29, 30)] == [2, 0, 2]  # Monday, Sunday, the next Monday


INSTALLS = re.compile(r"pip install (?!.*--dry-run).*(?:-e |dist/\*\.whl|(?<= )\.$)")


def test_whatever_installs_the_project_installs_facexlib_next():
    """Its dependencies, of nearly 300 MB, are not installed."""
    files = (ROOT / ".github" / "workflows").glob("*.yml")
    lines = [line for file in files for line in file.read_text("utf-8").splitlines()]
    following = [after for line, after in pairwise(lines) if INSTALLS.search(line)]
    assert len(following) == 3
    assert all(re.search(r"pip install (--quiet )?--no-deps facexlib$", line) for line in following)


def test_a_new_version_is_written_everywhere_and_dates_the_changelog(make, tmp_path, monkeypatch, capsys):
    (tmp_path / "gpen_core").mkdir()
    for name in ("pyproject.toml", "gpen_core/version.py", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text("utf-8"), "utf-8")
    monkeypatch.setattr(make.sys, "argv", ["make.py", "version", "7.8.9"])
    make.version()
    monkeypatch.setattr(make.sys, "argv", ["make.py", "version"])
    make.version()
    assert capsys.readouterr().out == "7.8.9\n"
    assert '__version__ = "7.8.9"' in (tmp_path / "gpen_core" / "version.py").read_text("utf-8")
    log = (tmp_path / "CHANGELOG.md").read_text("utf-8")
    assert re.search(r"\n## \[Unreleased\]\n\n## \[7\.8\.9\] - \d{4}-\d\d-\d\d\n", log)
    assert log.endswith("/releases/tag/v7.8.9\n") and log.count("[7.8.9]") == 2


def test_what_is_no_version_is_refused(make, tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").write_text('version = "0.1.0"\n')
    monkeypatch.setattr(make.sys, "argv", ["make.py", "version", "v1"])
    with pytest.raises(SystemExit, match="expected a version such as"):
        make.version()
    assert (tmp_path / "pyproject.toml").read_text() == 'version = "0.1.0"\n'


def test_the_changelog_keeps_its_form():
    """https://keepachangelog.com: a section for each version, with its date and its kinds of changes."""
    log = (ROOT / "CHANGELOG.md").read_text("utf-8")
    sections = re.findall(r"^## (.*)$", log, re.M)
    assert sections[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\S*\] - \d{4}-\d\d-\d\d", one) for one in sections[1:])
    kinds = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Known gaps"}
    assert set(re.findall(r"^### (.*)$", log, re.M)) <= kinds
    assert all(f"\n{name}: https://" in log for name in re.findall(r"^## (\[.*?\])", log, re.M))


@pytest.mark.parametrize("task", ["host_comfyui", "host_a1111", "host_sdnext"])
def test_a_host_that_is_not_named_is_said_with_how_to_name_one(make, monkeypatch, tmp_path, task):
    variable = {"host_comfyui": "GPEN_COMFYUI_DIR", "host_a1111": "GPEN_A1111_DIR", "host_sdnext": "GPEN_SDNEXT_DIR"}[task]
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(SystemExit) as said:
        getattr(make, task)()
    assert variable in str(said.value) and "git clone https://" in str(said.value) and not make.done
    monkeypatch.setenv(variable, str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="nowhere"):
        getattr(make, task)()
    monkeypatch.setenv(variable, str(tmp_path))
    getattr(make, task)()
    assert (ROOT / make.done[-1].split()[-1]).exists() and "-m host" in make.done[-1]


def test_what_is_installed_is_said_before_it_is(make, capsys):
    make.ensure_venv(".venv", "demo")
    assert "PyTorch" in capsys.readouterr().out
    make.ensure_venv(".venv", "demo")
    assert capsys.readouterr().out == ""


def test_the_worked_example_of_contributing_names_every_file_that_an_option_is_in():
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## A new option, step by step")[2]
    named = [ROOT / name for name in re.findall(r"^\| `(\S+)` \|", text, re.M)]
    assert len(named) == 4
    word = "mask_expand|the mask by this fraction|FaceParser"
    assert all(re.search(word, path.read_text("utf-8")) for path in named)
    sources = [path for folder in ("gpen_core", "nodes", "scripts") for path in (ROOT / folder).rglob("*.py")]
    assert {path for path in sources if "mask_expand" in path.read_text("utf-8")} <= set(named)


def test_whoever_reports_a_fault_is_asked_for_the_doctors_report():
    folder = ROOT / ".github"
    for path in (folder / "ISSUE_TEMPLATE" / "bug.yml", folder / "pull_request_template.md"):
        assert "gpen doctor --report" in path.read_text("utf-8")


def test_without_a_target_all_are_listed_with_a_line_each(make, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["make.py"])
    make.main()
    first, *lines = capsys.readouterr().out.splitlines()
    assert "python make.py TARGET" in first
    assert {line.split()[0] for line in lines} == set(make.TASKS)
    assert all(len(line.split()) > 2 and len(line) <= 120 for line in lines)


def test_the_makefile_has_the_same_targets(make):
    listed = re.search(r"^TARGETS = (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.M)[1].split()
    assert set(listed) == set(make.TASKS) - {"version"}  # which takes arguments


def test_an_unknown_target_lists_those_that_exist(make, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make.py", "demos"])
    with pytest.raises(SystemExit, match=r"no target 'demos'[\s\S]*\n  demo "):
        make.main()


def test_a_build_of_torch_for_the_cpu_comes_first_where_it_is_asked_for(make, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["make.py", "demo", "TORCH=cpu"])
    monkeypatch.setenv("TORCH", "")
    make.main()
    torch, project, _ = installs(make)
    assert "torch torchvision --index-url" in torch and torch.endswith("/cpu") and ".[demo]" in project


def test_the_build_for_the_cpu_is_offered_where_there_is_no_gpu(make, monkeypatch, capsys):
    monkeypatch.setenv("TORCH", "")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(make.shutil, "which", lambda name: None)
    make.ensure_venv(".venv", "demo")
    assert "TORCH=cpu" in capsys.readouterr().out
    assert not any("--index-url" in line for line in installs(make))
    monkeypatch.setattr(make.shutil, "which", lambda name: f"/usr/bin/{name}")
    make.ensure_venv(".venv-other", "demo")
    assert "TORCH=cpu" not in capsys.readouterr().out
