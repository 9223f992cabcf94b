"""EfficientNet B0 to B7 and Lite0 to Lite4, from one table by compound scaling.

Sources: Tan & Le 2019 (arXiv 1905.11946) and its TensorFlow code (tensorflow/tpu, models/official/efficientnet).
- A model is an `EfficientNetConfig`: how its table entry scales the stages, and the conventions of padding and batch
  norm that its weights were trained with.
- Lite (TensorFlow's `lite/`): no squeeze-and-excitation, ReLU6, stem, head and the repeats of the first and last stage
  not scaled.
- Stochastic depth (Huang et al. 2016, arXiv 1603.09382) per sample, its rate linear over the blocks.
- Fastest in channels_last memory: `model.to(memory_format=torch.channels_last)`, and batches likewise.
"""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.accelerate import kernels
from plumage.accelerate.kernels.training import depthwise, excite, norm_act
from plumage.architectures import ARCHITECTURES, EfficientNetConfig, Padding
from plumage.errors import ModelError
from plumage.models.preprocessing import Preprocessing

AS_MATRICES = torch.backends.cpu.get_cpu_capability() != "AVX512"
"""Whether pointwise convolutions are trained as matrix products, which they are in channels_last memory: without AVX-512, their backward
pass is the faster."""


class Stage(NamedTuple):
    """One row of the paper's table 1: `repeats` blocks, the first with `stride`, before any scaling."""

    expansion: int
    kernel: int
    stride: int
    channels: int
    repeats: int


STAGES = (
    Stage(1, 3, 1, 16, 1),
    Stage(6, 3, 2, 24, 2),
    Stage(6, 5, 2, 40, 2),
    Stage(6, 3, 2, 80, 3),
    Stage(6, 5, 1, 112, 3),
    Stage(6, 5, 2, 192, 4),
    Stage(6, 3, 1, 320, 1),
)
STEM_CHANNELS = 32
HEAD_CHANNELS = 1280


def list_models() -> list[str]:
    """Names that `create_model` takes."""
    return list(ARCHITECTURES)


def configure(name: str, dropout: float | None = None, drop_path: float | None = None) -> EfficientNetConfig:
    """The architecture called `name`, with the conventions for training from scratch; None leaves a rate as it is.

    ModelError for an unknown name, or a rate that is below 0 or not below 1.
    """
    if name not in ARCHITECTURES:
        raise ModelError(f"model.name: no model is called {name!r}; there are {', '.join(ARCHITECTURES)}")
    config = ARCHITECTURES[name]
    config = replace(
        config,
        dropout=config.dropout if dropout is None else dropout,
        drop_path=config.drop_path if drop_path is None else drop_path,
    )
    for key, rate in (("dropout", config.dropout), ("drop_path", config.drop_path)):
        if not 0 <= rate < 1:
            raise ModelError(f"model.{key}: {rate} is no rate; it takes 0 or more and less than 1")
    return config


def scale_channels(channels: int, width: float) -> int:
    """`width` times `channels`, rounded to a multiple of 8 that is no less than 0.9 of it."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class Conv(nn.Conv2d):
    """A convolution without bias, in either padding. SAME equals TensorFlow's for any input size."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, groups: int, padding: Padding) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        # At stride 1 an odd kernel's SAME padding is the symmetric one.
        self.pads = padding == "same" and stride > 1

    def forward(self, x: Tensor, scale: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """N x C x H x W to N x outputs x ceil(H / stride) x ceil(W / stride), times `scale` plus `bias`, one an output."""
        weight = self.weight if scale is None else self.weight * scale[:, None, None, None]
        if self.kernel_size == (1, 1) and self.training and AS_MATRICES:
            return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        x, padding = self.padded(x)
        if x.requires_grad and self.groups > 1 and self.groups % kernels.BLOCK == 0 and kernels.supports(x):
            return depthwise(x, weight, bias, self.stride[0], padding)
        return F.conv2d(x, weight, bias, self.stride, padding, 1, self.groups)

    def padded(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """`x` with what SAME padding has at the bottom and right alone, and the padding of all sides."""
        more = [self._total_padding(size) % 2 if self.pads else 0 for size in x.shape[2:]]
        height, width = (self.padding_before(size) for size in x.shape[2:])
        return F.pad(x, (0, more[1], 0, more[0])) if any(more) else x, (height, width)

    def padding_before(self, size: int) -> int:
        """The zeros on top or to the left of a side of `size`."""
        return self._total_padding(size) // 2 if self.pads else self.kernel_size[0] // 2

    def _total_padding(self, size: int) -> int:
        stride, kernel = self.stride[0], self.kernel_size[0]
        return max(0, (math.ceil(size / stride) - 1) * stride + kernel - size)


class ConvNorm(nn.Module):
    """Convolution, batch norm and, unless it is "none", the activation."""

    def __init__(
        self, config: EfficientNetConfig, inputs: int, outputs: int, kernel: int = 1, stride: int = 1,
        groups: int = 1, activate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.conv = Conv(inputs, outputs, kernel, stride, groups, config.padding)
        self.norm = nn.BatchNorm2d(outputs, config.bn_eps, config.bn_momentum)
        self.activation = ("relu6" if config.lite else "silu") if activate else "none"

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H' x W'."""
        if self.norm.training:
            x = self.conv(x)
            if type(self.norm) is nn.BatchNorm2d and kernels.supports(x):
                return norm_act(x, self.norm, self.activation)
            x = self.norm(x)
        else:
            # What no longer looks at the batch is a scale and an offset a channel, which the convolution can do.
            x = self.conv(x, *self.affine())
        if self.activation == "relu6":
            return F.relu6(x, inplace=not x.requires_grad)
        if self.activation == "silu":
            # Its backward needs its input: in place, autograd would copy that first.
            return F.silu(x, inplace=not x.requires_grad)
        return x

    def affine(self) -> tuple[Tensor, Tensor]:
        """What the norm is in evaluation: a scale and an offset, each of outputs."""
        mean, variance = self.norm.running_mean, self.norm.running_var
        assert mean is not None and variance is not None
        scale = self.norm.weight * torch.rsqrt(variance + self.norm.eps)
        return scale, self.norm.bias - mean * scale


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from all channels' means (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        if kernels.supports(x):
            return excite(x, self.reduce, self.expand)
        means = x.mean((2, 3))  # as matrix products: a convolution over one pixel costs more than it computes
        gate = F.linear(F.silu(F.linear(means, self.reduce.weight.flatten(1), self.reduce.bias)),
                        self.expand.weight.flatten(1), self.expand.bias)  # fmt: skip
        return x * gate.sigmoid()[:, :, None, None]


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise convolution, squeeze-and-excite, project; a skip where shapes allow."""

    def __init__(self, config: EfficientNetConfig, stage: Stage, inputs: int, drop_path: float) -> None:
        super().__init__()
        width = inputs * stage.expansion
        self.expand = ConvNorm(config, inputs, width) if stage.expansion > 1 else None
        self.depthwise = ConvNorm(config, width, width, stage.kernel, stage.stride, groups=width)
        # The squeezed width follows the block's input, not the expanded width.
        self.excite = None if config.lite else SqueezeExcite(width, max(1, inputs // 4))
        self.project = ConvNorm(config, width, stage.channels, activate=False)
        self.skips = stage.stride == 1 and inputs == stage.channels
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W to N x channels x H' x W'."""
        y = x if self.expand is None else self.expand(x)
        y = self.depthwise(y)
        if self.excite is not None:
            y = self.excite(y)
        y = self.project(y)
        if not self.skips:
            return y
        if self.training and self.drop_path > 0:
            keep = 1 - self.drop_path
            return torch.addcmul(x, y, y.new_empty(len(y), 1, 1, 1).bernoulli_(keep).div_(keep))
        return y.add_(x)


class EfficientNet(nn.Module):
    """An EfficientNet classifier: N x 3 x H x W normalised float photos to N x classes logits.

    `blocks` are in order of depth, for freezing and for learning rates by depth; `stem` goes before them, `head` and
    `classifier` after. `preprocessing` says how photos become this model's inputs, as its weights were trained.
    """

    def __init__(
        self, config: EfficientNetConfig, num_classes: int, preprocessing: Preprocessing | None = None
    ) -> None:
        super().__init__()
        self.config = config
        self.preprocessing = preprocessing or Preprocessing(size=config.resolution, crop_fraction=1.0)

        fixed_width = 1.0 if config.lite else config.width
        channels = scale_channels(STEM_CHANNELS, fixed_width)
        self.stem = ConvNorm(config, 3, channels, kernel=3, stride=2)

        stages = scaled_stages(config)
        count = sum(stage.repeats for stage in stages)
        blocks: list[MBConv] = []
        for stage in stages:
            for repeat in range(stage.repeats):
                row = stage if repeat == 0 else stage._replace(stride=1)
                blocks.append(MBConv(config, row, channels, config.drop_path * len(blocks) / count))
                channels = stage.channels
        self.blocks = nn.Sequential(*blocks)

        self.num_features = scale_channels(HEAD_CHANNELS, fixed_width)
        self.head = ConvNorm(config, channels, self.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = nn.Linear(self.num_features, num_classes)
        self.apply(_initialise)

    def forward_features(self, x: Tensor) -> Tensor:
        """N x 3 x H x W photos to N x num_features pooled features: what dropout and the classifier are given."""
        return F.adaptive_avg_pool2d(self.head(self.blocks(self.stem(x))), 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """N x 3 x H x W photos to N x classes logits."""
        logits: Tensor = self.classifier(self.dropout(self.forward_features(x)))
        return logits

    def reset_classifier(self, num_classes: int) -> None:
        """Put a fresh classifier of `num_classes` on the same features."""
        old = self.classifier.weight
        self.classifier = nn.Linear(self.num_features, num_classes, device=old.device, dtype=old.dtype)
        _initialise(self.classifier)


@torch.no_grad()
def fold_bn_scale(network: nn.Module) -> None:
    """Move each batch norm's scale into its convolution, which leaves what `network` computes in evaluation as it is.

    For training with frozen statistics: a channel that hardly varies has a scale of up to 1 / sqrt(eps), by which each step on
    the convolution's weights would be multiplied.
    """
    for module in network.modules():
        if isinstance(module, ConvNorm):
            norm = module.norm
            assert norm.running_mean is not None and norm.running_var is not None
            scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
            module.conv.weight.mul_(scale[:, None, None, None])
            norm.running_mean.mul_(scale)
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)


def scaled_stages(config: EfficientNetConfig) -> list[Stage]:
    """The stages of `config`: channels scaled by its width, repeats by its depth."""
    last = len(STAGES) - 1
    return [
        stage._replace(
            channels=scale_channels(stage.channels, config.width),
            repeats=stage.repeats if config.lite and i in (0, last) else math.ceil(config.depth * stage.repeats),
        )
        for i, stage in enumerate(STAGES)
    ]


@torch.no_grad()
def _initialise(module: nn.Module) -> None:
    """TensorFlow's variances: He's by fan-out for convolutions, where the fan-out counts a group's outputs only."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        module.weight.normal_(0, math.sqrt(2 / fan_out))
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.Linear):
        # TensorFlow's range at ImageNet's classes: with few, 1 / sqrt(classes) starts so far off that it costs epochs.
        bound = 1 / math.sqrt(max(module.out_features, 1000))
        module.weight.uniform_(-bound, bound)
        module.bias.zero_()
