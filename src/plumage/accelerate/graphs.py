"""CUDA graphs: the kernels of a computation, recorded once and started together.

For a small batch, launching kernels one by one takes longer than running them. Recording needs no compilation and leaves the
results as they are.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Outputs = TypeVar("Outputs")
WARM_UPS = 2
"""Runs before recording: libraries and Triton set up what they can't while a graph is recorded."""


class Graphed:
    """`function` of one tensor on a GPU, without gradients, recorded for each shape that comes a second time.

    What it reads besides has to stay in place. The result is a copy, which later calls leave alone.
    """

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self._function = function
        self._graphs: dict[tuple[torch.Size, torch.dtype], tuple[torch.cuda.CUDAGraph, Tensor, Tensor] | None] = {}

    def __call__(self, x: Tensor) -> Tensor:
        key = (x.shape, x.dtype)
        if key not in self._graphs:
            self._graphs[key] = None
            return self._function(x)
        recorded = self._graphs[key]
        if recorded is None:
            inputs = x.clone()
            graph, outputs = record(lambda: self._function(inputs))
            recorded = self._graphs[key] = graph, inputs, outputs
        graph, inputs, outputs = recorded
        inputs.copy_(x)
        graph.replay()
        return outputs.clone()


def record(work: Callable[[], Outputs]) -> tuple[torch.cuda.CUDAGraph, Outputs]:
    """The graph of `work`, which is run to warm up, and what it returned, whose tensors a replay fills."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    # thread_local, since other threads allocate GPU memory at the same time.
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        outputs = work()
    return graph, outputs
