"""Frames per second of both passes over a video on a GPU, beside OpenCV, with asynchronous uploads off and on.

    python benchmarks/gpu_video.py
    python benchmarks/gpu_video.py --json FILE
    python benchmarks/gpu_video.py --device cpu --sizes 256 --dtypes fp32 --frame 320 180 --frames 8 --runs 1    (a trial)

The first pass decodes an H.264 video, detects (ResNet-50, known faces in place of its output), finds cuts and follows the
face. The second decodes again and restores, filters and pastes the face, up to the changed planes. Encoding is not counted.
The frames show one hand-held face that is nearly half as high as the frame. The network has random weights. Ways:

    OpenCV      the CPU converts frames to RGB, reduces, crops, filters and pastes; the GPU runs the networks only
    device      the planes are uploaded, and the GPU does all of that
    async       the same with `GPEN_ASYNC_UPLOADS=1`: from pinned memory, on a stream of their own

Each way runs in each round, and the first round is a warm-up. `gpu.py --whole` runs it, too.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from itertools import chain, cycle, islice
from pathlib import Path
from unittest import mock

import torch
from rows import Row
from timing import interleave, seconds

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import helpers  # noqa: E402
import synthetic_video  # noqa: E402
from end_to_end import FixedDetector  # noqa: E402

from gpen_core import RestoreOptions, VideoOptions  # noqa: E402
from gpen_core.network import GPEN, RELEASED_SIZES  # noqa: E402
from gpen_core.pipeline.devices import DTYPES  # noqa: E402
from gpen_core.pipeline.model_set import GPENRunner, ModelSet  # noqa: E402
from gpen_core.pipeline.restorer import FaceRestorer  # noqa: E402
from gpen_core.pipeline.torch_upload import ASYNC_VARIABLE  # noqa: E402
from gpen_core.progress import ReplayableProgress, StageTimer, no_progress  # noqa: E402
from gpen_core.tools.demo import images  # noqa: E402
from gpen_core.video.analysis import VideoAnalysis  # noqa: E402
from gpen_core.video.containers import import_av  # noqa: E402
from gpen_core.video.first_pass import analyze_video  # noqa: E402
from gpen_core.video.planes import Planes  # noqa: E402
from gpen_core.video.probe import probe  # noqa: E402
from gpen_core.video.reader import FrameReader  # noqa: E402
from gpen_core.video.threaded_pipeline import ThreadedPipeline  # noqa: E402
from gpen_core.video.torch_frame import images_for_device  # noqa: E402
from gpen_core.video.torch_frame_restorer import frame_restorer_type, second_pass_images  # noqa: E402

RATE = 30
DISTINCT = 12
FACE_HEIGHT = 0.46  # of the frame
SIZES = (512, 1024)
FRAME, FRAMES = (1920, 1080), 60
SMOOTHING = {"smoothing": 1.0, "no smoothing": 0.0}
OPENCV = "OpenCV"
WAYS = {OPENCV: (False, "0"), "device": (True, "0"), "async": (True, "1")}
"""Whether the device does all, and whether uploads are asynchronous."""


def write_film(path: Path, size: tuple[int, int], count: int) -> None:
    """Write a video of a hand-held face, whose first frames come again and again."""
    rendered = synthetic_video.render_video(
        images.astronaut(), "shake", min(count, DISTINCT), size, 3.0, middle=(224, 126), width=260 * size[0] / size[1]
    )
    distinct = [frame for frame, _ in rendered]
    there_and_back = list(chain(distinct, reversed(distinct)))
    av = import_av()
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in islice(cycle(there_and_back), count):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode(None))


class Passes:
    """Both passes over one video with one network."""

    def __init__(self, film: Path, size: int, dtype: str, device: torch.device, count: int) -> None:
        self.reader, self.count = FrameReader(probe(film)), count
        width, height = self.reader.info.size
        face = helpers.make_face((width / 2, height / 2), FACE_HEIGHT * height)
        runner = GPENRunner(GPEN.from_state_dict(helpers.random_weights(size), DTYPES[dtype]), device)
        self.restorer = FaceRestorer(ModelSet([runner], FixedDetector([face], device, (width, height)), device))
        self.options = RestoreOptions(mask_type="feather")
        self.analysis: VideoAnalysis | None = None

    def first(self, way: str) -> float:
        with chosen(way):
            return seconds(self._analyze)

    def _analyze(self) -> None:
        detector = self.restorer.detector
        frames = self.reader.frames(make_image=images_for_device(detector.device))
        args = (self.options, VideoOptions(), float(RATE), ReplayableProgress(no_progress), StageTimer())
        self.analysis = analyze_video(frames, self.reader, detector, *args)
        assert len(self.analysis.tracks) == 1 and self.analysis.frame_count == self.count

    def second(self, way: str, smoothing: float) -> float:
        assert self.analysis is not None
        with chosen(way):
            make = frame_restorer_type(self.restorer, self.options).from_analysis
            video = VideoOptions(temporal_smoothing=smoothing)
            frame_restorer = make(self.analysis, self.restorer, self.options, video, float(RATE), no_progress)
            frame_restorer.prefers_planes = True
            frames = self.reader.frames(0, self.analysis.pts, second_pass_images(frame_restorer))

            def restore() -> None:
                with ThreadedPipeline() as pipeline:
                    for one in frame_restorer.run(frames, range(self.count), pipeline):
                        assert one.tracks
                        if one.mask is not None and isinstance(one.frame.native, Planes):
                            one.frame.native.apply_difference(one.frame.image, one.image, one.mask > 0)

            return seconds(restore)


@contextmanager
def chosen(way: str) -> Iterator[None]:
    """Take one of the `WAYS`."""
    is_on_device, is_async = WAYS[way]
    way_is_chosen = mock.patch("gpen_core.pipeline.device_check.supports_image_ops", lambda device: is_on_device)
    with way_is_chosen, mock.patch.dict(os.environ, {ASYNC_VARIABLE: is_async}):
        yield


def passes(
    size: int,
    dtype: str,
    device: torch.device,
    runs: int,
    frame_size: tuple[int, int] = FRAME,
    count: int = FRAMES,
    has_first: bool = True,
) -> Iterator[Row]:
    """Yield rows of the first pass unless it is left out, then of the second with and without the filter over time."""
    with tempfile.TemporaryDirectory() as folder:
        film = Path(folder) / "film.mp4"
        write_film(film, frame_size, count)
        both = Passes(film, size, dtype, device, count)
        title = f"{frame_size[0]}x{frame_size[1]}, 1 face"
        if has_first:
            taken = interleave({way: partial(both.first, way) for way in WAYS}, runs)
            yield from rows(f"first pass, {title}", 0, "fp32", count, taken)
        else:
            both.first(OPENCV)
        for name, smoothing in SMOOTHING.items():
            taken = interleave({way: partial(both.second, way, smoothing) for way in WAYS}, runs)
            yield from rows(f"second pass, {title}, {name}", size, dtype, count, taken)


def rows(what: str, size: int, dtype: str, count: int, taken: dict[str, list[float]]) -> Iterator[Row]:
    medians = {way: statistics.median(some) for way, some in taken.items()}
    for way, middle in medians.items():
        yield Row(f"{what}, {way}", size, dtype, count, middle, None if way == OPENCV else medians[OPENCV])


def main() -> None:
    """Parses the arguments and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--sizes", type=int, nargs="*", default=list(SIZES), choices=RELEASED_SIZES)
    parser.add_argument("--dtypes", nargs="*", default=["fp16"], choices=sorted(DTYPES))
    parser.add_argument("--frame", type=int, nargs=2, default=FRAME, metavar=("WIDTH", "HEIGHT"))
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured, row by row")
    given = parser.parse_args()
    device = torch.device(given.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        print("No CUDA device: nothing was measured.")
        return
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    print(f"torch {torch.__version__} on {name}, medians of {given.runs}")
    made = []
    for n, (size, dtype) in enumerate((size, dtype) for size in given.sizes for dtype in given.dtypes):
        for row in passes(size, dtype, device, given.runs, tuple(given.frame), given.frames, has_first=n == 0):
            print(row, flush=True)
            made.append(asdict(row))
    if given.json is not None:
        given.json.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
