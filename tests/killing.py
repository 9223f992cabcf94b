"""Kill what a killed command left running."""

from contextlib import suppress
from pathlib import Path

import psutil


def kill_all_of(folder: Path) -> None:
    """Kill every process that works in a folder or names it in its command, and wait until all have ended."""
    left = [process for process in psutil.process_iter(["cmdline", "cwd"]) if _is_of(process, folder)]
    for process in left:
        with suppress(psutil.NoSuchProcess):  # it has just ended, as children of a killed process do
            process.kill()
    psutil.wait_procs(left, timeout=30)


def _is_of(process: psutil.Process, folder: Path) -> bool:
    texts = (process.info["cwd"] or "", *(process.info["cmdline"] or ()))
    return any(str(folder) in text for text in texts)
