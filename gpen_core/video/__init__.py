"""Films: read frame by frame, written with everything else that they carried."""
