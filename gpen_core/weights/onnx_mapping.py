"""Maps the tensors of an ONNX export of GPEN to the released state dict.

An exporter keeps a tensor's name and values, or it folds constants into it. The kernels of convolutions and linear layers
are then renamed, multiplied by a factor and perhaps transposed. The factor is the equalized learning rate (Karras et al.,
"Progressive Growing of GANs", ICLR 2018, section 4.1). Tensors with their names are read by name. The others are read in
the order in which the network runs, separately for each kind of operator, and divided by their factor. `onnx_proof`
verifies the result, because this order is a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch

from ..errors import WeightsError
from ..network import RELEASED_SIZES, GPENConfig
from ..network.config import CPU_FLOAT32, STYLE_LAYERS
from ..network.state_dict import fir_kernel, validate
from .architecture import LEARNED_CONSTANT
from .onnx_graph import OnnxGraph, OnnxNode, OnnxTensor, Shape
from .unpickler import UnsafeCheckpoint

NOT_GPEN = "it is not an export of GPEN"
STYLE_LR = 0.01
"""The learning rate of the style layers, relative to the other layers."""

CONVOLUTION, LINEAR, LINEAR_BIAS, CHANNEL_BIAS, MODULATED, SKIP_GAIN = range(6)


@dataclass(frozen=True)
class _Use:
    """A tensor that an operator combines with a computed value."""

    tensor: OnnxTensor
    name: str
    is_transposed: bool = False


def map_state_dict(graph: OnnxGraph) -> tuple[dict[str, torch.Tensor], GPENConfig]:
    """Return the complete, validated state dict in float32, and its config.

    Raises `UnsafeCheckpoint` with the reason if the graph is not an export of GPEN, or not a known one."""
    size = image_size(graph)
    names = _Names(graph)
    config = _config(graph, names)
    if size not in (None, config.size):
        raise UnsafeCheckpoint(f"its input is {size} x {size} px, but its weights are those of GPEN-{config.size}")
    shapes = config.parameter_shapes()
    state_dict = {key: tensor.read() for key, shape in shapes.items() if (tensor := names.get(key, shape)) is not None}
    for kind, keys in _keys_in_order(config).items():
        missing = [key for key in keys if key not in state_dict]
        uses = [use for use in _uses(graph, names, kind) if not names.is_key(use.name, shapes)]
        if missing and len(uses) != len(missing):
            raise UnsafeCheckpoint(_mismatch(len(missing), len(uses)))
        state_dict.update((key, _undo(key, shapes[key], use)) for key, use in zip(missing, uses) if missing)
    if LEARNED_CONSTANT not in state_dict:
        state_dict[LEARNED_CONSTANT] = names.find_base().read()
    kernels = [key for key in shapes if key.endswith(".kernel")]
    state_dict.update((key, fir_kernel(1.0 if key.startswith("ecd") else 4.0)) for key in kernels if key not in state_dict)
    try:
        validate(state_dict, config)
    except WeightsError as error:
        raise UnsafeCheckpoint(str(error).rstrip(".").replace("These weights do", "its weights do")) from error
    return {key: state_dict[key] for key in shapes}, config


def _mismatch(expected: int, found: int) -> str:
    return f"the order of its weights is unknown ({found} tensors, expected {expected})"


class _Names:
    """Finds the graph's tensors by the names of the state dict."""

    def __init__(self, graph: OnnxGraph) -> None:
        self.tensors = graph.tensors
        self._alias: dict[str, str] = {}
        for node in graph.nodes:
            if node.operator == "Identity" and node.inputs and node.outputs:
                self._alias[node.outputs[0]] = node.inputs[0]
        self.prefix = next(
            (name.removesuffix(LEARNED_CONSTANT) for name in graph.tensors if name.endswith(LEARNED_CONSTANT)), ""
        )

    def resolve(self, name: str) -> str:
        """Return the name under which the tensor is stored. Exporters store equal tensors once."""
        for _ in range(len(self._alias) + 1):
            if name not in self._alias:
                break
            name = self._alias[name]
        return name

    def tensor(self, name: str) -> OnnxTensor | None:
        """Return the file's floating-point tensor that operators read under this name, or None."""
        tensor = self.tensors.get(self.resolve(name))
        return tensor if tensor is not None and tensor.is_float else None

    def get(self, key: str, shape: Shape) -> OnnxTensor | None:
        """Return the tensor of the state dict that kept its name and shape, or None."""
        tensor = self.tensor(self.prefix + key)
        return tensor if tensor is not None and tensor.shape == shape else None

    def is_key(self, name: str, shapes: Mapping[str, Shape]) -> bool:
        key = name.removeprefix(self.prefix)
        return key in shapes and self.get(key, shapes[key]) is not None

    def find_base(self) -> OnnxTensor:
        """Return the learned constant [1, C, 4, 4]."""
        return self._only(
            "a constant of 4 x 4", (t for t in self.tensors.values() if t.shape[2:] == (4, 4) and t.shape[1] > 1)
        )

    def find_stem(self) -> OnnxTensor:
        """Return the kernel of the first convolution [C, 3, 1, 1]."""
        return self._only(
            "a first convolution", (t for t in self.tensors.values() if t.shape[1:] == (3, 1, 1) and t.shape[0] > 1)
        )

    def _only(self, what: str, tensors: Iterable[OnnxTensor]) -> OnnxTensor:
        found = [tensor for tensor in tensors if tensor.is_float and len(tensor.shape) == 4]
        if len(found) != 1:
            raise UnsafeCheckpoint(f"{NOT_GPEN}: expected {what}, found {len(found)}")
        return found[0]


def find_base(graph: OnnxGraph) -> OnnxTensor:
    """Return the learned constant [1, C, 4, 4]. Raises `UnsafeCheckpoint` if there is not exactly one."""
    return _Names(graph).find_base()


def image_size(graph: OnnxGraph) -> int | None:
    """Return the resolution of the input (px), or None if it is free.

    Raises `UnsafeCheckpoint` unless the graph maps one batch of images to another."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise UnsafeCheckpoint(
            f"{NOT_GPEN}: it has {len(graph.inputs)} inputs and {len(graph.outputs)} outputs, expected one of each"
        )
    ((given,), (made,)) = graph.inputs.values(), graph.outputs.values()
    if not (_is_image(given) and _is_image(made)):
        raise UnsafeCheckpoint(f"{NOT_GPEN}: it maps {list(given)} to {list(made)}, expected [B, 3, S, S] for both")
    return None if given[2] < 0 else given[2]


def _is_image(shape: Shape) -> bool:
    return len(shape) == 4 and shape[0] != 0 and shape[1] in (-1, 3) and shape[2] == shape[3]


def _config(graph: OnnxGraph, names: _Names) -> GPENConfig:
    """Derive the config from the widths of the first and last level and the number of levels.

    Each level has three modulated convolutions, and two more come before the first level."""
    convolutions = sum(1 for _ in _uses(graph, names, MODULATED))
    sizes = [
        4 << level for level in range(20) if convolutions == 2 + 3 * level or names.tensor(_last_kernel_name(names, level))
    ]
    size = max(sizes, default=0)
    if size not in RELEASED_SIZES:
        raise UnsafeCheckpoint(f"{NOT_GPEN}: its layers match none of the sizes {', '.join(map(str, RELEASED_SIZES))}")
    narrow = names.find_base().shape[1] / 512
    multiplier = names.find_stem().shape[0] * size / 16384 / narrow
    if multiplier != int(multiplier) or multiplier < 1:
        raise UnsafeCheckpoint(f"{NOT_GPEN}: the widths of its first and its smallest level do not match")
    return GPENConfig(size, narrow, int(multiplier))


def _last_kernel_name(names: _Names, level: int) -> str:
    """Return the name of the last convolution's kernel in a generator whose highest level is this one."""
    return f"{names.prefix}generator.convs.{2 * level - 1}.conv.weight"


def _keys_in_order(config: GPENConfig) -> dict[int, list[str]]:
    """Return the state dict's keys by the kind of operator that reads them, in the order in which the network runs."""
    encoder = [f"ecd{n}.0.{int(n > 0)}.weight" for n in range(config.levels + 1)]
    dense = ["final_linear.0", *(f"generator.style.{n}" for n in range(1, STYLE_LAYERS + 1))]
    styled = ["generator.conv1"]
    blocks = ["generator.conv1", "generator.to_rgb1"]
    for n in range(config.levels):
        pair = [f"generator.convs.{2 * n}", f"generator.convs.{2 * n + 1}"]
        styled += pair
        blocks += [*pair, f"generator.to_rgbs.{n}"]
    modulations = [f"{block}.conv.modulation" for block in blocks]
    return {
        CONVOLUTION: encoder,
        LINEAR: [f"{layer}.weight" for layer in (*dense, *modulations)],
        LINEAR_BIAS: [f"{layer}.bias" for layer in (*dense, *modulations)],
        CHANNEL_BIAS: [f"ecd{n}.0.{1 + int(n > 0)}.bias" for n in range(config.levels + 1)]
        + [f"{block}.{'activate.bias' if block in styled else 'bias'}" for block in blocks],
        MODULATED: [f"{block}.conv.weight" for block in blocks],
        SKIP_GAIN: [f"{block}.noise.weight" for block in styled],
    }


def _uses(graph: OnnxGraph, names: _Names, kind: int) -> Iterator[_Use]:
    """Yield the uses of tensors of that kind, in the order of the operators."""
    concatenated = {name for node in graph.nodes if node.operator == "Concat" for name in node.inputs}
    for node in graph.nodes:
        tensors = [names.tensor(name) for name in node.inputs]
        for place, (name, tensor) in enumerate(zip(node.inputs, tensors)):
            if tensor is not None and _kind(node, place, tensor, concatenated) == kind and None in tensors:
                is_transposed = node.operator == "MatMul" or (node.operator == "Gemm" and not node.integers.get("transB"))
                yield _Use(tensor, names.resolve(name), is_transposed)


def _kind(node: OnnxNode, place: int, tensor: OnnxTensor, concatenated: set[str]) -> int | None:
    """Return the kind of a tensor that the operator reads as its input number `place`; None for scalars and FIR filters."""
    rank, numel = len(tensor.shape), math.prod(tensor.shape)
    match node.operator, place:
        case "Conv", 1 if tensor.shape[1:] != (1, 4, 4):
            return CONVOLUTION
        case "Conv", 2:
            return CHANNEL_BIAS
        case (("MatMul" | "Gemm"), 1):
            return LINEAR
        case "Gemm", 2:
            return LINEAR_BIAS
        case "Add", _ if numel > 1:
            return CHANNEL_BIAS if rank > 2 else LINEAR_BIAS
        case "Mul", _ if rank == 5:
            return MODULATED
        case "Mul", _ if numel == 1 and node.outputs[0] in concatenated:
            return SKIP_GAIN
    return None


def _undo(key: str, shape: Shape, use: _Use) -> torch.Tensor:
    """Return the released tensor for a folded one."""
    stored = use.tensor.shape[::-1] if use.is_transposed and len(use.tensor.shape) == 2 else use.tensor.shape
    if _squeezed(stored) != _squeezed(shape):
        raise UnsafeCheckpoint(
            f"the tensor in the place of {key} has the shape {list(use.tensor.shape)}, expected {list(shape)}"
        )
    values = use.tensor.read()
    if use.is_transposed and values.ndim == 2 and key.endswith("weight"):
        values = values.t()
    factor = float(torch.tensor(_factor(key, shape), **CPU_FLOAT32))  # in float32, as the exporter multiplied
    return (values.double() / factor).float().reshape(shape).contiguous()


def _squeezed(shape: Shape) -> Shape:
    return tuple(side for side in shape if side != 1)


def _factor(key: str, shape: Shape) -> float:
    """Return the factor by which the network multiplies this tensor at run time."""
    rate = STYLE_LR if key.startswith("generator.style.") else 1.0
    if not key.endswith("weight") or key.endswith("noise.weight"):
        return rate
    inputs = math.prod(shape[2:]) if len(shape) == 5 else math.prod(shape[1:])
    return rate / math.sqrt(inputs)
