"""All that is measured and tested on a GPU, the most valuable first, within some minutes and without a network.

    python benchmarks/gpu_session.py --out DIR                   what fits into 8 minutes
    python benchmarks/gpu_session.py --out DIR --minutes 30
    python benchmarks/gpu_session.py --out DIR --only video photograph
    python benchmarks/gpu_session.py --out DIR --trial           the same steps on the CPU, in small form

Each step is a process of its own. Its output goes to DIR/NAME.log, and its rows to DIR/NAME.json. A step that fails does not
end the session. When the time is up, the step that runs is ended. DIR/session.json has the exit status and the seconds of
each; the status is null for a step that was ended.

    changed      the gpu tests of videos, and of images on a device
    network      2048 in fp16, eager and compiled
    video        both passes over a 1920x1080 video with one face, beside OpenCV, 512 and 1024
    photograph   12 megapixels with one and with eight faces, 2048
    tests        all gpu tests
    whole        every size, precision and batch, compiled too, and whole images and videos
    tf32, fp32   the network in float32, with TF32 and without
    comfyui      the tests in ComfyUI, with its memory manager; only with GPEN_COMFYUI_DIR
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHANGED = (
    "tests/video",
    *sorted(f"tests/pipeline/{path.name}" for path in (ROOT / "tests/pipeline").glob("test_torch_*.py")),
)
TRIAL = {  # the arguments on the CPU
    "changed": ["--collect-only"],
    "tests": ["--collect-only"],
    "comfyui": ["--collect-only"],
    "network": ["--sizes", "256", "--dtypes", "fp32", "--batches", "1", "--runs", "1", "--warm-up", "1"],
    "video": ["--sizes", "256", "--dtypes", "fp32", "--frame", "160", "96", "--frames", "2", "--runs", "1"],
    "photograph": ["--sizes", "256", "--dtypes", "fp32", "--faces", "1", "--runs", "1"],
}
TRIAL |= dict.fromkeys(("whole", "tf32", "fp32"), TRIAL["network"])


@dataclass(frozen=True)
class Step:
    """One process."""

    name: str
    command: Sequence[str]
    environ: Mapping[str, str] = field(default_factory=dict)


def steps(out: Path, is_trial: bool) -> Iterator[Step]:
    """Yield all steps in their order."""

    def step(name: str, script: str, arguments: Sequence[str], has_json: bool = True, **environ: str) -> Step:
        given = [*TRIAL[name], "--device", "cpu"] if is_trial else arguments
        rows = ["--json", str(out / f"{name}.json")] if has_json else []
        return Step(name, [sys.executable, str(ROOT / "benchmarks" / script), *given, *rows], environ)

    def tests(name: str, marker: str, *paths: str) -> Step:
        pytest = [sys.executable, "-m", "pytest", "-q", "-m", marker, *paths]
        return Step(name, [*pytest, *(TRIAL[name] if is_trial else [])])

    yield tests("changed", "gpu", *CHANGED)
    yield step("network", "gpu.py", ["--sizes", "2048", "--dtypes", "fp16", "--batches", "1", "--compile"])
    yield step("video", "gpu_video.py", [])
    yield step("photograph", "end_to_end.py", ["--sizes", "2048"], has_json=False)
    yield tests("tests", "gpu")
    yield step("whole", "gpu.py", ["--compile", "--whole"])
    for name, override in (("tf32", "1"), ("fp32", "0")):
        yield step(name, "gpu.py", ["--dtypes", "fp32", "--batches", "1"], NVIDIA_TF32_OVERRIDE=override)
    if os.environ.get("GPEN_COMFYUI_DIR"):
        yield tests("comfyui", "host", "tests/nodes")


def run(step: Step, out: Path, limit: float) -> tuple[int | None, float]:
    """Run a step, and return its exit status, or None if it was ended after `limit` seconds, and its seconds."""
    start = time.monotonic()
    with (out / f"{step.name}.log").open("wb") as log:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env={**os.environ, **step.environ},
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status: int | None = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # it may have started others
            process.wait()
            status = None
    return status, time.monotonic() - start


def main() -> None:
    """Runs the steps until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run only these steps")
    parser.add_argument("--trial", action="store_true", help="on the CPU, in small form")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    end, done = time.monotonic() + 60 * given.minutes, []
    for step in steps(given.out.resolve(), given.trial):
        limit = end - time.monotonic()
        if limit <= 0 or (given.only is not None and step.name not in given.only):
            continue
        status, seconds = run(step, given.out, limit)
        print(
            f"{step.name:12} {seconds:7.1f} s   {'ended, the time is up' if status is None else f'status {status}'}",
            flush=True,
        )
        done.append({"name": step.name, "status": status, "seconds": seconds})
        (given.out / "session.json").write_text(json.dumps(done, indent=1) + "\n")


if __name__ == "__main__":
    main()
