"""The environment is read while other threads change it."""

import os
import sys
from threading import Event, Thread

import pytest

from plumage.common.redaction import redacted
from plumage.common.variables import environment_variables


def test_a_thread_may_set_and_unset_variables_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", "kept-for-the-test")
    ended = Event()

    def change() -> None:
        while not ended.is_set():
            os.environ["SESSION"] = "1"
            os.environ.pop("SESSION")

    thread, interval = Thread(target=change), sys.getswitchinterval()
    thread.start()
    sys.setswitchinterval(1e-6)  # the threads take turns all the time
    try:
        for _ in range(300):
            assert environment_variables()["API_TOKEN"] == "kept-for-the-test"
        assert redacted("a line") == "a line"
    finally:
        sys.setswitchinterval(interval)
        ended.set()
        thread.join()
