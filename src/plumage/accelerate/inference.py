"""A copy of a network, prepared once to answer for many photos: batch norms folded, weights in the dtype of the maps.

On a CPU it computes in float32 (bfloat16 would move predictions), in ONNX Runtime (engine.py).
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from plumage.accelerate.engine import Engine
from plumage.accelerate.graphs import Graphed
from plumage.accelerate.kernels import gpu
from plumage.accelerate.kernels.dispatch import dtype_of
from plumage.accelerate.layers import FastSqueezeExcite, activated, unaccelerate
from plumage.common.cores import cores
from plumage.config import Precision
from plumage.models.batch_norm import fold_bn
from plumage.models.classifier import ImageClassifier
from plumage.models.efficientnet import ConvNormAct, EfficientNet, MBConv, SqueezeExcite, padded

Forward = Callable[[Tensor], Tensor]


def compile_for_inference(
    network: nn.Module, precision: Precision = "fp32", *, pre_logits: bool = False, accelerate: bool = True
) -> Forward:
    """A function from N x 3 x H x W photos to `network`'s float32 logits, with the weights that it has now.

    An EfficientNet in eval mode is copied; other networks, and any if not `accelerate`, are called as they are.
    `precision` is that of the maps on a GPU. With `pre_logits` the function returns pooled N x num_features instead.
    """
    device = next(network.parameters()).device
    if accelerate and device.type == "cpu" and isinstance(network, EfficientNet):
        return _engine_forward(network, pre_logits)
    dtype = torch.float32 if device.type == "cpu" else dtype_of(device, precision)
    if accelerate and isinstance(network, EfficientNet):
        forward, mixed = _folded_forward(network, dtype, pre_logits), False
    else:
        forward, mixed = _plain_forward(network, pre_logits), dtype == torch.bfloat16

    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # TF32's 10 bits move probabilities by a thousandth
        forward = Graphed(forward) if accelerate else forward

    @torch.inference_mode()
    def run(photos: Tensor) -> Tensor:
        # A cache of cast weights would not outlive the recording of a graph.
        with torch.autocast(device.type, torch.bfloat16, enabled=mixed, cache_enabled=False):
            return forward(photos)

    return run


def _engine_forward(network: EfficientNet, pre_logits: bool) -> Forward:
    tensors = {name: value.detach().float().numpy() for name, value in network.state_dict().items()}
    engine = Engine(network.config, tensors, min(cores(), torch.get_num_threads()))
    compute = engine.features if pre_logits else engine.logits
    return lambda photos: torch.from_numpy(compute(photos.numpy()))


def _plain_forward(network: nn.Module, pre_logits: bool) -> Forward:
    if not pre_logits:
        return lambda photos: network(photos).float()
    assert isinstance(network, ImageClassifier)
    return lambda photos: network.forward_head(network.forward_features(photos), pre_logits=True).float()


@torch.no_grad()
def _folded_forward(network: EfficientNet, dtype: torch.dtype, pre_logits: bool) -> Forward:
    """Of a copy of `network` that computes its maps in `dtype`, and what follows them in float32."""
    model = unaccelerate(copy.deepcopy(network)).eval()
    fold_bn(model)
    for part in (model.stem, model.blocks, model.head):
        part.to(dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    device = next(model.parameters()).device
    if device.type == "cuda" and gpu.HAS_TRITON:
        _use_gpu_kernels(model)
    return lambda photos: model.forward_head(model.forward_features(photos.to(dtype)).float(), pre_logits)


def _use_gpu_kernels(model: EfficientNet) -> None:
    """Put kernels in place of the layers of a folded network: fewer passes over its maps."""
    for block in model.blocks:
        assert isinstance(block, MBConv)
        block.depthwise = _FusedDepthwise(block.depthwise)  # type: ignore[assignment]
        if isinstance(block.excite, SqueezeExcite):
            block.excite.float().__class__ = FastSqueezeExcite
    for layer in model.modules():
        if isinstance(layer, ConvNormAct) and layer.conv.kernel_size == (1, 1):
            layer.__class__ = _FoldedPointwise


class _FoldedPointwise(ConvNormAct):
    """A folded pointwise convolution as a matrix product, which adds the bias in the same pass."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.linear(x.permute(0, 2, 3, 1), self.conv.weight.flatten(1), self.conv.bias).permute(0, 3, 1, 2)
        return activated(x, self.act)


class _FusedDepthwise(nn.Module):
    """A folded depthwise convolution with its bias and activation in one kernel."""

    def __init__(self, layer: ConvNormAct) -> None:
        super().__init__()
        assert layer.conv.bias is not None
        self.conv, self.act = layer.conv, layer.act
        self.taps = layer.conv.weight.flatten(1).T.float().contiguous()
        self.bias = layer.conv.bias.float()

    def forward(self, x: Tensor) -> Tensor:
        x, padding = padded(self.conv, x)
        silu = isinstance(self.act, nn.SiLU)
        y = gpu.depthwise_act(x, self.taps, self.bias, silu, self.conv.stride[0], padding)
        return y if silu else activated(y, self.act)
