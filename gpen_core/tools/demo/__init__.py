"""Hand-made checkpoints and images of the package's own: everything runs without a download."""
