"""The `plumage` command: one file per group of commands, assembled in main.py."""
