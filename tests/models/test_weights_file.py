"""Weights are found in files of any suffix, below any prefix, in checkpoints of any shape; else one line says what is wrong."""

import argparse
import collections
import contextlib
import logging
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from plumage.errors import WeightsError
from plumage.models import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import save_model
from plumage.models.weights_file import read_weights

STEM = torch.arange(3.0)
OTHER = torch.zeros(3)


def network(prefix: str = "", stem: Tensor = STEM) -> dict[str, Tensor]:
    return {f"{prefix}bn1.weight": torch.ones(1), f"{prefix}conv_stem.weight": stem}


def saved(folder: Path, content: Any, name: str = "weights.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def refusal(path: Path) -> str:
    """The one line that refuses a file: no escape codes, and no advice to run the code in it."""
    with pytest.raises(WeightsError) as caught:
        read_weights(path)
    message = str(caught.value)
    assert message.isprintable() and str(path) in message
    assert not any(word in message for word in ("weights_only", "safe_globals", "trust"))
    return message


@pytest.mark.parametrize("prefix", [
    "", "module.", "_orig_mod.", "model.", "backbone.", "net.", "module._orig_mod.", "_orig_mod.module.model.", "a.b.c.d.",
])  # fmt: skip
@pytest.mark.parametrize("stem", ["stem.conv", "features.0.0", "conv_stem", "_conv_stem"])
def test_a_prefix_is_left_out(tmp_path: Path, prefix: str, stem: str) -> None:
    names = {f"{stem}.weight": STEM, "blocks.0.bias": STEM}
    path = saved(tmp_path, {prefix + name: value for name, value in names.items()})
    assert list(read_weights(path)) == list(names)


def test_wrappers_within_a_network_and_tensors_outside_it_are_left_out(tmp_path: Path) -> None:
    content = {"net.conv_stem.weight": STEM, "net.blocks.0._orig_mod.bn1.weight": STEM, "criterion.weight": OTHER}
    assert list(read_weights(saved(tmp_path, content))) == ["conv_stem.weight", "blocks.0.bn1.weight"]


@pytest.mark.parametrize(
    "name",
    [
        "weights.pth",
        "weights.ckpt",
        "weights.pth.tar",
        "pytorch_model.bin",
        "WEIGHTS.PTH",
        "weights.pt",
        "weights",
        "w.model",
        "w.safetensors",
    ],
)
def test_the_suffix_does_not_matter(tmp_path: Path, name: str) -> None:
    assert torch.equal(read_weights(saved(tmp_path, network(), name))["conv_stem.weight"], STEM)


def test_safetensors_are_known_by_their_content(tmp_path: Path) -> None:
    for name in ("a.safetensors", "A.SAFETENSORS", "a.pth"):
        save_file(network("module."), tmp_path / name)
        assert torch.equal(read_weights(tmp_path / name)["conv_stem.weight"], STEM)


@pytest.mark.parametrize(
    "content",
    [
        *({name: network("module.")} for name in ("state_dict", "model", "model_state_dict", "net", "anything")),
        {"checkpoint": {"state_dict": network("model.")}},
        {"state_dict": network(stem=OTHER), "state_dict_ema": network()},
        {"model": network("module.", OTHER), "model_ema": {"n_averaged": torch.tensor(3), **network("module.")}},
        {"best": network(), "ema": None, "optimizer": {"state": {0: {"exp_avg": OTHER}}, "param_groups": [{"lr": 0.1}]}},
        {"state_dict": network(), "args": argparse.Namespace(lr=0.1), "best": np.float64(0.5), "log": np.zeros(3)},
        {"state_dict": network(), "hyper_parameters": {"dir": Path("photos"), "x": collections.Counter("a")}, "callbacks": {}},
    ],
)  # fmt: skip
def test_a_checkpoint_gives_its_network_the_averaged_one_first(tmp_path: Path, content: dict[str, Any]) -> None:
    found = read_weights(saved(tmp_path, content))
    assert torch.equal(found["conv_stem.weight"], STEM) and found.keys() == network().keys()


def test_which_network_is_taken_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    read_weights(saved(tmp_path, {"model": network(), "ema": network()}))
    assert "of model, ema, `ema` is taken" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"student": network(), "teacher": network()}, "holds several networks (student, teacher)"),
        ({**network("student."), **network("teacher.")}, "holds several networks (student, teacher)"),
        (nn.Linear(1, 1), "holds more than plain tensors: a pickled network; save the network's state dict alone"),
        ({"state_dict": None}, "is not a state dict"),
        ((network(), 1), "is not a state dict"),
        (torch.zeros(3), "is not a state dict"),
    ],
)
def test_a_file_without_one_network_is_refused(tmp_path: Path, content: object, message: str) -> None:
    assert message in refusal(saved(tmp_path, content))


def test_programs_archives_and_old_files_with_objects_are_refused_by_name(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1)), tmp_path / "script.pt")
    assert "is a TorchScript program; save the network's state dict" in refusal(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "zipped.pth", "w") as archive:
        archive.writestr("weights.pth", b"")
    assert "is a zip archive that torch.save did not write" in refusal(tmp_path / "zipped.pth")
    content = {"state_dict": network(), "args": argparse.Namespace()}
    torch.save(content, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert "holds more than plain tensors: argparse.Namespace" in refusal(tmp_path / "old.pth")
    (tmp_path / "pickle.pth").write_bytes(pickle.dumps(network(), protocol=5))
    assert "is damaged, or torch.save did not write it" in refusal(tmp_path / "pickle.pth")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = saved(tmp_path, network()).read_bytes()
    for cut in range(0, len(whole) - 1, 37):
        (tmp_path / "cut.pth").write_bytes(whole[:cut])
        refusal(tmp_path / "cut.pth")


def test_a_changed_byte_in_a_file_of_torch_save_is_noticed(tmp_path: Path) -> None:
    path = saved(tmp_path, network(stem=torch.arange(1000.0)))
    whole = path.read_bytes()
    for place in range(whole.index(torch.tensor([1.0, 2.0]).numpy().tobytes()), len(whole) - 400, 97):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with contextlib.suppress(WeightsError):
            assert torch.equal(read_weights(path)["conv_stem.weight"], torch.arange(1000.0))  # the byte was padding


def test_a_small_archive_that_would_fill_the_memory_is_not_unpacked(tmp_path: Path) -> None:
    path = saved(tmp_path, network())
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, bytes(2**27))
    assert "is compressed, so torch.save did not write it" in refusal(path)


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("stem.conv.weight", torch.full((32, 3, 3, 3), torch.nan), "has values that are not finite"),
        ("stem.conv.weight", torch.full((32, 3, 3, 3), 1e300, dtype=torch.float64), "has values that are not finite"),
        ("head.norm.running_var", -torch.ones(1280), "has negative variances"),
        ("stem.conv.weight", torch.zeros(32, 3, 3, 3, device="meta"), "is not a dense tensor"),
        ("stem.conv.weight", torch.zeros(32, 3, 3, 3).to_sparse(), "is not a dense tensor"),
        ("stem.conv.weight", torch.zeros(32, 3, 3, 3, dtype=torch.complex64), "are another model's weights"),
        ("stem.conv.weight", torch.zeros(1).expand(10**12), "are another model's weights"),
    ],
)
def test_tensors_that_give_no_finite_outputs_are_refused(
    tmp_path: Path, name: str, value: Tensor, problem: str
) -> None:
    tensors = create_model("efficientnet_lite0", 2).state_dict()
    (tmp_path / "weights.json").write_text(description(tmp_path))
    with pytest.raises(WeightsError, match=problem) as caught:
        create_model("efficientnet_lite0", 2, saved(tmp_path, tensors | {name: value}))
    assert repr(name) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "head",
    [{}, {"classifier.weight": torch.zeros(3, 1280), "classifier.bias": torch.zeros(3)}, {"classifier.1.fc.weight": OTHER},
     {"fc.weight": OTHER}],
)  # fmt: skip
def test_a_network_without_its_head_or_with_another_gets_a_new_one(tmp_path: Path, head: dict[str, Tensor]) -> None:
    tensors = {k: v for k, v in create_model("efficientnet_lite0", 2).state_dict().items() if "classifier" not in k}
    path = saved(tmp_path, {f"backbone.{key}": value for key, value in tensors.items()} | {
        f"backbone.{key}" if key.startswith("classifier") else key: value for key, value in head.items()
    })  # fmt: skip
    (tmp_path / "weights.json").write_text(description(tmp_path))
    model = create_model("efficientnet_lite0", 7, path)
    assert model.classifier.out_features == 7
    assert torch.equal(model.stem.conv.weight, tensors["stem.conv.weight"])


def description(folder: Path) -> str:
    """The model.json of an efficientnet_lite0."""
    save_model(
        folder / "m", create_model("efficientnet_lite0", 2), ["a", "b"], Preprocessing(size=32, crop_fraction=1.0)
    )
    return (folder / "m/model.json").read_text()
