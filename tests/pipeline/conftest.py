import pytest
import torch


@pytest.fixture(autouse=True)
def without_tf32(monkeypatch):
    """Convolutions without TF32, which has its own tolerance."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
