"""The `plumage` command: one file per group of commands."""
