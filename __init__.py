"""ComfyUI's door: the repository's folder is the node pack."""

if __package__:  # pytest imports this file outside of any package
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"  # help pages
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
