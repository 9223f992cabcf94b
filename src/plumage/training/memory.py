"""Memory that a training step takes, and the batch size that fits."""

import os
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch
from torch import Tensor, nn

from plumage.config import RECIPES, Precision, ResolvedTrain
from plumage.errors import TrainingError
from plumage.training.distributed import ProcessGroup
from plumage.training.hardware import autocast, micro_batch_size

COPIES = 6
"""Tensors per parameter: itself, its gradient, AdamW's two moments, the moving average, the best epoch's."""
MARGIN = 1.15
"""Memory per photo over what is saved for the backward pass: intermediate gradients and fragmentation."""
CGROUP = Path("/sys/fs/cgroup")


def step_bytes(model: nn.Module, image_size: int, precision: Precision) -> tuple[int, int]:
    """Bytes that training takes for any batch, and bytes per photo of `image_size` x `image_size` pixels."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    saved: dict[int, int] = {}
    device, training = next(model.parameters()).device, model.training
    photos = torch.zeros(2, 3, image_size, image_size, device=device).to(memory_format=torch.channels_last)
    buffers = [buffer.clone() for buffer in model.buffers()]

    def record(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    hooks = torch.autograd.graph.saved_tensors_hooks(record, lambda tensor: tensor)
    with torch.random.fork_rng(), hooks, autocast(device, precision):
        outputs = model.train()(photos)
    model.train(training)
    for buffer, before in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(before)
    del outputs
    fixed = COPIES * sum(parameter.nbytes for parameter in model.parameters())
    return fixed, int(MARGIN * sum(saved.values()) / len(photos))


def free_bytes(device: torch.device) -> int:
    """Bytes of `device`'s memory that this process can still allocate."""
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    limits = [int(psutil.virtual_memory().available)]
    with suppress(OSError, ValueError):  # a container's limit; ValueError: "max", none
        limits.append(int((CGROUP / "memory.max").read_text()) - _container_usage())
    if sys.platform == "linux":
        import resource  # absent on Windows

        allowed = resource.getrlimit(resource.RLIMIT_AS)[0]
        if allowed != resource.RLIM_INFINITY:
            limits.append(allowed - int(psutil.Process().memory_info().vms))
    return max(0, min(limits))


def _container_usage() -> int:
    """Bytes in use, without the page cache, which the system gives up when memory is needed."""
    stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text().splitlines())
    return int((CGROUP / "memory.current").read_text()) - int(stat["active_file"]) - int(stat["inactive_file"])


def fit_batch_size(model: nn.Module, image_size: int, train: ResolvedTrain, group: ProcessGroup) -> tuple[int, int]:
    """Batch size and accumulation, for `auto` those that fit in memory. TrainingError names a size that fits."""
    wanted = RECIPES[train.recipe]["batch_size"] if train.batch_size == "auto" else train.batch_size
    assert isinstance(wanted, int)
    capacity = group.broadcast(_capacity(model, image_size, train.precision)) * group.size
    micro_batch = micro_batch_size(next(model.parameters()).device, train)
    if min(wanted, micro_batch * group.size) <= capacity:
        return wanted, train.grad_accumulation
    fitting = _power_of_two(capacity)
    if train.batch_size != "auto" or not fitting:
        raise TrainingError(_message(wanted, fitting))
    return fitting, -(-wanted * train.grad_accumulation // fitting)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch raised `error` because memory ran out, on any device."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def out_of_memory_message(model: nn.Module, inputs: Tensor, precision: Precision) -> str:
    """Error message for a step on `inputs` that ran out of memory."""
    if inputs.is_cuda:
        torch.cuda.empty_cache()
    fitting = min(_power_of_two(_capacity(model, inputs.shape[-1], precision)), _power_of_two(len(inputs) - 1))
    return _message(len(inputs), fitting)


def _capacity(model: nn.Module, image_size: int, precision: Precision) -> int:
    """Photos per step that fit in this process's memory. On a CPU, a machine's processes share its memory."""
    fixed, per_photo = step_bytes(model, image_size, precision)
    device = next(model.parameters()).device
    sharing = 1 if device.type == "cuda" else int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return max(0, free_bytes(device) // sharing - fixed) // per_photo


def _power_of_two(limit: int) -> int:
    """The largest power of two up to `limit`, or 0."""
    return 1 << limit.bit_length() - 1 if limit > 0 else 0


def _message(batch: int, fitting: int) -> str:
    if not fitting:
        return "train.batch_size: not even one photo fits in memory; choose a smaller model.name or model.image_size"
    return (
        f"train.batch_size: {batch} photos don't fit in memory; takes {fitting}, or auto, which accumulates the gradients "
        "of smaller batches"
    )
