"""From a name to tensors: which files exist (catalog), where they lie (folders), how they are read (checkpoint)."""
