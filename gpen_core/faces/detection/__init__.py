"""Face detection with RetinaFace: each face once, small or large, upright or rotated."""
