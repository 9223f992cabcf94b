"""Plumage: EfficientNet image classifiers as a DVC pipeline with MLflow tracking."""

import os
from contextlib import suppress
from pathlib import Path

__version__ = "0.1.0"

# OpenMP's threads spin while they wait for each other. Where other processes keep one from running, the rest would spend a core's time on
# that. torch's OpenMP (GNU) reads this when it is loaded, so it is set before any import of torch. With 50,000 rounds, training on an idle
# Xeon takes no longer than with GNU's 300,000 (8% longer with 10,000), and a probe's fit on a busy one 15% less time. On AMD's processors,
# 3,000 are as good as more (an EPYC without AVX-512). While the machine is busy, steps have fewer (plumage/training/contention.py).
_SPINS = "50000"
with suppress(OSError), Path("/proc/cpuinfo").open("rb") as _processor:
    if b"AuthenticAMD" in _processor.read(100):
        _SPINS = "3000"
os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
