from typing import Any

from PIL import Image

def save_image(
    image: Image.Image, path: str, basename: str, seed: Any = None, prompt: Any = None, extension: str = "png", **more: Any
) -> tuple[str, str | None]: ...
