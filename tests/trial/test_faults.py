"""Memory that runs out at each step: `OutOfMemory` and nothing else, that image alone, and no file is torn."""

import json
import threading

import helpers
import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from gpen_core import cli
from gpen_core.batch import local
from gpen_core.errors import OutOfMemory
from gpen_core.images import codecs, decoders
from gpen_core.network import GPEN
from gpen_core.options import RestoreOptions
from gpen_core.pipeline.restorer import FaceRestorer
from gpen_core.pipeline.session import RestoreSession
from gpen_core.weights import archive, checkpoint, convert, digest

from .faults import NO_MEMORY, parts, replace

VICTIM, COUNT = 1, 3
FACES = [helpers.make_face((60, 60), 40)]


@pytest.fixture(scope="module")
def networks():
    """In bfloat16 and in float32. Neither computes here: they give back what they get."""
    weights = helpers.identity_weights(256)
    made = GPEN.from_state_dict(weights, torch.bfloat16), GPEN.from_state_dict(weights)
    for one in made:
        one.forward = lambda x, on_tick, strip_bytes: x * 0.5
    return made


class Parser:
    network = torch.nn.Identity()

    def parse(self, face):
        return np.ones((512, 512), np.uint8)


@pytest.fixture
def restorer(networks):
    return helpers.build_restorer(networks[0], helpers.FakeDetector(FACES), lambda: networks[1], lambda progress: Parser())


STEPS = {
    "reading": lambda restorer: (ImageFile.ImageFile, "load"),
    "turning into numbers": lambda restorer: (decoders, "pil_to_array"),
    "detecting": lambda restorer: (restorer.detector, "detect"),
    "aligning": lambda restorer: (RestoreSession, "crop"),
    "network": lambda restorer: (restorer.network, "forward"),
    "loading float32": lambda restorer: (restorer.models.runners[0], "fp32_fallback"),
    "float32": lambda restorer: (restorer.models.runners[0].fp32_fallback().network, "forward"),
    "parsing": lambda restorer: (Parser, "parse"),
    "blending": lambda restorer: (RestoreSession, "paste"),
    "encoding": lambda restorer: (codecs, "encode"),
    "writing": lambda restorer: (local, "write_bytes"),
}
# Only where there are files. The number of the image at work is told by what the step is given.
IN_FILES = {
    "encoding": lambda photo, format_name, quality: photo.image.width - 150,
    "writing": lambda target, data: int(target.stem),
}
at_work = threading.local()


def break_at(monkeypatch, restorer, step, error):
    """That step fails for the victim, each time; for every image where nobody says which is at work."""
    owner, name = STEPS[step](restorer)

    def failing(whole, *args, **kwargs):
        number = IN_FILES[step](*args) if step in IN_FILES else getattr(at_work, "number", VICTIM)
        if number == VICTIM:
            raise error()
        return whole(*args, **kwargs)

    if "float32" in step:  # which is for what is not finite in half precision
        replace(monkeypatch, restorer.network, "forward", lambda whole, x, *_: torch.full_like(x, torch.nan))
    replace(monkeypatch, owner, name, failing)


@pytest.fixture
def numbered(monkeypatch, restorer):
    """Each thread says which image it works on."""

    def working(number_of):
        def work(whole, *args, **kwargs):
            at_work.number = number_of(*args)
            try:
                return whole(*args, **kwargs)
            finally:
                del at_work.number

        return work

    replace(monkeypatch, codecs, "read", working(lambda path, *_: int(path.stem)))
    replace(monkeypatch, restorer, "restore_batch", working(lambda frames, *_: frames[0].image.width - 150))
    monkeypatch.setattr(FaceRestorer, "load", lambda *_, **__: restorer)


@pytest.fixture
def folder(tmp_path):
    there = tmp_path / "in"
    there.mkdir()
    for n in range(COUNT):
        pixels = np.rint(helpers.texture(150, 150 + n, seed=n, sigma=1) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(there / f"{n}.png")
    return there


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("said", NO_MEMORY)
@pytest.mark.parametrize("step", [step for step in STEPS if step not in IN_FILES])
def test_in_python_it_is_out_of_memory(step, said, restorer, folder, monkeypatch):
    before = contents(folder)
    break_at(monkeypatch, restorer, step, NO_MEMORY[said])
    with pytest.raises(OutOfMemory, match="not enough memory"):
        restorer.restore(folder / f"{VICTIM}.png", RestoreOptions(mask_type="parse"))
    assert contents(folder) == before


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("said", NO_MEMORY)
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.slow
def test_in_a_folder_that_image_fails_alone(step, said, in_place, restorer, numbered, folder, tmp_path, monkeypatch):
    before, report = contents(folder), tmp_path / "report.json"
    out = folder if in_place else tmp_path / "out"
    where = ["--in-place"] if in_place else ["-o", str(out)]
    with monkeypatch.context() as broken:
        break_at(broken, restorer, step, NO_MEMORY[said])
        status = cli.main(
            ["restore", str(folder), *where, "--mask-type", "parse", "--report", str(report), "--model", "any"]
        )
    inputs = json.loads(report.read_text("utf-8"))["inputs"]
    assert status == 5
    assert [one["status"] for one in inputs] == ["failed" if n == VICTIM else "restored" for n in range(COUNT)]
    assert f"{VICTIM}.png" in inputs[VICTIM]["error"] and "not enough memory" in inputs[VICTIM]["error"]
    after = contents(out)
    done = {f"{n}.png" for n in range(COUNT) if n != VICTIM}
    assert set(after) == (set(before) if in_place else done) and parts(tmp_path) == []
    for name in done:
        assert after[name] != before[name]
        Image.open(out / name).load()
    untouched = {f"{VICTIM}.png"} if in_place else set(before)
    assert {name: data for name, data in contents(folder).items() if name in untouched} == {n: before[n] for n in untouched}


# Weights


LOADING = {
    "hashing": (checkpoint.WeightsFile, "sha256"),
    "reading": (archive, "read"),
    "building": (GPEN, "from_state_dict"),
    "moving": (GPEN, "to"),
}
CONVERTING = {
    "reading": (archive, "read"),
    "copying": (torch.Tensor, "clone"),
    "writing": (convert, "save_file"),
    "reading back": (convert, "load_file"),
    "comparing": (torch, "equal"),
    "hashing": (digest, "file_sha256"),
}


def raises(said):
    def failing(whole, *_, **__):
        raise NO_MEMORY[said]()

    return failing


@pytest.mark.parametrize("said", NO_MEMORY)
@pytest.mark.parametrize("step", LOADING)
def test_loading_weights(step, said, models, monkeypatch):
    before = {path.name for path in models.iterdir()}
    replace(monkeypatch, *LOADING[step], raises(said))
    with pytest.raises(OutOfMemory, match="not enough memory"):
        FaceRestorer.load("identity-256", "retinaface_mobile0.25", models, device="cpu")
    assert {path.name for path in models.iterdir()} - before <= {digest.record_path(path).name for path in models.iterdir()}


@pytest.mark.parametrize("said", NO_MEMORY)
@pytest.mark.parametrize("step", CONVERTING)
def test_converting(step, said, tmp_path, monkeypatch, capsys):
    helpers.write_weights(tmp_path, {"few.pth": {"a": torch.arange(12.0)}})
    command, whole = ["convert", str(tmp_path / "few.pth")], (tmp_path / "few.pth").read_bytes()
    with monkeypatch.context() as broken:
        replace(broken, *CONVERTING[step], raises(said))
        assert cli.main(command) == 5
    assert "not enough memory" in capsys.readouterr().err
    assert {name for name in contents(tmp_path) if name != ".few.pth.gpen.json"} == {"few.pth"}
    assert cli.main(command) == 0
    assert (tmp_path / "few.pth").read_bytes() == whole and convert.load_file(tmp_path / "few.safetensors")["a"][3] == 3
