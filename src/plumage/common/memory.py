"""The memory of this process."""

import ctypes
import platform
from contextlib import suppress


def release_memory() -> None:
    """Return freed memory to the system. By itself the C library keeps what each thread has freed; this takes 0.3 ms."""
    if platform.system() == "Linux":
        with suppress(AttributeError):  # a C library without it
            ctypes.CDLL(None).malloc_trim(0)
