"""The time to load a checkpoint of the 2048 network from a cold disk.

    make bench-load                       (or: python benchmarks/load.py [ROUNDS])

Each method runs in a separate process, after the files were dropped from the page cache (Linux). Seconds are for reading and
checking, without the imports. Memory is the peak above the level before loading.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

MB = 2**20


def save_random(folder: Path, size: int) -> Path:
    """A network with random weights, as torch.save writes it."""
    import helpers
    import torch

    path = folder / f"random-{size}.pth"
    torch.save(helpers.random_weights(size), path)
    return path


def make_files(folder: Path) -> None:
    """The 2048 network with random weights, as torch.save writes it and converted."""
    import torch

    from gpen_core.weights import convert
    from gpen_core.weights.digest import STRUCTURE, DigestRecord, file_sha256

    path = save_random(folder, 2048)
    convert.save_safetensors(path, DigestRecord(file_sha256(path), STRUCTURE), torch.load(path, weights_only=True))


def ways(folder: Path) -> dict[str, Callable[[], object]]:
    """Name -> what is timed; all imports are done before."""
    import torch
    from safetensors.torch import load_file

    from gpen_core.network import GPEN
    from gpen_core.weights import checkpoint
    from gpen_core.weights.download_options import DownloadOptions
    from gpen_core.weights.store import Store

    pth, tensors = folder / "random-2048.pth", folder / "random-2048.safetensors"
    store = Store([folder], DownloadOptions(offline=True))

    def network(content: object, entry: object) -> GPEN:
        return GPEN.from_state_dict(content)

    return {
        "torch.load, .pth": lambda: torch.load(pth, map_location="cpu", weights_only=True),
        "ours, .pth": lambda: checkpoint.load(pth),
        "ours, .pth, digest compared": lambda: (store.verify(pth), checkpoint.load(pth)),
        "load_file, .safetensors": lambda: load_file(tensors),
        "ours, .safetensors, digest compared": lambda: (store.verify(tensors), checkpoint.load(tensors)),
        "torch.load to network, .pth": lambda: network(torch.load(pth, map_location="cpu", weights_only=True), None),
        "ours to network, .pth": lambda: store.load(str(pth), network),
        "ours to network, .safetensors": lambda: store.load(str(tensors), network),
    }


def resident(field: str) -> int:
    """This process's memory in bytes: VmRSS now, VmHWM at its highest (getrusage would count the parent's too)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


def in_fresh_process(*arguments: object) -> str:
    """What a new Python says when it is run with these arguments."""
    ran = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    return ran.stdout


def measure(folder: Path, name: str) -> None:
    """Runs one way in this process and prints seconds and bytes."""
    run = ways(folder)[name]
    for path in folder.glob("random-2048.*"):
        descriptor = os.open(path, os.O_RDONLY)
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
    before, start = resident("VmRSS"), time.perf_counter()
    kept = run()
    print(json.dumps([time.perf_counter() - start, resident("VmHWM") - before]))
    del kept


def main() -> None:
    """Interleaves the ways, so that a noisy moment hits all of them."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory(dir=ROOT) as temporary:
        folder = Path(temporary)
        make_files(folder)
        names = list(ways(folder))
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                found[name].append(tuple(json.loads(in_fresh_process(__file__, folder, name))))
    yardstick = statistics.median(seconds for seconds, _ in found[names[0]])
    for name, figures in found.items():
        seconds = statistics.median(seconds for seconds, _ in figures)
        memory = statistics.median(memory for _, memory in figures)
        print(f"{name:38} {seconds:6.2f} s  {seconds / yardstick:5.2f} x  {memory / MB:6.0f} MB")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        measure(Path(sys.argv[1]), sys.argv[2])
    else:
        main()
