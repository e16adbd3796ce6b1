"""Time, peak memory and accuracy of the network on a GPU, for every size, precision, batch size and variant.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --sizes 2048 --dtypes fp16 --batches 1 --compile --cudnn-benchmark
    python benchmarks/gpu.py --device cpu --sizes 256 --batches 1 2 --runs 1 --dtypes fp32 bf16   (a quick check)

Times are measured with CUDA events around single calls after the warm-up. Memory is torch's peak allocation, including the
first call and the warm-up, above the level before; it excludes weights and input. PSNR compares with the network in float32
without TF32, one face at a time; the peak is the range of its output. Variants (variants.py):

    reference twin   tests/reference_gpen.py, float32 only; its FIR kernels are created once on the device
    channels_last    gpen_core's default
    contiguous       gpen_core with weights and input in NCHW order; see `variants.in_order`
    CUDA graph       one call of gpen_core, captured and replayed
    compiled whole   torch.compile of the whole network; requires --compile
    --compile        the same as `gpen restore --compile`: fused layers in a CUDA graph; requires --compile

--whole also runs the benchmarks of whole images and videos (end_to_end.py, gpu_video.py,
gpu_end_to_end.py). --json writes all rows to a file.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from rows import Row
from timing import min_median_max, seconds

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
import synthetic  # noqa: E402
import variants  # noqa: E402

from gpen_core import RestoreOptions  # noqa: E402
from gpen_core.network import GPEN, RELEASED_SIZES  # noqa: E402
from gpen_core.pipeline.devices import DTYPES, is_out_of_memory  # noqa: E402

MB = 2**20
GOAL = (2048, "fp16", 1)  # size, precision and batch that the goal is set for, on an H200
GOAL_MS, GOAL_MB = 8.0, 1024.0
COLUMNS = f"{'min ms':>9} {'median ms':>9} {'max ms':>9} {'ms/face':>9} {'peak MB':>8} {'PSNR dB':>8} {'twin/this':>9}"

Weights = dict[str, torch.Tensor]


@dataclass
class Bench:
    """What holds for all cells."""

    device: torch.device
    dtypes: list[str]
    batches: list[int]
    runs: int
    warm_up: int
    with_compile: bool
    twins: dict[tuple[int, int], float] = field(default_factory=dict)
    """Median milliseconds of the reference twin by size and batch."""
    rows: list[dict[str, object]] = field(default_factory=list)
    """What was measured, for the JSON."""


@dataclass(frozen=True)
class Cell:
    """One line of the table."""

    size: int
    dtype: str
    batch: int
    variant: str

    def __str__(self) -> str:
        return f"{self.size:5} {self.dtype:5} {self.batch:5} {self.variant:15}"


@dataclass(frozen=True)
class Measured:
    """One cell's figures; no peak on the CPU."""

    ms: list[float]
    peak: float | None
    psnr: float


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """One call: between two CUDA events, or wall time on the CPU."""
    if device.type != "cuda":
        return 1000 * seconds(run)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end)


def psnr(y: torch.Tensor, exact: torch.Tensor) -> float:
    error = float((y.double() - exact.double()).square().mean())
    peak = float(exact.max() - exact.min())
    return math.inf if error == 0 else 10 * math.log10(peak**2 / error)


def measure(bench: Bench, prepare: Callable[[], Callable[[], torch.Tensor]], exact: torch.Tensor) -> Measured:
    """Prepares a variant, warms it up and times it; its memory counts from the preparation on."""
    on_gpu = bench.device.type == "cuda"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(bench.device)
    before = torch.cuda.memory_allocated(bench.device) if on_gpu else 0
    run = prepare()
    for _ in range(bench.warm_up):
        run()
    taken = [milliseconds(run, bench.device) for _ in range(bench.runs)]
    peak = (torch.cuda.max_memory_allocated(bench.device) - before) / MB if on_gpu else None
    return Measured(taken, peak, psnr(run().cpu(), exact))


def cell(bench: Bench, where: Cell, prepare: Callable[[], Callable[[], torch.Tensor]], exact: torch.Tensor) -> None:
    """Prints one line: the figures, or why there are none."""
    try:
        measured = measure(bench, prepare, exact)
    except variants.Skipped as reason:
        print(f"{where} skipped: {reason}", flush=True)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        print(f"{where} out of memory", flush=True)
    else:
        if where.variant == variants.TWIN:
            bench.twins[where.size, where.batch] = statistics.median(measured.ms)
        show(where, measured, bench.twins.get((where.size, where.batch)))
        bench.rows.append({**asdict(where), **asdict(measured)})


def show(where: Cell, measured: Measured, twin: float | None) -> None:
    low, middle, high = min_median_max(measured.ms)
    peak = "-" if measured.peak is None else f"{measured.peak:.0f}"
    ratio = "-" if twin is None else f"{twin / middle:.2f}x"
    figures = f"{low:9.2f} {middle:9.2f} {high:9.2f} {middle / where.batch:9.2f}"
    print(f"{where} {figures} {peak:>8} {measured.psnr:8.1f} {ratio:>9}", flush=True)
    if (where.size, where.dtype, where.batch) == GOAL and measured.peak is not None:
        held = middle <= GOAL_MS and measured.peak < GOAL_MB
        print(f"{where} goal {GOAL_MS:g} ms and {GOAL_MB:g} MB on an H200: {'held' if held else 'MISSED'}", flush=True)


def exact_results(state_dict: Weights, x: torch.Tensor) -> torch.Tensor:
    """[B, 3, S, S] on the CPU: the network in float32, without TF32, one face at a time."""
    network = GPEN.from_state_dict(state_dict).to(x.device)
    allowed, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        return torch.cat([network(one[None]).cpu() for one in x])
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def at_size(bench: Bench, size: int) -> None:
    """All cells of one size, the twin's first: the others are compared with it."""
    state_dict = helpers.random_weights(size)
    faces = [torch.from_numpy(synthetic.random_input(size, seed)) for seed in range(max(bench.batches))]
    x = torch.cat(faces).to(bench.device)
    exact = exact_results(state_dict, x)
    on_device = {key: value.to(bench.device) for key, value in state_dict.items()}
    for batch in bench.batches:
        where = Cell(size, "fp32", batch, variants.TWIN)
        cell(bench, where, variants.twin(on_device, x[:batch]), exact[:batch])
    del on_device
    for dtype in bench.dtypes:
        for name, batch, prepare in own_cells(bench, state_dict, DTYPES[dtype], x):
            cell(bench, Cell(size, dtype, batch, name), prepare, exact[:batch])


def own_cells(
    bench: Bench, state_dict: Weights, dtype: torch.dtype, x: torch.Tensor
) -> Iterator[tuple[str, int, Callable[[], Callable[[], torch.Tensor]]]]:
    """Variant, batch and how to prepare it, for each of the network's variants."""

    def anew() -> GPEN:
        return GPEN.from_state_dict(state_dict, dtype).to(bench.device)

    network, nchw = anew(), variants.in_nchw(anew())
    for batch in bench.batches:
        for name, prepare in variants.network_variants(
            network, nchw, x[:batch], anew if bench.with_compile else None
        ).items():
            yield name, batch, prepare


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1, ...; cpu only shows that the script works")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(RELEASED_SIZES), choices=RELEASED_SIZES)
    parser.add_argument("--dtypes", nargs="+", default=list(DTYPES), choices=list(DTYPES))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="torch.compile as well; it takes minutes")
    parser.add_argument("--cudnn-benchmark", action="store_true", help="let cuDNN try its algorithms in the warm-up")
    parser.add_argument("--whole", action="store_true", help="photographs, a folder and a video as well")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, row by row")
    return parser.parse_args()


def whole(bench: Bench, sizes: list[int], device: str) -> None:
    """The rows from image to image, at the first precision asked for; the folder and the video at the first size."""
    import end_to_end
    import gpu_end_to_end
    import gpu_video

    dtype = bench.dtypes[0]
    print(f"\nFrom image to image, milliseconds\n{end_to_end.HEADING}")
    for size in sizes:
        for count in (1, 8):
            given = RestoreOptions(mask_type="feather")
            bench.rows += end_to_end.compare(size, dtype, count, bench.device, given, bench.runs)
    print()

    def row(made: Row) -> None:
        print(made, flush=True)
        bench.rows.append(asdict(made))

    for size in gpu_video.SIZES:
        for one in gpu_video.passes(size, dtype, bench.device, bench.runs, has_first=size == gpu_video.SIZES[0]):
            row(one)
    row(gpu_end_to_end.detection(bench.device, bench.runs))
    with tempfile.TemporaryDirectory() as place:
        row(gpu_end_to_end.first(Path(place), sizes[0], dtype, device, compiled=False))
        if bench.with_compile:
            row(gpu_end_to_end.first(Path(place), sizes[0], dtype, device, compiled=True))
        row(gpu_end_to_end.folder(Path(place), sizes[0], dtype, device))
        row(gpu_end_to_end.film(Path(place), sizes[0], dtype, device))


def print_header(device: torch.device) -> None:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    cudnn = torch.backends.cudnn
    settings = f"TF32 in float32 convolutions: {cudnn.allow_tf32}, cudnn.benchmark: {cudnn.benchmark}"
    print(f"{name}; torch {torch.__version__}, cuDNN {cudnn.version()}; {settings}")
    print(f"{'size':>5} {'type':5} {'batch':>5} {'variant':15} {COLUMNS}")


def main() -> None:
    """Parses the arguments and prints the table; without a CUDA device, only that."""
    given = arguments()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No CUDA device: nothing was measured.")
        return
    torch.backends.cudnn.benchmark = given.cudnn_benchmark
    print_header(device)
    bench = Bench(device, given.dtypes, given.batches, given.runs, given.warm_up, given.compile)
    for size in given.sizes:
        at_size(bench, size)
    if given.whole:
        whole(bench, given.sizes, given.device)
    if given.json is not None:
        given.json.write_text(json.dumps(bench.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
