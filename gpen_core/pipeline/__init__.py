"""From an image to its restored faces: devices, loaded networks, compositing, and `FaceRestorer`.

Modules named `torch_*` do on the accelerator what the others do with OpenCV.
"""
