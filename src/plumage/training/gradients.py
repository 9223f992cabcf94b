"""Gradients of one optimizer step: summed over micro-batches, averaged over processes, recorded as a CUDA graph on a GPU."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from plumage.accelerate.graphs import record
from plumage.errors import TrainingError
from plumage.training.batches import Batch
from plumage.training.context import TrainingContext
from plumage.training.distributed import convert_sync_batchnorm
from plumage.training.hardware import autocast, compile_for_training, micro_batch_size
from plumage.training.memory import is_out_of_memory, out_of_memory_message

Forward = Callable[[Tensor], Tensor]
Pass = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Outputs = tuple[Tensor, Tensor, Tensor]
"""Of a recorded pass: sum of losses, number of correct predictions, and the gradients' norm."""


class RecordedPass:
    """A forward and backward pass of `model` as a CUDA graph: a replay gives the numbers that the pass would give.

    Recording changes neither batch norm's statistics nor the random numbers that follow.
    """

    def __init__(self, model: nn.Module, run: Pass, inputs: Tensor, labels: Tensor) -> None:
        self._inputs, self._labels = inputs.clone(), labels.clone()
        random_state, buffers = torch.cuda.get_rng_state(), [buffer.clone() for buffer in model.buffers()]

        def work() -> Outputs:
            model.zero_grad(set_to_none=True)
            return *run(self._inputs, self._labels), gradient_norm(model)

        self._graph, self._outputs = record(work)
        self._parameters = list(model.parameters())
        self._gradients = [parameter.grad for parameter in self._parameters]
        torch.cuda.set_rng_state(random_state)
        for buffer, before in zip(model.buffers(), buffers, strict=True):
            buffer.copy_(before)

    def __call__(self, inputs: Tensor, labels: Tensor) -> Outputs:
        self._inputs.copy_(inputs)
        self._labels.copy_(labels)
        self._graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient
        return self._outputs


class GradientAccumulator:
    """Forward and backward passes of `model`, compiled and data-parallel where the context asks for it."""

    def __init__(self, model: nn.Module, context: TrainingContext) -> None:
        self._model, self._context = model, context
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._buffers_before = [buffer.clone() for buffer in self._buffers]
        self._forward = _wrap(model, context)
        self._recorded: RecordedPass | None = None
        self._records = context.device.type == "cuda" and context.group.size == 1
        self._norm: Tensor | None = None

    def accumulate(self, batches: Iterator[Batch], num_batches: int, num_samples: int) -> tuple[Tensor, Tensor]:
        """Replace the model's gradients by those of the mean loss over the next `num_batches` of `batches`.

        `num_samples` counts these batches' samples on all processes. Returns this process's sum of losses, float32, and
        its number of correct predictions, int64. TrainingError names a batch size that fits, if a micro-batch does not.
        """
        context, self._norm = self._context, None
        if self._buffers:
            torch._foreach_copy_(self._buffers_before, self._buffers)
        self._model.zero_grad(set_to_none=True)
        loss_sum = torch.zeros((), device=context.device, dtype=torch.float32)
        num_correct = torch.zeros((), device=context.device, dtype=torch.int64)
        size = micro_batch_size(context.device, context.train)
        for number in range(num_batches):
            inputs, labels = next(batches)
            for start in range(0, len(inputs), size):
                rows, is_last = slice(start, start + size), number == num_batches - 1 and start + size >= len(inputs)
                # Processes exchange gradients once per step, during the last backward pass.
                with nullcontext() if is_last or context.group.size == 1 else self._forward.no_sync():
                    loss, correct = self._pass(inputs[rows], labels[rows], num_samples)
                loss_sum += loss
                num_correct += correct
        if not context.train.freeze_norm:
            context.group.all_reduce_mean(self._buffers)
        return loss_sum, num_correct

    def norm(self) -> Tensor:
        """L2 norm of all gradients."""
        return gradient_norm(self._model) if self._norm is None else self._norm

    @property
    def are_recorded(self) -> bool:
        """Whether the gradients are those of a recorded pass, which are always in the same place."""
        return self._norm is not None

    def restore_buffers(self, unless: Tensor) -> None:
        """Undo what the last `accumulate` did to batch norm's statistics, `unless` it is true."""
        if self._buffers:
            after, before = (
                torch.cat([value.flatten() for value in values]) for values in (self._buffers, self._buffers_before)
            )
            kept = torch.where(unless, after, before).split([buffer.numel() for buffer in self._buffers])
            torch._foreach_copy_(
                self._buffers, [value.view_as(b) for value, b in zip(kept, self._buffers, strict=True)]
            )

    def _pass(self, inputs: Tensor, labels: Tensor, num_samples: int) -> tuple[Tensor, Tensor]:
        """`_forward_backward`, recorded if it is a whole batch on a GPU; one of another size isn't worth compiling for."""
        is_full = len(inputs) == self._context.train.batch_size
        forward = self._forward if is_full or self._context.group.size > 1 else self._model
        if not (self._records and is_full and num_samples == len(inputs)):
            return self._forward_backward(forward, inputs, labels, num_samples)
        if self._recorded is None:
            try:
                self._recorded = RecordedPass(
                    self._model, lambda x, y: self._forward_backward(forward, x, y, num_samples), inputs, labels
                )
            except (RuntimeError, TrainingError):  # a graph has memory of its own, which may not be left
                self._records = False
                torch.cuda.empty_cache()
                return self._pass(inputs, labels, num_samples)
        loss, correct, self._norm = self._recorded(inputs, labels)
        return loss, correct

    def _forward_backward(
        self, forward: Forward, inputs: Tensor, labels: Tensor, num_samples: int
    ) -> tuple[Tensor, Tensor]:
        """Sum of losses and number of correct predictions of a micro-batch."""
        train, out_of_memory = self._context.train, False
        try:
            with autocast(self._context.device, train.precision):
                logits = forward(inputs).float()
            loss, weighted = self._losses(logits, labels)
            # DistributedDataParallel averages gradients over processes, each of which has its shard's sum.
            (weighted * (self._context.group.size / num_samples)).backward()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            out_of_memory = True
        if out_of_memory:  # outside of the except block, where the error still holds on to the activations
            self._model.zero_grad(set_to_none=True)
            raise TrainingError(out_of_memory_message(self._model, inputs, train.precision))
        return loss.detach(), (logits.argmax(1) == labels).sum()

    def _losses(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Sum of losses, for people, and the same with each photo's class weight, to minimise."""
        smoothing, weights = self._context.train.label_smoothing, self._context.class_weights
        if weights is None:
            loss = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")
            return loss, loss
        losses = F.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="none")
        return losses.sum(), (losses * weights[labels]).sum()


def gradient_norm(model: nn.Module) -> Tensor:
    """L2 norm of all gradients of `model`."""
    return nn.utils.get_total_norm([value.grad for value in model.parameters() if value.grad is not None])


def _wrap(model: nn.Module, context: TrainingContext) -> Any:
    """`model` compiled, and data-parallel in a group of processes."""
    train, forward = context.train, model
    if train.compile:
        forward = compile_for_training(model, train.deterministic)
    if context.group.size == 1:
        return forward
    if train.sync_norm and not train.freeze_norm:
        convert_sync_batchnorm(model)
    device_ids = [torch.cuda.current_device()] if context.device.type == "cuda" else None
    return DistributedDataParallel(forward, device_ids=device_ids, broadcast_buffers=False)
