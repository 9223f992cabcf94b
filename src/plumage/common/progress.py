"""Progress of long work: a bar on a terminal, else (a log, CI) a line every few seconds."""

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from datetime import timedelta
from typing import TypeVar

from rich import progress as bars
from rich.console import Console
from rich.filesize import decimal

T = TypeVar("T")
console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
SECONDS_BETWEEN_LINES = 10.0


class Progress:
    """Shows on stderr how much of `total` (None: unknown) is done. The unit is items or, with `in_bytes`, bytes."""

    def __init__(
        self, description: str, total: int | None, in_bytes: bool = False, done: int = 0, shown: bool = True
    ) -> None:
        self.description, self.total, self.done, self._in_bytes, self._shown = description, total, done, in_bytes, shown
        self.note = ""
        """Extra text, shown from the next step on."""
        self._last = self._started = time.monotonic()
        self._done_before = done
        counts = (bars.DownloadColumn(), bars.TransferSpeedColumn()) if in_bytes else (bars.MofNCompleteColumn(),)
        columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), *counts)
        times = (bars.TimeElapsedColumn(), bars.TimeRemainingColumn(), bars.TextColumn("{task.fields[note]}"))
        on_terminal = console.is_terminal and shown
        self._bar = bars.Progress(*columns, *times, console=console, transient=True) if on_terminal else None

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
            self._task = self._bar.add_task(self.description, total=self.total, completed=self.done, note="")
        return self

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more as done."""
        self.done += amount
        if self._bar:
            self._bar.update(self._task, advance=amount, note=self.note)
        elif self._shown and time.monotonic() - self._last >= SECONDS_BETWEEN_LINES:
            self._last = time.monotonic()
            counts = [n for n in (self.done, self.total) if n is not None]
            done, *total = [decimal(n) if self._in_bytes else f"{n:,}" for n in counts]
            note = f", {self.note}" if self.note else ""
            console.print(f"{self.description}: {done}" + "".join(f" of {n}" for n in total) + note + self._left())

    def _left(self) -> str:
        """The remaining time at the average speed."""
        new = self.done - self._done_before
        if self.total is None or not new:
            return ""
        seconds = (time.monotonic() - self._started) / new * (self.total - self.done)
        return f", {timedelta(seconds=round(seconds))} left"

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()


def track(items: Iterable[T], description: str, total: int | None = None, shown: bool = True) -> Iterator[T]:
    """Yield `items` and show how many of `total` (default: their length) are done."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with Progress(description, total, shown=shown) as progress:
        for item in items:
            yield item
            progress.advance()
