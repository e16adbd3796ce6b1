"""RetinaFace: every face of an image once, small or large, upright or rotated."""
