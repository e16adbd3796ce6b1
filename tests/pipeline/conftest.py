import pytest
import torch


@pytest.fixture(autouse=True)
def exact_products(monkeypatch):
    """Convolutions without TF32, which has its own tolerance."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
