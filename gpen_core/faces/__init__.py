"""From an image to its faces and back. Loaded state dicts are passed in; nothing here reads files."""
