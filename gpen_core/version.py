"""The package's version; pyproject.toml says the same, where registries look for it."""

__version__ = "0.1.0"
