"""State dicts under the names of torchvision, timm and lukemelas/EfficientNet-PyTorch, both ways, in any order."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from plumage.errors import WeightsError
from plumage.models.classifier import ImageClassifier
from plumage.models.efficientnet import EfficientNet
from plumage.models.model_files import COUNTER, damage_of
from plumage.models.scaling import scaled_stages

LayoutName = Literal["plumage", "torchvision", "timm", "lukemelas"]

_WRAPPERS = re.compile(r"\b(module|_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""What DataParallel, torch.compile, FSDP and checkpointing put into names."""
_AVERAGED = "n_averaged"  # the counter of torch's AveragedModel


@dataclass(frozen=True)
class _Layout:
    """A library's name for each module. In `block`, {n} counts all blocks and {index} those of one {stage}."""

    outer: dict[str, str]
    block: str
    parts: dict[str, str]  # within a block
    first: dict[str, str]  # the parts whose names differ in a block without expansion
    first_stage: int = 0


_LAYOUTS: dict[LayoutName, _Layout] = {
    "torchvision": _Layout(
        outer={"stem.conv": "features.0.0", "stem.norm": "features.0.1", "head.conv": "features.8.0",
               "head.norm": "features.8.1", "classifier": "classifier.1"},
        block="features.{stage}.{index}.block",
        parts={"expand.conv": "0.0", "expand.norm": "0.1", "depthwise.conv": "1.0", "depthwise.norm": "1.1",
               "excite.reduce": "2.fc1", "excite.expand": "2.fc2", "project.conv": "3.0", "project.norm": "3.1"},
        first={"depthwise.conv": "0.0", "depthwise.norm": "0.1", "excite.reduce": "1.fc1", "excite.expand": "1.fc2",
               "project.conv": "2.0", "project.norm": "2.1"},
        first_stage=1,
    ),
    "timm": _Layout(
        outer={"stem.conv": "conv_stem", "stem.norm": "bn1", "head.conv": "conv_head", "head.norm": "bn2",
               "classifier": "classifier"},
        block="blocks.{stage}.{index}",
        parts={"expand.conv": "conv_pw", "expand.norm": "bn1", "depthwise.conv": "conv_dw", "depthwise.norm": "bn2",
               "excite.reduce": "se.conv_reduce", "excite.expand": "se.conv_expand",
               "project.conv": "conv_pwl", "project.norm": "bn3"},
        first={"depthwise.norm": "bn1", "project.conv": "conv_pw", "project.norm": "bn2"},
    ),
    "lukemelas": _Layout(
        outer={"stem.conv": "_conv_stem", "stem.norm": "_bn0", "head.conv": "_conv_head", "head.norm": "_bn1",
               "classifier": "_fc"},
        block="_blocks.{n}",
        parts={"expand.conv": "_expand_conv", "expand.norm": "_bn0", "depthwise.conv": "_depthwise_conv",
               "depthwise.norm": "_bn1", "excite.reduce": "_se_reduce", "excite.expand": "_se_expand",
               "project.conv": "_project_conv", "project.norm": "_bn2"},
        first={},
    ),
}  # fmt: skip


def stems() -> tuple[str, ...]:
    """The name of the first convolution's weight in each layout."""
    return ("stem.conv.weight", *(f"{layout.outer['stem.conv']}.weight" for layout in _LAYOUTS.values()))


def unwrap(tensors: Mapping[str, Tensor], source: str) -> Mapping[str, Tensor]:
    """The network in a larger module's state dict: `module.model.conv_stem.weight` becomes `conv_stem.weight`.

    Tensors outside of the network, as a loss has them, are left out. WeightsError if there are several networks.
    """
    inner = {_WRAPPERS.sub("", key): value for key, value in tensors.items() if key != _AVERAGED}
    prefixes = {key.removesuffix(stem) for key in inner for stem in stems() if f".{key}".endswith(f".{stem}")}
    if len(prefixes) > 1:
        names = ", ".join(sorted(prefix.rstrip(".") or "no prefix" for prefix in prefixes))
        raise WeightsError(f"{source}: holds several networks ({names}); takes the state dict of one")
    prefix = prefixes.pop() if prefixes else ""
    return {key.removeprefix(prefix): value for key, value in inner.items() if key.startswith(prefix)}


def detect_layout(tensors: Mapping[str, Tensor], source: str) -> LayoutName:
    """The library whose name the stem's weight has. WeightsError if it is none of them."""
    if "stem.conv.weight" in tensors:
        return "plumage"
    for name, layout in _LAYOUTS.items():
        if f"{layout.outer['stem.conv']}.weight" in tensors:
            return name
    example = repr(next(iter(tensors))) if tensors else "nothing"
    raise WeightsError(
        f"{source}: not an EfficientNet (its first name is {example}); takes a state dict with the names of Plumage, "
        "torchvision, timm or lukemelas"
    )


def load_tensors(model: ImageClassifier, tensors: Mapping[str, Tensor], source: str) -> bool:
    """Copy a state dict of any known layout into `model`; False if its classifier is missing or has other classes, and is left out.

    WeightsError names the first tensor that is missing, unknown or of another shape; `model` is then unchanged.
    """
    own, name = model.state_dict(), model.config.name
    their_name = _renaming(model, "plumage" if next(iter(own)) in tensors else detect_layout(tensors, source))
    known = {f"{their_name('classifier')}.{leaf}" for leaf in ("weight", "bias")}
    pairs: list[tuple[Tensor, Tensor]] = []
    has_classifier = True
    for key, ours in own.items():
        module, _, leaf = key.rpartition(".")
        if leaf == COUNTER:
            continue
        their_key = f"{their_name(module)}.{leaf}"
        known.add(their_key)
        if module == "classifier" and f"{their_name(module)}.weight" not in tensors:
            has_classifier = False
            continue
        if their_key not in tensors:
            raise WeightsError(f"{source}: lacks {their_key!r} of {name}")
        value = tensors[their_key]
        if module == "classifier" and value.shape[:1] != ours.shape[:1]:
            has_classifier = False
            continue
        if value.shape != ours.shape or not value.is_floating_point():
            raise WeightsError(
                f"{source}: {their_key!r} is {value.dtype} {tuple(value.shape)}, but {name} takes {tuple(ours.shape)}: "
                "these are another model's weights"
            )
        if damage := _damage(value, their_key):
            raise WeightsError(f"{source}: {their_key!r} {damage}: the file is damaged, or its training diverged")
        pairs.append((ours, value))
    own_head = "" if has_classifier else their_name("classifier").split(".")[0] + "."
    for key in tensors:
        if key not in known and not key.endswith(COUNTER) and not (own_head and key.startswith(own_head)):
            raise WeightsError(f"{source}: {key!r} is unknown to {name}: these are another model's weights")
    with torch.no_grad():
        for ours, value in pairs:
            ours.copy_(value)
    return has_classifier


def _damage(value: Tensor, name: str) -> str | None:
    """Why a network with this tensor would not give finite outputs; None if it may."""
    if value.layout is not torch.strided or value.device.type != "cpu":
        return f"is not a dense tensor ({value.layout}, {value.device.type})"
    return damage_of(value.detach().float().numpy(), name)


def export_state_dict(model: ImageClassifier, layout: LayoutName) -> dict[str, Tensor]:
    """`model`'s state dict under the names of another library, which loads it with strict=True.

    The other library's network gives the same logits if it is built with `model.config`'s conventions: batch norm's eps
    (`bn_eps` from scratch 1e-3, torchvision's default for B0 to B4 1e-5) and padding (timm's `tf_*` names pad SAME).
    """
    their_name = _renaming(model, layout)
    named = ((*key.rsplit(".", 1), value) for key, value in model.state_dict().items())
    return {f"{their_name(module)}.{leaf}": value for module, leaf, value in named}


def _renaming(model: ImageClassifier, layout_name: LayoutName) -> Callable[[str], str]:
    """A function from our module names to the layout's."""
    if layout_name == "plumage":
        return lambda module: module
    if not isinstance(model, EfficientNet):
        raise WeightsError(f"{layout_name} names are known for EfficientNets, not for {model.config.name}")
    layout = _LAYOUTS[layout_name]
    names = dict(layout.outer)
    n = 0
    for stage, row in enumerate(scaled_stages(model.config), layout.first_stage):
        for index in range(row.repeats):
            prefix = layout.block.format(n=n, stage=stage, index=index)
            parts = layout.parts if row.expansion > 1 else layout.parts | layout.first
            names |= {f"blocks.{n}.{ours}": f"{prefix}.{theirs}" for ours, theirs in parts.items()}
            n += 1
    return names.__getitem__
