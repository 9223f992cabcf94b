"""Common to all stages: use the `src` of this checkout, lock it, check params.yaml, report errors on one line."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

# A DVC experiment runs in a copy of the repository and must use that copy's code, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

try:
    from filelock import FileLock, Timeout

    from plumage.common.environment import discard_output, settle_environment
    from plumage.common.files import what_failed
    from plumage.common.parent_process import exit_with_parent
    from plumage.common.paths import PARAMS
    from plumage.common.project import scratch_folder
    from plumage.common.text import shown, shown_error
    from plumage.config import Params
    from plumage.errors import PlumageError
    from plumage.params import load_params
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed for {sys.executable}; run `make repro`, or first `. .venv/bin/activate`"
    )

try:
    settle_environment()  # before the stage imports MLflow and torch
except PlumageError as error:
    sys.exit(f"error: {shown_error(error)}")

LOCK = "plumage.lock"


def run_stage(main: Callable[[Params], None]) -> None:
    """Run `main` on the checked parameters. A mistake, a failing disk and Ctrl-C end with one line, without a traceback."""
    name = Path(sys.argv[0]).stem
    if "DVC_STAGE" in os.environ or "LOCAL_RANK" in os.environ:
        exit_with_parent()
    lock = scratch_folder(Path.cwd()) / (LOCK + os.environ.get("RANK", ""))  # one per process of a distributed training
    try:
        params = load_params(PARAMS)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, blocking=False):
            main(params)
    except Timeout:
        sys.exit(f"error: {name}: another pipeline is running in {Path.cwd()}; wait for it, or use another checkout")
    except PlumageError as error:
        sys.exit(f"error: {name}: {shown_error(error)}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; `dvc repro` resumes with this stage")
    except BrokenPipeError:
        discard_output()
        sys.exit(f"error: {name}: its output was closed; run it without `| head`, or into a file")
    except OSError as error:
        sys.exit(f"error: {name}: {shown(what_failed(error))}")
