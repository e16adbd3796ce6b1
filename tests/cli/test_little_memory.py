"""`gpen restore` in processes that may have only so much memory: what it says, and that it never blames a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP = 200  # MB of address space
MOST = 16_000
# What libraries say that end the process themselves; some say nothing.
NATIVE = ("OpenBLAS", "libgomp", "thread-local data: ABORT", "terminate called")
BLAMES = ("refused", "damaged", "ownload", "Unexpected", "cannot be read", "Traceback", "not a PNG", "report it")

pytest_plugins = ["command_line"]


def run(limit, *arguments):
    code = (
        "import resource, sys; "
        f"resource.setrlimit(resource.RLIMIT_AS, ({limit * 10**6},) * 2); "
        "from gpen_core.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "GPEN_OFFLINE": "1"})


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_too_little_memory_is_said_and_no_file_is_blamed(models, face, tmp_path):
    out = tmp_path / "out.png"
    arguments = ("restore", face, "-o", out, "--model", "red-256", "--models-dir", models)
    arguments += ("--detector", "retinaface_mobile0.25", "--device", "cpu")
    rows, limit = [], STEP
    while limit < MOST:
        done = run(limit, *arguments)
        rows.append((limit, done.returncode, (done.stderr.strip().splitlines() or [""])[-1][:150]))
        if done.returncode == 0:
            break
        assert not out.exists()
        if done.returncode == 5:
            assert "not enough memory" in done.stderr
            assert not [word for word in BLAMES if word in done.stderr], done.stderr
        else:
            assert done.returncode < 0 or any(word in done.stderr for word in NATIVE), rows[-1]
        limit += STEP
    print("\n" + "\n".join(f"{limit:6} MB  {status:4}  {said}" for limit, status, said in rows))
    assert rows[-1][1] == 0 and out.exists()
    assert sum(status == 5 for _, status, _ in rows) > len(rows) / 2
