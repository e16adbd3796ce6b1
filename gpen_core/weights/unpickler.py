"""Reads the pickle of a state dict with an interpreter that supports names, plain values and dense tensors only.

Python's own unpickler imports and calls the functions that a file names. This one imports and calls nothing. The three
functions and the storage types that torch.save writes for dense tensors have a fixed meaning. Every other name is
refused. It follows the descriptions of the opcodes in the standard library's pickletools.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

PROTOCOL = 2  # as torch.save writes
STORAGES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}
PLAIN_OPCODES = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINUNICODE", "BINFLOAT"})
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class UnsafeCheckpoint(Exception):
    """A file is not a state dict of dense tensors. The message is the reason, without the file's name."""


@dataclass(frozen=True)
class GlobalName:
    """A known global name. It is not bound to an object."""

    name: str


@dataclass(frozen=True)
class Storage:
    """A contiguous array of numbers in the archive."""

    dtype: torch.dtype
    key: str
    numel: int


ORDERED_DICT = GlobalName("collections.OrderedDict")
REBUILD_TENSOR = GlobalName("torch._utils._rebuild_tensor_v2")
REBUILD_PARAMETER = GlobalName("torch._utils._rebuild_parameter")
GLOBALS: dict[str, object] = {word.name: word for word in (ORDERED_DICT, REBUILD_TENSOR, REBUILD_PARAMETER)}
GLOBALS.update({f"torch.{name}": dtype for name, dtype in STORAGES.items()})

MakeTensor = Callable[[Storage, int, tuple[int, ...], tuple[int, ...]], torch.Tensor]


def unpickle(data: bytes, make_tensor: MakeTensor) -> object:
    """Return the pickled object: dicts, lists, tuples, numbers, strings and tensors.

    `make_tensor(storage, offset, size, stride)` checks and creates each tensor. Raises `UnsafeCheckpoint`. Raises
    ValueError, LookupError or struct.error for bytes that are not a pickle."""
    machine = _PickleVM(make_tensor)
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name == "STOP":
            return machine.result()
        machine.step(opcode.name, argument)
    raise UnsafeCheckpoint("its pickle has no end")


class _PickleVM:
    def __init__(self, make_tensor: MakeTensor) -> None:
        self.make_tensor = make_tensor
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: Any) -> None:
        """Execute an opcode by its name in pickletools. Raises `UnsafeCheckpoint` for one that no state dict needs."""
        if name in PLAIN_OPCODES:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in TUPLES:
            self.stack.append(tuple(self.pop_many(TUPLES[name])))
        elif name in ("BINPUT", "LONG_BINPUT"):
            self.memo[argument] = self.top()
        elif name in ("BINGET", "LONG_BINGET"):
            if argument not in self.memo:
                raise UnsafeCheckpoint("its pickle is damaged")
            self.stack.append(self.memo[argument])
        elif (handler := HANDLERS.get(name)) is not None:
            handler(self, argument)
        else:
            raise UnsafeCheckpoint(f"its pickle uses the opcode {name}, which no state dict needs")

    def result(self) -> object:
        """Return the final object. Raises `UnsafeCheckpoint` if it contains global names, storages or dtypes."""
        if len(self.stack) != 1 or self.marks:
            raise UnsafeCheckpoint("its pickle is damaged")
        visited: set[int] = set()
        todo = [self.stack[0]]
        while todo:
            one = todo.pop()
            if isinstance(one, (GlobalName, Storage, torch.dtype)):
                raise UnsafeCheckpoint("it contains a function name, storage or dtype where a value should be")
            if isinstance(one, (dict, list, tuple)) and id(one) not in visited:
                visited.add(id(one))
                todo.extend(one.values() if isinstance(one, dict) else one)
        return self.stack[0]

    def top(self) -> Any:
        if not self.stack:
            raise UnsafeCheckpoint("its pickle is damaged")
        return self.stack[-1]

    def pop(self) -> Any:
        value = self.top()
        self.stack.pop()
        return value

    def pop_many(self, count: int) -> list[Any]:
        if count > len(self.stack) - (self.marks[-1] if self.marks else 0):
            raise UnsafeCheckpoint("its pickle is damaged")
        cut = len(self.stack) - count
        values = self.stack[cut:]
        del self.stack[cut:]
        return values

    def pop_to_mark(self) -> list[Any]:
        start = self.marks.pop() if self.marks else -1
        if not 0 <= start <= len(self.stack):
            raise UnsafeCheckpoint("its pickle is damaged")
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def protocol(self, version: int) -> None:
        if version != PROTOCOL:
            raise UnsafeCheckpoint(f"its pickle has protocol {version}, expected {PROTOCOL}, as torch.save writes")

    def find_global(self, argument: str) -> None:
        name = argument.replace(" ", ".", 1)  # pickletools separates module and name by a space
        if name not in GLOBALS:
            raise UnsafeCheckpoint(
                f"it names {name[:100]!r}, but only dense tensors are read from a file without a known digest"
            )
        self.stack.append(GLOBALS[name])

    def reduce(self, _: object) -> None:
        function, arguments = self.pop_many(2)
        if function == ORDERED_DICT and arguments == ():
            self.stack.append({})
        elif function == REBUILD_TENSOR and isinstance(arguments, tuple):
            self.stack.append(self.tensor(*arguments))
        elif function == REBUILD_PARAMETER and _is_parameter(arguments):
            self.stack.append(arguments[0])
        else:
            raise UnsafeCheckpoint(
                f"its pickle would call {getattr(function, 'name', type(function).__name__)} in an unknown way"
            )

    def tensor(self, *arguments: Any) -> torch.Tensor:
        """Make a tensor from storage, offset, size and stride. requires_grad and the backward hooks are ignored."""
        if len(arguments) != 6 or not isinstance(arguments[0], Storage):
            raise UnsafeCheckpoint("a tensor in it has another form than torch.save writes")
        storage, offset, size, stride = arguments[:4]
        if not (_are_counts((offset,)) and _are_counts(size) and _are_counts(stride) and len(size) == len(stride)):
            raise UnsafeCheckpoint("a tensor in it has a size, stride or offset that is not a non-negative integer")
        return self.make_tensor(storage, offset, size, stride)

    def storage(self, _: object) -> None:
        match self.pop():
            case ("storage", torch.dtype() as dtype, str(key), str(), int(numel)) if _are_counts((numel,)):
                self.stack.append(Storage(dtype, key, numel))
            case _:
                raise UnsafeCheckpoint("its pickle has an external reference that is not a storage of numbers")

    def build(self, _: object) -> None:
        """Ignore the state of an OrderedDict, which has the version numbers of its modules (`_metadata`)."""
        target, state = self.pop_many(2)
        if not isinstance(target, dict) or not isinstance(state, dict):
            raise UnsafeCheckpoint("its pickle sets the state of an object that is not a dict")
        self.stack.append(target)

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, dict) or len(values) % 2:
            raise UnsafeCheckpoint("its pickle is damaged")
        for key, value in zip(values[::2], values[1::2]):
            # Large integers can be chosen to have the same hash, which makes a dict slow.
            if not (isinstance(key, str) or (isinstance(key, int) and abs(key) < 2**31)):
                raise UnsafeCheckpoint(f"a dict in it has a {type(key).__name__} as a key")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, list):
            raise UnsafeCheckpoint("its pickle is damaged")
        target.extend(values)


def _is_parameter(arguments: object) -> bool:
    return isinstance(arguments, tuple) and len(arguments) == 3 and isinstance(arguments[0], torch.Tensor)


def _are_counts(values: object) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 2**62 for value in values)


HANDLERS: dict[str, Callable[[_PickleVM, Any], None]] = {
    "PROTO": _PickleVM.protocol,
    "MARK": _PickleVM.mark,
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.pop_to_mark())),
    "EMPTY_DICT": lambda machine, _: machine.stack.append({}),
    "EMPTY_LIST": lambda machine, _: machine.stack.append([]),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop_many(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "APPEND": lambda machine, _: machine.append(machine.pop_many(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "GLOBAL": _PickleVM.find_global,
    "REDUCE": _PickleVM.reduce,
    "BINPERSID": _PickleVM.storage,
    "BUILD": _PickleVM.build,
}
