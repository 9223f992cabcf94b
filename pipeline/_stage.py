"""What every stage does alike: run on the `src` beside it, alone in its checkout, check all of params.yaml first, say a
mistake in one line.
"""

import errno
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# An experiment runs in a copy of the repository: its stages use the code of that copy, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

try:
    import psutil
    from filelock import FileLock, Timeout

    from plumage.config import Params
    from plumage.errors import PlumageError
    from plumage.params import load_params
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed for {sys.executable}; run `make repro`, or first `. .venv/bin/activate`"
    )

LOCK = Path(".dvc/tmp/plumage.lock")


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` on the checked parameters. A user's mistake, a full disk or Ctrl-C ends in one line, without a traceback."""
    name = Path(sys.argv[0]).stem
    _end_with_parent()
    lock = LOCK.with_name(LOCK.name + os.environ.get("RANK", ""))  # one for each process of a group
    try:
        params = load_params(Path("params.yaml"))
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, blocking=False):
            main(params)
    except Timeout:
        sys.exit(
            f"error: {name}: another pipeline is running in {Path.cwd()}; let it end, or use a checkout of its own"
        )
    except PlumageError as error:
        sys.exit(f"error: {name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; `dvc repro` goes on with this stage")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at {os.fspath(error.filename)}" if error.filename else ""
        sys.exit(f"error: {name}: the disk is full{where}; make room and run `dvc repro` again")


def _end_with_parent() -> None:
    """Let a DVC that is killed take its stage along, which would go on and be in the way of the next one; and a stage its
    group.
    """
    if "DVC_STAGE" not in os.environ and "LOCAL_RANK" not in os.environ:
        return
    try:
        parent = psutil.Process().parent()
        if parent and parent.cmdline()[-2:-1] == [
            "-c"
        ]:  # the shell that DVC runs the command in, if that has not become it
            parent = parent.parent()
    except psutil.NoSuchProcess:
        parent = None  # killed meanwhile
    except psutil.AccessDenied:
        return  # this system does not let its processes see one another

    def follow() -> None:
        with suppress(psutil.NoSuchProcess):
            while parent and parent.is_running() and parent.status() != psutil.STATUS_ZOMBIE:
                time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()
