"""Many images from files to files: which files, and the run itself."""
