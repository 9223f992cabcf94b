"""What every stage does alike: run on the `src` beside it, check all of params.yaml first, say a mistake in one line."""

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

# An experiment runs in a copy of the repository: its stages use the code of that copy, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

try:
    from plumage.config import Params, load_params
    from plumage.errors import PlumageError
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed for {sys.executable}; run `make repro`, or first `. .venv/bin/activate`"
    )


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` on the checked parameters. A user's mistake, a full disk or Ctrl-C ends in one line, without a traceback."""
    name = Path(sys.argv[0]).stem
    try:
        main(load_params(Path("params.yaml")))
    except PlumageError as error:
        sys.exit(f"error: {name}: {error}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; `dvc repro` starts this stage again")
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" at {os.fspath(error.filename)}" if error.filename else ""
        sys.exit(f"error: {name}: the disk is full{where}; make room and run `dvc repro` again")
