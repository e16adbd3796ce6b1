"""Times of the network, the reference twin, ONNX Runtime, OpenVINO and the convolutions alone, in one run.

    make bench                                       (or: python benchmarks/network.py --sizes 512 2048 --runs 3)
    python benchmarks/network.py --engines --runs 15 (only the network, its ONNX backend, also with --device openvino, ONNX
                                                      Runtime and OpenVINO, in separate processes)

ONNX Runtime and OpenVINO run the exported twin (onnx_export.py) and require onnx, onnxscript, onnxruntime and openvino. The
convolutions are timed separately and summed (convolutions.py). Compare the ratios; the seconds depend on the machine and its
load.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from timing import SPREAD, interleave, seconds, spread

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import convolutions  # noqa: E402
import exported_gpen  # noqa: E402
import helpers  # noqa: E402
import onnx_export  # noqa: E402
import synthetic  # noqa: E402
from exported_gpen import ExportedGPEN  # noqa: E402
from reference_gpen import reference_gpen  # noqa: E402

from gpen_core.network import GPEN, RELEASED_SIZES, OnnxModel, OnnxNetwork  # noqa: E402
from gpen_core.network.memory_estimate import CACHE_STRIP_BYTES  # noqa: E402
from gpen_core.pipeline.devices import DTYPES, cpu_supports_bf16  # noqa: E402
from gpen_core.pipeline.network_loading import load_onnx_network  # noqa: E402
from gpen_core.pipeline.onnx_providers import OPENVINO_PROVIDER, available_providers, providers_for  # noqa: E402
from gpen_core.weights.onnx_export import export_model  # noqa: E402

TWIN, ORT, OPENVINO, ALONE = "reference twin fp32", "ONNX Runtime fp32", "OpenVINO", "convolutions alone"
BACKEND = "backend"
AIM = 1.3  # at most that many times the convolutions alone

Weights = dict[str, torch.Tensor]
Contenders = dict[str, Callable[[], float]]
Engine = Callable[[Weights, torch.Tensor], Contenders]


def dtypes() -> dict[str, torch.dtype]:
    """Those that this CPU computes in, by name."""
    names = ("fp32", "bf16") if cpu_supports_bf16() else ("fp32",)
    return {name: DTYPES[name] for name in names}


def in_strips(state_dict: Weights, dtype: torch.dtype) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network as the CPU runs it."""
    return partial(GPEN.from_state_dict(state_dict, dtype), strip_bytes=CACHE_STRIP_BYTES)


def ours(state_dict: Weights, x: torch.Tensor) -> Contenders:
    """The network in each precision."""
    return {
        f"gpen_core {name}": partial(seconds, partial(in_strips(state_dict, dtype), x)) for name, dtype in dtypes().items()
    }


def twin_and_ours(state_dict: Weights, x: torch.Tensor) -> Contenders:
    """The reference twin and the network in each precision."""
    return {TWIN: partial(seconds, partial(reference_gpen, state_dict, x)), **ours(state_dict, x)}


def onnx_runtime(state_dict: Weights, x: torch.Tensor) -> Contenders:
    """None where its packages are not installed, which `say_what_is_left_out` says once."""
    return {} if onnx_export.missing(onnx_export.ORT) else {ORT: partial(seconds, onnx_export.runner(state_dict, x))}


def onnx_backend(state_dict: Weights, x: torch.Tensor) -> Contenders:
    """What `gpen` runs in ONNX Runtime where a file cannot be converted: our export, and one in the published form.

    None where its packages are not installed."""
    if not all(map(find_spec, ("onnx", "onnxruntime"))):
        return {}
    config = GPEN.from_state_dict(state_dict).config
    published = ExportedGPEN(config, state_dict)
    with tempfile.TemporaryDirectory() as folder:
        path = exported_gpen.export(published, config.size, Path(folder) / "gpen.onnx")
        models = {"our export": export_model(state_dict, config), "published form": OnnxModel(path.read_bytes(), config)}
    networks = {name: load_onnx_network(model, torch.device("cpu")) for name, model in models.items()}
    return {f"{BACKEND}, {name}": partial(seconds, partial(network, x)) for name, network in networks.items()}


def openvino_backend(state_dict: Weights, x: torch.Tensor) -> Contenders:
    """What `--device openvino` runs, in each precision. Prints how long it takes to load.

    None where onnxruntime-openvino is not installed."""
    if OPENVINO_PROVIDER not in available_providers():
        return {}
    contenders, cpu = Contenders(), torch.device("cpu")
    model = export_model(state_dict, GPEN.from_state_dict(state_dict).config)
    for name, dtype in dtypes().items():
        network = OnnxNetwork(model, providers_for(cpu, OPENVINO_PROVIDER, dtype), cpu)
        print(f"# {x.shape[-1]}: {BACKEND}, {OPENVINO} {name}: loaded in {seconds(network.session):.1f} s", flush=True)
        contenders[f"{BACKEND}, {OPENVINO} {name}"] = partial(seconds, partial(network, x))
    return contenders


def openvino(state_dict: Weights, x: torch.Tensor) -> Contenders:
    """In each precision; none where its packages are not installed."""
    if onnx_export.missing(onnx_export.OPENVINO):
        return {}
    return {
        f"{OPENVINO} {name}": partial(seconds, onnx_export.openvino_runner(state_dict, x, dtype))
        for name, dtype in dtypes().items()
    }


def say_what_is_left_out(engines: Sequence[str] = (ORT, OPENVINO)) -> None:
    """Prints which contenders do not run here and why."""
    for name, package in ((ORT, onnx_export.ORT), (OPENVINO, onnx_export.OPENVINO)):
        if name in engines and onnx_export.missing(package):
            print(f"Left out: {name}, because {', '.join(onnx_export.missing(package))} is not installed.")
    if OPENVINO in engines and OPENVINO_PROVIDER not in available_providers():
        print(f"Left out: {BACKEND}, {OPENVINO}, because onnxruntime-openvino is not installed.")
    if "bf16" not in dtypes():
        print("Left out: bf16, because this CPU does not compute in it.")


def task(size: int) -> tuple[Weights, torch.Tensor]:
    """Weights and an image."""
    return helpers.random_weights(size), torch.from_numpy(synthetic.random_input(size, 7))


def compare(size: int, runs: int) -> None:
    """Prints a line per contender, then how far the network is from its convolutions alone."""
    state_dict, x = task(size)
    whole = GPEN.from_state_dict(state_dict)
    contenders = twin_and_ours(state_dict, x) | {"fp32 in one piece": partial(seconds, partial(whole, x))}
    contenders |= onnx_runtime(state_dict, x) | openvino(state_dict, x)
    for name, dtype in dtypes().items():
        contenders[f"{ALONE} {name}"] = partial(convolutions.together, whole.config, dtype)
    taken = interleave(contenders, runs)
    show(size, taken)
    show_aim(size, {name: statistics.median(values) for name, values in taken.items()})


def compare_engines(size: int, runs: int) -> None:
    """Prints a line for the network and for each engine, which share no memory and no threads."""
    with in_processes((ours, onnx_backend, openvino_backend, onnx_runtime, openvino), size) as contenders:
        show(size, interleave(contenders, runs))


@contextmanager
def in_processes(engines: Sequence[Engine], size: int) -> Iterator[Contenders]:
    """The contenders of each engine, in a process of its own that waits for its turn."""
    context, started, contenders = multiprocessing.get_context("spawn"), [], Contenders()
    for engine in engines:
        link, other = context.Pipe()
        process = context.Process(target=_serve, args=(other, engine, size), daemon=True)
        process.start()
        other.close()  # so that a process that ends is no longer waited for
        started.append((process, link))
        contenders |= {name: partial(_ask, link, name) for name in link.recv()}
    yield contenders
    for process, link in started:
        link.send(None)
        process.join()


def _ask(link: Connection, name: str) -> float:
    link.send(name)
    taken: float = link.recv()
    return taken


def _serve(link: Connection, engine: Engine, size: int) -> None:
    contenders = engine(*task(size))
    link.send(list(contenders))
    for name in iter(link.recv, None):
        link.send(contenders[name]())


def show(size: int, taken: Mapping[str, Sequence[float]]) -> None:
    """A line each: minimum, median, maximum, and the ratios of the twin's, ONNX Runtime's and OpenVINO's medians to it,
    the last in its own precision."""
    for name, values in taken.items():
        middle = statistics.median(values)
        peer = f"{OPENVINO} bf16" if name.endswith("bf16") else f"{OPENVINO} fp32"
        ratios = [
            f"{statistics.median(taken[other]) / middle:9.2f}x" if other in taken else f"{'-':>10}"
            for other in (TWIN, ORT, peer)
        ]
        print(f"{size:5} {name:24}{spread(values, 3)} {''.join(ratios)}", flush=True)


def show_aim(size: int, medians: Mapping[str, float]) -> None:
    for name in dtypes():
        ratio = medians[f"gpen_core {name}"] / medians[f"{ALONE} {name}"]
        verdict = "held" if ratio <= AIM else "MISSED"
        print(f"{size:5} gpen_core {name} takes {ratio:.2f} times its convolutions alone; aim {AIM}: {verdict}", flush=True)


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 2048], choices=RELEASED_SIZES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--engines", action="store_true", help="only the engines, each in a process of its own")
    given = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {given.runs} runs")
    say_what_is_left_out()
    print(f"{'size':>5} {'':24}{SPREAD} {'twin/this':>10}{'ORT/this':>10}{'OV/this':>10}")
    for size in given.sizes:
        (compare_engines if given.engines else compare)(size, given.runs)


if __name__ == "__main__":
    main()
