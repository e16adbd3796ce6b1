"""Reading a weights file as tensors and nothing else."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import MissingWeights, WeightsError


def load(path: Path) -> object:
    """What the file holds, on the CPU: a `.safetensors` file, else a checkpoint read by torch with `weights_only=True`.

    Raises `MissingWeights` if there is no such file, `WeightsError` if it holds anything but tensors or is damaged.
    There is no fallback to a looser reader.
    """
    if not path.is_file():
        raise MissingWeights(f"{path} does not exist.")
    try:
        if path.suffix.lower() == ".safetensors":
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{path} was refused: {reason} Expected a file of tensors (.pth, .pt or .safetensors); nothing in it was run."
        ) from error
    if checkpoint is None:  # A1111 replaces torch.load by one that returns None on refusal
        raise WeightsError(f"{path} was refused by the host's own check of weights files.")
    return checkpoint
