"""SQLite databases for a run's own data, so that memory does not grow with the number of images."""

from __future__ import annotations

import sqlite3

# Nothing is to be recovered after a crash, so there is no journal. The cache is 16 MiB.
SETTINGS = "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA temp_store = FILE; PRAGMA cache_size = -16384;"


def open_temporary_database(schema: str) -> sqlite3.Connection:
    """Create the tables of `schema` in an unnamed temporary file in $TMPDIR, which disappears with the process.

    Use the connection from one thread at a time, and close it. Raises `sqlite3.Error`."""
    database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
    try:
        database.executescript(SETTINGS + schema)
    except BaseException:
        database.close()
        raise
    return database
