import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from plumage.errors import ModelError, WeightsError
from plumage.models import create_model
from plumage.models.efficientnet import EfficientNet
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import load_model, save_model

CLASSES = ["BLUE JAY", "CARDINAL", "GREEN JAY", "ŒDICNÈME"]
PREPROCESSING = Preprocessing(size=96, crop_fraction=0.9, interpolation="bilinear", mean=(0.4, 0.5, 0.6))


@pytest.fixture
def model() -> EfficientNet:
    return create_model("efficientnet_lite0", 4, "imagenet", drop_rate=0.35, drop_path_rate=0.1)


@pytest.fixture
def folder(tmp_path: Path, model: EfficientNet) -> Path:
    """`model`, saved."""
    save_model(tmp_path / "models", model, CLASSES, PREPROCESSING)
    return tmp_path / "models"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_one_line(error: pytest.ExceptionInfo[Exception]) -> None:
    assert "\n" not in str(error.value)


def test_a_loaded_model_gives_the_same_logits_and_brings_all_that_its_use_needs(
    folder: Path, model: EfficientNet
) -> None:
    saved = load_model(folder)
    photos = torch.randn(2, 3, 96, 96)
    with torch.inference_mode():
        assert torch.equal(saved.model(photos), model.eval()(photos))
    assert not saved.model.training
    assert (saved.name, saved.classes, saved.preprocessing) == ("efficientnet_lite0", CLASSES, PREPROCESSING)
    assert saved.model.config == model.config
    assert saved.model.preprocessing == PREPROCESSING


def test_the_temperature_is_saved_and_is_1_in_older_models(folder: Path, model: EfficientNet) -> None:
    assert load_model(folder).temperature == 1.0
    save_model(folder, model, CLASSES, PREPROCESSING, temperature=1.7)
    assert load_model(folder).temperature == 1.7
    description = json.loads((folder / "model.json").read_text())
    del description["temperature"]
    (folder / "model.json").write_text(json.dumps(description))
    assert load_model(folder).temperature == 1.0
    edit(folder / "model.json", temperature=0)
    with pytest.raises(ModelError, match="temperature"):
        load_model(folder)


def test_the_same_model_gives_the_same_bytes(folder: Path, model: EfficientNet, tmp_path: Path) -> None:
    save_model(tmp_path / "again", model.to(memory_format=torch.channels_last), CLASSES, PREPROCESSING)
    for name in ("model.safetensors", "model.json"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()
    assert sorted(path.name for path in folder.iterdir()) == ["model.json", "model.safetensors"]


def test_weights_are_saved_in_single_precision(tmp_path: Path, model: EfficientNet) -> None:
    save_model(tmp_path, model.bfloat16(), CLASSES, PREPROCESSING)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float32}


def test_a_saved_model_is_the_weights_of_the_next(folder: Path, model: EfficientNet) -> None:
    """With its conventions and preprocessing, but with the rates of the new training."""
    again = create_model("efficientnet_lite0", 4, folder / "model.safetensors")
    assert (again.config.padding, again.config.bn_momentum) == ("same", 0.01)
    assert (again.config.dropout, again.config.drop_path) == (0.2, 0.2)
    assert again.preprocessing == PREPROCESSING
    assert torch.equal(again.classifier.weight, model.classifier.weight)


def test_saved_weights_without_their_description_are_refused(folder: Path) -> None:
    (folder / "model.json").unlink()
    with pytest.raises(WeightsError, match=r"was saved with a model\.json; put that beside it"):
        create_model("efficientnet_lite0", 4, folder / "model.safetensors")


def test_saved_weights_of_another_model_are_refused(folder: Path) -> None:
    with pytest.raises(WeightsError, match=r"has efficientnet_lite0's weights, but model\.name is efficientnet_b0"):
        create_model("efficientnet_b0", 4, folder / "model.safetensors")


@pytest.mark.parametrize("name", ["model.safetensors", "model.json"])
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name}: no such file; a model folder holds ") as error:
        load_model(folder)
    assert_one_line(error)


def test_class_names_that_do_not_match_the_logits_are_refused(
    folder: Path, model: EfficientNet, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="a model of 4 classes can't be saved with 3 names"):
        save_model(tmp_path / "wrong", model, CLASSES[:3], PREPROCESSING)
    edit(folder / "model.json", classes=CLASSES[:3])
    with pytest.raises(ModelError, match=r"does not have the 3 classes that model\.json names"):
        load_model(folder)


def test_a_model_of_other_input_channels_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="a model of 1 input channels can't be saved; takes one of 3 channels"):
        save_model(tmp_path, create_model("efficientnet_lite0", 4, in_chans=1), CLASSES, PREPROCESSING)


def test_damaged_weights_are_refused(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(WeightsError, match=r"not a whole \.safetensors file") as error:
        load_model(folder)
    assert_one_line(error)


def test_weights_that_lack_a_tensor_are_refused(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors["head.conv.weight"]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"lacks 'head\.conv\.weight'"):
        load_model(folder)


def test_a_damaged_description_is_refused(folder: Path) -> None:
    (folder / "model.json").write_text('{"format": 1, "arch')
    with pytest.raises(ModelError, match=r"model\.json: not a model description") as error:
        load_model(folder)
    assert_one_line(error)


@pytest.mark.parametrize("content", ['{"format": 2}', '{"name": "x"}', "[]"])
def test_an_unknown_format_is_refused(folder: Path, content: str) -> None:
    (folder / "model.json").write_text(content)
    with pytest.raises(ModelError, match=r"its format is (2|None); this version of Plumage reads format 1"):
        load_model(folder)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"classes": "all"}, "classes"),
        ({"preprocessing": {"size": 96, "crop_fraction": 2}}, r"preprocessing\.crop_fraction"),
        ({"architecture": {"name": "efficientnet_b0"}}, r"architecture\.width"),
        ({"learned": 1}, "learned"),
    ],
)
def test_a_wrong_description_names_its_key(folder: Path, changes: dict[str, object], key: str) -> None:
    edit(folder / "model.json", **changes)
    with pytest.raises(ModelError, match=rf"model\.json: {key}: ") as error:
        load_model(folder)
    assert_one_line(error)
