"""GPEN in Automatic1111, Forge and their forks: adapters for gpen_core."""
