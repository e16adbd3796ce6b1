"""Face embedders as ONNX files, with the input of SFace and known answers."""

import numpy as np
from onnx_files import field, image, node, tensor

OPSET = 11


def integers(name, *values):
    """An attribute: a list of integers."""
    return field(5, field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7))


def flat_shape(name, sides):
    return field(1, name) + field(2, field(1, field(1, 1) + field(2, b"".join(field(1, field(1, n)) for n in sides))))


def model(nodes, tensors, outputs, side=112):
    """`data` [1, 3, side, side] -> `fc1` [1, outputs]."""
    body = b"".join(field(1, one) for one in nodes) + field(2, "embedder")
    body += b"".join(field(5, tensor(name, a.shape, a.astype("<f4").tobytes())) for name, a in tensors.items())
    body += field(11, image("data", (1, 3, side, side))) + field(12, flat_shape("fc1", (1, outputs)))
    return field(1, 6) + field(7, body) + field(8, field(1, "") + field(2, OPSET))


def averages(kernel):
    """Nodes from `data` to `flat`: the mean colors of cells of `kernel` pixels, channel by channel."""
    pooled = node(
        "AveragePool", ["data"], ["pooled"], integers("kernel_shape", kernel, kernel) + integers("strides", kernel, kernel)
    )
    return [pooled, node("Flatten", ["pooled"], ["flat"])]


def linear(weight, bias, kernel):
    """The mean colors of cells, times `weight` plus `bias`."""
    nodes = [*averages(kernel), node("Gemm", ["flat", "weight", "bias"], ["fc1"])]
    return model(nodes, {"weight": weight, "bias": bias}, len(bias))


def layout_embedder(kernel=16):
    """The mean color of each cell, less the mean of all."""
    cells = 3 * (112 // kernel) ** 2
    return linear((np.eye(cells) - 1 / cells).astype(np.float32), np.zeros(cells, np.float32), kernel)
