"""Restoring many images: planning the files of a run, and the run itself."""
