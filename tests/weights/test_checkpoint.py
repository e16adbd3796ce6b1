"""What is read from a checkpoint, equal to what torch reads, and files that are none."""

import math
import os
import pickle
import random
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from checkpoint_files import TENSORS, refusal, same, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from gpen_core.errors import MissingWeights, WeightsError
from gpen_core.weights import checkpoint
from gpen_core.weights.unpickler import STORAGES

HYPOTHESIS = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
quietly = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")


# What is read


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("name", ["a.pth", "a.pt", "a.PTH", "a.bin", "ä b.pth", "a.safetensors", "a.SAFETENSORS"])
def test_every_format_gives_the_same_tensors(tmp_path, name, pinned):
    path = tmp_path / name
    (save_file if path.suffix.lower() == ".safetensors" else torch.save)(TENSORS, path)
    assert same(checkpoint.load(path, is_pinned=pinned), TENSORS)


def test_the_legacy_format_is_read_if_it_is_pinned_and_can_be_converted_as_the_message_says(tmp_path):
    old, new = tmp_path / "OLD.pth", tmp_path / "NEW.pth"
    torch.save(TENSORS, old, _use_new_zipfile_serialization=False)
    assert same(checkpoint.load(old, is_pinned=True), TENSORS)
    message = refusal(old)
    assert "before version 1.6" in message
    command = message.partition('python -c "')[2].partition('"')[0]
    exec(command.replace("OLD.pth", str(old)).replace("NEW.pth", str(new)))
    assert same(checkpoint.load(new), TENSORS)


def a_module():
    return torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.BatchNorm2d(3), torch.nn.Linear(3, 2))


def a_training_state():
    network = a_module()
    adam = torch.optim.Adam(network.parameters(), lr=1e-3)
    network[2](torch.ones(1, 3)).sum().backward()
    adam.step()
    notes = {"epoch": 7, "betas": (0.9, 0.999), "none": None, "on": True, "off": [False, [], {}, ()]}
    large = [2**31, -(2**31) - 1, -(2**1000), 255, 256, 65536, math.inf, -0.0, math.nan, "", "ä\n\0", "x" * 300]
    return {"g_ema": network.state_dict(), "optim": adam.state_dict(), "args": notes, "large": large}


def some_views():
    base = torch.arange(24.0)
    grid = base.view(4, 6)
    return {"base": base, "t": grid.t(), "row": grid[1], "column": grid[:, 2], "step": grid[1::2, ::3], "last": base[23:],
            "channels": torch.rand(1, 3, 4, 4).to(memory_format=torch.channels_last), "again": base}  # fmt: skip


CONTENTS = {
    "state dict": lambda: a_module().state_dict(),
    "parameters": lambda: dict(a_module().named_parameters()),
    "training": a_training_state,
    "views": some_views,
    "empty": lambda: [torch.empty(0), torch.empty(0, 3), torch.empty(2, 0, 4, dtype=torch.int64), torch.ones(3)[3:], {}],
    "scalars": lambda: {"a": torch.tensor(2.5), "b": torch.tensor(-7), "c": torch.ones(1, 1, 1)},
    "dtypes": lambda: {str(t): torch.randint(0, 100, (3, 5)).to(t) for t in STORAGES.values()},
    "a tensor": lambda: torch.arange(5),
    "many": lambda: OrderedDict((f"layer{i}.weight", torch.full((2,), float(i))) for i in range(600)),
    "special": lambda: torch.tensor([0x7FC00001, 0x7F800001, -(2**31), 1], dtype=torch.int32).view(torch.float32),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_it_reads_what_torch_reads(tmp_path, kind):
    torch.save(CONTENTS[kind](), tmp_path / "a.pth")
    read = checkpoint.load(tmp_path / "a.pth")
    assert same(torch.load(tmp_path / "a.pth", weights_only=True), read)


def test_what_shared_memory_shares_it_still(tmp_path):
    torch.save(some_views(), tmp_path / "a.pth")
    read = checkpoint.load(tmp_path / "a.pth")
    assert read["again"] is read["base"]
    read["base"].fill_(-1)
    assert all(bool((read[name] == -1).all()) for name in ("t", "row", "column", "step", "last"))
    assert not read["t"].is_contiguous()


PLAIN = st.none() | st.booleans() | st.integers(-(2**200), 2**200) | st.floats() | st.text(max_size=20)


@st.composite
def any_tensor(draw):
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    made = torch.arange(math.prod(shape)).to(draw(st.sampled_from(list(STORAGES.values())))).reshape(shape)
    return made.permute(draw(st.permutations(range(len(shape)))))


NESTED = st.recursive(
    PLAIN | any_tensor(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(st.text(max_size=9) | st.integers(-(2**31) + 1, 2**31 - 1), inner, max_size=5)
        | st.dictionaries(st.text(max_size=9), inner, max_size=3).map(OrderedDict)
        | inner.map(lambda value: [value, value])
    ),
    max_leaves=15,
)


@settings(max_examples=120, **HYPOTHESIS)
@given(NESTED)
@pytest.mark.slow
def test_whatever_is_saved_is_read_as_torch_reads_it(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.pth"
    torch.save(content, path)
    assert same(torch.load(path, weights_only=True), checkpoint.load(path))


def test_a_file_that_holds_itself_ends(tmp_path):
    content = dict(TENSORS)
    content["again"] = content
    torch.save(content, tmp_path / "a.pth")
    assert checkpoint.load(tmp_path / "a.pth")["again"]["again"].keys() == content.keys()


# What is refused: files of other kinds


@pytest.mark.parametrize("pinned", [False, True])
def test_a_missing_file_is_missing_weights(tmp_path, pinned):
    with pytest.raises(MissingWeights, match=r"x\.pth does not exist"):
        checkpoint.load(tmp_path / "x.pth", is_pinned=pinned)
    with pytest.raises(MissingWeights):
        checkpoint.load(tmp_path, is_pinned=pinned)


def zip_of_something(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/readme.txt", "no checkpoint")


NOT_WEIGHTS = {  # and the reason, for a .pth that nobody vouches for
    "empty": (lambda path: path.write_bytes(b""), "torch.save did not write it"),
    "web page": (lambda path: path.write_bytes(b"\r\n <!DOCTYPE html><html><body>404</body></html>"), "it is a web page"),
    "git lfs pointer": (
        lambda path: path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid"),
        "torch.save did not write it",
    ),
    "zeros": (lambda path: path.write_bytes(bytes(4096)), "torch.save did not write it in zip format"),
    "zip": (zip_of_something, "it contains 'archive/readme.txt', which no checkpoint needs"),
    "empty zip": (lambda path: zipfile.ZipFile(path, "w").close(), "torch.save did not write it in zip format"),
    "pickled function": (lambda path: path.write_bytes(pickle.dumps(os.getcwd)), "torch.save did not write it"),
    "python object": (lambda path: torch.save({"a": Path("x")}, path), "it names 'pathlib"),
    "legacy": (lambda path: torch.save(TENSORS, path, _use_new_zipfile_serialization=False), "Convert it with torch 2.10"),
}


@pytest.mark.parametrize("kind", NOT_WEIGHTS)
def test_what_is_no_weights_file_is_refused(tmp_path, kind):
    make, reason = NOT_WEIGHTS[kind]
    for name in ("a.pth", "a.safetensors"):
        make(tmp_path / name)
        message = refusal(tmp_path / name)
        assert "Expected a file of tensors" in message and message.isprintable()
        assert reason in message or name == "a.safetensors"
    if kind != "legacy":
        refusal(tmp_path / "a.pth", is_pinned=True)


def test_safetensors_under_another_name_are_to_be_renamed(tmp_path):
    save_file(TENSORS, tmp_path / "a.pth")
    assert "it is a .safetensors file under another name: rename it" in refusal(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize("share", [0, 0.01, 0.3, 0.7, 0.99])
def test_a_truncated_file_is_refused(tmp_path, name, share):
    path = tmp_path / name
    (save_file if name.endswith("safetensors") else torch.save)(TENSORS, path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    refusal(path)


@pytest.mark.parametrize("pinned", [False, True])
def test_damaged_bytes_never_end_in_another_error(tmp_path, pinned):
    path = tmp_path / "a.pth"
    torch.save(TENSORS, path)
    data = path.read_bytes()
    directory = data.index(b"PK\1\2")
    rng = random.Random(1)
    refused = 0
    for turn in range(500):
        damaged = bytearray(data)
        start, end = (0, min(len(data), 700)) if turn % 2 else (directory, len(data))
        for _ in range(rng.choice((1, 2, 5))):
            damaged[rng.randrange(start, end)] = rng.randrange(256)
        path.write_bytes(damaged)
        try:
            assert checkpoint.load(path, is_pinned=pinned) is not None
        except WeightsError:
            refused += 1
    assert refused > 50


STRANGE = {
    "sparse": lambda: torch.eye(3).to_sparse(),
    "meta": lambda: torch.empty(3, device="meta"),
    "quantized": lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "bool": lambda: torch.ones(3, dtype=torch.bool),
    "complex": lambda: torch.ones(3, dtype=torch.complex64),
    "expanded": lambda: torch.ones(1).expand(3),
}


@quietly
@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("wrap", [lambda t: t, lambda t: {"params": {"y": TENSORS["b"], "x": t}}])
def test_tensors_that_are_not_dense_numbers_are_refused(tmp_path, kind, wrap):
    torch.save(wrap(STRANGE[kind]()), tmp_path / "a.pth")
    message = refusal(tmp_path / "a.pth")
    assert "it names 'torch." in message or "exceeds its storage" in message


# What is refused: code


class Bait:
    def __init__(self, function, argument):
        self.call = function, (argument,)

    def __reduce__(self):
        return self.call


BAITS = {
    "system": Bait(os.system, "echo > canary"),
    "eval": Bait(eval, "open('canary', 'w').close()"),
    "mkdir": Bait(os.mkdir, "canary"),
}


@pytest.mark.parametrize("bait", BAITS)
@pytest.mark.parametrize("protocol", range(6))
def test_nothing_in_a_file_is_run(tmp_path, monkeypatch, bait, protocol):
    monkeypatch.chdir(tmp_path)
    pickled = pickle.dumps({"a": [BAITS[bait]]}, protocol)
    pickle.loads(pickled)
    canary = Path("canary")
    (canary.rmdir if canary.is_dir() else canary.unlink)()  # the bait works
    Path("plain.pth").write_bytes(pickled)
    torch.save({**TENSORS, "x": BAITS[bait]}, "old.pth", _use_new_zipfile_serialization=False)
    torch.save({**TENSORS, "x": BAITS[bait]}, "new.pth", pickle_protocol=max(protocol, 2))
    reason = (
        ("uses the opcode DICT", "it names", "it names")[protocol] if protocol < 3 else f"protocol {protocol}, expected 2"
    )
    assert reason in refusal(write(Path("a.pth"), pickled))
    for name in ("plain.pth", "old.pth", "new.pth"):
        refusal(Path(name))
        refusal(Path(name).replace(f"{name}.safetensors"))
    for name in ("plain", "old", "new", "a"):
        refusal(next(Path().glob(f"{name}.*")).replace("pinned.pth"), is_pinned=True)
    assert not canary.exists()


@quietly
def test_a_script_module_is_refused_before_it_is_built(tmp_path, monkeypatch):
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / "a.pth"))
    built = []
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: built.append(args) or TENSORS)
    assert "TorchScript archive, which contains code" in refusal(tmp_path / "a.pth")
    assert not built


@pytest.fixture
def safe_torch(monkeypatch):
    """As torch 2.10 and newer."""
    monkeypatch.setattr(checkpoint, "TORCH_READS_SAFELY", True)


@pytest.mark.usefixtures("safe_torch")
def test_torch_is_told_to_read_tensors_only_and_asked_for_pinned_files_alone(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "a.pth")
    asked = []
    monkeypatch.setattr(torch, "load", lambda path, **kwargs: asked.append(kwargs) or TENSORS)
    checkpoint.load(tmp_path / "a.pth")
    assert not asked
    checkpoint.load(tmp_path / "a.pth", is_pinned=True)
    assert asked == [{"map_location": "cpu", "weights_only": True}]


def test_a_torch_with_a_known_hole_reads_pinned_files_of_the_old_format_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "TORCH_READS_SAFELY", False)
    for name, is_zip in (("new.pth", True), ("old.pth", False)):
        torch.save(TENSORS, tmp_path / name, _use_new_zipfile_serialization=is_zip)
    asked = []
    monkeypatch.setattr(torch, "load", lambda file, **kwargs: asked.append(kwargs) or {})
    assert same(checkpoint.load(tmp_path / "new.pth", is_pinned=True), TENSORS) and not asked
    assert checkpoint.load(tmp_path / "old.pth", is_pinned=True) == {}
    assert asked == [{"map_location": "cpu", "weights_only": True}]


@pytest.mark.usefixtures("safe_torch")
def test_none_from_a_hosts_own_torch_load_is_a_refusal(tmp_path, monkeypatch):
    torch.save(TENSORS, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "load", lambda *args, **kwargs: None)
    assert "the host's check of weights files refused it" in refusal(tmp_path / "a.pth", is_pinned=True)
    assert same(checkpoint.load(tmp_path / "a.pth"), TENSORS)
