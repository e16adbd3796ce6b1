"""A small ONNX file in pieces: what `read_graph` accepts, with every kind of message that it looks into."""

from __future__ import annotations

from .. import onnx_files as made


def pieces():
    """The fields of a graph and of the model around it."""
    constant = made.field(5, made.field(1, "value") + made.field(5, made.tensor("", (2,), bytes(8))))
    nodes = [
        made.node("Constant", [], ["scale"], constant),
        made.node("Gemm", ["input", "scale"], ["gemm"], made.field(5, made.field(1, "transB") + made.field(3, 1))),
        made.node("Conv", ["gemm", "w"], ["output"]),
    ]
    tensors = [made.zeros("w", (8, 3, 1, 1)), made.zeros("generator.input.input", (1, 8, 4, 4))]
    return [made.field(1, one) for one in nodes] + [made.field(5, one) for one in tensors]


def assembled(graph, opset=17):
    body = b"".join(graph) + made.field(11, made.image("input", (-1, 3, 256, 256)))
    return made.model(body + made.field(12, made.image("output", (-1, 3, 256, 256))), opset)
