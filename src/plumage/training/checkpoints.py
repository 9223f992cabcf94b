"""Checkpoints, from which an interrupted training resumes.

Each training has a folder named after a hash of everything that decides its outcome, so a checkpoint of other
parameters, photos or code is never used. The folders are in the repository's `.checkpoints/`, also for experiments that
run in copies of it. They are not DVC outputs, which DVC would remove before the stage runs.

A checkpoint is a file of torch.save that ends with the SHA-256 of its training's hash, its name and its bytes. Each save
keeps the one before, which is loaded if the newest is damaged.
"""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
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
    """Two files per name: the newest state and the one before. If it can't be written, as on a full disk, one warning is printed."""

    def __init__(self, folder: Path, minutes: float = float("inf")) -> None:
        self._folder, self._seconds, self._warned = folder, 60 * minutes, False
        self._last_save = time.monotonic()

    @property
    def run_id(self) -> str | None:
        """The MLflow run of this training, if it was started before."""
        state = self.load("run", torch.device("cpu"))
        return str(state["run_id"]) if state else None

    @run_id.setter
    def run_id(self, run_id: str) -> None:
        self.save("run", {"run_id": run_id})

    @contextmanager
    def nested(self, name: str) -> Iterator["Checkpoints"]:
        """Checkpoints of a part of this training, deleted unless the block raises."""
        folder = self._folder / f"{self._folder.name}-{name}"
        folder.mkdir(exist_ok=True)
        yield Checkpoints(folder, self._seconds / 60)
        remove(folder)

    @property
    def due(self) -> bool:
        """Whether the last save was `minutes` ago or more."""
        return time.monotonic() - self._last_save >= self._seconds

    def save(self, name: str, state: State) -> bool:
        """Make `state` the newest called `name`. Returns whether it is on disk."""
        self._last_save = time.monotonic()
        newest, before = self._files(name)
        try:
            try:
                self._write(name, state)
            except (OSError, RuntimeError):
                if not (newest.is_file() and before.is_file()):
                    raise
                before.unlink()  # makes room on a full disk
                self._write(name, state)
        except (OSError, RuntimeError) as error:  # torch raises RuntimeError on a full disk
            if not self._warned:
                print(f"{newest} can't be written ({_first_line(error)}); training continues without it", flush=True)
            self._warned = True
            return False
        return True

    def load(self, name: str, device: torch.device) -> State | None:
        """The newest state called `name` whose file is whole, None if there is none. Damaged files are set aside, with a line."""
        for path in filter(Path.is_file, self._files(name)):
            try:
                if self._is_whole(path, name):
                    return cast(State, torch.load(path, map_location=device, weights_only=True))
                problem = "its SHA-256 is wrong"
            except OSError as error:
                problem = _first_line(error)
            aside = path.with_name(f"{path.name}.damaged")
            with suppress(OSError):
                path.replace(aside)
            print(f"{path} is damaged ({problem}): it is set aside as {aside.name}", flush=True)
        return None

    def _files(self, name: str) -> tuple[Path, Path]:
        """The newest file and the one before."""
        return self._folder / f"{name}.pt", self._folder / f"{name}.before.pt"

    def _write(self, name: str, state: State) -> None:
        """Write the newest file, after the current one has become the one before. Killed on the way, one of them is whole."""
        newest, before = self._files(name)
        with atomic_path(newest) as temporary:
            torch.save(state, temporary)
            digest = self._digest(temporary, name, temporary.stat().st_size)
            with temporary.open("ab") as file:
                file.write(digest)
            if newest.is_file():
                newest.replace(before)

    def _is_whole(self, path: Path, name: str) -> bool:
        length = path.stat().st_size - hashlib.sha256().digest_size
        with path.open("rb") as file:
            file.seek(max(0, length))
            return length > 0 and file.read() == self._digest(path, name, length)

    def _digest(self, path: Path, name: str, length: int) -> bytes:
        """What a file ends with whose state is in its first `length` bytes. It tells files that were swapped, too."""
        digest = hashlib.sha256(f"{self._folder.name}/{name}\n".encode())
        with path.open("rb") as file:
            while length > 0 and (piece := file.read(min(length, 2**20))):
                digest.update(piece)
                length -= len(piece)
        return digest.digest()


@contextmanager
def open_checkpoints(root: Path, key: str, minutes: float) -> Iterator[Checkpoints]:
    """The checkpoints of training `key`, deleted unless the block raises.

    Raises:
        TrainingError: another process runs this training, or its folder can't be made or written.
    """
    folder = _make(root / CHECKPOINTS / key)
    try:
        with FileLock(folder / LOCK, blocking=False):
            _prune(folder)
            yield Checkpoints(folder, minutes)
            remove(folder)
    except Timeout:
        raise TrainingError(
            "another process is training with the same parameters, data and code; wait for it, or change one of them"
        ) from None


def _make(folder: Path) -> Path:
    """Make a training's folder. One in place of which there is a file or a dangling link is not replaced: it is the user's."""
    with suppress(FileExistsError, NotADirectoryError, PermissionError, FileNotFoundError):
        folder.mkdir(parents=True, exist_ok=True)
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return folder
    place = folder if folder.parent.is_dir() else folder.parent
    raise TrainingError(
        f"{place}: must be a folder that you can write to, for checkpoints; rename or remove what is there"
    )


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
    others = [folder for folder in current.parent.iterdir() if folder != current and folder.is_dir()]
    for old in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True)[MAX_ABANDONED:]:
        with suppress(OSError), FileLock(old / LOCK, blocking=False):  # one that stays costs disk space alone
            remove(old)
