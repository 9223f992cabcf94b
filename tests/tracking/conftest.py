"""The tracking tests' store."""

from stores import empty_database, root

__all__ = ["empty_database", "root"]
