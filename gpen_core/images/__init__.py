"""Images from files, arrays and PIL images to float32 RGB [H, W, 3] in [0, 1], and back with all that they carried."""
