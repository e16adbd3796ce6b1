"""Atomic writes, safe reads, lock files, and cleanup after a crash."""
