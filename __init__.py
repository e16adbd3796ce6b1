"""ComfyUI's door: the repository's folder is the node pack."""

if __package__:  # pytest imports this file outside of any package
    from .nodes import NODE_CLASS_MAPPINGS

    __all__ = ["NODE_CLASS_MAPPINGS"]
