"""Stages that are killed at any moment, or whose writes fail, give the same bytes when they run again."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import needs_kernels

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@needs_kernels  # a C compiler, for the library that makes calls fail
@pytest.mark.slow
def test_killed_stages_and_failed_writes_recover() -> None:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
    command = [sys.executable, str(BENCHMARKS / "faults.py"), "--kills", "10", "--sample", "5"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert ended.stdout.endswith("15 of 15 recovered\n"), ended.stdout + ended.stderr
