"""Restores videos: tracks faces through frames and keeps them steady, in constant memory."""
