"""Batch norm in eval mode is affine per channel, so the convolution before it can do its work (Jacob et al. 2018, section 3.2)."""

import torch
from torch import Tensor, nn

from plumage.models.efficientnet import ConvNormAct


def scale_and_offset(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """What `norm` multiplies by and then adds in eval mode, one value per channel each."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return scale, norm.bias - norm.running_mean * scale


@torch.no_grad()
def fold_bn(network: nn.Module) -> None:
    """Replace each batch norm by a scaled weight and a bias of its convolution. For inference only."""
    for layer in network.modules():
        if isinstance(layer, ConvNormAct):
            scale, offset = scale_and_offset(layer.norm)
            layer.conv.weight = nn.Parameter(layer.conv.weight * scale[:, None, None, None])
            layer.conv.bias = nn.Parameter(offset)
            layer.norm = nn.Identity()  # type: ignore[assignment]


@torch.no_grad()
def fold_bn_scale(network: nn.Module) -> None:
    """Move each batch norm's scale into its convolution, without changing the output in eval mode.

    With frozen statistics, a channel that hardly varies has a scale of up to 1 / sqrt(eps), which multiplies steps.
    """
    for layer in network.modules():
        if isinstance(layer, ConvNormAct):
            norm, (scale, _) = layer.norm, scale_and_offset(layer.norm)
            assert norm.running_mean is not None and norm.running_var is not None
            layer.conv.weight.mul_(scale[:, None, None, None])
            norm.running_mean.mul_(scale)
            norm.running_var.fill_(1 - norm.eps)
            norm.weight.fill_(1)
