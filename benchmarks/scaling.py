"""Time per face by network size, and time of many faces compared with one: two tables and an optional plot.

    python benchmarks/scaling.py --plot scaling.svg
    python benchmarks/scaling.py --sizes 256 512 1024 2048 --faces 1 2 4 8 16 32 64 --faces-size 256 --runs 3 --ort

Both tables are comma-separated. The first has seconds per face of the reference twin and the network, and with --ort of ONNX
Runtime. The second has seconds of n faces, and their ratio to n times one face. Only the network runs, in the batches that
`FaceRestorer` uses on this CPU (`devices.plan_batches`, `devices.run_with_oom_backoff`). Variants of the same size or the
same precision run in turn. The plot requires matplotlib."""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from network import ORT, TWIN, dtypes, onnx_runtime, say_what_is_left_out, task, twin_and_ours
from timing import interleave, min_median_max, seconds

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
import synthetic  # noqa: E402

from gpen_core.network import GPEN, RELEASED_SIZES  # noqa: E402
from gpen_core.pipeline.devices import BatchPlan, plan_batches, run_with_oom_backoff  # noqa: E402

Curves = dict[str, dict[int, float]]
"""Medians in seconds by name, then by size or number of faces."""


def row(number: int, name: str, values: Sequence[float], ratio: float) -> None:
    low, middle, high = min_median_max(values)
    print(f"{number},{name},{low:.4f},{middle:.4f},{high:.4f},{ratio:.3f}", flush=True)


def against_size(sizes: Sequence[int], runs: int, with_onnx: bool) -> Curves:
    """Prints a row per size and contender."""
    print("size,what,min s,median s,max s,twin / this")
    curves: Curves = {}
    for size in sizes:
        state_dict, x = task(size)
        contenders = twin_and_ours(state_dict, x) | (onnx_runtime(state_dict, x) if with_onnx else {})
        taken = interleave(contenders, runs)
        for name, values in taken.items():
            middle = curves.setdefault(name, {})[size] = statistics.median(values)
            row(size, name, values, statistics.median(taken[TWIN]) / middle)
    return curves


def restore_all(network: GPEN, faces: Sequence[torch.Tensor], plan: BatchPlan) -> None:
    """The network's part of what `FaceRestorer` does with the faces of its images."""

    def run(chunk: Sequence[torch.Tensor]) -> torch.Tensor:
        out: torch.Tensor = network(torch.stack(list(chunk)), strip_bytes=plan.strip_bytes)
        return out

    for _ in run_with_oom_backoff(faces, plan.batch_size, run):
        pass


def for_faces(network: GPEN, numbers: Sequence[int]) -> dict[str, Callable[[], float]]:
    """By number, what restores so many faces within the CPU's plan."""
    chosen = plan_batches(network.config, network.dtype, torch.device("cpu"))
    faces = [torch.from_numpy(synthetic.random_input(network.size, seed)[0]) for seed in range(max(numbers))]
    return {str(n): partial(seconds, partial(restore_all, network, faces[:n], chosen)) for n in numbers}


def against_faces(size: int, numbers: Sequence[int], runs: int) -> Curves:
    """Prints a row per precision and number of faces."""
    print(f"faces of {size},what,min s,median s,max s,this / (n times one)")
    curves: Curves = {}
    state_dict = helpers.random_weights(size)
    for dtype_name, dtype in dtypes().items():
        name = f"gpen_core {dtype_name}"
        taken = interleave(for_faces(GPEN.from_state_dict(state_dict, dtype), numbers), runs)
        one = statistics.median(taken["1"])
        for n, values in ((int(key), values) for key, values in taken.items()):
            middle = curves.setdefault(name, {})[n] = statistics.median(values)
            row(n, name, values, middle / (n * one))
    return curves


def panel(axes: Any, curves: Curves, x_label: str, y_label: str) -> None:
    """One log-log panel with a marked line per name, and a dashed one where cost is to be n times one."""
    for name, points in curves.items():
        (line,) = axes.plot(list(points), list(points.values()), marker="o", label=name)
        if 1 in points:
            straight = [n * points[1] for n in points]
            axes.plot(list(points), straight, linestyle="--", color=line.get_color(), label=f"n times one, {name}")
    ticks = sorted({x for points in curves.values() for x in points})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.grid(True, which="both", alpha=0.3)
    axes.legend()


def draw(path: Path, by_size: Curves, by_faces: Curves, faces_size: int) -> None:
    """Writes one figure: cost against size on the left, against the number of faces on the right."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    panel(left, by_size, "side of the face (pixels)", "time per face (s)")
    panel(right, by_faces, "number of faces", f"time for all faces of {faces_size} x {faces_size} (s)")
    figure.savefig(path)
    print(f"Wrote {path}.")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=list(RELEASED_SIZES), choices=RELEASED_SIZES)
    parser.add_argument("--faces", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32, 64], help="one is always among them")
    parser.add_argument("--faces-size", type=int, default=256, choices=RELEASED_SIZES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--ort", action="store_true", help="ONNX Runtime as well")
    parser.add_argument("--plot", type=Path, help="a file to draw into: .svg, .png, .pdf")
    return parser.parse_args()


def main() -> None:
    """Prints both tables and draws them where asked for."""
    given = arguments()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.runs} runs")
    say_what_is_left_out([ORT] if given.ort else [])
    can_draw = importlib.util.find_spec("matplotlib") is not None
    if given.plot and not can_draw:
        print("No plot is drawn, because matplotlib is not installed.")
    by_size = against_size(given.sizes, given.runs, given.ort)
    by_faces = against_faces(given.faces_size, sorted({1, *given.faces}), given.runs)
    if given.plot and can_draw:
        draw(given.plot, by_size, by_faces, given.faces_size)


if __name__ == "__main__":
    main()
