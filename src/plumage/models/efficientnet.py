"""EfficientNet B0 to B7 and Lite0 to Lite4 (scaling.py), in plain torch.

Sources: Tan & Le 2019 (arXiv 1905.11946) and its TensorFlow code (tensorflow/tpu, models/official/efficientnet). Lite
(its `lite/`) has no squeeze-and-excitation, ReLU6 for SiLU, and an unscaled stem, head, and repeats of the first and
last stage. `plumage.accelerate` swaps these layers for faster ones. Both are fastest in channels_last memory.
"""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.architectures import EfficientNetConfig
from plumage.models.classifier import ImageClassifier, init_classifier, new_classifier
from plumage.models.preprocessing import Preprocessing
from plumage.models.scaling import Block, scaled_blocks, scaled_stages, stem_and_head


class Conv2dSame(nn.Conv2d):
    """TensorFlow's SAME padding, odd pixels at the bottom and right: H x W to ceil(H / stride) x ceil(W / stride)."""

    def forward(self, x: Tensor) -> Tensor:
        x, padding = self.pad(x)
        return F.conv2d(x, self.weight, self.bias, self.stride, padding, self.dilation, self.groups)

    def pad(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """`x` with the odd pixels, and the padding (height, width) that is left for both sides."""
        height, width = (self.total_padding(size) for size in x.shape[2:])
        if height % 2 or width % 2:
            x = F.pad(x, (0, width % 2, 0, height % 2))
        return x, (height // 2, width // 2)

    def total_padding(self, size: int) -> int:
        """Zeros to add along a side of `size` pixels."""
        stride, kernel_size = self.stride[0], self.kernel_size[0]
        return max(0, (-(-size // stride) - 1) * stride + kernel_size - size)


def padded(conv: nn.Conv2d, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """`x` with the odd pixels of SAME padding, if `conv` has it, and the padding (height, width) for both sides."""
    return conv.pad(x) if isinstance(conv, Conv2dSame) else (x, (conv.kernel_size[0] // 2, conv.kernel_size[1] // 2))


class ConvNormAct(nn.Module):
    """Convolution without bias, batch norm, and SiLU (Lite: ReLU6) unless `activate` is false."""

    def __init__(
        self, config: EfficientNetConfig, inputs: int, outputs: int, kernel_size: int = 1, stride: int = 1,
        groups: int = 1, activate: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        # At stride 1, SAME padding of an odd kernel is symmetric.
        conv = Conv2dSame if config.padding == "same" and stride > 1 else nn.Conv2d
        self.conv = conv(inputs, outputs, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(outputs, config.bn_eps, config.bn_momentum)
        self.act = (nn.ReLU6() if config.lite else nn.SiLU()) if activate else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W to N x outputs x H' x W'."""
        return self.act(self.norm(self.conv(x)))


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate computed from the means of all channels (Hu et al. 2018, arXiv 1709.01507)."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed, 1)
        self.expand = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same shape."""
        return x * self.expand(F.silu(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()


class DropPath(nn.Module):
    """Stochastic depth (Huang et al. 2016, arXiv 1603.09382): zero a residual branch, per sample, in training."""

    def __init__(self, drop_prob: float) -> None:
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x: Tensor) -> Tensor:
        """N x C x H x W to the same shape, samples zeroed with probability `drop_prob`, the others scaled to keep the mean."""
        return x * self.mask(x) if self.training and self.drop_prob > 0 else x

    def mask(self, x: Tensor) -> Tensor:
        """N x 1 x 1 x 1 factors: 0, or 1 / (1 - drop_prob)."""
        keep = 1 - self.drop_prob
        return x.new_empty(len(x), 1, 1, 1).bernoulli_(keep).div_(keep)


class MBConv(nn.Module):
    """Inverted bottleneck: expand, depthwise convolution, squeeze-and-excite, project; a skip where shapes allow."""

    def __init__(self, config: EfficientNetConfig, block: Block, drop_prob: float) -> None:
        super().__init__()
        width = block.width
        self.expand = ConvNormAct(config, block.inputs, width) if block.expands else nn.Identity()
        self.depthwise = ConvNormAct(config, width, width, block.kernel_size, block.stride, groups=width)
        self.excite = SqueezeExcite(width, block.squeezed) if block.squeezed else nn.Identity()
        self.project = ConvNormAct(config, width, block.outputs, activate=False)
        self.drop_path = DropPath(drop_prob)
        self.skips = block.skips

    def forward(self, x: Tensor) -> Tensor:
        """N x inputs x H x W to N x channels x H' x W'."""
        y = self.project(self.excite(self.depthwise(self.expand(x))))
        return x + self.drop_path(y) if self.skips else y


class EfficientNet(ImageClassifier):
    """`stem`, `blocks` in order of depth and `head` give the map; `dropout` and `classifier` work on its means."""

    config: EfficientNetConfig
    stem: ConvNormAct

    def __init__(
        self, config: EfficientNetConfig, num_classes: int, preprocessing: Preprocessing | None, in_chans: int
    ) -> None:
        super().__init__(config, num_classes, preprocessing, in_chans)
        stem_channels, self.num_features = stem_and_head(config)
        self.stem = ConvNormAct(config, in_chans, stem_channels, kernel_size=3, stride=2)
        blocks = list(scaled_blocks(config))
        self.blocks = nn.Sequential(
            *(MBConv(config, block, config.drop_path * index / len(blocks)) for index, block in enumerate(blocks))
        )
        self.head = ConvNormAct(config, blocks[-1].outputs, self.num_features)
        self.dropout = nn.Dropout(config.dropout)
        self.classifier = new_classifier(self.num_features, num_classes)
        self.apply(_init_weights)

    def stages(self) -> list[nn.Sequential]:
        """The blocks of each of the seven stages."""
        bounds = itertools.accumulate((stage.repeats for stage in scaled_stages(self.config)), initial=0)
        return [self.blocks[start:end] for start, end in itertools.pairwise(bounds)]

    def forward_features(self, x: Tensor) -> Tensor:
        """N x in_chans x H x W photos to the head's maps, N x num_features x ceil(H / 32) x ceil(W / 32)."""
        return self.head(self.blocks(self.stem(x)))


@torch.no_grad()
def _init_weights(module: nn.Module) -> None:
    """TensorFlow's variances: He's by fan-out for convolutions, where the fan-out counts the outputs of one group."""
    if isinstance(module, nn.Conv2d):
        fan_out = module.kernel_size[0] * module.kernel_size[1] * module.out_channels // module.groups
        module.weight.normal_(0, math.sqrt(2 / fan_out))
        if module.bias is not None:
            module.bias.zero_()
    init_classifier(module)
