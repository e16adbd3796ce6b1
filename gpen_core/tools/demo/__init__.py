"""Synthetic checkpoints and sample images, so that a demonstration runs without a download."""
