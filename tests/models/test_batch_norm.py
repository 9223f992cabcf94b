"""Folding batch norm into convolutions changes no output in eval mode."""

import torch
from torch import nn

from plumage.models import create_model
from plumage.models.batch_norm import fold_bn, fold_bn_scale


def test_folding_the_scales_changes_no_output() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", 3, "imagenet").eval()
    x = torch.randn(2, 3, 64, 64)
    before = model(x)
    fold_bn_scale(model)
    torch.testing.assert_close(model(x), before, atol=1e-4, rtol=1e-4)
    assert all(
        torch.equal(block.expand.norm.weight, torch.ones(block.expand.norm.num_features)) for block in model.blocks[1:]
    )


def test_folding_whole_norms_changes_no_output_and_leaves_none() -> None:
    torch.manual_seed(0)
    model = create_model("efficientnet_lite0", 3, "imagenet").eval()
    x = torch.randn(2, 3, 64, 64)
    before = model(x)
    fold_bn(model)
    torch.testing.assert_close(model(x), before, atol=1e-4, rtol=1e-4)
    assert not [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
