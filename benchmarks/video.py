"""Overlap of the stages of video restoration, and the memory that a long video needs.

    python benchmarks/video.py overlap            # a network that sleeps, and one that computes
    python benchmarks/video.py memory --seconds 20 200
    python benchmarks/video.py stages             # processor time of each stage; --size 3840 2160 --face 400
    python benchmarks/video.py memory --seconds 60 600 --size 640 360 --clips CLIP...
    python benchmarks/video.py one FILM --models-dir DIR --model NAME

`overlap` restores a video with a synthetic network. One variant sleeps, which keeps the CPU free like a GPU does; the other
one keeps the CPU busy. It prints the seconds of the whole and of each stage, the CPU seconds divided by the number of cores,
and the ratio of the whole to the larger of the slowest stage and that CPU time. `memory` restores videos of several lengths
with the synthetic network, each in a separate process, and prints the peak memory of each. The videos show one moving photo,
or your `--clips` one after the other, again and again. A face is reported in the middle of each frame. `stages` restores a
short video with one face, 1920 x 1080 and 500 px by default, without detection and with a network that takes no time. It
prints the processor time of each stage per frame. FFmpeg's own threads do not count, so `decode` is the conversion of
frames. `encode` contains some of the encoder's work, too."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import av  # noqa: E402
import cv2  # noqa: E402
import numpy as np  # noqa: E402
import synthetic_video  # noqa: E402
from helpers import make_face  # noqa: E402
from video_fakes import identity_network, restorer  # noqa: E402

from gpen_core import RestoreOptions, VideoOptions, progress, restore_video  # noqa: E402
from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.pipeline.model_set import load_detector  # noqa: E402
from gpen_core.tools.demo import images  # noqa: E402
from gpen_core.video import threaded_pipeline  # noqa: E402

RATE = 30


def shaken_photo(count: int, size: tuple[int, int], at_once: int) -> Iterator[np.ndarray]:
    """The frames of a hand-held video of one face, whose first frames come again and again."""
    photo, look = images.astronaut(), {"middle": (230, 160), "width": 400}
    film = synthetic_video.render_video(photo, "shake", min(count, at_once), size, 3.0, **look)
    frames = [frame for frame, _ in film]
    for number in range(count):
        step = number % (2 * len(frames))
        yield frames[step if step < len(frames) else 2 * len(frames) - 1 - step]


def clip_frames(clips: Sequence[Path], size: tuple[int, int]) -> Iterator[np.ndarray]:
    """The frames of the clips, again and again, in the middle of a frame of this size."""
    width, height = size
    while True:
        for clip in clips:
            with av.open(str(clip)) as container:
                for frame in container.decode(video=0):
                    scale = min(width / frame.width, height / frame.height)
                    own = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
                    image = frame.reformat(*own, format="rgb24", interpolation="AREA").to_ndarray()
                    whole = np.zeros((height, width, 3), np.uint8)
                    whole[(height - own[1]) // 2 :, (width - own[0]) // 2 :][: own[1], : own[0]] = image
                    yield whole


def write_film(
    path: Path, seconds: float, size: tuple[int, int], at_once: int = 12, clips: Sequence[Path] = (), rate: int = RATE
) -> None:
    """A video of the clips or, without any, of a photo that is moved, with sound."""
    count = round(seconds * rate)
    frames = islice(clip_frames(clips, size), count) if clips else shaken_photo(count, size, at_once)
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=rate, options={"crf": "23", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        sound = out.add_stream("aac", rate=48000)
        sound.layout = "mono"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        for number in range(round(seconds * 48000 / 1024)):
            wave = np.sin(np.arange(1024) * 0.05 + number)[None].astype(np.float32) * 0.1
            heard = av.AudioFrame.from_ndarray(wave, "fltp", "mono")
            heard.sample_rate, heard.pts, heard.time_base = 48000, number * 1024, Fraction(1, 48000)
            out.mux(sound.encode(heard))
        out.mux(stream.encode(None))
        out.mux(sound.encode(None))


def sharpen(crop: np.ndarray) -> np.ndarray:
    return crop + 0.5 * (crop - cv2.GaussianBlur(crop, (0, 0), 2))


def run(path: Path, seconds: float, detector: Detector, video: VideoOptions) -> dict[str, float]:
    """Restores with a network that sleeps so long a face; seconds of all, of each stage and of the processor."""
    runner, _ = restorer(sharpen, seconds=seconds)
    runner.models.detector = detector
    before, start = os.times(), time.perf_counter()
    result = restore_video(path, path.with_name("out.mp4"), runner, RestoreOptions(), video, restart=True)
    whole, after = time.perf_counter() - start, os.times()
    cpu = after.user + after.system - before.user - before.system
    restored = sum(one.frames for one in result.tracks)
    return {"whole": whole, "processor": cpu, "faces": restored, "frames": len(result.restored), **result.seconds}


def overlap(given: argparse.Namespace) -> None:
    detector = load_detector("retinaface_mobile0.25", given.models_dir, "cpu", "fp32")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        write_film(path, given.length, (1280, 720), 90)
        for sleep in given.sleep:
            told = run(path, sleep, detector, VideoOptions())
            cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
            stages = {name: value for name, value in told.items() if name not in ("whole", "processor", "faces", "frames")}
            told["cores"] = cores
            print(json.dumps({"sleep": sleep, **{name: round(value, 2) for name, value in told.items()}}))
            slowest = stages["detect"] + max(value for name, value in stages.items() if name not in ("detect", "follow"))
            bound = max(slowest, told["processor"] / cores)
            print(
                f"  whole {told['whole']:.1f} s; slowest stages of both passes {slowest:.1f} s; processor over cores "
                f"{told['processor'] / cores:.1f} s; ratio {told['whole'] / bound:.2f}"
            )


def stages(given: argparse.Namespace) -> None:
    """Each stage runs in one thread, so its processor time is that of the thread."""
    cv2.setNumThreads(1)
    clock = types.SimpleNamespace(perf_counter=time.thread_time)
    progress.time = threaded_pipeline.time = clock  # type: ignore[attr-defined]
    photo, size = images.astronaut(), (given.size[0], given.size[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        frames = synthetic_video.render_video(photo, "still", given.frames, size, 3.0, middle=(224, 118), width=362)
        encode(path, [frame for frame, _ in frames], size)
        runs = []
        for _ in range(given.runs):
            runner, network = restorer(sharpen, faces=[make_face((size[0] / 2, size[1] / 2), given.face)])
            network.network = identity_network(512)
            result = restore_video(path, path.with_name("out.mp4"), runner, RestoreOptions(), VideoOptions(), restart=True)
            assert result.tracks[0].frames == given.frames
            runs.append(result.seconds)
    means = {name: 1000 * min(run[name] for run in runs) / given.frames for name in runs[0]}
    told = {name: value for name, value in means.items() if name not in ("detect", "network")}
    print(json.dumps({name: round(value, 1) for name, value in {**told, "sum": sum(told.values())}.items()}))


def encode(path: Path, frames: list[np.ndarray], size: tuple[int, int]) -> None:
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=RATE, options={"crf": "18", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for frame in frames:
            out.mux(stream.encode(av.VideoFrame.from_ndarray(frame, "rgb24")))
        out.mux(stream.encode(None))


def memory(given: argparse.Namespace) -> None:
    for seconds in given.seconds:
        call = [sys.executable, __file__, "peak", str(seconds), "--size", *map(str, given.size), "--codec", given.codec]
        call += ["--max-memory", str(given.max_memory)] if given.max_memory else []
        call += film_arguments(given)
        print(subprocess.run(call, check=True, capture_output=True, text=True).stdout.strip(), flush=True)


def film_arguments(given: argparse.Namespace) -> list[str]:
    return ["--rate", str(given.rate), *(["--clips", *map(str, given.clips)] if given.clips else [])]


def peak(given: argparse.Namespace) -> None:
    """In a process of its own; the video is written by another."""
    width, height = given.size
    face = make_face((width / 2, height / 2), height / (3 if given.clips else 6))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        call = [sys.executable, __file__, "film", str(path), str(given.length), "--size", str(width), str(height)]
        subprocess.run([*call, *film_arguments(given)], check=True)
        runner, _ = restorer(sharpen, faces=[face])
        idle, start = used(), time.perf_counter()
        video = VideoOptions(codec=given.codec)
        out = path.with_name("out.mp4")
        result = restore_video(path, out, runner, RestoreOptions(), video, frame_memory=given.max_memory)
        told = {"seconds": given.length, "frames": len(result.restored), "idle_MiB": idle, "peak_MiB": used()}
        told["tracks"] = len(result.tracks)
        print(json.dumps({**told, "took": round(time.perf_counter() - start, 1)}))


def used() -> float:
    """The most memory of this process so far, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("overlap")
    one.add_argument("--sleep", type=float, nargs="+", default=[0.0, 0.3])
    one.add_argument("--length", type=float, default=4.0)
    one.add_argument("--models-dir")
    one.set_defaults(run=overlap)
    two = commands.add_parser("memory")
    two.add_argument("--seconds", type=float, nargs="+", default=[20.0, 200.0])
    three = commands.add_parser("peak")
    three.add_argument("length", type=float)
    four = commands.add_parser("film")
    four.add_argument("path", type=Path)
    four.add_argument("length", type=float)
    for parser_, function in ((two, memory), (three, peak)):
        parser_.add_argument("--codec", default="mpeg4", help="a fast one: what is looked at is memory")
        parser_.add_argument("--max-memory", type=int)
        parser_.set_defaults(run=function)
    for parser_ in (two, three, four):
        parser_.add_argument("--size", type=int, nargs=2, default=[1920, 1080])
        parser_.add_argument("--rate", type=int, default=RATE, help="frames per second")
        parser_.add_argument("--clips", type=Path, nargs="+", default=[])
    five = commands.add_parser("stages")
    five.add_argument("--frames", type=int, default=20)
    five.add_argument("--runs", type=int, default=3)
    five.add_argument("--size", type=int, nargs=2, default=[1920, 1080])
    five.add_argument("--face", type=float, default=500.0, help="px")
    five.set_defaults(run=stages)
    four.set_defaults(
        run=lambda given: write_film(given.path, given.length, tuple(given.size), clips=given.clips, rate=given.rate)
    )
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
