"""Hand-made checkpoints and pictures of the package's own: everything runs without a download."""
