"""What becomes of a network whose file is changed while it is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parents[2]

# In a process of its own: memory that is a truncated file's ends it with a signal.
CODE = """
import os, sys
import numpy as np
from PIL import Image
from gpen_core.pipeline.model_set import load_detector
from gpen_core.pipeline.face_detection import detect_faces
file, picture = sys.argv[1:]
detector = load_detector(file, device="cpu", dtype="fp32")
image = np.asarray(Image.open(picture))
def boxes():
    return [face.box for face in detect_faces(detector, [image])[0]]
before = boxes()
size = os.path.getsize(file)
with open(file, "r+b") as opened:
    opened.seek(size // 2)
    opened.write(bytes(size - size // 2))
overwritten = boxes()
os.truncate(file, 1000)
print(len(before), overwritten == before, boxes() == before)
"""


@pytest.mark.slow
def test_a_loaded_detector_does_not_depend_on_its_file_any_more(detector_weights, astronaut, tmp_path):
    file, picture = tmp_path / "detector.safetensors", tmp_path / "astronaut.png"
    save_file({key: value.contiguous() for key, value in detector_weights.items()}, file)
    Image.fromarray(astronaut).save(picture)
    done = subprocess.run([sys.executable, "-c", CODE, file, picture], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.split()) == (0, ["1", "True", "True"]), done.stderr
