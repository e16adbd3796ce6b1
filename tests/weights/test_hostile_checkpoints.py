"""Pickles and archives made to harm: each is refused with its reason."""

import struct
import tracemalloc
import zipfile
from pathlib import Path

import pytest
import torch
from checkpoint_files import BYTES, ORDERED, PARAMETER, REBUILD, hand_made, named, op, patch, refusal, storage, tensor, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpen_core.errors import WeightsError
from gpen_core.weights import checkpoint

HYPOTHESIS = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


# Pickles

NAMES = """os.system builtins.eval builtins.getattr posix.system nt.system torch.load torch.hub.load torch.jit.load
torch.Tensor torch.Size torch.device torch.float32 torch.BoolStorage torch.ComplexFloatStorage
torch.UntypedStorage torch.cuda.FloatStorage torch.storage.TypedStorage torch.storage.UntypedStorage
torch.storage._load_from_bytes torch.serialization.load torch.nn.parameter.Parameter
torch._utils._rebuild_tensor torch._utils._rebuild_sparse_tensor torch._utils._rebuild_qtensor
torch._utils._rebuild_parameter_with_state torch._utils._rebuild_device_tensor_from_numpy
torch.FloatStorage.__init__ torch._tensor._rebuild_from_type_v2 collections.Counter
collections.OrderedDict.update _codecs.encode numpy.dtype"""
OPCODES = {  # that no state dict needs
    "NEWOBJ": ORDERED + b")\x81", "NEWOBJ_EX": ORDERED + b")}\x92", "OBJ": b"(" + ORDERED + b"o",
    "INST": b"(ios\nsystem\n", "STACK_GLOBAL": op("os") + op("system") + b"\x93", "EXT1": b"\x82\x01",
    "EXT2": b"\x83\x01\0", "EXT4": b"\x84\x01\0\0\0", "PERSID": b"P0\n", "POP": b"N0", "POP_MARK": b"(1", "DUP": b"N2",
    "GET": b"g0\n", "PUT": b"Np0\n", "INT": b"I1\n", "LONG": b"L1L\n", "LONG4": b"\x8b\1\0\0\0\1", "FLOAT": b"F1\n",
    "STRING": b"S'a'\n", "BINSTRING": b"T\1\0\0\0a", "SHORT_BINSTRING": b"U\1a", "UNICODE": b"Va\n",
    "SHORT_BINUNICODE": b"\x8c\1a", "BINUNICODE8": b"\x8d\1" + bytes(7) + b"a", "BINBYTES": b"B\1\0\0\0a",
    "SHORT_BINBYTES": b"C\1a", "BINBYTES8": b"\x8e\1" + bytes(7) + b"a", "BYTEARRAY8": b"\x96" + bytes(8),
    "LIST": b"(l", "DICT": b"(d", "EMPTY_SET": b"\x8f", "ADDITEMS": b"(\x90", "FROZENSET": b"(\x91",
    "MEMOIZE": b"N\x94", "FRAME": b"\x95" + bytes(8), "NEXT_BUFFER": b"\x97", "READONLY_BUFFER": b"\x98",
}  # fmt: skip
CALLS = [
    (ORDERED + op(([("a", 1)],)) + b"R", "OrderedDict in an unknown way"),
    (ORDERED + b"]R", "OrderedDict in an unknown way"), (ORDERED + b"N\x85R", "OrderedDict in an unknown way"),
    (named("torch.FloatStorage") + b")R", "would call dtype"), (b"K\1)R", "would call int"),
    (op("os.system") + b")R", "would call str"), (b"})R", "would call dict"), (tensor() + b")R", "would call"),
    (tensor() + tensor() + b"R", "would call"), (storage() + b")R", "would call Storage"),
    (REBUILD + b"]R", "would call torch._utils._rebuild_tensor_v2"), (REBUILD + b")R", "another form than torch.save"),
    (REBUILD + b"(" + storage() + b"tR", "another form than torch.save writes"),
    (REBUILD + op((1, 0, (4,), (1,), 0, 0)) + b"R", "another form"),
    (PARAMETER + op((1, True, {})) + b"R", "_rebuild_parameter in an unknown way"),
    (PARAMETER + tensor() + b"R", "_rebuild_parameter"), (tensor() + op({"__class__": 1}) + b"b", "sets the state"),
    (tensor() + op({"__setstate__": 1}) + b"b", "sets the state"),
    (REBUILD + op({"__defaults__": (1,)}) + b"b", "sets the state"),
    (ORDERED + op({"__setstate__": 1}) + b"b", "sets the state"),
    (named("torch.FloatStorage") + op({"__setstate__": 1}) + b"b", "sets the state"),
    (storage() + b"}b", "sets the state"), (b"]}b", "sets the state"),
    (b"}" + op((None, {"a": 1})) + b"b", "sets the state"), (b"\x80\x04N", "has protocol 4"),
    (b"})Ns", "has a tuple as a key"), (b"}NNs", "has a NoneType as a key"),
    (b"}" + tensor() + b"Ns", "has a Tensor as a key"), (b"}" + op(1.5) + b"Ns", "has a float as a key"),
    (op("x" * (1 << 20)), "larger than 1,048,576 bytes"),
]  # fmt: skip
IDS = [
    b"NQ", b"K\0Q", op("storage") + b"Q", b")Q", op(("storage",)) + b"Q", op(("module", "a", "b", "c", 4)) + b"Q",
    tensor() + b"Q", storage(kind=7), storage(kind="collections.OrderedDict"), storage(key=0), storage(key=None),
    storage(numel=4.0), storage(numel=None), storage(numel=-1), storage(numel="4"), storage(tag="Storage"),
    storage(location=0), b"(" + tensor() * 5 + b"tQ",
]  # fmt: skip
NO_COUNTS = [{"offset": x} for x in (-1, True, 1.0, None, "0", (0,), 2**62, 2**2000, -(2**63))]
WRONG = ((-1,), (True,), (4.0,), (None,), [4], 4, (2**62,), (4, 1), (), ((4,),))
NO_COUNTS += [{name: x} for name in ("size", "stride") for x in WRONG]
BEYOND = [
    {"size": (5,)}, {"offset": 1}, {"stride": (2,)}, {"size": (2, 3), "stride": (3, 1)}, {"offset": 5, "size": (0,)},
    {"offset": 4, "size": (), "stride": ()}, {"size": (10**12,), "stride": (0,)},
    {"size": (10**6, 10**6), "stride": (0, 0)}, {"size": (2, 4), "stride": (0, 1)}, {"offset": 2**61},
    {"size": (2**61, 2**61), "stride": (2**61, 2**61)},
]  # fmt: skip
STORED = [
    (storage(numel=3), "has 16 bytes, expected 12 bytes"),
    (storage("torch.DoubleStorage"), "has 16 bytes, expected 32 bytes"),
    (storage("torch.HalfStorage"), "has 16 bytes, expected 8 bytes"), (storage(key="1"), "is missing"),
    (storage(numel=2**60), "has 16 bytes, expected 4,611"), (storage(key="../data/0"), "is missing"),
    (storage(key=""), "is missing"),
]  # fmt: skip
PICKLES = [(named(name), f"it names {name!r}") for name in NAMES.split()]
PICKLES += [(body, f"uses the opcode {name},") for name, body in OPCODES.items()]
PICKLES += CALLS
PICKLES += [(body, "has an external reference that is not a storage") for body in IDS]
PICKLES += [(tensor(**values), "not a non-negative integer") for values in NO_COUNTS]
PICKLES += [(tensor(**values), "exceeds its storage of 4 values") for values in BEYOND]
PICKLES += [(tensor(of=of, size=(3,)), reason) for of, reason in STORED]
PICKLES += [(tensor(size=(1,) * 9, stride=(1,) * 9), "has 9 dimensions")]
PICKLES += [(tensor() + tensor(of=storage("torch.IntStorage")) + b"\x86", "storage 0 is described in two ways")]
DAMAGED = r"""R NR (NR N(NR b Nb Q s }s }Ns }N(Ns u }u }(Nu a ]a ]N(a Na (a e ]e N(e t \x85 \x86 N\x86 N(\x86 \x87 NN\x87
q\0 h\7 r\0\0\0\0 j\7\0\0\0 X\xff\xff\xff\xff J\0 \x8a\xff G\0 M\0 c cos\n cos\nsystem \x8a \x80 \xff \0 X\1\0\0\0\xff"""


@pytest.mark.parametrize(("body", "reason"), PICKLES, ids=lambda value: value[:40] if isinstance(value, str) else "")
def test_a_hostile_pickle_is_refused_by_name(tmp_path, monkeypatch, body, reason):
    monkeypatch.chdir(tmp_path)
    message = refusal(hand_made(Path("a.pth"), body))
    assert reason in message and message.isprintable()


@pytest.mark.parametrize("body", ["", *DAMAGED.split()])
def test_a_damaged_pickle_is_refused(tmp_path, body):
    refusal(hand_made(tmp_path / "a.pth", body.encode().decode("unicode_escape").encode("latin1")))


def test_a_pickle_without_an_end_is_refused(tmp_path):
    refusal(write(tmp_path / "a.pth", b"\x80\x02" + tensor()))


def test_what_a_build_sets_is_not_set(tmp_path):
    state = op({"__class__": "x", "_metadata": {}, "keys": 1}) + op("__setstate__") + named("torch.FloatStorage") + b"s"
    body = ORDERED + b")R" + state + b"b"
    read = checkpoint.load(hand_made(tmp_path / "a.pth", body))
    assert type(read) is dict and not read


NESTED_DEEPLY = {
    "lists": b"]" * 100_000 + b"a" * 99_999, "tuples": b")" + b"\x85" * 100_000, "pairs": b")" + b"q\0h\0\x86" * 50_000,
    "dicts": b"}K\0" * 100_000 + b"N" + b"s" * 100_000, "marked": b"(" * 100_000 + b"t" * 100_000,
    "memo": b"N" + b"".join(b"r" + struct.pack("<I", 2**31 - 1 - i) for i in range(1000)),
    "overflow": tensor(size=(2**61, 2**61, 0), stride=(1, 1, 1)),
}  # fmt: skip


@pytest.mark.parametrize("kind", NESTED_DEEPLY)
@pytest.mark.slow
def test_what_is_nested_deeply_or_huge_by_name_only_costs_little(tmp_path, kind):
    path = hand_made(tmp_path / "a.pth", NESTED_DEEPLY[kind])
    tracemalloc.start()
    try:
        checkpoint.load(path)
    except WeightsError:
        assert kind == "overflow"
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 100e6


WHOLE = [tensor(), storage(), REBUILD, PARAMETER, ORDERED, op("a"), op(1), op((0, (4,), (1,), None, {})), op(("storage",))]
FRAGMENTS = [bytes([code]) for code in b")]}N(.RQbsuaet\x85\x86\x87"] + [b"q\0", b"h\0", b"q\1", b"h\1"] + WHOLE


@settings(max_examples=300, **HYPOTHESIS)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=40))
@pytest.mark.slow
def test_any_order_of_opcodes_is_read_or_refused(tmp_path_factory, fragments):
    path = hand_made(tmp_path_factory.getbasetemp() / "any-order.pth", b"".join(fragments))
    try:
        checkpoint.load(path)
    except WeightsError as error:
        assert str(error).isprintable()


# Archives


def flip_a_bit(path):
    data = path.read_bytes()
    path.write_bytes(data.replace(BYTES, BYTES[:5] + b"\xff" + BYTES[6:]))


def deflate(path, member):
    methods = {member: zipfile.ZIP_DEFLATED}
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + tensor() + b".", methods.get("data.pkl"))
        archive.writestr("archive/data/0", BYTES, methods.get("data/0"))


STRANGE_MEMBERS = """archive/readme.txt archive/data/x archive/data/0.py data.pkl archive/ ../../data.pkl archive/../data/0
archive/data/../../0 /etc/passwd C:/x/data.pkl archive//data.pkl"""
CODE = ("constants.pkl", "code/a.py", "code/")
ARCHIVES = {
    **{name: ([(name, b"1")], None, f"it contains {name!r}, which no checkpoint needs") for name in STRANGE_MEMBERS.split()},
    **{name: ([(f"archive/{name}", b"1")], None, "TorchScript") for name in CODE},
    "pickle twice": ([("archive/data.pkl", b"N.")], None, "it contains data.pkl twice"),
    "storage twice": ([("archive/data/0", BYTES)], None, "it contains data/0 twice"),
    "two folders": ([("other/data/1", BYTES)], None, "it contains 'other/data/1', which no checkpoint needs"),
    "big-endian": ([("archive/byteorder", b"big")], None, "in big-endian order"),
    "flipped bit": ([], flip_a_bit, "Bad CRC-32"),
    "deflated pickle": ([], lambda path: deflate(path, "data.pkl"), "is compressed or encrypted"),
    "deflated storage": ([], lambda path: deflate(path, "data/0"), "is compressed or encrypted"),
    "encrypted": ([], lambda path: patch(path, "archive/data/0", 8, "<H", 1), "is compressed or encrypted"),
    "other sizes": ([], lambda path: patch(path, "archive/data/0", 24, "<I", 17), "is compressed or encrypted"),
    "huge": ([], lambda path: patch(path, "archive/data/0", 20, "<II", 1 << 30, 1 << 30), "overlaps another member"),
    "larger": ([], lambda path: patch(path, "archive/data/0", 20, "<II", 20, 20), "has 20 bytes, expected 16"),
    "other header": ([], lambda path: patch(path, "archive/data/0", 42, "<I", 0), "overlaps another member"),
    "no header": ([], lambda path: patch(path, "archive/data/0", 42, "<I", 1), "overlaps another member"),
    "last one huge": (
        [],
        lambda path: patch(path, "archive/version", 20, "<II", 1 << 30, 1 << 30),
        "larger than the whole file",
    ),
    "no pickle": ([], lambda path: patch(path, "archive/data.pkl", 46, "<16s", b"archive/data/123"), "without data.pkl"),
}


@pytest.mark.parametrize("kind", ARCHIVES)
def test_a_hostile_archive_is_refused_by_name(tmp_path, kind):
    members, change, reason = ARCHIVES[kind]
    path = hand_made(tmp_path / "a.pth", tensor(), *members)
    if change:
        checkpoint.load(path)
        change(path)
    assert reason in refusal(path)


@pytest.mark.slow
def test_a_zip_bomb_is_refused_before_it_is_inflated(tmp_path):
    path = tmp_path / "a.pth"
    deflated = zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with deflated, deflated.open("archive/data.pkl", "w") as member:
        for _ in range(256):
            member.write(bytes(4 << 20))
    tracemalloc.start()
    assert "'archive/data.pkl' in it is compressed" in refusal(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert path.stat().st_size < 10e6 and peak < 1e6


@pytest.mark.slow
def test_very_many_dimensions_end(tmp_path):
    """Were the lengths multiplied before they are counted, this would take hours."""
    size = b"(" + op(2**61) + b"q\1" + b"h\1" * 400_000 + b"tq\2"
    path = hand_made(tmp_path / "a.pth", REBUILD + b"(" + storage() + b"K\0" + size + b"h\2\x89NtR")
    assert "has 400001 dimensions" in refusal(path)


def test_keys_that_could_all_have_one_hash_are_refused(tmp_path):
    """Whole numbers that are multiples of 2**61 - 1 do: a dict of them takes time that grows with the square."""
    path = hand_made(tmp_path / "a.pth", b"}(" + b"".join(op(k * (2**61 - 1)) + b"N" for k in range(1, 40_000)) + b"u")
    assert "has a int as a key" in refusal(path)


@pytest.mark.parametrize(("count", "digits"), [(50_000, 60), (80_000, 5)])  # over 65,535 the end record is another one
@pytest.mark.slow
def test_a_directory_of_many_members_is_refused_before_it_is_read(tmp_path, count, digits):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        for number in range(count):
            archive.writestr(f"archive/data/{number:0{digits}}", b"")
    tracemalloc.start()
    assert "the list of its members has" in refusal(tmp_path / "a.pth")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


UNPRINTABLE = "a\nb\x1b[2J"


@pytest.mark.parametrize("kind", ["storage", "global", "folder"])
def test_a_refusal_is_one_line_of_text(tmp_path, kind):
    if kind == "folder":
        with zipfile.ZipFile(tmp_path / "a.pth", "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{UNPRINTABLE}/data.pkl", b"N.")
    else:
        hand_made(tmp_path / "a.pth", tensor(of=storage(key=UNPRINTABLE)) if kind == "storage" else b"cos\x1b[2J\nsystem\n")
    assert refusal(tmp_path / "a.pth").isprintable()


@pytest.mark.parametrize("body", [storage(), ORDERED, named("torch.FloatStorage"), b"}" + op("a") + storage() + b"s"])
def test_nothing_but_plain_values_and_tensors_is_read(tmp_path, body):
    refusal(hand_made(tmp_path / "a.pth", body))


def test_a_storage_of_true_numbers_is_refused_by_name(tmp_path):
    body = tensor(size=(1,), of=storage(numel=True, key="1"))
    assert "not a storage of numbers" in refusal(hand_made(tmp_path / "a.pth", body, ("archive/data/1", b"1234")))


@pytest.mark.parametrize("folder", ["..", ""])
def test_the_first_folder_is_no_way_out(tmp_path, folder):
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr(f"{folder}/data.pkl", b"N.")
    refusal(tmp_path / "a.pth")


def test_members_that_overlap_are_refused(tmp_path):
    path = hand_made(tmp_path / "a.pth", tensor(size=(76,), of=storage("torch.ByteStorage", numel=76)))
    data = path.read_bytes()
    start = data.index(BYTES)
    patch(path, "archive/data/0", 16, "<III", zipfile.crc32(data[start : start + 76]), 76, 76)
    refusal(path)


@pytest.mark.parametrize("names", [300, 5000])
def test_one_storage_under_many_names_is_refused_before_it_is_multiplied(tmp_path, names):
    numbers = torch.zeros(1 << 19)  # 2 MB
    torch.save({f"layer{n}": numbers for n in range(names)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"its tensors would need [0-9,]+ bytes, but the file has 2,"):
        checkpoint.load(tmp_path / "a.pth")


def test_a_storage_that_a_few_share_is_read(tmp_path):
    numbers = torch.arange(1 << 19)
    torch.save({"whole": numbers, "tied": numbers, "half": numbers[: 1 << 18]}, tmp_path / "a.pth")
    read = checkpoint.load(tmp_path / "a.pth")
    assert torch.equal(read["tied"], numbers) and torch.equal(read["half"], numbers[: 1 << 18])
