"""A sender that is too slow is given up on, however regularly it sends a byte; a quick one is not, however long it takes."""

import time
from collections.abc import Iterator
from threading import Event

import pytest

from plumage.common.pace import BYTES_PER_SECOND, Pace, TooSlowError, blocks_in_time, finished_in_time


def test_the_rate_counts_per_window() -> None:
    pace = Pace(10)
    for _ in range(6):  # two windows
        pace.note(4, 4 * BYTES_PER_SECOND)
    pace.note(9, 0)
    with pytest.raises(TooSlowError, match="^no data for 10 s$"):
        pace.note(10, 0)
    with pytest.raises(TooSlowError, match="^only 5 bytes for 10 s$"):
        Pace(10).note(10, 5)


def test_blocks_come_in_order_and_their_error_too() -> None:
    def blocks() -> Iterator[bytes]:
        yield from (b"a", b"b", b"c")
        raise ValueError("broken")

    came = []
    with pytest.raises(ValueError, match="broken"):
        for block in blocks_in_time(blocks(), 10):
            came.append(block)
    assert b"".join(came) == b"abc"


def test_a_byte_now_and_then_is_too_slow() -> None:
    def drip() -> Iterator[bytes]:
        while True:
            time.sleep(0.02)
            yield b"x"

    with pytest.raises(TooSlowError, match=r"only \d+ bytes for 0.2 s"):
        list(blocks_in_time(drip(), 0.2))


def test_what_is_stuck_is_left() -> None:
    stuck = Event()

    def silent() -> Iterator[bytes]:
        stuck.wait(30)
        yield b""

    with pytest.raises(TooSlowError, match="no data for 0.1 s"):
        list(blocks_in_time(silent(), 0.1))
    with pytest.raises(TooSlowError, match="no data for 0.1 s"):
        finished_in_time(lambda: stuck.wait(30) and None, lambda: 0, 0.1)
    stuck.set()


def test_work_that_gets_on_is_finished_and_its_error_is_raised() -> None:
    received = 0

    def work() -> None:
        nonlocal received
        for _ in range(10):
            time.sleep(0.02)
            received += 100_000

    finished_in_time(work, lambda: received, 0.1)
    assert received == 1_000_000
    with pytest.raises(ZeroDivisionError):
        finished_in_time(lambda: 1 // 0 and None, lambda: 0, 10)
