"""The network beside its plain reference twin: seconds and ratios, in turn, in one run.

    make bench                                       (or: python benchmarks/network.py --sizes 512 2048 --runs 3)

Ratios count; the seconds are this machine's, now.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
import synthetic  # noqa: E402
from reference_gpen import reference_gpen  # noqa: E402

from gpen_core.devices import CACHE_STRIP  # noqa: E402
from gpen_core.network import GPEN, RELEASED_SIZES  # noqa: E402


def seconds(run: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(size: int, runs: int) -> None:
    """Prints a line per implementation: minimum, median, maximum, and the median's ratio to the twin's."""
    state_dict = helpers.random_weights(size)
    x = torch.from_numpy(synthetic.random_input(size, 7))
    fp32, bf16 = GPEN.from_state_dict(state_dict), GPEN.from_state_dict(state_dict, torch.bfloat16)
    fp32.strip_bytes = bf16.strip_bytes = CACHE_STRIP
    whole = GPEN.from_state_dict(state_dict)
    contenders: dict[str, Callable[[], object]] = {
        "reference twin fp32": lambda: reference_gpen(state_dict, x),
        "fp32 in one piece": lambda: whole(x),
        "gpen_core fp32": lambda: fp32(x),
        "gpen_core bf16": lambda: bf16(x),
    }
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for n in range(runs + 1):  # the first round warms up
        for name, run in contenders.items():
            value = seconds(run)
            if n:
                taken[name].append(value)
    slowest = statistics.median(taken["reference twin fp32"])
    for name, values in taken.items():
        middle = statistics.median(values)
        line = f"{min(values):8.2f} {middle:8.2f} {max(values):8.2f} {slowest / middle:8.2f}x"
        print(f"{size:5} {name:22}{line}", flush=True)


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], choices=RELEASED_SIZES)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.runs} runs")
    print(f"{'size':>5} {'':22}{'min s':>8} {'median s':>8} {'max s':>8} {'speed-up':>9}")
    for size in given.sizes:
        compare(size, given.runs)


if __name__ == "__main__":
    main()
