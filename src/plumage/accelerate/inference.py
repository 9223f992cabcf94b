"""A network's answers for many photos: an EfficientNet made ready for it once, a few photos at a time.

Its batch norms are in its convolutions (Jacob et al. 2018, section 3.2), and its weights in the dtype of its maps. On a CPU it computes
in float32, a block at once (plumage.accelerate.kernels.inference): bfloat16 moves answers.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.accelerate import kernels
from plumage.accelerate.kernels.inference import MBConvKernel, in_blocks, pooled
from plumage.accelerate.precision import dtype_of
from plumage.config import Precision
from plumage.models.efficientnet import Conv, ConvNorm, EfficientNet, MBConv

Answers = Callable[[Tensor], Tensor]
PHOTOS_A_CORE = 2
"""Of a batch at a time on a CPU: more don't stay in its cache."""


def for_inference(network: nn.Module, precision: Precision = "fp32") -> Answers:
    """What `network`, with the weights that it has now, answers in evaluation, float32; on a CPU in fp32 whatever `precision`."""
    dtype = _dtype(network, precision)
    return _in_parts(
        FusedEfficientNet(network, dtype) if isinstance(network, EfficientNet) else _under_autocast(network, dtype)
    )


def probabilities(logits: Tensor, temperature: float) -> Tensor:
    """N x C float32 probabilities: the softmax of `logits` / `temperature` (Guo et al. 2017, arXiv 1706.04599, equation 9), in float64."""
    return (logits.double() / temperature).softmax(dim=1).float()


def features_for_inference(network: EfficientNet, precision: Precision = "fp32") -> Answers:
    """`for_inference` of the pooled features."""
    return _in_parts(FusedEfficientNet(network, _dtype(network, precision)).features)


def _dtype(network: nn.Module, precision: Precision) -> torch.dtype:
    device = next(network.parameters()).device
    return torch.float32 if device.type == "cpu" else dtype_of(device, precision)


def _in_parts(answers: Answers) -> Answers:
    def all_of(photos: Tensor) -> Tensor:
        if photos.device.type != "cpu":
            return answers(photos)
        return torch.cat([answers(part) for part in photos.split(PHOTOS_A_CORE * torch.get_num_threads())])

    return all_of


def _under_autocast(network: nn.Module, dtype: torch.dtype) -> Answers:
    def answers(inputs: Tensor) -> Tensor:
        with torch.autocast(inputs.device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs: Tensor = network(inputs)
        return outputs.float()

    return answers


class FusedEfficientNet:
    """An EfficientNet for inference: N x 3 x H x W normalised float photos to N x classes float32 logits."""

    @torch.no_grad()
    def __init__(self, network: EfficientNet, dtype: torch.dtype) -> None:
        self._dtype = dtype
        blocks = [block for block in network.blocks if isinstance(block, MBConv)]
        self._stem = _Layer.of(network.stem, dtype)
        self._blocks = [_Block.of(block, None if number else self._stem, dtype) for number, block in enumerate(blocks)]
        self._head = _Layer.of(network.head, dtype)
        whole = network.num_features % kernels.BLOCK == 0
        self._head_weight = in_blocks(self._head.weight.flatten(1)) if whole else None
        self._classifier = [value.float() for value in network.classifier.parameters()]

    @torch.inference_mode()
    def features(self, photos: Tensor) -> Tensor:
        """The pooled features, float32 N x F."""
        x = self._stem.convolve(photos.to(self._dtype))
        for block in self._blocks:
            x = block(x)
        if self._head_weight is not None and _fits(x):
            return pooled(x, self._head_weight, self._head.offset, self._head.activation)
        return self._head.finish(self._head.convolve(x)).mean((2, 3), dtype=torch.float32)

    @torch.inference_mode()
    def __call__(self, photos: Tensor) -> Tensor:
        """The logits."""
        return F.linear(self.features(photos), *self._classifier)


class _Layer(NamedTuple):
    """A convolution, and what follows it: an offset a channel, float32, and an activation."""

    conv: Conv
    weight: Tensor
    offset: Tensor
    activation: str

    @classmethod
    def of(cls, layer: ConvNorm, dtype: torch.dtype) -> "_Layer":
        scale, offset = layer.affine()
        weight = layer.conv.weight * scale[:, None, None, None]
        return cls(layer.conv, weight.to(dtype, memory_format=torch.channels_last), offset.float(), layer.activation)

    def convolve(self, x: Tensor) -> Tensor:
        if self.conv.kernel_size == (1, 1):
            return F.linear(x.permute(0, 2, 3, 1), self.weight.flatten(1)).permute(0, 3, 1, 2)
        x, padding = self.conv.padded(x)
        return F.conv2d(x, self.weight, None, self.conv.stride, padding, 1, self.conv.groups)

    def finish(self, x: Tensor) -> Tensor:
        """In place."""
        x.add_(self.offset.to(x.dtype)[:, None, None])
        if self.activation == "relu6":
            return F.relu6(x, inplace=True)
        return F.silu(x, inplace=True) if self.activation == "silu" else x


class _Block(NamedTuple):
    before: _Layer | None
    """What the block's input is yet to be finished of."""
    expand: _Layer | None
    depthwise: _Layer
    excite: list[Tensor]
    """Squeeze-and-excitation's weights and biases; empty where there is none."""
    project: _Layer
    skips: bool
    kernel: MBConvKernel | None
    """All of it at once, where plumage.accelerate.kernels can."""

    @classmethod
    def of(cls, block: MBConv, before: _Layer | None, dtype: torch.dtype) -> "_Block":
        expand = _Layer.of(block.expand, dtype) if block.expand else None
        depthwise, project = _Layer.of(block.depthwise, dtype), _Layer.of(block.project, dtype)
        excite = [value.flatten(min(1, value.ndim - 1)) for value in block.excite.parameters()] if block.excite else []
        kernel = None
        if depthwise.weight.device.type == "cpu" and len(depthwise.weight) % kernels.BLOCK == 0:
            first = expand or before
            kernel = MBConvKernel(
                expand.weight.flatten(1) if expand else None,
                first.offset if first else torch.zeros_like(depthwise.offset), first.activation if first else "none",
                depthwise.weight, depthwise.offset, depthwise.activation, excite, project.weight.flatten(1), project.offset,
                depthwise.conv.stride[0], block.skips,
            )  # fmt: skip
        return cls(before, expand, depthwise, excite, project, block.skips, kernel)

    def __call__(self, x: Tensor) -> Tensor:
        """Of `x`, which `before` has not finished."""
        if self.kernel and _fits(x):
            conv = self.depthwise.conv
            return self.kernel(x, (conv.padding_before(x.shape[2]), conv.padding_before(x.shape[3])))
        if self.before:
            x = self.before.finish(x)
        y = self.expand.finish(self.expand.convolve(x)) if self.expand else x
        y = self.depthwise.finish(self.depthwise.convolve(y))
        if self.excite:
            reduce, reduce_bias, expand, expand_bias = self.excite
            means = y.mean((2, 3), dtype=torch.float32)
            gate = F.linear(F.silu(F.linear(means, reduce, reduce_bias)), expand, expand_bias).sigmoid_()
            y = y.mul_(gate.to(y.dtype)[:, :, None, None])
        y = self.project.finish(self.project.convolve(y))
        return y.add_(x) if self.skips else y


def _fits(x: Tensor) -> bool:
    return x.dtype == torch.float32 and kernels.supports(x)
