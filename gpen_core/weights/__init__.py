"""Finds, downloads, verifies and reads weights files."""
