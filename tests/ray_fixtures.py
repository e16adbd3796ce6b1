"""Ray for tests, and the processes of its pool.

PYTEST_DONT_REWRITE: this is both a plugin, for its fixture, and imported for its functions.
"""

import os
from pathlib import Path

import pytest
import torch
from PIL import Image


@pytest.fixture
def ray(monkeypatch):
    """One thread for each worker, as for this process; whatever of Ray the test has left is ended."""
    module = pytest.importorskip("ray", reason="Ray is not installed: pip install 'sd-gpen[ray]'")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    here = str(Path(__file__).resolve().parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]))
    yield module
    module.shutdown()
    torch.set_num_threads(threads)


def worker_pids():
    """Of this machine's Rays: the numbers of their pools' processes, by the names that they have."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"MapWorker" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def write_photos(folder, portrait, count):
    """So many, each another, in a folder that is not there yet."""
    folder.mkdir()
    for n in range(count):
        Image.fromarray(portrait[n:, n:]).save(folder / f"{n:02}.png")
    return folder
