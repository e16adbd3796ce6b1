"""Reads the wire format of Protocol Buffers, as far as ONNX files need it.

The package protobuf is not used, because not every host has it, and another version of it would break a host. In the
format (protobuf.dev/programming-guides/encoding) a message is a list of fields, each with a number, a wire type and a
value. A value is an integer, four or eight bytes, or a length and that many bytes, which may be a nested message.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from .unpickler import UnsafeCheckpoint

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
FIXED_BYTES = {FIXED64: 8, FIXED32: 4}
MAX_VARINT_BYTES = 10
MAX_TEXT_BYTES = 4096  # per name; exporters write up to 200
MAX_PACKED_BYTES = 1024  # per packed list of integers; an ONNX shape has at most 8
MAX_FIELDS = 2_000_000  # per file; an export of GPEN-2048 has 60,000

Field = tuple[int, "int | Span"]
"""A field's number and value."""


@dataclass
class FieldCounter:
    """Counts the fields that are read from a file, because a file of 2 GB could contain a billion."""

    count: int = 0

    def add(self) -> None:
        self.count += 1
        if self.count > MAX_FIELDS:
            raise UnsafeCheckpoint(f"it has more than {MAX_FIELDS:,} fields")


@dataclass(frozen=True)
class Span:
    """The bytes `start` to `end` of a file: a message, a string or numbers. They are read on demand."""

    file: BinaryIO
    start: int
    end: int
    counter: FieldCounter = field(default_factory=FieldCounter)
    """Shared by all spans of a file."""

    def __len__(self) -> int:
        return self.end - self.start

    def fields(self) -> Iterator[Field]:
        """Yield the fields in file order. Raises `UnsafeCheckpoint` if a field exceeds the message."""
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
                    raise UnsafeCheckpoint("it is truncated, or a field in it claims to be larger than the file")
                yield number, Span(self.file, place, place + length, self.counter)
                place += length
            else:
                raise UnsafeCheckpoint("it is damaged, or not an ONNX file")

    def read(self, max_bytes: int) -> bytes:
        """Read the bytes. Raises `UnsafeCheckpoint` for more than `max_bytes`."""
        if len(self) > max_bytes:
            raise UnsafeCheckpoint(f"a string or list in it has {len(self):,} bytes, more than the limit of {max_bytes:,}")
        self.file.seek(self.start)
        data = self.file.read(len(self))
        if len(data) < len(self):
            raise UnsafeCheckpoint("it is truncated")
        return data

    def text(self) -> str:
        try:
            return self.read(MAX_TEXT_BYTES).decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnsafeCheckpoint("it is damaged: a name in it is not UTF-8") from error

    def varints(self) -> list[int]:
        """Read a packed list of integers."""
        numbers, place = list[int](), self.start
        if len(self) > MAX_PACKED_BYTES:
            raise UnsafeCheckpoint("it is damaged: a list of numbers in it is too long")
        while place < self.end:
            number, place = self._varint(place)
            numbers.append(number)
        return numbers

    def _varint(self, place: int) -> tuple[int, int]:
        """Read a 64-bit integer, seven bits per byte, and return it with the offset after it."""
        self.file.seek(place)
        data = self.file.read(min(MAX_VARINT_BYTES, self.end - place))
        value = 0
        for count, byte in enumerate(data):
            value |= (byte & 0x7F) << (7 * count)
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, place + count + 1
        raise UnsafeCheckpoint("it is damaged, or not an ONNX file")


def message(value: int | Span) -> Span:
    """Return a field's value that must be a message, a string or bytes."""
    if not isinstance(value, Span):
        raise UnsafeCheckpoint("it is damaged: a field in it has the wrong type")
    return value


def integer(value: int | Span) -> int:
    """Return a field's value that must be an integer, as a signed 64-bit number."""
    if isinstance(value, Span):
        raise UnsafeCheckpoint("it is damaged: a field in it has the wrong type")
    return value - (1 << 64) if value >> 63 else value


def integers(value: int | Span) -> list[int]:
    """Return the integers of one field of a list: one, or a packed list."""
    return value.varints() if isinstance(value, Span) else [value]
