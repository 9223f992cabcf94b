"""Read the weights in a file of safetensors or torch.save: a state dict, or a checkpoint that has one. No code in it runs."""

import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from plumage.errors import WeightsError
from plumage.models.saved_model import read_safetensors
from plumage.models.state_dicts import stems, unwrap

log = logging.getLogger(__name__)
PREFERRED = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema"),  # averages, as in timm's load_state_dict
    *("state_dict", "model_state_dict", "model", "net"),
)
"""Names of a network within a checkpoint that has several, the best first."""
OTHER_FILES = {
    b"version https://git-lfs": "is a pointer of Git LFS; fetch the file itself with `git lfs pull`",
    b"<": "is a web page; download the file itself",
    b"\x89HDF": "is an HDF5 file (Keras); takes a .safetensors or .pth file",
    b"\x1f\x8b": "is compressed; unpack it",
}
"""What is often saved in place of weights, by its first bytes."""
SAVE = "save the network's state dict alone: torch.save(model.state_dict(), path)"
DEPTH = 4
"""Levels of dicts to look for a network in."""


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """The state dict in a file, on the CPU, without the prefixes of wrappers and outer modules.

    Raises:
        WeightsError: the file is missing or damaged, or has no state dict or several.
    """
    if not path.is_file():
        raise WeightsError(f"model.weights: {path} is not a file; takes null, imagenet, or a .safetensors or .pth file")
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise WeightsError(f"model.weights: {path} can't be read ({error.strerror})") from None
    if not start:
        raise WeightsError(f"model.weights: {path} is empty")
    for beginning, what in OTHER_FILES.items():
        if start.lstrip().startswith(beginning):
            raise WeightsError(f"model.weights: {path} {what}")
    source = f"model.weights: {path}"
    is_torch = start.startswith((b"PK", b"\x80"))
    if start[8:9] == b"{" or (path.suffix.lower() == ".safetensors" and not is_torch):
        return unwrap(_load_safetensors(path), source)
    if start.startswith(b"PK"):
        return unwrap(_state_dict(_load_zip(path), path), source)
    if start.startswith(b"\x80"):
        return unwrap(_state_dict(_load(path), path), source)
    raise WeightsError(f"model.weights: {path} is of an unknown kind; takes a .safetensors or .pth file")


def _load_safetensors(path: Path) -> Mapping[str, Tensor]:
    try:
        return read_safetensors(path)
    except WeightsError as error:
        raise WeightsError(f"model.weights: {error}") from None


class _Inert:
    """Stands for any object but a tensor. Loading then imports and calls nothing that the file names."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass


def _load_zip(path: Path) -> Any:
    """The content of a file of torch.save, with an `_Inert` for each object that is not plain data."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.partition("/")[2] for name in archive.namelist()}
            unpacked = sum(member.file_size for member in archive.infolist())
            damaged = None if unpacked > path.stat().st_size else archive.testzip()
    except Exception:  # damaged archives raise nearly anything
        raise WeightsError(f"model.weights: {path} is not complete; fetch it again") from None
    if "constants.pkl" in names:  # partly compressed
        raise WeightsError(f"model.weights: {path} is a TorchScript program; {SAVE}")
    if unpacked > path.stat().st_size:  # torch.save doesn't compress; a few kilobytes could fill the memory
        raise WeightsError(f"model.weights: {path} is compressed, so torch.save did not write it; {SAVE}")
    if damaged:
        raise WeightsError(f"model.weights: {path} is damaged (a CRC-32 in it is wrong); fetch it again")
    if "data.pkl" not in names:
        raise WeightsError(f"model.weights: {path} is a zip archive that torch.save did not write; {SAVE}")
    try:
        others = sorted(get_unsafe_globals_in_checkpoint(str(path)))
    except Exception as error:
        raise _damaged(path, error) from None
    with safe_globals([(_Inert, name) for name in others]):
        content = _load(path, others)
    if isinstance(content, _Inert):
        raise WeightsError(f"model.weights: {path} holds more than plain tensors: a pickled network; {SAVE}")
    return content


def _load(path: Path, others: Sequence[str] = ()) -> Any:
    try:
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):  # of unusual pickles
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged pickles raise nearly anything
        raise _damaged(path, error, others) from None


def _damaged(path: Path, error: Exception, others: Sequence[str] = ()) -> WeightsError:
    """torch's own messages are long, coloured, and advise to run the code in the file. `others`: what it refers to."""
    named = others or re.findall(r"GLOBAL ([\w.]+)", str(error))
    damaged = f"is damaged, or torch.save did not write it ({type(error).__name__})"
    is_name = named and re.fullmatch(r"[\w.]{1,200}", named[0])
    what = f"holds more than plain tensors: {named[0]}" if is_name else damaged
    return WeightsError(f"model.weights: {path} {what}; {SAVE}")


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The state dict of the network in a checkpoint."""
    found = list(_state_dicts(content, "", DEPTH))
    networks = {name: tensors for name, tensors in found if any(key.endswith(stems()) for key in tensors)}
    if len(networks) > 1:
        chosen = next((name for name in PREFERRED if name in networks), None)
        if chosen is None:
            raise WeightsError(f"model.weights: {path} holds several networks ({', '.join(networks)}); {SAVE}")
        log.info("%s: of %s, `%s` is taken", path, ", ".join(networks), chosen)
        return networks[chosen]
    if networks:
        return next(iter(networks.values()))
    if not found:
        raise WeightsError(
            f"model.weights: {path} is not a state dict, or holds more than plain tensors; takes a dict of names to tensors"
        )
    return max((tensors for _, tensors in found), key=len)


def _state_dicts(content: Any, name: str, depth: int) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """The dicts of tensors within `content`, with the keys that they are under."""
    if not isinstance(content, Mapping) or not depth:
        return
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if tensors:
        yield name, tensors
    for key, value in content.items():
        yield from _state_dicts(value, str(key), depth - 1)
