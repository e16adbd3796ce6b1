"""The wire format of Protocol Buffers, as far as reading an ONNX file needs it.

The package protobuf is not used: not every host has it, and another version of it would break a host. The format
(protobuf.dev/programming-guides/encoding): a message is a run of fields, each a number, a wire type and a value. A value is
a whole number, four or eight bytes, or a length and as many bytes, which may be a message again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from .unpickler import UnsafeCheckpoint

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10
MAX_TEXT_BYTES = 4096  # a name; the longest that exporters write have 200
MAX_PACKED_BYTES = 1024  # whole numbers in one run; an ONNX shape has at most 8
MAX_FIELDS = 2_000_000  # of a whole file; an export of GPEN-2048 has 60,000

Field = tuple[int, "int | Span"]
"""A field's number, and its value."""


@dataclass
class FieldCounter:
    """How many fields of a file were read: a file of 2 GB could hold a billion."""

    count: int = 0

    def add(self) -> None:
        self.count += 1
        if self.count > MAX_FIELDS:
            raise UnsafeCheckpoint(f"it has more than {MAX_FIELDS:,} fields")


@dataclass(frozen=True)
class Span:
    """The bytes `start` to `end` of a file: a message, a text or numbers. Nothing is read before it is asked for."""

    file: BinaryIO
    start: int
    end: int
    counter: FieldCounter = field(default_factory=FieldCounter)
    """Of the file, shared by all its spans."""

    def __len__(self) -> int:
        return self.end - self.start

    def fields(self) -> Iterator[Field]:
        """The fields of the message, in the order of the file. `UnsafeCheckpoint` if one reaches beyond the message."""
        place = self.start
        while place < self.end:
            self.counter.add()
            key, place = self._varint(place)
            number, wire_type = key >> 3, key & 7
            if wire_type == VARINT:
                value, place = self._varint(place)
                yield number, value
            elif wire_type in (LENGTH, FIXED64, FIXED32):
                length = FIXED_BYTES.get(wire_type)
                if length is None:
                    length, place = self._varint(place)
                if length > self.end - place:
                    raise UnsafeCheckpoint("it ends too early, or a part of it claims to be larger than the whole")
                yield number, Span(self.file, place, place + length, self.counter)
                place += length
            else:
                raise UnsafeCheckpoint("it is damaged, or no ONNX file")

    def read(self, max_bytes: int) -> bytes:
        """The bytes themselves; `UnsafeCheckpoint` for more than `max_bytes`."""
        if len(self) > max_bytes:
            raise UnsafeCheckpoint(f"a text or list in it has {len(self):,} bytes, and at most {max_bytes:,} are read")
        self.file.seek(self.start)
        data = self.file.read(len(self))
        if len(data) < len(self):
            raise UnsafeCheckpoint("it ends too early")
        return data

    def text(self) -> str:
        try:
            return self.read(MAX_TEXT_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnsafeCheckpoint("it is damaged: a name in it is no text") from error

    def varints(self) -> list[int]:
        """The whole numbers of a packed run."""
        numbers, place = list[int](), self.start
        if len(self) > MAX_PACKED_BYTES:
            raise UnsafeCheckpoint("it is damaged: a list of numbers in it is too long")
        while place < self.end:
            number, place = self._varint(place)
            numbers.append(number)
        return numbers

    def _varint(self, place: int) -> tuple[int, int]:
        """A whole number of 64 bits, seven bits in each byte, and the place after it."""
        self.file.seek(place)
        data = self.file.read(min(MAX_VARINT_BYTES, self.end - place))
        value = 0
        for count, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, place + count + 1
        raise UnsafeCheckpoint("it is damaged, or no ONNX file")


def message(value: int | Span) -> Span:
    """A field's value that must be a message, a text or bytes."""
    if not isinstance(value, Span):
        raise UnsafeCheckpoint("it is damaged: a field in it has another type than ONNX gives it")
    return value


def integer(value: int | Span) -> int:
    """A field's value that must be a whole number, of 64 bits with a sign."""
    if isinstance(value, Span):
        raise UnsafeCheckpoint("it is damaged: a field in it has another type than ONNX gives it")
    return value - (1 << 64) if value >> 63 else value


def integers(value: int | Span) -> list[int]:
    """The whole numbers of one field of a list: one, or a packed run."""
    return value.varints() if isinstance(value, Span) else [value]
