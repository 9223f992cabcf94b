"""Checkpoints: what a training that was interrupted goes on from.

A training has a folder named by a hash of all that decides its outcome, so a checkpoint of other parameters, photos or code
is never used. The folders lie in `.checkpoints/` of the repository, also for experiments in its copies; they are no outputs
of DVC, which would remove them before the stage runs.
"""

import hashlib
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from filelock import FileLock, Timeout

import plumage
from plumage.common.files import atomic_path, remove
from plumage.errors import TrainingError

FOLDER = ".checkpoints"
LOCK = "lock"
KEPT = 3
"""Of trainings that were interrupted and not gone on with, so many keep their checkpoints."""
State = dict[str, Any]
"""Tensors, numbers, strings, and lists and dicts of them."""


class Checkpoints:
    """The checkpoints of one training: a state for each of its phases, the newest, and tensors that took long to make.

    What can't be written (a full disk) is told once and left out: training goes on without.
    """

    def __init__(self, folder: Path, minutes: float = float("inf")) -> None:
        self._folder, self._seconds = folder, 60 * minutes
        self._saved = time.monotonic()
        self._told = False

    @property
    def run_id(self) -> str | None:
        """The MLflow run of this training, where it was interrupted."""
        path = self._folder / "run"
        return path.read_text(encoding="utf-8") if path.is_file() else None

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self._write("run", lambda path: path.write_text(run_id, encoding="utf-8"))

    @property
    def due(self) -> bool:
        """Whether the last state is `minutes` old."""
        return time.monotonic() - self._saved >= self._seconds

    def save(self, phase: str, state: State) -> bool:
        """Replace the state of `phase`; whether that could be written."""
        self._saved = time.monotonic()
        return self._write(f"{phase}.pt", lambda path: torch.save(state, path))

    def has(self, phase: str) -> bool:
        """Whether `phase` has a state that can be read."""
        return self.load(phase, torch.device("cpu")) is not None

    def load(self, phase: str, device: torch.device) -> State | None:
        """The state of `phase`, if there is one."""
        path = self._folder / f"{phase}.pt"
        if not path.is_file():
            return None
        try:
            state: State = torch.load(path, map_location=device, weights_only=True)
        except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
            print(f"{path} can't be read ({_first_line(error)}) and is not used", flush=True)
            return None
        return state

    def _write(self, name: str, write: Callable[[Path], object]) -> bool:
        try:
            with atomic_path(self._folder / name) as beside:
                write(beside)
        except (OSError, RuntimeError) as error:  # RuntimeError: what torch makes of a disk that is full
            if not self._told:
                print(f"{self._folder / name} can't be written ({_first_line(error)}); training goes on", flush=True)
            self._told = True
            return False
        return True


@contextmanager
def checkpoints(root: Path, key: str, minutes: float) -> Iterator[Checkpoints]:
    """The checkpoints of the training `key` in the repository `root`; they go when the block ends without an exception.

    TrainingError when another process is at the same training.
    """
    folder = root / FOLDER / key
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / LOCK, blocking=False):
            _prune(folder)
            yield Checkpoints(folder, minutes)
            remove(folder)
    except Timeout:
        raise TrainingError(
            "another process is training on the same parameters, data and code; wait for it, or change one"
        ) from None


def training_key(*parts: Any) -> str:
    """A hash of what decides a training's outcome: `parts` (of a path, the file), Plumage's code and torch's version."""
    digest = hashlib.sha256(torch.__version__.encode())
    code = [path for path in Path(plumage.__file__).parent.rglob("*") if path.suffix in (".py", ".c", ".h")]
    for part in (*parts, *sorted(code)):
        if isinstance(part, Path) and part.is_file():
            part = part.read_bytes()
        data = part if isinstance(part, bytes) else repr(part).encode()
        digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _prune(mine: Path) -> None:
    """Remove the checkpoints of all but the newest of other trainings that nobody is at."""
    others = [folder for folder in mine.parent.iterdir() if folder != mine]
    for old in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)[KEPT:]:
        with suppress(Timeout), FileLock(old / LOCK, blocking=False):
            remove(old)
