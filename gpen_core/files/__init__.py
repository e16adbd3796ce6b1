"""Files on disk: written whole or not at all, opened safely, locked, and cleaned up after a crash."""
