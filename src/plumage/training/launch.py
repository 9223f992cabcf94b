"""Start the processes of a distributed training on this machine, as torchrun does."""

import os
import signal
import sys
import uuid
from collections.abc import Sequence

import torch
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from plumage.common.cores import cores
from plumage.config import ResolvedTrain
from plumage.errors import TrainingError
from plumage.training.distributed import LAUNCHED


def num_processes(train: ResolvedTrain) -> int:
    """How many processes to `launch`; 1: train in this one, as also if torchrun started it."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        return 1
    if train.processes != "auto":
        return train.processes
    return max(1, torch.cuda.device_count()) if train.device in ("auto", "cuda") else 1


def launch(count: int, command: Sequence[str]) -> None:
    """Run the Python script `command` in `count` processes and wait. If one ends early, all end.

    TrainingError if a process failed, with its message or how it ended; KeyboardInterrupt on Ctrl-C or SIGTERM, after a
    checkpoint was saved.
    """
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // count)))
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=count, run_id=uuid.uuid4().hex, rdzv_backend="c10d",
        rdzv_endpoint="localhost:0", local_addr="localhost", max_restarts=0, monitor_interval=0.1,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        for rank, failure in error.failures.items():
            if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
                raise TrainingError(
                    f"process {rank} of {count} was ended by {failure.signal_name()}, and the others with it; "
                    "the same command resumes from the last checkpoint"
                ) from None
        rank, failure = error.get_first_failure()
        if isinstance(failure.message, dict):  # from its error file
            raise TrainingError(failure.message["message"]) from None
        raise TrainingError(f"process {rank} of {count} failed; its output is above") from None
    except SignalException:
        raise KeyboardInterrupt from None
