"""The whole picture enlarged, for what is no face."""
