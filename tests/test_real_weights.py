"""For whoever has the trained file: GPEN_REAL_WEIGHTS=FILE python -m pytest -m real -s"""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from gpen_core import FaceRestorer
from gpen_core.tools.demo import images as demo_pictures
from gpen_core.weights.weights_file import open_weights

ROOT = Path(__file__).resolve().parents[1]
FILE = os.environ.get("GPEN_REAL_WEIGHTS")

pytestmark = [pytest.mark.real, pytest.mark.skipif(not FILE, reason="GPEN_REAL_WEIGHTS does not name the trained weights")]


def test_the_trained_network_restores_the_demonstration_photograph(models, astronaut, capsys):
    path = Path(FILE).expanduser()
    restorer = FaceRestorer.load(path, "retinaface_mobile0.25", models)
    before = demo_pictures.degrade(astronaut)
    result = restorer.restore(before)
    assert [face.restored for face in result.faces] == [True]
    assert np.isfinite(result.mask).all() and result.is_changed
    target = ROOT / "demo" / f"real-{path.stem}-side-by-side.png"
    target.parent.mkdir(exist_ok=True)
    Image.fromarray(demo_pictures.side_by_side(before, result.image, result.faces)).save(target)
    with capsys.disabled():
        with open_weights(path) as file:
            print(f"\n{path}: GPEN-{restorer.network.size}, {file.file_format} format, SHA-256 {file.sha256()}")
        print(f"Look at {target}")
