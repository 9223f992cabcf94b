"""Seeds, and the settings that make torch reproducible."""

import os

import numpy as np
import torch


def seed_everything(seed: int, deterministic: bool = True) -> None:
    """Seed torch, and restrict it to reproducible algorithms unless told not to.

    Call it before creating a model and before training it.
    """
    torch.manual_seed(seed)
    # Not `use_deterministic_algorithms`, which imports torch's compiler for two seconds.
    torch.set_deterministic_debug_mode("warn" if deterministic else "default")
    # Otherwise torch fills all new memory to reveal reads before writes, which takes a seventh of a step's time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = not deterministic
    torch.backends.cudnn.allow_tf32 = False  # as evaluation has it
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # without it, CUDA's matrix products vary between runs


def derive_seed(*numbers: int) -> int:
    """One seed from several numbers, such as epoch and step: draws then depend on nothing that came before."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
