"""Tie this process's life to its parent's."""

import os
import threading
import time
from contextlib import suppress

import psutil


def exit_with_parent() -> None:
    """Exit this process when its parent dies: DVC, for a stage; the stage, for a process of a distributed training.

    Otherwise a stage whose DVC is killed would go on and block the next one.
    """
    try:
        parent = psutil.Process().parent()
        # DVC runs the command in a shell: bash replaces itself by the command, other shells remain as its parent.
        if parent and parent.cmdline()[-2:-1] == ["-c"]:
            parent = parent.parent()
    except psutil.NoSuchProcess:
        parent = None  # it has died already
    except psutil.AccessDenied:
        return  # this system hides processes from each other

    def exit_after_parent() -> None:
        with suppress(psutil.NoSuchProcess):
            while parent and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=exit_after_parent, daemon=True).start()
