"""What training, evaluation and serving rely on in a network, whatever its architecture. Method names follow timm."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.architectures import ArchitectureConfig
from plumage.models.preprocessing import Preprocessing


class ImageClassifier(nn.Module):
    """A stem, stages, and a linear classifier on pooled features: N x in_chans x H x W photos to N x classes logits.

    A subclass sets `stem`, `num_features`, `dropout` and `classifier`, and defines `stages` and `forward_features`.
    """

    stem: nn.Module
    num_features: int  # channels of `forward_features`, the classifier's inputs
    dropout: nn.Dropout
    classifier: nn.Linear  # `nn.Identity` for 0 classes

    def __init__(
        self, config: ArchitectureConfig, num_classes: int, preprocessing: Preprocessing | None, in_chans: int
    ) -> None:
        super().__init__()
        self.config, self.num_classes, self.in_chans = config, num_classes, in_chans
        # How photos become inputs, as the weights were trained.
        self.preprocessing = preprocessing or Preprocessing(size=config.resolution, crop_fraction=1.0)

    def stages(self) -> list[nn.Sequential]:
        """The blocks of each stage, in order of depth: what freezing counts."""
        raise NotImplementedError

    def forward_features(self, x: Tensor) -> Tensor:
        """N x in_chans x H x W photos to the last feature map, N x num_features x h x w."""
        raise NotImplementedError

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """The feature map to N x classes logits; with `pre_logits`, to the N x num_features that the classifier gets."""
        x = self.dropout(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return x if pre_logits else self.classifier(x)

    def forward(self, x: Tensor) -> Tensor:
        """N x in_chans x H x W photos to N x classes logits."""
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Linear:
        """The last layer."""
        return self.classifier

    def reset_classifier(self, num_classes: int) -> None:
        """Replace the classifier by a random one for `num_classes`; 0 leaves the pooled features as the output."""
        self.num_classes = num_classes
        self.classifier = new_classifier(self.num_features, num_classes).to(next(self.parameters()))
        init_classifier(self.classifier)


def new_classifier(num_features: int, num_classes: int) -> nn.Linear:
    """The last layer, with torch's initialisation; `nn.Identity` for 0 classes."""
    return nn.Linear(num_features, num_classes) if num_classes else nn.Identity()  # type: ignore[return-value]


@torch.no_grad()
def init_classifier(layer: nn.Module) -> None:
    """Draw from TensorFlow's range at ImageNet's 1,000 classes: with fewer, 1 / sqrt(classes) starts so far off that it costs epochs."""
    if isinstance(layer, nn.Linear):
        bound = 1 / math.sqrt(max(layer.out_features, 1000))
        layer.weight.uniform_(-bound, bound)
        layer.bias.zero_()
