"""Frames per second of a video's second pass on a GPU, beside OpenCV: crop, network, filter, paste and planes.

    python benchmarks/gpu_video.py
    python benchmarks/gpu_video.py --device cpu --sizes 256 --dtypes fp32 --frame 320 180 --frames 8 --runs 1    (a trial)

Detection, decoding and encoding are not counted. The frames are decoded before, 4:2:0 with 8 bits. They show one hand-held
face that is nearly half as high as the frame. The network has random weights. `gpu.py --whole` runs it, too.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path
from unittest import mock

import torch
from timing import interleave, seconds

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
import synthetic_video  # noqa: E402

from gpen_core import RestoreOptions, VideoOptions  # noqa: E402
from gpen_core.images.image import ImageData  # noqa: E402
from gpen_core.network import GPEN, RELEASED_SIZES  # noqa: E402
from gpen_core.pipeline.devices import DTYPES  # noqa: E402
from gpen_core.pipeline.model_set import GPENRunner, ModelSet  # noqa: E402
from gpen_core.pipeline.restorer import FaceRestorer  # noqa: E402
from gpen_core.progress import ReplayableProgress, no_progress  # noqa: E402
from gpen_core.tools.demo import images  # noqa: E402
from gpen_core.video.containers import import_av  # noqa: E402
from gpen_core.video.first_pass import analyze_frames  # noqa: E402
from gpen_core.video.planes import FULL, ColorSpec, Planes, to_rgb  # noqa: E402
from gpen_core.video.reader import DecodedFrame  # noqa: E402
from gpen_core.video.threaded_pipeline import ThreadedPipeline  # noqa: E402
from gpen_core.video.torch_frame_restorer import frame_restorer_type  # noqa: E402

RATE = 30.0
DISTINCT = 12
FACE_HEIGHT = 0.46  # of the frame
BOTH = {"smoothing": 1.0, "no smoothing": 0.0}


@dataclass(frozen=True)
class Row:
    """One line of the table, and of the JSON."""

    what: str
    size: int
    dtype: str
    items: int
    """Frames."""
    seconds: float
    """Median of all of them."""
    baseline: float
    """Seconds of the same with OpenCV around the network."""

    def __str__(self) -> str:
        rates = f"{self.items / self.seconds:8.1f} frames/s {self.items / self.baseline:8.1f} with OpenCV"
        return f"{self.what:48} {self.size:5} {self.dtype:5} {self.items:4} {rates}"


def film(size: tuple[int, int], count: int) -> list[DecodedFrame]:
    """Frames as a reader gives them."""
    colors, found = ColorSpec(FULL), []
    rendered = synthetic_video.render_video(
        images.astronaut(), "shake", min(count, DISTINCT), size, 3.0, middle=(224, 126), width=260 * size[0] / size[1]
    )
    for pixels, _ in rendered:
        frame = import_av().VideoFrame.from_ndarray(pixels, "rgb24").reformat(format="yuv420p", dst_color_range=FULL)
        found.append((ImageData(to_rgb(frame, colors, 8)), Planes.from_frame(frame, "yuv420p", colors)))
    there_and_back = chain(found, reversed(found))
    return [
        DecodedFrame(n, n, float(n / Fraction(RATE)), *one)
        for n, one in enumerate(islice(cycle(list(there_and_back)), count))
    ]


def second_pass(
    size: int,
    dtype: str,
    device: torch.device,
    runs: int,
    frame_size: tuple[int, int] = (1920, 1080),
    count: int = 60,
) -> Iterator[Row]:
    """Yield a row with and without the filter over time."""
    frames, options = film(frame_size, count), RestoreOptions(mask_type="feather")
    face = helpers.make_face((frame_size[0] / 2, frame_size[1] / 2), FACE_HEIGHT * frame_size[1])
    runner = GPENRunner(GPEN.from_state_dict(helpers.random_weights(size), DTYPES[dtype]), device)
    restorer = FaceRestorer(ModelSet([runner], helpers.FakeDetector([face]), device))
    analysis = analyze_frames(iter(frames), restorer.detector, options, RATE, ReplayableProgress(no_progress))
    for name, smoothing in BOTH.items():
        video = VideoOptions(temporal_smoothing=smoothing)

        def run(is_on_device: bool, video: VideoOptions = video) -> float:
            with mock.patch("gpen_core.pipeline.device_check.supports_image_ops", lambda device: is_on_device):
                restorer_type = frame_restorer_type(restorer, options)
            frame_restorer = restorer_type.from_analysis(analysis, restorer, options, video, RATE, no_progress)
            frame_restorer.prefers_planes = True

            def restore() -> None:
                with ThreadedPipeline() as pipeline:
                    for one in frame_restorer.run(frames, range(count), pipeline):
                        assert one.tracks
                        if one.mask is not None and isinstance(one.frame.native, Planes):
                            one.frame.native.apply_difference(one.frame.image, one.image, one.mask > 0)

            return seconds(restore)

        taken = interleave({"here": partial(run, True), "OpenCV": partial(run, False)}, runs)
        here, opencv = (statistics.median(taken[way]) for way in ("here", "OpenCV"))
        yield Row(f"second pass, {frame_size[0]}x{frame_size[1]}, 1 face, {name}", size, dtype, count, here, opencv)


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="*", default=[512], choices=RELEASED_SIZES)
    parser.add_argument("--dtypes", nargs="*", default=["fp16"], choices=sorted(DTYPES))
    parser.add_argument("--frame", type=int, nargs=2, default=[1920, 1080], metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--frames", type=int, default=60)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No CUDA device: nothing was measured.")
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"torch {torch.__version__} on {name}, medians of {given.runs}")
    for size in given.sizes:
        for dtype in given.dtypes:
            for row in second_pass(size, dtype, device, given.runs, tuple(given.frame), given.frames):
                print(row, flush=True)


if __name__ == "__main__":
    main()
