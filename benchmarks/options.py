"""The cost of each option compared with the default run, in one table, and the savings of `--model auto`.

    python benchmarks/options.py        (or: python benchmarks/options.py --size 512 --runs 5)

It restores the demonstration's six faces (1500 x 1000 pixels) with the demonstration's network and detector and a ParseNet
with seeded weights. All variants run in turn in one process. `--auto` instead restores thirty faces whose squares are
narrower than 256 px, with 2048, `auto` and `auto:256`, with seeded weights. Compare the ratios; the seconds depend on the
machine and its load.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import torch
from timing import SPREAD, interleave, min_median_max, seconds, spread

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
from facexlib.parsing.parsenet import ParseNet  # noqa: E402

from gpen_core import FaceRestorer, RestoreOptions  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.faces.mask import FaceParser  # noqa: E402
from gpen_core.network import GPEN  # noqa: E402
from gpen_core.pipeline.devices import pick_dtype  # noqa: E402
from gpen_core.pipeline.gpen_runner import GPENRunner, SizeSelector, parse_auto_model  # noqa: E402
from gpen_core.pipeline.model_set import ModelSet  # noqa: E402
from gpen_core.tools.demo import weights as demo  # noqa: E402
from gpen_core.tools.demo.images import collage, degrade  # noqa: E402

CPU = torch.device("cpu")
OPTIONS = {
    "plain": RestoreOptions(color="none"),
    "color auto, a colored image": RestoreOptions(),
    "color match": RestoreOptions(color="match"),
    "mask-type parse": RestoreOptions(color="none", mask_type="parse"),
    "mask-expand -0.1": RestoreOptions(color="none", mask_expand=-0.1),
    "preserve eyes,mouth": RestoreOptions(color="none", preserve="eyes,mouth"),
    "preserve eyes,mouth,glasses": RestoreOptions(color="none", preserve="eyes,mouth,glasses"),
    "preserve occluders": RestoreOptions(color="none", preserve="occluders"),
    "grain 1": RestoreOptions(color="none", grain=1.0),
    "fidelity 1": RestoreOptions(color="none", fidelity=1.0),
    "upscale 2, lanczos": RestoreOptions(color="none", upscale=2),
}


def parser() -> FaceParser:
    torch.manual_seed(7)
    weights = ParseNet(in_size=512, out_size=512, parsing_ch=19).state_dict()
    return FaceParser.from_state_dict(weights, CPU, pick_dtype("auto", CPU))


def restorer(size: int) -> FaceRestorer:
    network = GPEN.from_state_dict(demo.sharpening_state_dict(size, demo.DEMO_GAINS[: size.bit_length() - 7]), DTYPE)
    detector = Detector.from_state_dict(demo.tiny_retinaface_state_dict(), CPU)
    made = parser()
    return FaceRestorer(ModelSet([GPENRunner(network, CPU)], detector, CPU, lambda progress: made))


DTYPE = pick_dtype("auto", CPU)


def show(title: str, taken: dict[str, list[float]]) -> None:
    """Seconds by name, and the ratio of each median to the first's."""
    _, first, _ = min_median_max(next(iter(taken.values())))
    print(f"{title} in {str(DTYPE).removeprefix('torch.')}; {SPREAD}")
    print(f"| | seconds | beside {next(iter(taken))} |\n| --- | --- | --- |")
    for name, values in taken.items():
        _, middle, _ = min_median_max(values)
        print(f"| {name} | {spread(values)} | {middle / first:.2f} |")


def options_table(size: int, runs: int) -> None:
    picture = degrade(collage())
    gray = np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)
    one = restorer(size)
    work: dict[str, Callable[[], object]] = {
        name: partial(one.restore, picture, options) for name, options in OPTIONS.items()
    }
    work["color auto, a gray image"] = partial(one.restore, gray, RestoreOptions())
    taken = interleave({name: partial(seconds, run) for name, run in work.items()}, runs)
    show(f"Six faces at {size}", taken)


def auto_table(runs: int) -> None:
    faces = [helpers.make_face((100 + 190 * (n % 6), 100 + 190 * (n // 6)), 90) for n in range(30)]
    picture = helpers.texture(960, 1160, sigma=1)

    def load(size: int, progress: object) -> GPENRunner:
        return GPENRunner(GPEN.from_state_dict(helpers.random_weights(size), DTYPE), CPU)

    made = {name: SizeSelector(parse_auto_model(name), DTYPE, load) for name in ("auto:2048", "auto", "auto:256")}
    used: dict[str, set[int | None]] = {}

    def restore(name: str, one: FaceRestorer) -> None:
        result = one.restore(picture, RestoreOptions(color="none"))
        assert sum(face.restored for face in result.faces) == len(faces)
        used[name] = {face.network for face in result.faces}

    restorers = {name: FaceRestorer(ModelSet(networks, helpers.FakeDetector(faces), CPU)) for name, networks in made.items()}
    # The first round loads the networks, too, and is left out.
    taken = interleave({name: partial(seconds, partial(restore, name, one)) for name, one in restorers.items()}, runs)
    print("Networks used:", used)
    show("Thirty faces of 90 px (squares of 164 px)", taken)


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parse.add_argument("--size", type=int, default=512)
    parse.add_argument("--runs", type=int, default=5)
    parse.add_argument("--auto", action="store_true")
    given = parse.parse_args()
    if given.auto:
        auto_table(given.runs)
    else:
        options_table(given.size, given.runs)


if __name__ == "__main__":
    main()
