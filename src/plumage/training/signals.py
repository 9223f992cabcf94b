"""Deferring Ctrl-C and SIGTERM to a moment at which nothing is half done."""

import signal
import threading
from types import FrameType
from typing import Any


class DeferredSignals:
    """While open, the first SIGINT or SIGTERM only sets `requested`; `raise_pending` then does what it would have done.

    A second signal takes effect at once. Ignored signals stay ignored. Only the main thread receives signals.
    """

    def __init__(self) -> None:
        self.requested: int | None = None  # number of the pending signal
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "DeferredSignals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._previous[number] = signal.signal(number, self._on_signal)
        return self

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.requested is not None:
            self._deliver(number, frame)
        self.requested = number

    def request(self) -> None:
        """Act as if this process had received Ctrl-C: another process of the group did."""
        self.requested = self.requested or signal.SIGINT

    def raise_pending(self) -> None:
        """Deliver the pending signal, if there is one: raise KeyboardInterrupt, or end the process."""
        if self.requested is not None:
            self._deliver(self.requested, None)

    def _deliver(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous.get(number, signal.default_int_handler)
        if callable(previous):
            previous(number, frame)
        else:  # SIG_DFL: ends the process
            signal.signal(number, previous)
            signal.raise_signal(number)

    def __exit__(self, *_: object) -> None:
        for number, previous in self._previous.items():
            signal.signal(number, previous)
