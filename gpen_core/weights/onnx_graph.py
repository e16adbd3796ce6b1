"""Reads the operators and tensors of an ONNX file. It never runs the file.

Content that could make another reader, such as ONNX Runtime, open a second file, run foreign code or loop is refused:
tensors outside the file, operators that are not ONNX's own or that no export of GPEN needs, graphs inside operators, and
functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

import torch

from ..network.config import CPU_FLOAT32
from .protobuf import Span, integer, integers, message
from .unpickler import UnsafeCheckpoint

MAX_ONNX_BYTES = 2**31 - 1  # the limit of a Protocol Buffers message
MAX_NODES, MAX_TENSORS = 50_000, 10_000  # an export of GPEN-2048 has 3,000 and 210
MAX_DIMENSIONS = 8
OPSETS = range(9, 27)
STANDARD_DOMAINS = ("", "ai.onnx")
# Field numbers of each message in onnx.proto (github.com/onnx/onnx, Apache-2.0).
MODEL_GRAPH, MODEL_OPSET, MODEL_TRAINING, MODEL_FUNCTIONS = 7, 8, 20, 25
OPSET_DOMAIN, OPSET_VERSION = 1, 2
GRAPH_NODE, GRAPH_TENSOR, GRAPH_INPUT, GRAPH_OUTPUT, GRAPH_SPARSE_TENSOR = 1, 5, 11, 12, 15
NODE_INPUT, NODE_OUTPUT, NODE_OPERATOR, NODE_ATTRIBUTE, NODE_DOMAIN = 1, 2, 4, 5, 7
ATTRIBUTE_NAME, ATTRIBUTE_INTEGER, ATTRIBUTE_TENSOR = 1, 3, 5
REFUSED_ATTRIBUTES = (6, 10, 11, 22, 23)  # a graph, tensors, graphs, a sparse tensor, sparse tensors
TENSOR_SHAPE, TENSOR_TYPE, TENSOR_FLOATS, TENSOR_NAME, TENSOR_BYTES = 1, 2, 4, 8, 9
TENSOR_EXTERNAL_DATA, TENSOR_DATA_LOCATION = 13, 14
VALUE_NAME, DIMENSION_SIZE = 1, 1
VALUE_DIMENSIONS = (2, 1, 2, 1)  # type, tensor type, shape, dimension: each in the message of the one before
FLOAT = 1
FLOAT_TYPES = {FLOAT: "float32", 10: "float16", 11: "float64", 16: "bfloat16"}
ALLOWED_OPERATORS = {
    *("Conv", "ConvTranspose", "Gemm", "LeakyRelu", "MatMul", "PRelu", "Relu", "Resize", "Upsample"),
    *("Abs", "Add", "Clip", "Div", "Max", "Min", "Mod", "Mul", "Neg", "Pow", "Reciprocal", "Sqrt", "Sub", "Sum"),
    *("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where"),
    *("ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"),
    *("Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "ScatterND", "Shape", "Size", "Slice", "Split"),
    *("Cast", "CastLike", "Constant", "ConstantOfShape", "Range", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
}
"""What the published form of GPEN can become in an export: arithmetic and changes of shape."""

Shape = tuple[int, ...]


@dataclass(frozen=True)
class OnnxTensor:
    """A tensor in the file. Its values are read on demand."""

    shape: Shape
    type: int
    """A number of TensorProto.DataType."""
    data: Span | None

    @property
    def is_float(self) -> bool:
        return self.type in FLOAT_TYPES

    def read(self) -> torch.Tensor:
        """Return a float32 copy of the values.

        Raises `UnsafeCheckpoint` for another type, and if their number does not match the shape."""
        if self.type != FLOAT:
            kind = FLOAT_TYPES.get(self.type, "not floating-point numbers")
            raise UnsafeCheckpoint(f"its weights are {kind}, but only float32 exports can be converted")
        expected, found = 4 * math.prod(self.shape), len(self.data) if self.data else 0
        if self.data is None or found != expected:
            raise UnsafeCheckpoint(f"a tensor of shape {list(self.shape)} in it has {found:,} bytes, expected {expected:,}")
        numbers = bytearray(self.data.read(expected))
        if not numbers:  # which `frombuffer` refuses
            return torch.empty(self.shape, **CPU_FLOAT32)
        return torch.frombuffer(numbers, dtype=torch.float32).reshape(self.shape)


@dataclass
class OnnxNode:
    """One operator with the names of its inputs and outputs."""

    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    integers: dict[str, int] = field(default_factory=dict)
    """The integer attributes by name."""
    value: OnnxTensor | None = None
    """The value of a Constant."""


@dataclass
class OnnxGraph:
    """The operators and tensors of a file."""

    nodes: list[OnnxNode] = field(default_factory=list)
    tensors: dict[str, OnnxTensor] = field(default_factory=dict)
    """The tensors by the names under which operators read them, including the values of Constant operators."""
    inputs: dict[str, Shape] = field(default_factory=dict)
    """Shapes by name, with -1 for a free dimension, without the file's own tensors."""
    outputs: dict[str, Shape] = field(default_factory=dict)


def read_graph(file: BinaryIO, size: int) -> OnnxGraph:
    """Read the graph of an open file of `size` bytes. Raises `UnsafeCheckpoint` with the reason."""
    graphs: list[Span] = []
    opsets: dict[str, int] = {}
    for number, value in Span(file, 0, size).fields():
        if number == MODEL_GRAPH:
            graphs.append(message(value))
        elif number == MODEL_OPSET:
            domain, version = _opset(message(value))
            opsets[domain] = version
        elif number in (MODEL_TRAINING, MODEL_FUNCTIONS):
            raise UnsafeCheckpoint("it contains functions or training steps, which no export of GPEN needs")
    if len(graphs) != 1:
        raise UnsafeCheckpoint("it contains no graph" if not graphs else "it contains more than one graph")
    opset = next((opsets[domain] for domain in STANDARD_DOMAINS if domain in opsets), None)
    if opset not in OPSETS:
        found = "none" if opset is None else str(opset)
        raise UnsafeCheckpoint(f"its operator set is {found}, expected {OPSETS[0]} to {OPSETS[-1]}")
    return _graph(graphs[0])


def _opset(span: Span) -> tuple[str, int]:
    domain, version = "", 0
    for number, value in span.fields():
        if number == OPSET_DOMAIN:
            domain = message(value).text()
        elif number == OPSET_VERSION:
            version = integer(value)
    return domain, version


def _graph(span: Span) -> OnnxGraph:
    graph = OnnxGraph()
    for number, value in span.fields():
        if number == GRAPH_NODE:
            node = _node(message(value))
            graph.nodes.append(node)
            if node.value is not None and node.outputs:
                _add_tensor(graph, node.outputs[0], node.value)
        elif number == GRAPH_TENSOR:
            _add_tensor(graph, *_tensor_proto(message(value)))
        elif number in (GRAPH_INPUT, GRAPH_OUTPUT):
            name, shape = _value_info(message(value))
            (graph.inputs if number == GRAPH_INPUT else graph.outputs)[name] = shape
            if len(graph.inputs) + len(graph.outputs) > MAX_TENSORS:
                raise UnsafeCheckpoint(f"it has more than {MAX_TENSORS:,} inputs")
        elif number == GRAPH_SPARSE_TENSOR:
            raise UnsafeCheckpoint("it contains sparse tensors, which no export of GPEN needs")
        if len(graph.nodes) > MAX_NODES:
            raise UnsafeCheckpoint(f"it has more than {MAX_NODES:,} operators")
    for name in graph.tensors:
        graph.inputs.pop(name, None)  # old exporters list tensors as inputs, too
    return graph


def _add_tensor(graph: OnnxGraph, name: str, tensor: OnnxTensor) -> None:
    if name in graph.tensors:
        raise UnsafeCheckpoint(f"it contains {name[:100]!r} twice")
    if len(graph.tensors) >= MAX_TENSORS:
        raise UnsafeCheckpoint(f"it has more than {MAX_TENSORS:,} tensors")
    graph.tensors[name] = tensor


def _tensor_proto(span: Span) -> tuple[str, OnnxTensor]:
    name, shape, kind, data = "", list[int](), 0, list[Span]()
    for number, value in span.fields():
        if number == TENSOR_SHAPE:
            shape += integers(value)
        elif number == TENSOR_TYPE:
            kind = integer(value)
        elif number in (TENSOR_FLOATS, TENSOR_BYTES):  # packed floats and raw bytes are equal
            data.append(message(value))
        elif number == TENSOR_NAME:
            name = message(value).text()
        elif number == TENSOR_EXTERNAL_DATA or (number == TENSOR_DATA_LOCATION and integer(value) != 0):
            raise UnsafeCheckpoint("its weights are in a second file, but they must be in the file itself")
    if len(shape) > MAX_DIMENSIONS or any(side >= 2**31 for side in shape):
        raise UnsafeCheckpoint(f"a tensor in it has the shape {shape[:MAX_DIMENSIONS]}")
    if len(data) > 1:
        raise UnsafeCheckpoint(f"it contains the values of {name[:100]!r} more than once")
    return name, OnnxTensor(tuple(shape), kind, data[0] if data else None)


def _node(span: Span) -> OnnxNode:
    node, domain = OnnxNode(), ""
    for number, value in span.fields():
        if number == NODE_INPUT:
            node.inputs.append(message(value).text())
        elif number == NODE_OUTPUT:
            node.outputs.append(message(value).text())
        elif number == NODE_OPERATOR:
            node.operator = message(value).text()
        elif number == NODE_ATTRIBUTE:
            _add_attribute(node, message(value))
        elif number == NODE_DOMAIN:
            domain = message(value).text()
    if domain not in STANDARD_DOMAINS:
        raise UnsafeCheckpoint(f"it uses an operator of {domain[:100]!r}, but only ONNX's own are supported")
    if node.operator not in ALLOWED_OPERATORS:
        raise UnsafeCheckpoint(f"it uses the operator {node.operator[:100]!r}, which no export of GPEN needs")
    if node.operator != "Constant":
        node.value = None
    return node


def _add_attribute(node: OnnxNode, span: Span) -> None:
    name = ""
    for number, value in span.fields():
        if number == ATTRIBUTE_NAME:
            name = message(value).text()
        elif number == ATTRIBUTE_INTEGER:
            node.integers[name] = integer(value)
        elif number == ATTRIBUTE_TENSOR:
            node.value = _tensor_proto(message(value))[1]
        elif number in REFUSED_ATTRIBUTES:
            raise UnsafeCheckpoint("an operator in it contains a graph or sparse tensors, which no export of GPEN needs")


def _value_info(span: Span) -> tuple[str, Shape]:
    """Return the name of a ValueInfoProto, and the shape of its TypeProto."""
    name = next((message(value).text() for number, value in span.fields() if number == VALUE_NAME), "")
    shape: list[int] = []
    for dimension in _inside(span, *VALUE_DIMENSIONS):
        side = next((integer(value) for number, value in dimension.fields() if number == DIMENSION_SIZE), -1)
        shape.append(side)
        if len(shape) > MAX_DIMENSIONS:
            raise UnsafeCheckpoint(f"{name[:100]!r} in it has more than {MAX_DIMENSIONS} dimensions")
    return name, tuple(shape)


def _inside(span: Span, *numbers: int) -> Iterator[Span]:
    """Yield the messages nested under these field numbers."""
    if not numbers:
        yield span
        return
    for number, value in span.fields():
        if number == numbers[0]:
            yield from _inside(message(value), *numbers[1:])
