"""The layers of EfficientNet B0 to B7 and Lite0 to Lite4, by compound scaling of one table. Importing it does not import torch."""

import math
from collections.abc import Iterator
from typing import NamedTuple

from plumage.architectures import EfficientNetConfig


class Stage(NamedTuple):
    """A row of the paper's table 1: `repeats` blocks, the first one with `stride`, before scaling."""

    expansion: int
    kernel_size: int
    stride: int
    channels: int
    repeats: int


STEM_CHANNELS, HEAD_CHANNELS = 32, 1280
NORM = ("weight", "bias", "running_mean", "running_var")
"""Batch norm's tensors."""
STAGES = (
    Stage(expansion=1, kernel_size=3, stride=1, channels=16, repeats=1),
    Stage(expansion=6, kernel_size=3, stride=2, channels=24, repeats=2),
    Stage(expansion=6, kernel_size=5, stride=2, channels=40, repeats=2),
    Stage(expansion=6, kernel_size=3, stride=2, channels=80, repeats=3),
    Stage(expansion=6, kernel_size=5, stride=1, channels=112, repeats=3),
    Stage(expansion=6, kernel_size=5, stride=2, channels=192, repeats=4),
    Stage(expansion=6, kernel_size=3, stride=1, channels=320, repeats=1),
)


def scale_channels(channels: int, width: float) -> int:
    """`width` times `channels`, rounded to a multiple of 8 that is at least 0.9 of it."""
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


def scaled_stages(config: EfficientNetConfig) -> list[Stage]:
    """The table with channels scaled by `config.width` and repeats by `config.depth`."""
    unscaled = (STAGES[0], STAGES[-1]) if config.lite else ()
    return [
        stage._replace(
            channels=scale_channels(stage.channels, config.width),
            repeats=stage.repeats if stage in unscaled else math.ceil(config.depth * stage.repeats),
        )
        for stage in STAGES
    ]


class Block(NamedTuple):
    """The shape of one inverted bottleneck."""

    inputs: int  # channels
    width: int  # channels of the depthwise convolution
    outputs: int  # channels
    kernel_size: int
    stride: int
    squeezed: int  # channels between the layers of squeeze-and-excitation; 0 without it

    @property
    def expands(self) -> bool:
        """Whether a pointwise convolution comes before the depthwise one."""
        return self.width > self.inputs

    @property
    def skips(self) -> bool:
        """Whether the block's input is added to its output."""
        return self.stride == 1 and self.inputs == self.outputs


def stem_and_head(config: EfficientNetConfig) -> tuple[int, int]:
    """Output channels of the first and of the last convolution."""
    width = 1.0 if config.lite else config.width
    return scale_channels(STEM_CHANNELS, width), scale_channels(HEAD_CHANNELS, width)


def scaled_blocks(config: EfficientNetConfig) -> Iterator[Block]:
    """Every block, in order of depth."""
    inputs, _ = stem_and_head(config)
    for stage in scaled_stages(config):
        for stride in (stage.stride, *[1] * (stage.repeats - 1)):
            # The squeezed width follows the block's input, not the expanded width.
            squeezed = 0 if config.lite else max(1, inputs // 4)
            yield Block(inputs, inputs * stage.expansion, stage.channels, stage.kernel_size, stride, squeezed)
            inputs = stage.channels


def tensor_shapes(config: EfficientNetConfig, num_classes: int) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor in the state dict of a network for RGB photos, in order, without batch norm's counters."""
    shapes: dict[str, tuple[int, ...]] = {}

    def layer(name: str, inputs: int, outputs: int, kernel_size: int = 1) -> None:
        shapes[f"{name}.conv.weight"] = (outputs, inputs, kernel_size, kernel_size)
        shapes.update({f"{name}.norm.{key}": (outputs,) for key in NORM})

    def dense(name: str, outputs: int, *others: int) -> None:
        shapes.update({f"{name}.weight": (outputs, *others), f"{name}.bias": (outputs,)})

    stem, head = stem_and_head(config)
    layer("stem", 3, stem, 3)
    outputs = stem
    for index, block in enumerate(scaled_blocks(config)):
        name, outputs = f"blocks.{index}", block.outputs
        if block.expands:
            layer(f"{name}.expand", block.inputs, block.width)
        layer(f"{name}.depthwise", 1, block.width, block.kernel_size)
        if block.squeezed:
            dense(f"{name}.excite.reduce", block.squeezed, block.width, 1, 1)
            dense(f"{name}.excite.expand", block.width, block.squeezed, 1, 1)
        layer(f"{name}.project", block.width, block.outputs)
    layer("head", outputs, head)
    dense("classifier", num_classes, head)
    return shapes
