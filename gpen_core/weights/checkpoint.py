"""Reading a weights file as tensors and nothing else."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import MissingWeights, WeightsError

# What torch, its unpickler and safetensors raise on damaged files.
BROKEN = (
    pickle.UnpicklingError,
    SafetensorError,
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    struct.error,
    UserWarning,  # see SCRIPT_WARNING
)
SCRIPT_WARNING = "'torch.load' received a zip file that looks like a TorchScript archive"


def load(path: Path) -> object:
    """What the file holds, on the CPU: a `.safetensors` file, else a checkpoint read by torch with `weights_only=True`.

    Raises `MissingWeights` if there is no such file, `WeightsError` if it holds anything but dense tensors or is damaged.
    There is no fallback to a looser reader.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} does not exist.")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        checkpoint = _load_with_torch(path)
    except BROKEN as error:
        raise _refusal(path, _reason(error)) from error
    if checkpoint is None:  # A1111 replaces torch.load by one that returns None on refusal
        raise WeightsError(f"{path} was refused by the host's own check of weights files.")
    if not _is_dense(checkpoint):
        raise _refusal(path, "it holds a tensor without plain values (sparse, quantised or of the meta device).")
    return checkpoint


def _load_with_torch(path: Path) -> object:
    with warnings.catch_warnings():
        for noise in ("TypedStorage is deprecated", "Detected pickle protocol"):
            warnings.filterwarnings("ignore", noise, UserWarning)
        # torch 2.1 passes a TorchScript archive to torch.jit.load, whatever weights_only says; it warns before.
        warnings.filterwarnings("error", SCRIPT_WARNING, UserWarning)
        checkpoint: object = torch.load(path, map_location="cpu", weights_only=True)
    return checkpoint


def _refusal(path: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{path} was refused: {reason} Expected a file of tensors (.pth, .pt or .safetensors); nothing in it was run. "
        "Download it again, or get it from its publisher."
    )


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if text.startswith(SCRIPT_WARNING):
        return "it is a TorchScript archive, which holds code."
    if isinstance(error, pickle.UnpicklingError) or "weights_only" in text:
        # torch goes on to advise loading it without the check: that advice must not reach anyone.
        found = re.search(r"WeightsUnpickler error: (.+?)(?:\. |\s*$)", text, re.MULTILINE)
        return f"it is no checkpoint of tensors{f' ({found[1]})' if found else ''}."
    return f"{type(error).__name__}{f', {text.splitlines()[0]}' if text else ''}."


def _is_dense(checkpoint: object) -> bool:
    """Whether every tensor in it, at any depth, has its values in memory one by one."""
    seen: set[int] = set()
    todo = [checkpoint]
    while todo:
        one = todo.pop()
        if isinstance(one, torch.Tensor) and (one.layout != torch.strided or one.is_meta or one.is_quantized):
            return False
        if isinstance(one, Mapping) and id(one) not in seen:
            seen.add(id(one))
            todo.extend(one.values())
    return True
