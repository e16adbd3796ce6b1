"""Detectors with untrained weights, for timing only."""

from __future__ import annotations

import torch


def blind_resnet50() -> dict[str, torch.Tensor]:
    """RetinaFace with seeded weights, sure that nothing is a face."""
    from gpen_core.faces.detection.retinaface_network import RetinaFace

    torch.manual_seed(7)
    weights: dict[str, torch.Tensor] = RetinaFace("resnet50").state_dict()
    for name, values in weights.items():
        if name.startswith("ClassHead"):
            no_face = torch.tensor([9.0, -9.0]).repeat(len(values) // 2)  # and face; of each prior
            weights[name] = no_face if name.endswith("bias") else torch.zeros_like(values)
    return weights
