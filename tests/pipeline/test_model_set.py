"""Networks that are loaded: memory that runs out in one piece, for the float32 twin or for a mask."""

import os
import subprocess
import sys
from pathlib import Path

import helpers
import pytest
import torch

from gpen_core import RestoreOptions
from gpen_core.errors import OutOfMemory
from gpen_core.network import GPENConfig
from gpen_core.network.memory_estimate import CACHE_STRIP_BYTES, bytes_per_face
from gpen_core.pipeline.devices import BatchPlan
from gpen_core.pipeline.model_set import GPENRunner, ModelSet

FACES = [helpers.make_face((80, 80), 60), helpers.make_face((220, 220), 60)]
OUT_OF_MEMORY = RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
DIRECTML = torch.device("privateuseone")


class Crowded:
    """A network that has room for one face in strips only."""

    config, dtype, has_strips = GPENConfig(256, 0.5, 1), torch.float32, True

    def __init__(self, room_in_strips=True):
        self.room, self.calls = room_in_strips, []

    def __call__(self, x, on_tick, strip_bytes):
        self.calls.append((len(x), strip_bytes))
        if len(x) > 1 or strip_bytes is None or not self.room:
            raise OUT_OF_MEMORY
        return x


def load_red(models):
    return ModelSet.load(["red-256"], "retinaface_mobile0.25", models_dir=models, device="cpu", dtype="fp32")


def test_a_host_that_names_its_folder_needs_no_platformdirs(models, monkeypatch):
    monkeypatch.delenv("GPEN_MODELS_DIR", raising=False)
    monkeypatch.setitem(sys.modules, "platformdirs", None)
    assert load_red(models).runners


def test_out_of_memory_with_one_face_goes_on_in_strips_for_all_that_follow():
    network, one = Crowded(), torch.zeros(1)
    loaded = GPENRunner(network, DIRECTML)
    for _ in range(3):  # images: each is planned anew
        plan = loaded.plan_batches(None)
        assert loaded.run(one, plan.strip_bytes, print) is one
    assert network.calls == [(1, None), *[(1, CACHE_STRIP_BYTES)] * 3]
    assert loaded.plan_batches(10 * bytes_per_face(network.config, network.dtype)) == BatchPlan(1, CACHE_STRIP_BYTES)


def test_out_of_memory_with_several_faces_is_the_batchs_matter():
    network = Crowded()
    with pytest.raises(RuntimeError, match="out of memory"):
        GPENRunner(network, DIRECTML).run(torch.zeros(2), None, print)
    assert network.calls == [(2, None)]


def test_out_of_memory_in_strips_is_the_end(monkeypatch):
    restorer = helpers.restorer(helpers.identity_weights(256), FACES)
    monkeypatch.setattr(restorer.network, "forward", Crowded(room_in_strips=False))
    with pytest.raises(OutOfMemory, match=r"single face .*use a smaller model"):
        restorer.restore(helpers.texture(300, 300))


def test_out_of_memory_in_the_float32_twin_is_said_as_such(monkeypatch):
    def load_fp32():
        raise OUT_OF_MEMORY

    restorer = helpers.restorer(helpers.identity_weights(256), FACES, torch.bfloat16, load_fp32)
    monkeypatch.setattr(restorer.network, "forward", lambda x, on_tick, strip_bytes: torch.full_like(x, torch.nan))
    with pytest.raises(OutOfMemory, match="single face in float32"):
        restorer.restore(helpers.texture(300, 300))


def test_out_of_memory_in_the_face_parser_is_said_as_such():
    class Parser:
        def parse(self, crop):
            raise OUT_OF_MEMORY

    restorer = helpers.restorer(helpers.identity_weights(256), FACES, load_parser=lambda progress: Parser())
    with pytest.raises(OutOfMemory, match=r"single face's mask .*choose feathered masks"):
        restorer.restore(helpers.texture(300, 300), RestoreOptions(mask_type="parse"))


def test_out_of_memory_in_detection_advises_what_helps_there(monkeypatch):
    restorer = helpers.restorer(helpers.identity_weights(256), FACES)

    def detect(*args, **more):
        raise OUT_OF_MEMORY

    monkeypatch.setattr(restorer.detector, "detect", detect)
    with pytest.raises(OutOfMemory, match=r"single image .*a smaller detection size") as refused:
        restorer.restore(helpers.texture(300, 300))
    assert "smaller model" not in str(refused.value) and "--" not in str(refused.value)


FORKING = """
import os, sys
import numpy as np
import helpers
from gpen_core import DeviceError
from gpen_core.pipeline.model_set import load_detector
def load():
    return helpers.restorer(helpers.identity_weights(256), [helpers.make_face((80, 80), 60)])
restorer = load() if sys.argv[1] != "before" else None
child = os.fork()
if child == 0:
    try:
        if sys.argv[1] == "anew":
            load_detector("a file that is not there")  # which is not looked for
        (restorer or load()).restore(np.zeros((200, 200, 3), np.float32))
        os._exit(0)
    except DeviceError as refused:
        os._exit(3 if "spawn" in str(refused) else 4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
@pytest.mark.parametrize(("when", "status"), [("before", 0), ("after", 3), ("anew", 3)])
@pytest.mark.slow
def test_a_child_that_was_forked_after_networks_were_loaded_says_so_instead_of_hanging(when, status):
    tests = Path(__file__).parents[1]
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (tests.parent, tests)))}
    command = [sys.executable, "-c", FORKING, when]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ)
    assert done.stdout.strip() == str(status), done.stderr
