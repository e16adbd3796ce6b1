"""The restoration pipeline: devices, loaded networks, compositing and `FaceRestorer`.

Modules named `torch_*` run on the accelerator what other modules do with OpenCV.
"""
