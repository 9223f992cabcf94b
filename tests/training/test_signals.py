"""Signals wait until the training is ready for them."""

import signal

import pytest

from plumage.training.signals import DeferredSignals


def test_the_first_signal_waits_and_the_second_takes_effect_at_once() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with DeferredSignals() as signals:
            signals.raise_pending()
            signal.raise_signal(signal.SIGINT)
            assert signals.requested == signal.SIGINT
            with pytest.raises(KeyboardInterrupt):
                signals.raise_pending()
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
