"""Common to all stages: use the `src` of this checkout, lock it, check params.yaml, report errors on one line.

Imported first: code that is changed after this is noticed.
"""

import gc
import os
import sys
from collections.abc import Callable
from pathlib import Path

gc.disable()  # until `run_stage`: a stage's imports leave no garbage
# A DVC experiment runs in a copy of the repository and must use that copy's code, whatever is installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

try:
    from filelock import FileLock, Timeout

    from plumage.common.environment import discard_output, settle_environment
    from plumage.common.files import what_failed
    from plumage.common.parent_process import exit_with_parent
    from plumage.common.project import scratch_folder
    from plumage.common.text import shown, shown_error
    from plumage.errors import PlumageError
    from plumage.stage_inputs import StageInputs, stage_code
except ModuleNotFoundError as error:
    sys.exit(
        f"error: {error.name} is not installed for {sys.executable}; run `make repro`, or first `. .venv/bin/activate`"
    )

try:
    settle_environment()  # before the stage imports MLflow and torch
    CODE = stage_code(Path(sys.argv[0]).stem)
except PlumageError as error:
    sys.exit(f"error: {shown_error(error)}")

LOCK = "plumage.lock"
LOCK_SECONDS = 2.0
"""A child of a stage that was killed as it started this child holds the lock until the child's own program begins."""


def run_stage(main: Callable[[StageInputs], None], after_mistake: Callable[[], str] = str) -> None:
    """Run `main`. A mistake, a failing disk and Ctrl-C end with one line, without a traceback.

    `main` calls `check` of its inputs before it writes its outputs, and last of all. `after_mistake` returns words to add.
    """
    gc.freeze()  # what is imported is here to stay
    gc.enable()
    name = Path(sys.argv[0]).stem
    if "DVC_STAGE" in os.environ or "LOCAL_RANK" in os.environ:
        exit_with_parent()
    lock = scratch_folder(Path.cwd()) / (LOCK + os.environ.get("RANK", ""))  # one per process of a distributed training
    try:
        inputs = StageInputs(name, CODE)
        lock.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(lock, timeout=LOCK_SECONDS):
            if "DVC_STAGE" in os.environ:
                inputs.check_earlier()
            main(inputs)
    except Timeout:
        sys.exit(f"error: {name}: another pipeline is running in {Path.cwd()}; wait for it, or use another checkout")
    except PlumageError as error:
        sys.exit(f"error: {name}: {shown_error(error)}{after_mistake()}")
    except KeyboardInterrupt:
        sys.exit(f"{name}: interrupted; `dvc repro` resumes with this stage")
    except BrokenPipeError:
        discard_output()
        sys.exit(f"error: {name}: its output was closed; run it without `| head`, or into a file")
    except OSError as error:
        sys.exit(f"error: {name}: {shown(what_failed(error))}")
