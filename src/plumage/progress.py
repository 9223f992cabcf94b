"""Progress of long work: a bar on a terminal, a plain line every few seconds elsewhere (a log, CI)."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from types import TracebackType
from typing import TypeVar

from rich import progress as bars
from rich.console import Console
from rich.filesize import decimal

T = TypeVar("T")
console = Console(file=sys.stderr, highlight=False)
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows on stderr how much of `total` (None: unknown) is done, photos or, with `in_bytes`, bytes."""

    def __init__(self, description: str, total: int | None, in_bytes: bool = False, done: int = 0) -> None:
        self.description, self.total, self.done, self._in_bytes = description, total, done, in_bytes
        self._last = time.monotonic()
        counts = (bars.DownloadColumn(), bars.TransferSpeedColumn()) if in_bytes else (bars.MofNCompleteColumn(),)
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), *counts)
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn())
        self._bar = bars.Progress(*columns, *times, console=console, transient=True) if console.is_terminal else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.done)
        return self

    def advance(self, amount: int = 1) -> None:
        """Say that `amount` more is done."""
        self.done += amount
        if self._bar:
            self._bar.advance(self._task, amount)
        elif time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            done, *total = [
                decimal(n) if self._in_bytes else f"{n:,}" for n in (self.done, self.total) if n is not None
            ]
            console.print(f"{self.description}: {done}" + "".join(f" of {n}" for n in total))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()


def track(items: Iterable[T], description: str, total: int | None = None) -> Iterator[T]:
    """Yield `items`, showing how many of `total` (default: their length) are done."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(description, total) as progress:
        for item in items:
            yield item
            progress.advance()
