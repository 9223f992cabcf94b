"""Where a model looks: Grad-CAM (Selvaraju et al. 2017, arXiv 1610.02391) at its last feature map."""

import torch
from torch import Tensor

from plumage.models.classifier import ImageClassifier


def grad_cam(model: ImageClassifier, photos: Tensor, classes: Tensor) -> Tensor:
    """What speaks for class `classes[i]` in photo i, at each place of the head's maps: N x h x w float32, 0 to 1.

    `photos` is N x 3 x H x W as the model, in evaluation, takes them; h x w is a 32nd of H x W. Each map is relative to its own
    maximum; one where nothing speaks for the class is 0 all over. Neither weights nor gradients are touched.

    Grad-CAM weights the last maps by the mean gradient of the class's logit. Here that logit is a linear function of the maps' means, so
    the gradient is its weights, over h * w, everywhere: Grad-CAM is CAM (Zhou et al. 2016), and needs no backward pass.
    """
    with torch.inference_mode():
        maps = model.forward_features(photos).float()
        weights = model.classifier.weight.float()[classes]
        heat = torch.einsum("nfhw,nf->nhw", maps, weights).relu()
        most = heat.amax((1, 2), keepdim=True)
        return heat / torch.where(most > 0, most, 1)
