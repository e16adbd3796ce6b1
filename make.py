"""The targets of the Makefile, on any system and with nothing but Python: `python make.py demo`."""

from __future__ import annotations

import datetime
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from install import FACEXLIB

ROOT = Path(__file__).resolve().parent
HOST_TYPES = ROOT / "tests" / "host_types"
OLDEST = ROOT / "tests" / "oldest.txt"
LOCK = ROOT / "requirements-dev.lock"
ENVIRONMENTS = Path(os.environ.get("GPEN_ENVIRONMENTS") or ROOT).absolute()
"""Where virtual environments are kept; `.ci/run` names a folder outside the checkout, so that its next run finds them."""
PARALLEL = ("-n", "auto", "--maxprocesses", "4", "--dist", "worksteal")
FAST = ("-m", "not slow")
MANUAL = (
    "-c",
    "from argparse_manpage.cli import main; main()",
    *("--module", "gpen_core.cli.main", "--function", "make_parser", "--format", "single-commands-section"),
    *("--project-name", "sd-gpen", "--manual-title", "User Commands"),
    *("--description", "restores faces in photographs, images and videos with GPEN"),
)
CPU_TORCH = ("torch", "torchvision", "--index-url", "https://download.pytorch.org/whl/cpu")
INSTALL_NOTE = """Installing sd-gpen[{extra}] into {folder}. This happens once and changes nothing else."""
CUDA_NOTE = """PyTorch for CUDA is a download of about 3 GB. This machine seems to have no NVIDIA GPU: stop this with Ctrl-C
and run `{command}` for a build for the CPU, which is 2.4 GB smaller."""


def run(*command: object, mypy_path: str | None = None) -> None:
    """Run a command in the repository's folder. Exit with its status if that is not 0."""
    environ = {**os.environ, "MYPYPATH": mypy_path} if mypy_path else None
    status = subprocess.run([str(part) for part in command], cwd=ROOT, env=environ).returncode
    if status:
        sys.exit(status)


def create_venv(name: str, python: str = sys.executable) -> Path:
    """The Python of the virtual environment `name`, which is created if it does not exist."""
    inside = ENVIRONMENTS / name / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not inside.exists():
        run(python, "-m", "venv", ENVIRONMENTS / name)
    return inside


def ensure_venv(
    name: str, extra: str, python: str = sys.executable, *pip: object, pins: Path | None = None, period: str = ""
) -> Path:
    """The Python of the virtual environment `name`. It is updated if pyproject.toml, `pins` or `period` (a week) changed.

    The packages of `pins` are installed first, with their hashes and without dependencies, since `pins` lists those as well.
    With dependencies, pip would choose a newer release of a package that is named with an extra (`coverage[toml]`), and then
    refuse it for its missing hash."""
    asked_for = b"".join(file.read_bytes() for file in (ROOT / "pyproject.toml", OLDEST, pins) if file)
    wanted = f"{extra} {pip} {period} {hashlib.sha256(asked_for).hexdigest()}"
    checkout = f"checkout {ROOT}"
    stamp = ENVIRONMENTS / name / "installed.txt"
    inside = create_venv(name, python)
    installed = stamp.read_text("utf-8").splitlines() if stamp.exists() else []
    if wanted not in installed:
        print(INSTALL_NOTE.format(extra=extra, folder=ENVIRONMENTS / name), flush=True)
        if wants_cpu_torch():
            run(inside, "-m", "pip", "install", *CPU_TORCH)
        elif not installed and sys.platform == "linux" and not shutil.which("nvidia-smi"):
            print(CUDA_NOTE.format(command=f"{sys.executable} make.py {sys.argv[1]} TORCH=cpu"), flush=True)
        if pins:
            run(inside, "-m", "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--requirement", pins)
        run(inside, "-m", "pip", "install", *pip, "--editable", f".[{extra}]")
        run(inside, "-m", "pip", "install", "--quiet", *pip, "--no-deps", FACEXLIB)
    elif checkout not in installed:  # another checkout made this environment: only the project itself has moved
        run(inside, "-m", "pip", "install", "--quiet", "--no-deps", "--editable", ".")
    others = [line for line in installed if not line.startswith((f"{extra} ", "checkout "))]
    stamp.write_text("\n".join([*others, wanted, checkout]) + "\n", "utf-8")
    return inside


def wants_cpu_torch() -> bool:
    """Whether `TORCH=cpu` was given: as an argument of make or make.py, or as an environment variable."""
    return os.environ.get("TORCH") == "cpu"


def dev_python() -> Path:
    """The Python of the environment for tests and checks. Its tools are pinned by requirements-dev.lock."""
    return ensure_venv(".venv", "dev", pins=LOCK)


def find_python(version: str) -> str:
    """A Python of that version: from $PYTHON<version without dot>, `python<version>` on the path, or pyenv's newest."""
    given = os.environ.get("PYTHON" + version.replace(".", ""))
    if given:
        return given
    if sys.version_info[:2] == tuple(int(part) for part in version.split(".")):
        return sys.executable
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [*map(str, sorted(pyenv.glob(f"{version}.*/bin/python"), reverse=True)), shutil.which(f"python{version}")]
    for candidate in candidates:
        if candidate and subprocess.run([candidate, "-c", ""], capture_output=True).returncode == 0:
            return candidate
    sys.exit(f"Python {version} was not found. Set PYTHON{version.replace('.', '')} to its path.")


def demo() -> None:
    """Restore two photos with demonstration weights, into the folder demo/."""
    run(ensure_venv(".venv", "demo"), "-m", "gpen_core", "demo")


def test() -> None:
    """Run the fast tests. Arguments go to pytest."""
    run(dev_python(), "-m", "pytest", *FAST, *PARALLEL, *sys.argv[2:])


def test_all() -> None:
    """Run all tests except the nightly ones. Arguments, such as `--cov`, go to pytest."""
    run(dev_python(), "-m", "pytest", "-m", "not nightly", *PARALLEL, *sys.argv[2:])


def test_nightly() -> None:
    """Run the slowest tests, as the nightly workflow does. Arguments go to pytest."""
    run(dev_python(), "-m", "pytest", "-m", "nightly", *PARALLEL, *sys.argv[2:])


def trial() -> None:
    """Feed random broken files and servers to gpen for 30 minutes. Arguments go to `tests/trial/run.py`."""
    run(ensure_venv(".venv", "dev"), "-m", "tests.trial.run", *sys.argv[2:])


def kills() -> None:
    """Kill each kind of run at 50 moments and check what it leaves. Arguments go to `tests/trial/kills.py`."""
    run(ensure_venv(".venv", "dev"), "-m", "tests.trial.kills", *sys.argv[2:])


def soak() -> None:
    """Restore 2,000 images in one process and check that its memory does not grow. Arguments go to `tests/trial/soak.py`."""
    run(ensure_venv(".venv", "dev"), "-m", "tests.trial.soak", *sys.argv[2:])


def real() -> None:
    """Download every file of the catalog and check what it is, into build/real. Arguments go to `tests/real_files.py`."""
    run(ensure_venv(".venv", "dev"), "-m", "tests.real_files", *sys.argv[2:])


def test_oldest() -> None:
    """Run the tests with Python 3.10 and the packages that A1111 1.10 pins. Arguments go to pytest."""
    python = ensure_venv(".venv-oldest", "dev", find_python("3.10"), "--constraint", OLDEST)
    run(python, "-m", "pytest", *PARALLEL, *sys.argv[2:])


def test_newest() -> None:
    """Run the tests with the newest packages, on Python 3.13 or $GPEN_PYTHON. Arguments go to pytest.

    Packages are upgraded once a week."""
    version = os.environ.get("GPEN_PYTHON", "3.13")
    year, week, _ = datetime.date.today().isocalendar()
    upgrade = ("--upgrade", "--upgrade-strategy", "eager")
    name = f".venv-newest-{version}"
    python = ensure_venv(name, "dev", find_python(version), *upgrade, period=f"{year}-{week}")
    run(python, "-m", "pytest", *PARALLEL, *sys.argv[2:])


def check() -> None:
    """Check format, lint and types."""
    python = dev_python()
    run(python, "-m", "ruff", "format", "--check", ".")
    run(python, "-m", "ruff", "check", ".")
    run(python, "-m", "mypy")
    # The nodes reach out of their folder, as in ComfyUI, where the repository is a package under whatever name it has there.
    pack = ROOT / ".mypy_cache" / "pack"
    shutil.rmtree(pack, ignore_errors=True)
    for name in ("gpen_core", "nodes"):
        shutil.copytree(ROOT / name, pack / "sd_gpen" / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "__init__.py", pack / "sd_gpen")
    run(python, "-m", "mypy", "--package", "sd_gpen.nodes", mypy_path=os.pathsep.join(map(str, (pack, HOST_TYPES))))


def version() -> None:
    """Print the version, or set it: `python make.py version 0.2.0` also dates the section of the changelog."""
    project, code, log = ROOT / "pyproject.toml", ROOT / "gpen_core" / "version.py", ROOT / "CHANGELOG.md"
    now = project_version()
    if len(sys.argv) < 3:
        print(now)
        return
    new = sys.argv[2]
    if not re.fullmatch(r"\d+\.\d+\.\d+(rc\d+)?", new):
        sys.exit(f"expected a version such as 0.2.0 or 0.2.0rc1, got {new!r}")
    texts = {file: file.read_text("utf-8") for file in (project, code, log)}
    texts[project] = texts[project].replace(f'\nversion = "{now}"\n', f'\nversion = "{new}"\n')
    texts[code] = texts[code].replace(f'"{now}"', f'"{new}"')
    texts[log] = date_release(texts[log], new, datetime.date.today().isoformat())
    for file, text in texts.items():
        file.write_text(text, "utf-8")


def date_release(changelog: str, version: str, date: str) -> str:
    """The changelog with its section Unreleased renamed to the version, and a new, empty one above it."""
    address = "https://github.com/sd-gpen/sd-gpen/releases/tag/v"
    changelog = changelog.replace("\n## [Unreleased]\n", f"\n## [Unreleased]\n\n## [{version}] - {date}\n", 1)
    return changelog.rstrip("\n") + f"\n[{version}]: {address}{version}\n"


def run_host_tests(variable: str, name: str, address: str, tests: str) -> None:
    """Run the tests in a real host, whose checkout `variable` names. If it is not set, explain how to set it."""
    checkout = os.environ.get(variable, "")
    if not checkout or not Path(checkout).is_dir():
        python = variable.replace("_DIR", "_PYTHON")
        sys.exit(
            f"{variable} names no folder{f': {checkout}' if checkout else ''}. It names a checkout of {name}, and "
            f"{python} the Python that it runs with, which has what the host needs:\n"
            f"    git clone {address} {name}\n"
            f"    {variable}={name} {python}={name}/venv/bin/python python make.py {' '.join(sys.argv[1:2])}\n"
            "Nothing is written into the checkout. .github/workflows/ci.yml sets one up from nothing."
        )
    run(dev_python(), "-m", "pytest", "-m", "host", "-s", tests, *sys.argv[2:])


def host_comfyui() -> None:
    """Run the tests in a real ComfyUI, named by GPEN_COMFYUI_DIR. Arguments go to pytest."""
    run_host_tests("GPEN_COMFYUI_DIR", "ComfyUI", "https://github.com/Comfy-Org/ComfyUI", "tests/nodes/test_comfyui_host.py")


def host_a1111() -> None:
    """Run the tests in a real A1111, Forge, reForge or Forge classic, named by GPEN_A1111_DIR. Arguments go to pytest."""
    address = "https://github.com/lllyasviel/stable-diffusion-webui-forge"
    run_host_tests("GPEN_A1111_DIR", "forge", address, "tests/scripts/test_a1111_host.py")


def host_sdnext() -> None:
    """Run the tests in a real SD.Next, named by GPEN_SDNEXT_DIR. Arguments go to pytest."""
    run_host_tests("GPEN_SDNEXT_DIR", "sdnext", "https://github.com/vladmandic/sdnext", "tests/scripts/test_sdnext_host.py")


def reference() -> None:
    """Generate docs/reference/, ComfyUI's texts and the tables of its help pages from the code."""
    for module in ("tests.comfyui_texts", "tests.reference_pages"):
        run(dev_python(), "-m", module)


def docs() -> None:
    """Build the documentation site in build/site. A broken link is an error. Arguments go to mkdocs."""
    python = create_venv(".venv-docs")
    run(python, "-m", "pip", "install", "--quiet", *extra("docs"))
    run(python, "-m", "mkdocs", "build", "--strict", *sys.argv[2:])


def project_version() -> str:
    """The version in pyproject.toml."""
    return re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]


def extra(name: str) -> list[str]:
    """The requirements of one of the project's extras."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    return re.findall(r'"([^"]+)"', re.search(rf"^{name} = \[(.*)\]$", project, re.M)[1])


def manual() -> None:
    """Build the manual page build/gpen.1. Arguments, such as `--output FILE`, go to argparse-manpage."""
    python = create_venv(".venv-manual")
    run(python, "-m", "pip", "install", "--quiet", *extra("manual"))
    os.environ["COLUMNS"] = "10000"  # man breaks lines; one that began with a dot would be a macro
    run(python, *MANUAL, "--version", project_version(), "--output", ROOT / "build" / "gpen.1", *sys.argv[2:])


def dist() -> None:
    """Build the wheel and the source archive in dist/ and check them."""
    python = create_venv(".venv-dist")
    run(python, "-m", "pip", "install", "--quiet", "build", "twine")
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    run(python, "-m", "build")
    run(python, "-m", "twine", "check", "--strict", *sorted((ROOT / "dist").iterdir()))


def bench() -> None:
    """Time the network and its plain reference in one run."""
    dev_python()
    run(ensure_venv(".venv", "bench"), "benchmarks/network.py", *sys.argv[2:])


def bench_load() -> None:
    """Time the reading of a checkpoint and torch.load in one run."""
    run(dev_python(), "benchmarks/load.py", *sys.argv[2:])


def lock() -> None:
    """Update requirements-dev.lock to the newest tools for every supported Python and system, with hashes."""
    import tomllib  # Python 3.11

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    uv = create_venv(".venv-lock")
    run(uv, "-m", "pip", "install", "--quiet", "--upgrade", "uv")
    asked_for = uv.parent / "tools.in"
    asked_for.write_text("\n".join(t for t in project["optional-dependencies"]["dev"] if not t.startswith(project["name"])))
    everywhere = ("--universal", "--python-version", project["requires-python"].removeprefix(">="))
    plain = ("--no-emit-index-url", "--no-emit-find-links", "--no-annotate", "--no-header", "--quiet")
    run(uv, "-m", "uv", "pip", "compile", asked_for, *everywhere, "--upgrade", "--generate-hashes", *plain, "-o", LOCK)


TASKS: dict[str, Callable[[], None]] = {
    "demo": demo,
    "test": test,
    "test-all": test_all,
    "test-nightly": test_nightly,
    "trial": trial,
    "kills": kills,
    "soak": soak,
    "real": real,
    "test-oldest": test_oldest,
    "test-newest": test_newest,
    "check": check,
    "lock": lock,
    "version": version,
    "dist": dist,
    "reference": reference,
    "docs": docs,
    "manual": manual,
    "host-comfyui": host_comfyui,
    "host-a1111": host_a1111,
    "host-sdnext": host_sdnext,
    "bench": bench,
    "bench-load": bench_load,
}


def list_targets() -> str:
    """A line for each target."""
    summaries = {name: (task.__doc__ or "").splitlines()[0].partition(". ")[0].rstrip(".") for name, task in TASKS.items()}
    lines = [f"  {name:13} {summary}" for name, summary in summaries.items()]
    return "\n".join(["Targets, for `make TARGET` or `python make.py TARGET`:", *lines])


def main() -> None:
    """Runs the target that the command line names. Lists the targets if it names none."""
    if "TORCH=cpu" in sys.argv:
        sys.argv.remove("TORCH=cpu")
        os.environ["TORCH"] = "cpu"
    if len(sys.argv) < 2:
        print(list_targets())
    elif sys.argv[1] in TASKS:
        TASKS[sys.argv[1]]()
    else:
        sys.exit(f"There is no target {sys.argv[1]!r}.\n{list_targets()}")


if __name__ == "__main__":
    main()
