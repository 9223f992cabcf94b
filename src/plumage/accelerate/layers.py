"""Faster layers for a plain EfficientNet, swapped in by `accelerate` and out by `unaccelerate`.

A swap changes only a module's class: parameters, state-dict keys and modes stay, and results are equal but for rounding.
In training, layers inside a block are computed together, and their own hooks are not called. The kernels
(plumage.accelerate.kernels) are in C for a CPU and in Triton for a GPU.
"""

from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.accelerate import kernels
from plumage.accelerate.kernels import gpu
from plumage.accelerate.kernels.depthwise import Geometry, depthwise, expand_depthwise, norm_act_depthwise
from plumage.accelerate.kernels.dispatch import supports
from plumage.accelerate.kernels.excite import excite, norm_act_excite, norm_act_excite_project
from plumage.accelerate.kernels.training import norm_act
from plumage.models.batch_norm import scale_and_offset
from plumage.models.efficientnet import Conv2dSame, ConvNormAct, MBConv, SqueezeExcite, padded

Network = TypeVar("Network", bound=nn.Module)
POINTWISE_AS_LINEAR = torch.backends.cpu.get_cpu_capability() != "AVX512" or kernels.is_intel()
"""Whether a CPU trains pointwise convolutions as matrix products. Their backward pass is faster on an EPYC without AVX-512 and on a Xeon.
Besides, in that of oneDNN's convolutions for AMX, a thread spins without end while another isn't run."""
FEW = 48
"""A pointwise convolution from or to as many channels is computed with the layers beside it; one of more is faster apart."""
ACTIVATIONS: dict[type[nn.Module], kernels.Activation] = {nn.Identity: "none", nn.SiLU: "silu", nn.ReLU6: "relu6"}


class FastConvNormAct(ConvNormAct):
    """Batch norm and activation in one kernel; a frozen batch norm is folded into the convolution."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.norm.training:
            return activated(self.convolve(x, *scale_and_offset(self.norm)), self.act)
        return self.normalise(self.convolve(x))

    def normalise(self, x: Tensor, moments: Tensor | None = None) -> Tensor:
        """Batch norm, in training mode, and activation of what `convolve` returns; `moments` as `norm_act` takes them."""
        if self.normalises(x):
            return norm_act(x, self.norm, self.activation, moments)
        if type(self.norm) is nn.BatchNorm2d and gpu.supports_training(x):
            return gpu.norm_act(x, self.norm, self.activation)
        return activated(self.norm(x), self.act)

    def normalises(self, x: Tensor) -> bool:
        """Whether the C can do `normalise`. A subclass of batch norm, such as training's SyncBatchNorm, computes something else."""
        return type(self.norm) is nn.BatchNorm2d and self.norm.training and supports(x)

    @property
    def activation(self) -> kernels.Activation:
        return ACTIVATIONS[type(self.act)]

    def convolve(self, x: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """The convolution, times `scale` and plus `bias` per output channel."""
        conv = self.conv
        weight = conv.weight if scale is None else conv.weight * scale[:, None, None, None]
        if conv.kernel_size == (1, 1) and conv.training and POINTWISE_AS_LINEAR and x.device.type == "cpu":
            return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        x, padding = padded(conv, x)
        if conv.groups > 1 and gpu.supports(x, conv.kernel_size[0]):
            return gpu.depthwise(x, weight, bias, conv.stride[0], padding)
        if x.requires_grad and conv.groups > 1 and conv.groups % kernels.BLOCK == 0 and supports(x):
            return depthwise(x, weight, bias, conv.stride[0], padding)
        return F.conv2d(x, weight, bias, conv.stride, padding, 1, conv.groups)


def activated(x: Tensor, act: nn.Module) -> Tensor:
    """`act` of `x`, in place unless autograd follows: SiLU's backward pass needs its input, which would be copied first."""
    if isinstance(act, nn.SiLU):
        return F.silu(x, inplace=not x.requires_grad)
    return F.relu6(x, inplace=not x.requires_grad) if isinstance(act, nn.ReLU6) else x


class FastSqueezeExcite(SqueezeExcite):
    """Squeeze-and-excitation in one pass over the map forward and two backward."""

    def forward(self, x: Tensor) -> Tensor:
        if gpu.supports_training(x):
            return gpu.excite(x, self.reduce, self.expand)
        return excite(x, self.reduce, self.expand) if supports(x) else super().forward(x)


class FastMBConv(MBConv):
    """Batch norms and activations computed with the layer that follows; the skip connection added in place, or together with
    stochastic depth's factor."""

    def forward(self, x: Tensor) -> Tensor:
        y = self._projected(x)
        if not self.skips:
            return y
        if self.training and self.drop_path.drop_prob > 0:
            return torch.addcmul(x, y, self.drop_path.mask(y))
        return y.add_(x)

    def _projected(self, x: Tensor) -> Tensor:
        """The block without its skip connection."""
        depthwise, excite, project = self.depthwise, self.excite, self.project
        assert isinstance(depthwise, FastConvNormAct) and isinstance(project, FastConvNormAct)
        if not depthwise.norm.training:
            return cast(Tensor, project(excite(depthwise(self.expand(x)))))
        x, moments = self._convolved(x, depthwise)
        if not isinstance(excite, FastSqueezeExcite) or not depthwise.normalises(x):
            return cast(Tensor, project(excite(depthwise.normalise(x, moments))))
        layers = depthwise.norm, depthwise.activation, excite.reduce, excite.expand
        weight = project.conv.weight.flatten(1)
        if project.norm.training and in_rows(x, *weight.shape):
            return project.normalise(norm_act_excite_project(x, *layers, weight, moments))
        return cast(Tensor, project(norm_act_excite(x, *layers, moments)))

    def _convolved(self, x: Tensor, depthwise: FastConvNormAct) -> tuple[Tensor, Tensor | None]:
        """The block up to the depthwise convolution, and its moments if they came along."""
        expand, conv = self.expand, depthwise.conv
        if not isinstance(expand, FastConvNormAct) or not expand.norm.training:
            return depthwise.convolve(expand(x)), None
        if expand.normalises(x) and in_rows(x, x.shape[1], conv.groups):
            weight = expand.conv.weight.flatten(1)
            return expand_depthwise(x, weight, expand.norm, expand.activation, conv.weight, geometry(conv, x))
        x = expand.convolve(x)
        if expand.normalises(x) and conv.groups % kernels.BLOCK == 0:
            return norm_act_depthwise(x, expand.norm, expand.activation, conv.weight, geometry(conv, x))
        return depthwise.convolve(expand.normalise(x)), None


def in_rows(x: Tensor, few: int, many: int) -> bool:
    """Whether rows of a map of `many` channels, from or to `few`, are computed as they are needed: in float32, by a thread per photo."""
    return few <= FEW and many % kernels.BLOCK == 0 and x.dtype == torch.float32 and len(x) >= torch.get_num_threads()


def geometry(conv: nn.Conv2d, x: Tensor) -> Geometry:
    """What a depthwise convolution makes of N x C x H x W."""
    stride, sides = conv.stride[0], x.shape[2:]
    totals = [conv.total_padding(side) if isinstance(conv, Conv2dSame) else conv.kernel_size[0] - 1 for side in sides]
    top, left = (total // 2 for total in totals)
    height, width = (-(-side // stride) for side in sides)
    return Geometry(stride, (top, left), (height, width))


_Classes = dict[type[nn.Module], type[nn.Module]]
_FAST: _Classes = {ConvNormAct: FastConvNormAct, SqueezeExcite: FastSqueezeExcite, MBConv: FastMBConv}


def accelerate(network: Network) -> Network:
    """Swap the layers of `network` that have a faster version, in place, and return it."""
    return _swap(network, _FAST)


def unaccelerate(network: Network) -> Network:
    """Undo `accelerate`, in place, and return `network`."""
    return _swap(network, {fast: plain for plain, fast in _FAST.items()})


def _swap(network: Network, classes: _Classes) -> Network:
    for module in network.modules():
        module.__class__ = classes.get(type(module), type(module))
    return network
