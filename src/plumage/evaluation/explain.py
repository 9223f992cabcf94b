"""Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) of a network's last feature map: where the model looks."""

import torch
from torch import Tensor

from plumage.models.classifier import ImageClassifier


def grad_cam(model: ImageClassifier, photos: Tensor, classes: Tensor) -> Tensor:
    """The evidence for class `classes[i]` in photo i at each position of the last feature maps: N x h x w float32, 0 to 1.

    `photos` is N x 3 x H x W, normalised as the model expects; the model is in eval mode. h x w is 1/32 of H x W. Each map is scaled to
    its own maximum; a map without evidence for the class is all 0. Weights and gradients stay as they are.

    Grad-CAM weights the last maps by the mean gradient of the class's logit. Here the logit is linear in the maps' means, so the gradient
    is the classifier's weights / (h * w) everywhere: Grad-CAM is CAM (Zhou et al. 2016) and needs no backward pass.
    """
    with torch.inference_mode():
        maps = model.forward_features(photos).float()
        weights = model.classifier.weight.float()[classes]
        heat = torch.einsum("nfhw,nf->nhw", maps, weights).relu()
        highest = heat.amax((1, 2), keepdim=True)
        return heat / torch.where(highest > 0, highest, 1)
