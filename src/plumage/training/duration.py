"""How long the last training took on this machine: kept beside the checkpoints, for estimates. Outputs have no times in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

from plumage.common.files import read_json, remove_temporary, write_json
from plumage.common.paths import CHECKPOINTS

FILE = "duration.json"


@contextmanager
def timed(root: Path, key: str, resumed: bool) -> Iterator[None]:
    """Record the seconds that the training `key` takes, unless it was `resumed` or the block raises."""
    started, file = monotonic(), root / CHECKPOINTS / FILE
    yield
    if resumed:
        remove_temporary(file)  # one that was killed here has nothing to record any more
    else:
        write_json(file, {"training_key": key, "seconds": round(monotonic() - started, 3)})


def recorded_seconds(root: Path, key: str) -> float | None:
    """The seconds that the training `key` took; None if another one was the last, or none was timed."""
    try:
        last = read_json(root / CHECKPOINTS / FILE)
        return float(last["seconds"]) if last["training_key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
