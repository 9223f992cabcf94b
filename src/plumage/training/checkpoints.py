"""Checkpoints, from which an interrupted training resumes.

Each training has a folder named after a hash of everything that decides its outcome, so a checkpoint of other
parameters, photos or code is never used. The folders are in the repository's `.checkpoints/`, also for experiments that
run in copies of it. They are not DVC outputs, which DVC would remove before the stage runs.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from filelock import FileLock, Timeout

import plumage
from plumage.common.files import atomic_path, remove
from plumage.common.paths import CHECKPOINTS
from plumage.errors import TrainingError

LOCK = "lock"
MAX_ABANDONED = 3
"""Interrupted trainings, besides the current one, whose checkpoints are kept."""
State = dict[str, Any]
"""Nested dicts and lists of tensors, numbers and strings."""


class Checkpoints:
    """One file per name, replaced by each save. If it can't be written, as on a full disk, one warning is printed."""

    def __init__(self, folder: Path, minutes: float = float("inf")) -> None:
        self._folder, self._seconds, self._warned = folder, 60 * minutes, False
        self._last_save = time.monotonic()

    @property
    def run_id(self) -> str | None:
        """The MLflow run of this training, if it was started before."""
        path = self._folder / "run"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self._write("run", lambda path: path.write_text(run_id, encoding="utf-8"))

    @property
    def due(self) -> bool:
        """Whether the last save was `minutes` ago or more."""
        return time.monotonic() - self._last_save >= self._seconds

    def save(self, name: str, state: State) -> bool:
        """Replace the state called `name`. Returns whether it is on disk."""
        self._last_save = time.monotonic()
        return self._write(f"{name}.pt", lambda path: torch.save(state, path))

    def load(self, name: str, device: torch.device) -> State | None:
        """The state called `name`; None, with a warning if its file can't be read, where there is none."""
        path = self._folder / f"{name}.pt"
        if not path.is_file():
            return None
        try:
            return cast(State, torch.load(path, map_location=device, weights_only=True))
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            print(f"{path} can't be read ({_first_line(error)}); ignoring it", flush=True)
            return None

    def _write(self, name: str, write: Callable[[Path], object]) -> bool:
        try:
            with atomic_path(self._folder / name) as temporary:
                write(temporary)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
            if not self._warned:
                path = self._folder / name
                print(f"{path} can't be written ({_first_line(error)}); training continues without it", flush=True)
            self._warned = True
            return False
        return True


@contextmanager
def open_checkpoints(root: Path, key: str, minutes: float) -> Iterator[Checkpoints]:
    """The checkpoints of training `key`, deleted unless the block raises. TrainingError if another process runs it."""
    folder = root / CHECKPOINTS / key
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, blocking=False):
            _prune(folder)
            yield Checkpoints(folder, minutes)
            remove(folder)
    except Timeout:
        raise TrainingError(
            "another process is training with the same parameters, data and code; wait for it, or change one of them"
        ) from None


def training_key(*parts: Any) -> str:
    """Hash of what decides a training's outcome: `parts` (a path stands for its file), Plumage's code, torch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    code = [path for path in Path(plumage.__file__).parent.rglob("*") if path.suffix in (".py", ".c", ".h")]
    for part in (*parts, *sorted(code)):
        if isinstance(part, str | Path) and Path(part).is_file():
            part = Path(part).read_bytes()
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _prune(current: Path) -> None:
    """Remove the checkpoints of other trainings, except the newest MAX_ABANDONED and those in use."""
    others = [folder for folder in current.parent.iterdir() if folder != current]
    for old in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)[MAX_ABANDONED:]:
        with suppress(Timeout), FileLock(old / LOCK, blocking=False):
            remove(old)
