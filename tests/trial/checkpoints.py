"""Checkpoints broken by lot: zip fields, opcodes, storages and strides, and what a .safetensors says of itself."""

from __future__ import annotations

import contextlib
import copy
import json
import pickletools
import struct
import zlib

from .. import checkpoint_files as made
from .. import onnx_files as onnx
from . import onnx_bases
from .checkpoint_bases import CENTRAL, END, LOCAL, Member, members_of, safetensors, safetensors_file, torch_zip, zipped
from .damage import NUMBERS, damaged, dice, number_for, rearranged

FORMATS = ("zip", "safetensors", "onnx")
NETWORKS = ("few",) * 8 + ("gpen", "detector")  # the whole ones take a second each
WIDTHS = {"crc": 4, "packed": 4, "size": 4, "outside": 4, "offset": 4, "length": 4}
GLOBALS = ("os.system", "builtins.eval", "torch.load", "torch._utils._rebuild_sparse_tensor", "collections.OrderedDict")
GLOBALS += ("torch.BoolStorage", "torch._utils._rebuild_parameter", "torch.FloatStorage", "torch.DoubleStorage")
OPCODES = [bytes((code,)) for code in b"()NRQ]}esua.bt\x85\x86\x87\x88\x89012lod\x8f\x90\x91\x93\x94\x81\x92\x97\x98"]
HUGE = 200_000  # opcodes of one kind


def case(format_name, seed, number):
    """The bytes of one broken checkpoint."""
    lot = dice(f"checkpoint/{format_name}", seed, number)
    if format_name == "onnx":
        return broken_onnx(lot)
    return {"zip": broken_zip, "safetensors": broken_safetensors}[format_name](lot, lot.choice(NETWORKS))


# ONNX


def broken_onnx(lot):
    """Fields left out, repeated, swapped, nested in others or with another number, type or length; then bytes."""
    graph = onnx_bases.pieces()
    for _ in range(lot.choice((1, 1, 3))):
        at = lot.randrange(len(graph))
        match lot.choice(("arrange", "key", "number", "nest", "insert")):
            case "arrange":
                graph = rearranged(lot, graph) or graph
            case "key":
                graph[at] = bytes([lot.randrange(256)]) + graph[at][1:]
            case "number":
                graph[at] = onnx.field(lot.choice((1, 5, 11, 12, 15)), lot.choice(NUMBERS))
            case "nest":
                graph[at] = onnx.field(lot.choice((1, 5, 6, 11)), graph[at] * lot.choice((1, 2, 999)))
            case "insert":
                graph.insert(at, lot.choice((b"\0", b"\xff" * 10, b"\x0b", b"\x0d", b"\x09", onnx.field(1, b"")) * 9999))
    data = onnx_bases.assembled(graph, lot.choice((17, 17, 17, lot.choice(NUMBERS))))
    return damaged(lot, data) if lot.random() < 0.7 else data


# Zip


def broken_zip(lot, name):
    opcodes, storages = torch_zip(name)
    opcodes, storages, end, before_end = list(opcodes), dict(storages), {}, b""
    ways = lot.choices(
        ("opcodes", "tensor", "storages", "field", "end", "members", "pickle", "bytes"), k=lot.choice((1, 1, 2))
    )
    if "opcodes" in ways:
        opcodes = broken_opcodes(lot, opcodes)
    if "tensor" in ways:
        opcodes = strange_tensor(lot, opcodes)
    if "storages" in ways:
        storages = broken_storages(lot, storages)
    pickled = b"".join(opcodes)
    members = members_of(damaged(lot, pickled) if "pickle" in ways else pickled, storages)
    if "members" in ways:
        members = strange_members(lot, members)
    if "field" in ways:
        strange_field(lot, members)
    if "end" in ways:
        end, before_end = strange_end(lot, members)
    data = zipped(members, end, before_end)
    return damaged(lot, damaged(lot, data)) if "bytes" in ways else data


def pieces(pickled):
    """A pickle's opcodes, each with its argument; what is no opcode in one piece."""
    starts = []
    with contextlib.suppress(ValueError, IndexError, struct.error):
        starts.extend(at for _, _, at in pickletools.genops(pickled))
    return [pickled[at:end] for at, end in zip(starts, [*starts[1:], len(pickled)])] or [pickled]


def broken_opcodes(lot, opcodes):
    """Single opcodes left out, put in, repeated or swapped."""
    one_by_one = pieces(b"".join(opcodes))
    for _ in range(lot.choice((1, 1, 3))):
        at = lot.randrange(len(one_by_one) + 1)
        match lot.choice(("arrange", "insert", "insert", "global", "deep", "argument")):
            case "arrange":
                one_by_one = rearranged(lot, one_by_one)
            case "insert":
                one_by_one.insert(at, lot.choice(OPCODES))
            case "global":
                one_by_one.insert(at, made.named(lot.choice(GLOBALS)) + lot.choice((b"", b")R", b"N\x85R")))
            case "deep":
                one_by_one.insert(at, lot.choice((b"(", b"]", b"}", b")", b")\x85", b"N\x85")) * lot.choice((2, 999, HUGE)))
            case "argument":
                one_by_one.insert(at, lot.choice(arguments(lot)))
    return one_by_one


def arguments(lot):
    """Opcodes with an argument: numbers, lengths of text, places in the memo."""
    number = struct.pack("<Q", lot.choice(NUMBERS) % (1 << 64))
    short = (
        b"K" + number[:1],
        b"M" + number[:2],
        b"J" + number[:4],
        b"q" + number[:1],
        b"h" + number[:1],
        b"\x82" + number[:1],
    )
    long = (
        b"r" + number[:4],
        b"j" + number[:4],
        b"X" + number[:4],
        b"\x8a\x08" + number,
        b"\x8a" + number[:1],
        b"\x80" + number[:1],
    )
    return (
        *short,
        *long,
        b"\x8d" + number,
        b"\x8b" + number[:4],
        b"\x95" + number,
        b"I" + b"9" * 5000 + b"\n",
        b"G" + number,
    )


def count_for(lot):
    return lot.choice((lot.choice(NUMBERS), -1, 1.5, None, True, "1", 10**30, 2))


def strange_tensor(lot, opcodes):
    """One tensor described by numbers that do not fit its storage, or a tensor beside it under the same key."""
    rank = lot.choice((0, 1, 2, 3, 8, 9, 60))
    numel = lot.choice((count_for(lot), 24, 4, 6))
    kind = lot.choice(("Float", "Half", "Double", "Long", "Byte", "Bool", "ComplexFloat", "Char", "BFloat16"))
    key = lot.choice(("0", "1", "2", "99", "", "../data/0", "-1", "00", 0))
    size, stride = (tuple(lot.choice((1, 2, 3, count_for(lot))) for _ in range(rank)) for _ in "ab")
    if lot.random() < 0.2:
        stride = stride[1:]
    of = made.storage(f"torch.{kind}Storage", key, numel)
    offset = lot.choice((0, 0, 1, count_for(lot)))
    tensor = lot.choice((made.tensor(offset, size, stride, of), made.tensor(of=of), made.tensor(0, size, (0,) * rank, of)))
    at = lot.choice([n for n, code in enumerate(opcodes) if code.startswith(made.REBUILD)])
    if lot.random() < 0.6:
        return [*opcodes[:at], tensor, *opcodes[at + 1 :]]
    again = [tensor if lot.random() < 0.5 else opcodes[at]]
    for n in range(lot.choice((1, 3, 300))):
        again += [made.op(f"more{n}"), again[0]]
    return [*opcodes[:at], *again, *opcodes[at + 1 :]]


def broken_storages(lot, storages):
    out, key = dict(storages), lot.choice(list(storages))
    match lot.choice(("shorter", "longer", "gone", "renamed", "swapped", "numbers")):
        case "shorter":
            out[key] = out[key][: lot.randrange(len(out[key]) + 1)]
        case "longer":
            out[key] += bytes(lot.choice((1, 4, 1000)))
        case "gone":
            del out[key]
        case "renamed":
            out[str(lot.choice((10**9, "x", "0/1", "-1", "\u0663")))] = out.pop(key)
        case "swapped":
            other = lot.choice(list(storages))
            out[key], out[other] = out[other], out[key]
        case "numbers":
            out[key] = damaged(lot, out[key] or b"\0") if lot.random() < 0.5 else b"\xff" * len(out[key])
    return out


def strange_members(lot, members):
    """Members more, fewer, twice, deflated, with strange names or with the fields for large files."""
    members = [copy.deepcopy(member) for member in members]
    one = lot.choice(members)
    match lot.choice(("arrange", "more", "name", "deflated", "zip64", "many", "code")):
        case "arrange":
            members = rearranged(lot, members)
        case "more":
            members.append(
                Member(lot.choice((b"archive/x", b"archive/data/7", b"/x", b"../x", b"", b"x" * 60_000)), b"more")
            )
        case "name":
            one.name = lot.choice((damaged(lot, one.name), one.name * 900, b"\xff\xfe/data.pkl", b"archive\\data.pkl"))
            one.name = one.name[:65_535]
        case "deflated":
            one.packed = zlib.compress(one.data, 9)[2:-4]
        case "zip64":
            lengths = struct.pack("<QQQ", *(lot.choice(NUMBERS) % (1 << 64) for _ in "abc"))
            one.extra = struct.pack("<HH", lot.choice((1, 1, 0x6375)), lot.choice((8, 16, 24, 0, 65_535))) + lengths
            for name in lot.sample(("packed", "size", "offset"), lot.choice((1, 2, 3))):
                one.central[name] = (1 << 32) - 1
        case "many":
            members += [Member(b"archive/data/%d" % (1000 + n), b"") for n in range(lot.choice((50, 3000)))]
        case "code":
            members.append(Member(lot.choice((b"archive/code/a.py", b"archive/constants.pkl")), b"1"))
    return members


def strange_field(lot, members):
    """A number in one member's headers that is not true."""
    for _ in range(lot.choice((1, 1, 2))):
        member = lot.choice(members)
        where, names = lot.choice(
            ((member.local, LOCAL[1:]), (member.central, CENTRAL[1:]), (member.central, ("packed", "size")))
        )
        name = lot.choice(names)
        where[name] = number_for(lot, WIDTHS.get(name, 2), len(member.data) if name in ("packed", "size") else 0)


def strange_end(lot, members):
    """A last record that is not true; or the one for large files before it."""
    name = lot.choice(END[1:])
    numbers = struct.pack("<QHHLLQQQQ", 44, 45, 45, 0, 0, *(lot.choice(NUMBERS) % (1 << 64) for _ in range(4)))
    finder = b"PK\6\7" + struct.pack("<LQL", 0, number_for(lot, 8), 1)
    large = b"PK\6\6" + numbers + finder if lot.random() < 0.4 else b""
    if large and lot.random() < 0.5:
        return {"members": 0xFFFF, "offset": 0xFFFFFFFF, "length": 0xFFFFFFFF}, large
    return {name: number_for(lot, WIDTHS.get(name, 2), len(members))}, large


# safetensors


def broken_safetensors(lot, name):
    header, numbers = safetensors(name)
    header, length = copy.deepcopy(header), None
    ways = lot.choices(("tensor", "tensor", "header", "text", "length", "numbers", "bytes"), k=lot.choice((1, 1, 2)))
    if "tensor" in ways:
        described_wrongly(lot, header)
    if "header" in ways:
        strange_header(lot, header)
    text = json.dumps(header).encode()
    if "text" in ways:
        text = strange_text(lot, text)
    if "length" in ways:
        length = lot.choice((lot.choice(NUMBERS), len(text) + lot.choice((-1, 1, 8)), len(text) + len(numbers)))
    if "numbers" in ways:
        numbers = lot.choice((damaged(lot, numbers), numbers + b"more", numbers[:-1], b"", b"\xff" * len(numbers)))
    data = safetensors_file(text, numbers, length)
    return damaged(lot, damaged(lot, data)) if "bytes" in ways else data


def described_wrongly(lot, header):
    """One tensor's type, shape or place."""
    key = lot.choice(list(header))
    one, other = header[key], header[lot.choice(list(header))]
    numbers = (*NUMBERS, -1, 1.5, None, True, "1", 10**30, [1], 1e300)
    kinds = (
        "F64",
        "F16",
        "I8",
        "BOOL",
        "F8_E4M3",
        "F8_E5M2",
        "F4",
        "F6_E2M3",
        "E8M0",
        "C64",
        "U16",
        "U64",
        "",
        "f32",
        7,
        None,
    )
    match lot.choice(("dtype", "shape", "shape", "place", "place", "other", "name", "odd")):
        case "dtype":
            one["dtype"] = lot.choice(kinds)
        case "shape":
            shape = one["shape"]
            longer = shape * lot.choice((2, 50)) or [1] * 99
            product = [lot.choice(NUMBERS), lot.choice(NUMBERS)]
            one["shape"] = lot.choice(
                (shape[1:], [*shape, 1], [*shape, 0], longer, product, [lot.choice(numbers)], shape[::-1])
            )
        case "place":
            start, end = one["data_offsets"]
            near = ([start, end + 4], [start + 4, end + 4], [end, start], [start - 4, end], [start], [start, end, end])
            one["data_offsets"] = lot.choice((*near, [lot.choice(numbers), lot.choice(numbers)], other["data_offsets"]))
        case "other":
            header[key] = dict(other)
        case "name":
            header[lot.choice(("", "module." + key, key * 500, "\ud800", "__metadata__", "a\x1b[2J"))] = header.pop(key)
        case "odd":
            header[key] = lot.choice((None, [], {}, 7, {**one, "more": 1}, {"dtype": "F32"}, "x"))


def strange_header(lot, header):
    """More than a header has, or less."""
    match lot.choice(("metadata", "empty", "many", "order", "nothing")):
        case "metadata":
            header["__metadata__"] = lot.choice(
                ({"format": "pt"}, {"a": 1}, [], None, {"a": "b" * 99_999}, {"a": {"b": {}}})
            )
        case "empty":
            header.clear()
        case "many":
            header.update({f"x{n}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for n in range(3000)})
        case "order":
            items = rearranged(lot, list(header.items()))
            header.clear()
            header.update(items)
        case "nothing":
            for key in lot.sample(list(header), len(header) // 2):
                del header[key]


def strange_text(lot, text):
    """What is no JSON, or JSON of a kind that no header is."""
    deep = lot.choice((1000, 99_999))
    doubled = text[:-1] + b"," + text[1:]
    nested = b'{"a":' * deep + b"1" + b"}" * deep
    lists = b'{"a":' + b"[" * deep + b"]" * deep + b"}"
    digits = b'{"a":{"dtype":"F32","shape":[' + b"9" * deep + b'],"data_offsets":[0,4]}}'
    spaces = text + b" " * lot.choice((1, 7, 99_999))
    strange = (
        b"\xff\xfe" + text,
        b"",
        b"{}",
        b"[]",
        b"null",
        b"NaN",
        b"{",
        text[: len(text) // 2],
        text.replace(b'"', b"'"),
    )
    return lot.choice((doubled, nested, lists, digits, spaces, damaged(lot, text), damaged(lot, text), *strange))
