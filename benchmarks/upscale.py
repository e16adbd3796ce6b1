"""Upscaling of the whole image: the seam at tile borders, the memory per pixel, and the cost compared with a plain run.

    python benchmarks/upscale.py        (or: python benchmarks/upscale.py --what step --contexts 8 24)

The networks have the layout of realesrnet_x2 and realesrnet_x4 and random weights. Steps are the largest differences between
a tile and the same part of the image processed without tiles, in levels of 255, for an output with the contrast of the
input. `gain` scales the dense blocks. Costs are for one image with one face. All variants run in turn in one process;
compare the ratios.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from timing import SPREAD, interleave, seconds, spread
from torch import nn

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
import rrdb  # noqa: E402

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.pipeline.model_set import ModelSet  # noqa: E402
from gpen_core.pipeline.restorer import FaceRestorer  # noqa: E402
from gpen_core.pipeline.rrdb import RRDBLayout, load_rrdbnet  # noqa: E402
from gpen_core.pipeline.upscale import Upscaler  # noqa: E402

FEATURES, BLOCKS = 32, 23
SHUFFLES = {"realesrnet_x2": 2, "realesrnet_x4": 1}
GAINS = (0.1, 0.3, 0.6)
TILE, BESIDE = 64, 64  # px: what is compared, and how much of the image lies on its other side


def network(name: str, gain: float = 0.3) -> tuple[nn.Module, RRDBLayout]:
    layout = RRDBLayout(FEATURES, BLOCKS, SHUFFLES[name])
    return load_rrdbnet(rrdb.random_weights(FEATURES, BLOCKS, layout.unshuffle, gain), layout), layout


@torch.inference_mode()
def steps(contexts: list[int]) -> None:
    picture = torch.from_numpy(helpers.texture(64, TILE + BESIDE, sigma=1)).permute(2, 0, 1)[None]  # HWC -> NCHW
    print(f"{'network':>14} {'gain':>5} " + " ".join(f"{f'{c} px':>8}" for c in contexts) + "   largest step in levels")
    for name in SHUFFLES:
        for gain in GAINS:
            run, layout = network(name, gain)
            whole = run(picture)
            edge = TILE * layout.scale
            level = float(whole.std() / picture.std()) / 255
            parts = [run(picture[..., : TILE + context])[..., :edge] for context in contexts]
            shown = (float((part - whole[..., :edge]).abs().max()) / level for part in parts)
            print(f"{name:>14} {gain:5} " + " ".join(f"{step:8.4f}" for step in shown), flush=True)


@torch.inference_mode()
def memory(name: str, side: int) -> None:
    """In a process of its own, since the most that it ever took is asked for."""
    run, layout = network(name)
    run(torch.rand(1, 3, 16, 16))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run(torch.rand(1, 3, side, side))
    taken = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / side**2 / 4
    print(f"{name:>14} {side:4} px: {taken:.0f} numbers per pixel, estimated {layout.elements_per_pixel}", flush=True)


def costs(runs: int, size: int, side: int) -> None:
    face = helpers.make_face((side / 2, side / 2), side / 4)
    base = helpers.restorer(helpers.random_weights(size), [face]).models
    loaded = {name: Upscaler(*network(name), torch.device("cpu")) for name in SHUFFLES}
    models = ModelSet(base.runners, base.detector, base.device, load_upscaler=lambda name, progress: loaded[name])
    restorer = FaceRestorer(models)
    picture = np.asarray(helpers.texture(side, side) * 255, np.uint8)
    asked = {
        "plain": RestoreOptions(),
        "lanczos x2": RestoreOptions(upscale=2),
        "realesrnet_x2 x2": RestoreOptions(upscale=2, upscaler="realesrnet_x2"),
        "realesrnet_x4 x4": RestoreOptions(upscale=4, upscaler="realesrnet_x4"),
    }
    contenders = {
        name: lambda options=options: seconds(lambda: restorer.restore(picture, options)) for name, options in asked.items()
    }
    taken = interleave(contenders, runs)
    print(f"{side} x {side} px, one face, GPEN-{size}, fp32\n{'':>18} {SPREAD} {'/ plain':>8}")
    for name, values in taken.items():
        ratio = np.median(values) / np.median(taken["plain"])
        print(f"{name:>18} {spread(values)} {ratio:8.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", default=["step", "memory", "cost"], choices=["step", "memory", "cost"])
    parser.add_argument("--contexts", type=int, nargs="+", default=[8, 16, 24, 32])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size", type=int, default=512, help="of the restoration network")
    parser.add_argument("--side", type=int, default=256, help="of the image")
    parser.add_argument("--one", nargs=2, metavar=("NETWORK", "SIDE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        memory(given.one[0], int(given.one[1]))
        return
    if "step" in given.what:
        steps(given.contexts)
    if "memory" in given.what:
        for name in SHUFFLES:
            subprocess.run([sys.executable, __file__, "--one", name, "128"], check=True)
    if "cost" in given.what:
        costs(given.runs, given.size, given.side)


if __name__ == "__main__":
    main()
