"""Plumage: EfficientNet image classifiers as a DVC pipeline with MLflow tracking."""

import os
from contextlib import suppress
from pathlib import Path

__version__ = "0.1.0"

# OpenMP's threads spin while they wait for each other. Where other processes keep one from running, the rest would spend a core's time on
# that. torch's OpenMP (GNU) reads this when it is loaded, so it is set before any import of torch. On an idle Xeon, training takes no
# longer with 50,000 rounds than with GNU's 300,000, and 8% longer with 10,000; on a busy one, a probe's fit takes 15% less time with them.
# On AMD's processors, 3,000 are as good as more (an EPYC without AVX-512). In training steps, a busy machine has fewer
# (plumage/training/contention.py).
_SPINS = "50000"
with suppress(OSError), Path("/proc/cpuinfo").open("rb") as _processor:
    if b"AuthenticAMD" in _processor.read(100):
        _SPINS = "3000"
os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
