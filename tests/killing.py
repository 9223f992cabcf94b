"""Kill what a killed command left running."""

import time
from contextlib import suppress
from pathlib import Path

import psutil

SECONDS = 30


def kill_all_of(folder: Path) -> None:
    """Kill every process that works in a folder or names it in its command, and wait until all have ended.

    One that its parent has yet to wait for has ended, too: init may take a second for that.
    """
    left = [process for process in psutil.process_iter(["cmdline", "cwd"]) if _is_of(process, folder)]
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it has just ended, as children of a killed process do
            process.kill()
    deadline = time.monotonic() + SECONDS
    while not all(map(_has_ended, left)) and time.monotonic() < deadline:
        time.sleep(0.005)


def _is_of(process: psutil.Process, folder: Path) -> bool:
    texts = (process.info["cwd"] or "", *(process.info["cmdline"] or ()))
    return any(str(folder) in text for text in texts)


def _has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
