"""The interface that timm's users expect: features, head, classifier, input channels."""

import pytest
import timm
import torch
from torch import nn

from plumage.errors import ModelError
from plumage.models import create_model


@torch.no_grad()
@pytest.mark.parametrize("name", ["efficientnet_b0", "efficientnet_lite0"])
def test_features_and_head_have_timms_shapes_and_make_up_the_logits(name: str) -> None:
    ours, theirs = create_model(name, 10).eval(), timm.create_model(f"tf_{name}", num_classes=10).eval()
    photos = torch.randn(2, 3, 64, 96)
    maps = ours.forward_features(photos)
    pooled = ours.forward_head(maps, pre_logits=True)
    assert maps.shape == theirs.forward_features(photos).shape == (2, ours.num_features, 2, 3)
    assert pooled.shape == theirs.forward_head(theirs.forward_features(photos), pre_logits=True).shape
    torch.testing.assert_close(pooled, maps.mean((2, 3)))
    assert torch.equal(ours.get_classifier()(pooled), ours(photos))
    assert torch.equal(ours.forward_head(maps), ours(photos))
    assert ours.num_features == theirs.num_features


def test_pre_logits_are_dropped_out_as_in_timm() -> None:
    model = create_model("efficientnet_b0", 10, drop_rate=0.5).train()
    pooled = model.forward_head(torch.ones(4, model.num_features, 2, 2), pre_logits=True)
    assert set(pooled.unique().tolist()) == {0.0, 2.0}


@torch.no_grad()
def test_a_reset_classifier_keeps_the_features() -> None:
    model = create_model("efficientnet_lite0", 10).eval()
    photos = torch.randn(2, 3, 64, 64)
    before = model.forward_features(photos)
    model.reset_classifier(3)
    assert model(photos).shape == (2, 3) and model.num_classes == 3
    assert torch.equal(model.forward_features(photos), before)


@torch.no_grad()
def test_no_classes_leave_the_pooled_features_as_in_timm() -> None:
    model, photos = create_model("efficientnet_lite0", 5).eval(), torch.randn(2, 3, 64, 64)
    pooled = model.forward_head(model.forward_features(photos), pre_logits=True)
    model.reset_classifier(0)
    assert isinstance(model.get_classifier(), nn.Identity)
    assert torch.equal(model(photos), pooled)
    model.double().reset_classifier(4)
    assert model(photos.double()).shape == (2, 4), "a classifier comes back in the network's dtype"


@torch.no_grad()
def test_weights_load_into_a_model_without_classifier() -> None:
    bare, whole = (
        create_model("efficientnet_lite0", 0, "imagenet").eval(),
        create_model("efficientnet_lite0", 9, "imagenet").eval(),
    )
    photos = torch.randn(1, 3, 64, 64)
    assert torch.equal(bare(photos), whole.forward_head(whole.forward_features(photos), pre_logits=True))


@torch.no_grad()
def test_other_input_channels_are_for_random_weights_only() -> None:
    model = create_model("efficientnet_b0", 2, in_chans=5).eval()
    assert model(torch.randn(1, 5, 32, 32)).shape == (1, 2)
    with pytest.raises(
        ModelError, match="in_chans: got 1 with weights, which have 3 input channels; takes 3, or weights=None"
    ):
        create_model("efficientnet_lite0", 2, "imagenet", in_chans=1)
