"""An EfficientNet as an ONNX graph for inference: batch norms folded into the convolutions. No torch, no tracing.

Folding: Jacob et al. 2018, section 3.2.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from plumage.architectures import EfficientNetConfig
from plumage.models.scaling import NORM, Block, scaled_blocks

Tensors = Mapping[str, NDArray[np.float32]]
"""A state dict with Plumage's names."""
INPUT, FEATURES, LOGITS = "photos", "features", "logits"
OPSET, IR_VERSION = 17, 9
"""Old enough for every ONNX Runtime that Plumage takes."""


def onnx_model(config: EfficientNetConfig, tensors: Tensors) -> bytes:
    """The serialised network in eval mode: `photos`, float32 N x C x H x W, to `features`, N x F, and `logits`, N x classes.

    Without a classifier in `tensors` it has no `logits`.
    """
    return _Graph(config, tensors).serialized()


class _Graph:
    """The nodes so far. A method adds some, and returns the name of their output."""

    def __init__(self, config: EfficientNetConfig, tensors: Tensors) -> None:
        self.config, self.tensors = config, tensors
        self.nodes: list[onnx.NodeProto] = []
        bounds = {"zero": np.float32(0), "six": np.float32(6)} if config.lite else {}  # of ReLU6
        self.constants = [self._constant(name, value) for name, value in bounds.items()]

    def serialized(self) -> bytes:
        """The whole network."""
        x = self._layer(INPUT, "stem", stride=2)
        for index, block in enumerate(scaled_blocks(self.config)):
            x = self._block(x, f"blocks.{index}", block)
        x = self._add("GlobalAveragePool", self._layer(x, "head"))
        self._add("Flatten", x, output=FEATURES)
        outputs = {FEATURES: self.tensors["head.conv.weight"].shape[0]}
        if "classifier.weight" in self.tensors:
            self._classifier()
            outputs[LOGITS] = self.tensors["classifier.weight"].shape[0]
        channels = self.tensors["stem.conv.weight"].shape[1]
        graph = helper.make_graph(
            self.nodes, self.config.name,
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["N", channels, "H", "W"])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size]) for name, size in outputs.items()],
            self.constants,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", OPSET)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())

    def _block(self, x: str, name: str, block: Block) -> str:
        y = self._layer(x, f"{name}.expand") if block.expands else x
        y = self._layer(y, f"{name}.depthwise", block.stride, groups=block.width)
        if block.squeezed:
            y = self._add("Mul", y, self._gate(y, f"{name}.excite"))
        y = self._layer(y, f"{name}.project", activate=False)
        return self._add("Add", x, y) if block.skips else y

    def _gate(self, x: str, name: str) -> str:
        """Squeeze-and-excitation's factor per channel."""
        tensors = self.tensors
        x = self._add("GlobalAveragePool", x)
        x = self._conv(x, f"{name}.reduce", tensors[f"{name}.reduce.weight"], tensors[f"{name}.reduce.bias"])
        x = self._add("Mul", x, self._add("Sigmoid", x))
        x = self._conv(x, f"{name}.expand", tensors[f"{name}.expand.weight"], tensors[f"{name}.expand.bias"])
        return self._add("Sigmoid", x)

    def _layer(self, x: str, name: str, stride: int = 1, groups: int = 1, activate: bool = True) -> str:
        """A ConvNormAct."""
        norm = {key: self.tensors[f"{name}.norm.{key}"] for key in NORM}
        scale = norm["weight"] / np.sqrt(norm["running_var"] + np.float32(self.config.bn_eps))
        weight = self.tensors[f"{name}.conv.weight"] * scale[:, None, None, None]
        x = self._conv(x, name, weight, norm["bias"] - norm["running_mean"] * scale, stride, groups)
        if not activate:
            return x
        # ONNX Runtime fuses Clip with the convolution, and x * sigmoid(x) into one pass.
        return self._add("Clip", x, "zero", "six") if self.config.lite else self._add("Mul", x, self._add("Sigmoid", x))

    def _conv(
        self, x: str, name: str, weight: NDArray[np.float32], bias: NDArray[np.float32], stride: int = 1, groups: int = 1
    ) -> str:  # fmt: skip
        size = weight.shape[-1]
        same = self.config.padding == "same" and stride > 1
        padding: dict[str, Any] = {"auto_pad": "SAME_UPPER"} if same else {"pads": [size // 2] * 4}
        self.constants += [self._constant(f"{name}.weight", weight), self._constant(f"{name}.bias", bias)]
        return self._add(
            "Conv", x, f"{name}.weight", f"{name}.bias",
            kernel_shape=[size, size], strides=[stride, stride], group=groups, **padding,
        )  # fmt: skip

    def _classifier(self) -> None:
        names = ["classifier.weight", "classifier.bias"]
        self.constants += [self._constant(name, self.tensors[name]) for name in names]
        self._add("Gemm", FEATURES, *names, output=LOGITS, transB=1)

    def _constant(self, name: str, value: NDArray[np.float32] | np.float32) -> onnx.TensorProto:
        return numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)

    def _add(self, kind: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        output = output or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output
