"""Finding, aligning and pasting back faces. State dicts are passed in already loaded; nothing here reads files."""
