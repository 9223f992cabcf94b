"""A network's answers for many photos: an EfficientNet made ready for it once, a few photos at a time.

Its batch norms are in its convolutions (Jacob et al. 2018, section 3.2), its weights are in the dtype of its maps, and on a CPU a
depthwise convolution, what surrounds it, and the sums for squeeze-and-excitation are one pass over memory (kernels.py). A gate of
squeeze-and-excitation scales the smaller of the two that the next convolution multiplies.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage import kernels
from plumage.config import Precision
from plumage.models.efficientnet import Conv, ConvNorm, EfficientNet, MBConv

Answers = Callable[[Tensor], Tensor]
PARTS = {torch.float32: 4, torch.bfloat16: 8}
"""Photos whose maps stay in a CPU's cache."""


def dtype_of(device: torch.device, precision: Precision) -> torch.dtype:
    """What maps are made of: with `auto`, bfloat16 on a GPU or processor that computes in it, else float32."""
    if precision != "auto":
        return torch.bfloat16 if precision == "bf16" else torch.float32
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    return torch.bfloat16 if device.type == "cpu" and kernels.computes_bf16() else torch.float32


def for_inference(network: nn.Module, dtype: torch.dtype) -> Answers:
    """What `network`, with the weights that it has now, answers in evaluation: float32, its maps of `dtype` (float32 or bfloat16)."""
    device = next(network.parameters()).device
    answers = Folded(network, dtype) if isinstance(network, EfficientNet) else _under_autocast(network, dtype, device)
    return _in_parts(answers, dtype)


def features_for_inference(network: EfficientNet, dtype: torch.dtype) -> Answers:
    """`for_inference` of the pooled features."""
    return _in_parts(Folded(network, dtype).features, dtype)


def _in_parts(answers: Answers, dtype: torch.dtype) -> Answers:
    def all_of(photos: Tensor) -> Tensor:
        if photos.device.type != "cpu":
            return answers(photos)
        return torch.cat([answers(part) for part in photos.split(PARTS[dtype])])

    return all_of


def _under_autocast(network: nn.Module, dtype: torch.dtype, device: torch.device) -> Answers:
    def answers(inputs: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
            outputs: Tensor = network(inputs)
        return outputs.float()

    return answers


class Folded:
    """An EfficientNet for inference: N x 3 x H x W normalised float photos to N x classes float32 logits."""

    @torch.no_grad()
    def __init__(self, network: EfficientNet, dtype: torch.dtype) -> None:
        self._dtype = dtype
        self._stem = _Layer.of(network.stem, dtype)
        self._blocks = [_Block.of(block, dtype) for block in network.blocks if isinstance(block, MBConv)]
        self._head = _Layer.of(network.head, dtype)
        self._classifier = [value.float() for value in network.classifier.parameters()]

    @torch.inference_mode()
    def features(self, photos: Tensor) -> Tensor:
        """The pooled features, float32 N x F."""
        x = self._stem.convolve(photos.to(self._dtype))
        before: _Layer | None = self._stem
        for block in self._blocks:
            x, before = block(x, before), None
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
    expand: _Layer | None
    depthwise: _Layer
    taps: Tensor | None
    """The depthwise convolution's weight as kernels.py takes it, where it does."""
    excite: list[Tensor]
    """Squeeze-and-excitation's weights and biases; empty where there is none."""
    project: _Layer
    skips: bool

    @classmethod
    def of(cls, block: MBConv, dtype: torch.dtype) -> "_Block":
        weight = block.depthwise.conv.weight * block.depthwise.affine()[0][:, None, None, None]
        excite = block.excite.parameters() if block.excite else []
        return cls(
            _Layer.of(block.expand, dtype) if block.expand else None,
            _Layer.of(block.depthwise, dtype),
            kernels.in_blocks(weight) if len(weight) % kernels.BLOCK == 0 else None,
            [value.flatten(min(1, value.ndim - 1)) for value in excite],
            _Layer.of(block.project, dtype),
            block.skips,
        )

    def __call__(self, x: Tensor, before: _Layer | None) -> Tensor:
        """Of `x`, which `before` has not finished."""
        y = x
        if self.expand:
            y, before = self.expand.convolve(x), self.expand
        y, means = self._depthwise(y, before)
        if not self.excite:
            y = self.project.convolve(y)
        else:
            reduce, reduce_bias, expand, expand_bias = self.excite
            gate = F.linear(F.silu(F.linear(means, reduce, reduce_bias)), expand, expand_bias).sigmoid_()
            y = self._gated(y, gate.to(y.dtype))
        y = self.project.finish(y)
        return y.add_(x) if self.skips else y

    def _depthwise(self, x: Tensor, before: _Layer | None) -> tuple[Tensor, Tensor]:
        """The finished depthwise convolution of the finished `x`, and its means, float32 N x C."""
        layer = self.depthwise
        if self.taps is None or not kernels.fits(x):
            y = layer.finish(layer.convolve(before.finish(x) if before else x))
            return y, y.mean((2, 3), dtype=torch.float32)
        offset, activation = (before.offset, before.activation) if before else (torch.zeros_like(layer.offset), "none")
        stride, padding = (
            layer.conv.stride[0],
            (layer.conv.padding_before(x.shape[2]), layer.conv.padding_before(x.shape[3])),
        )
        return kernels.depthwise_act(x, offset, activation, self.taps, layer.offset, layer.activation, stride, padding)

    def _gated(self, y: Tensor, gate: Tensor) -> Tensor:
        """The projection of `y`, a channel of a photo times its gate, N x C."""
        photos, channels, height, width = y.shape
        weight = self.project.weight.flatten(1)
        if height * width <= len(weight):
            return self.project.convolve(y.mul_(gate[:, :, None, None]))
        rows = y.permute(0, 2, 3, 1).reshape(photos, height * width, channels)
        return (rows @ (weight * gate[:, None]).transpose(1, 2)).view(photos, height, width, -1).permute(0, 3, 1, 2)
