"""GPEN in A1111, Forge and their forks: thin adapters over gpen_core."""
