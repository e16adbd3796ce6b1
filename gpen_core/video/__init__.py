"""Videos: faces followed through frames, restored and kept steady, in constant memory."""
