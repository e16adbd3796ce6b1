"""`gpen restore` in processes with a limit on memory: what it says, and that it never blames a file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STEP = 100  # MB of address space
MOST = 16_000
WHILE_IMPORTING = (200, 1000, 1800, 2600)  # MB: less than the imports need
# What libraries say that end the process themselves; some say nothing.
NATIVE = ("OpenBLAS", "libgomp", "thread-local data: ABORT", "terminate called")
BLAMES = ("refused", "damaged", "ownload", "Unexpected", "cannot be read", "Traceback", "not a PNG", "report it")

pytest_plugins = ["cli_fixtures"]

# Imports everything, then forks once per limit above what that took, until one process restores the image.
# It prints, as JSON, [MB, exit status, stderr, whether the output exists] for each process.
FORKS = """
import json, os, resource, sys, tempfile
import cv2, torch
from gpen_core.pipeline import restorer
from gpen_core.batch import local
from gpen_core.cli import main

step, most, out, *arguments = sys.argv[1:]
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
for limit in range(used, int(most) * 10**6, int(step) * 10**6):
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
            os._exit(main(arguments))
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        print(json.dumps([limit // 10**6, status, said.read().decode(errors="replace"), os.path.exists(out)]), flush=True)
    if status == 0:
        break
"""
ONE = """
import resource, sys
limit, *arguments = sys.argv[1:]
resource.setrlimit(resource.RLIMIT_AS, (int(limit) * 10**6,) * 2)
from gpen_core.cli import main
sys.exit(main(arguments))
"""


def run(code, *arguments):
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "GPEN_OFFLINE": "1"})


def rows_of(out, arguments):
    """[MB, exit status, stderr, whether the output exists] of each process, in the order of the limits."""
    for limit in WHILE_IMPORTING:
        done = run(ONE, limit, *arguments)
        yield [limit, done.returncode, done.stderr, out.exists()]
    done = run(FORKS, STEP, MOST, out, *arguments)
    assert done.returncode == 0, done.stderr
    yield from map(json.loads, done.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_too_little_memory_is_said_and_no_file_is_blamed(models, face, tmp_path):
    out = tmp_path / "out.png"
    arguments = ("restore", face, "-o", out, "--model", "red-256", "--models-dir", models)
    arguments += ("--detector", "retinaface_mobile0.25", "--device", "cpu", "-q")  # rows are on stdout
    rows = list(rows_of(out, arguments))
    print("\n" + "\n".join(f"{limit:6} MB  {status:4}  {said[:150]}" for limit, status, said, _ in rows))
    *failed, last = rows
    assert (last[1], last[3]) == (0, True)
    for row in failed:
        _, status, said, written = row
        assert not written
        if status == 5:
            assert "not enough memory" in said
            assert not [word for word in BLAMES if word in said], said
        else:
            assert status < 0 or any(word in said for word in NATIVE), row
    assert len(failed) >= len(WHILE_IMPORTING) + 3
    assert sum(status == 5 for _, status, *_ in failed) > len(rows) / 2
