"""The manual page that `make manual` writes."""

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from reference_pages import commands_of, flags_of

from gpen_core.cli.main import make_parser
from gpen_core.version import __version__

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def page(tmp_path, monkeypatch):
    """gpen.1."""
    pytest.importorskip("argparse_manpage")
    spec = importlib.util.spec_from_file_location("make_py", ROOT / "make.py")
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    monkeypatch.setattr(make, "create_venv", lambda name: sys.executable)
    monkeypatch.setattr(make, "run", lambda *command: "pip" in command or subprocess.run(command, cwd=ROOT, check=True))
    monkeypatch.setattr(sys, "argv", ["make.py", "manual", "--output", str(tmp_path / "gpen.1")])
    monkeypatch.setenv("COLUMNS", "80")
    make.TASKS["manual"]()
    return (tmp_path / "gpen.1").read_text("utf-8")


def test_the_manual_names_everything(page):
    assert page.startswith(".TH GPEN ") and f"sd\\-gpen {__version__}" in page.splitlines()[0]
    for name, _, command in commands_of(make_parser()):
        assert f"\\fBgpen {name}\\fR\n" in page
        assert all(f"\\fB{flag}\\fR".replace("-", "\\-") in page for flag in flags_of(command) - {"-h", "--help"})
    for text in ("COMMANDS", "weights are missing or rejected", "GPEN_MIRROR"):
        assert text in page


def test_roff_reads_the_manual_without_a_warning(page):
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here")
    done = subprocess.run([groff, "-man", "-ww", "-Tascii"], input=page, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == ""
    text = re.sub(r".\x08|\x1b\[\d*m", "", done.stdout)  # letters struck over, or escapes
    assert "--skip-existing" in text and "(.json or .jsonl)" in text
