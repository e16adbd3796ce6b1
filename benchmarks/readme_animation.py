"""The README's animation: a before/after slider that moves across a photo and back.

    make demo
    python benchmarks/readme_animation.py demo/collage-input.png demo/collage-restored.png -o docs/demo.webp

Both images are reduced to the width of a page. Each frame is stored completely, so that the slider leaves no traces.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from PIL import Image, ImageDraw

FRAMES, PAUSE = 28, 12  # of the way there and back; and at each end
FRAME_MS, QUALITY, WIDTH, LINE = 70, 50, 640, 3
LEFT, RIGHT = 0.06, 0.94  # of the width: as far as the edge goes


def edges() -> list[float]:
    """Where the edge is in each frame, as a part of the width: slow at the ends."""
    there = [LEFT + (RIGHT - LEFT) * (1 - math.cos(math.pi * n / (FRAMES // 2))) / 2 for n in range(FRAMES // 2 + 1)]
    return [LEFT] * PAUSE + there + [RIGHT] * PAUSE + there[::-1]


def frame(before: Image.Image, after: Image.Image, edge: float) -> Image.Image:
    """After to the left of the edge, before to its right."""
    x = round(edge * before.width)
    shown = before.copy()
    shown.paste(after.crop((0, 0, x, after.height)), (0, 0))
    ImageDraw.Draw(shown).rectangle((x - LINE // 2, 0, x + LINE // 2, shown.height), fill="white")
    return shown


def main() -> None:
    """Writes the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="a .webp file")
    given = parser.parse_args()
    pictures = [Image.open(path).convert("RGB") for path in (given.before, given.after)]
    size = (WIDTH, round(WIDTH * pictures[0].height / pictures[0].width))
    before, after = (picture.resize(size, Image.Resampling.LANCZOS) for picture in pictures)
    first, *others = [frame(before, after, edge) for edge in edges()]
    first.save(given.output, save_all=True, append_images=others, duration=FRAME_MS, loop=0, quality=QUALITY, kmin=1, kmax=1)


if __name__ == "__main__":
    main()
