"""Plumage: EfficientNet image classifiers as a DVC pipeline with MLflow tracking."""

import os
from contextlib import suppress
from pathlib import Path

__version__ = "0.1.0"

# OpenMP's threads spin while they wait for each other. Where other processes keep one from running, the rest would spend a core's time on
# that. torch's OpenMP (GNU) reads this when it is loaded, so it is set before any import of torch. With 10,000 rounds, an idle machine is
# as fast as with more (seen on a Xeon without AMX; one with AMX is 5 to 7% slower), or with 3,000 on AMD's (an EPYC without AVX-512). A
# busy one is faster with fewer.
_SPINS = "10000"
with suppress(OSError), Path("/proc/cpuinfo").open("rb") as _processor:
    if b"AuthenticAMD" in _processor.read(100):
        _SPINS = "3000"
os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
