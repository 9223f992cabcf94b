"""Ctrl-C and SIGTERM that wait for a moment at which nothing is half-done."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """While it is open, the first SIGINT or SIGTERM only sets `asked`; `obey` then does what it would have done.

    A second one takes effect at once. Signals that are ignored stay ignored. Only the main thread gets any.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.asked is not None:
            self._take_effect(number, frame)
        self.asked = number

    def ask(self) -> None:
        """Ask as a Ctrl-C would, on behalf of another process that got one."""
        self.asked = self.asked or signal.SIGINT

    def obey(self) -> None:
        """Do what the signal would have done: raise, or end the process."""
        if self.asked is not None:
            self._take_effect(self.asked, None)

    def _take_effect(self, number: int, frame: FrameType | None) -> None:
        before = self._before.get(number, signal.default_int_handler)
        if callable(before):
            before(number, frame)
        else:  # the system's own: to end
            signal.signal(number, before)
            signal.raise_signal(number)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
