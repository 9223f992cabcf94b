"""What a training step needs of memory, and the batch that fits."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import nn

from plumage.config import RECIPES, Precision, ResolvedTrain
from plumage.errors import TrainingError
from plumage.training.distributed import ProcessGroup
from plumage.training.hardware import autocast, micro_batch_size

COPIES = 6
"""Of the parameters: themselves, gradients, AdamW's two moments, the moving average, the best epoch's."""
MARGIN = 1.15
"""What is allocated for a photo over what its backward pass is given: gradients on their way, and fragments."""
CGROUP = Path("/sys/fs/cgroup")


def step_bytes(network: nn.Module, side: int, precision: Precision) -> tuple[int, int]:
    """The bytes that training keeps however large its batch, and those of each photo, of `side` x `side` pixels."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    saved: dict[int, int] = {}
    device = next(network.parameters()).device
    photos = torch.zeros(2, 3, side, side, device=device).to(memory_format=torch.channels_last)
    buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
    training = network.training

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with (
        torch.random.fork_rng(),
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        autocast(device, precision),
    ):
        outputs = network.train()(photos)
    network.train(training)
    for name, buffer in network.named_buffers():
        buffer.copy_(buffers[name])
    del outputs
    fixed = COPIES * sum(parameter.nbytes for parameter in network.parameters())
    return fixed, int(MARGIN * sum(saved.values()) / len(photos))


def free_bytes(device: torch.device) -> int:
    """The memory of `device` that is free to this process."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    limits = [int(psutil.virtual_memory().available)]
    with suppress(OSError, ValueError):  # a container's; "max" is no number
        limits.append(int((CGROUP / "memory.max").read_text()) - _held_by_container())
    if sys.platform == "linux":
        import resource  # which Windows lacks

        allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
        if allowed != resource.RLIM_INFINITY:
            limits.append(allowed - int(psutil.Process().memory_info().vms))
    return max(0, min(limits))


def _held_by_container() -> int:
    """Bytes without the files that the system keeps in memory for as long as nobody needs it."""
    lines = (CGROUP / "memory.stat").read_text().splitlines()
    stat = {name: int(value) for name, value in map(str.split, lines)}
    return int((CGROUP / "memory.current").read_text()) - stat["active_file"] - stat["inactive_file"]


def fit_batch(network: nn.Module, side: int, train: ResolvedTrain, group: ProcessGroup) -> tuple[int, int]:
    """`train`'s batch size and gradient accumulation, or, for `auto`, what fits in the memory that is free.

    Raises:
        TrainingError: the batch does not fit; the message says which would.
    """
    wanted = RECIPES[train.recipe]["batch_size"] if train.batch_size == "auto" else train.batch_size
    assert isinstance(wanted, int)
    room = group.broadcast(_room(network, side, train.precision)) * group.size
    at_once = micro_batch_size(next(network.parameters()).device, train)
    if min(wanted, at_once * group.size) <= room:
        return wanted, train.grad_accumulation
    fitting = _power_of_two(room)
    if train.batch_size != "auto" or not fitting:
        raise TrainingError(_advice(wanted, fitting))
    return fitting, -(-wanted * train.grad_accumulation // fitting)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether `error` is torch's of memory, of any device."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def advice_on_memory(network: nn.Module, inputs: torch.Tensor, precision: Precision) -> str:
    """What to say when a step on `inputs` did not fit."""
    if inputs.is_cuda:
        torch.cuda.empty_cache()
    fitting = min(_power_of_two(_room(network, inputs.shape[-1], precision)), _power_of_two(len(inputs) - 1))
    return _advice(len(inputs), fitting)


def _room(network: nn.Module, side: int, precision: Precision) -> int:
    """The photos of this process that fit in a step. On a CPU the processes of a machine share its memory."""
    fixed, each = step_bytes(network, side, precision)
    device = next(network.parameters()).device
    sharing = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(0, free_bytes(device) // sharing - fixed) // each


def _power_of_two(most: int) -> int:
    """The largest power of two up to `most`, or 0."""
    return 1 << most.bit_length() - 1 if most > 0 else 0


def _advice(batch: int, fitting: int) -> str:
    if not fitting:
        return "train.batch_size: not one photo fits in memory; takes a smaller model.name or model.image_size"
    return (
        f"train.batch_size: {batch} photos at once don't fit in memory; {fitting} would, as would auto, which accumulates "
        "the gradients of smaller batches"
    )
