import json
import os
import random
import shutil
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from plumage.errors import ModelError, WeightsError
from plumage.models import create_model
from plumage.models.description import read_description
from plumage.models.efficientnet import EfficientNet
from plumage.models.preprocessing import Preprocessing
from plumage.models.saved_model import load_model, save_model

CLASSES = ["BLUE JAY", "CARDINAL", "GREEN JAY", "ŒDICNÈME"]
PREPROCESSING = Preprocessing(size=96, crop_fraction=0.9, interpolation="bilinear", mean=(0.4, 0.5, 0.6))


def make_model() -> EfficientNet:
    torch.manual_seed(0)
    return create_model("efficientnet_lite0", 4, "imagenet", drop_rate=0.35, drop_path_rate=0.1)


@pytest.fixture
def model() -> EfficientNet:
    return make_model()


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    save_model(folder, make_model(), CLASSES, PREPROCESSING)
    return folder


@pytest.fixture
def folder(tmp_path: Path, saved_once: Path) -> Path:
    """`model`, saved."""
    return Path(shutil.copytree(saved_once, tmp_path / "models"))


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
        *(({"classes": names}, "classes") for names in ([], ["a", "b", "c", "a"])),
        *(({"classes": [name, "b", "c", "d"]}, r"classes\.0") for name in ("", 1, None, ["a"])),
        *(({"temperature": value}, "temperature") for value in (0, -1, 1e-320, 1e300, "1", True, None)),
    ],
)
def test_a_wrong_description_names_its_key(folder: Path, changes: dict[str, object], key: str) -> None:
    edit(folder / "model.json", **changes)
    with pytest.raises(ModelError, match=rf"model\.json: {key}: ") as error:
        load_model(folder)
    assert_one_line(error)


@pytest.mark.parametrize(
    ("section", "key", "values"),
    [
        ("architecture", "name", ["resnet50", "x" * 10_000, None]),
        ("architecture", "width", [1e9, 1e308, 0, -1, 0.5]),
        ("architecture", "depth", [1e6, 10**30, 0, -1, 1.1]),
        ("architecture", "resolution", [10**9, 0]),
        ("architecture", "lite", [False, "yes"]),
        ("architecture", "padding", ["none"]),
        ("architecture", "bn_eps", [0, -1, 1e308]),
        ("architecture", "dropout", [1, -1, 1e9]),
        ("architecture", "drop_path", [1, -1, 1e9]),
        ("preprocessing", "size", [10**9, 1e9, 0, -8, "96", True]),
        ("preprocessing", "crop_fraction", [1e-320, 0, 2]),
        ("preprocessing", "mean", [[1e30] * 3, [0, 0]]),
        ("preprocessing", "std", [[0, 0, 0], [1e-320] * 3, [-1, 1, 1], [1e300] * 3]),
    ],
)
def test_a_value_out_of_range_is_one_line_and_builds_no_network(
    folder: Path, section: str, key: str, values: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("plumage.models.saved_model.build_network", pytest.fail)
    original = json.loads((folder / "model.json").read_text())
    for value in values:
        edit(folder / "model.json", **{section: original[section] | {key: value}})
        with pytest.raises(ModelError, match=rf"model\.json: {section}\.{key}") as error:
            load_model(folder)
        assert_one_line(error)
        assert len(str(error.value)) < 600


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('"format": 1', '"format": 1, "temperature": 5', "has 'temperature' twice"),
        ('"format": 1', '"format": 1, "classes": ' + "[" * 100_000, "nested too deeply"),
        ('"format": 1', '"format": ' + "1" * 10_000, "not a model description"),
        ('"temperature": 1.0', '"temperature": NaN', "NaN, which is not finite"),
        ('"temperature": 1.0', '"temperature": 1e999', "1e999, which is not finite"),
        ('"BLUE JAY"', r'"\ud800"', "Invalid JSON"),
        ('"format": 1', r'"format": 1, "a\nerror: \u001b[31m": 1', r"a\\x0aerror: \\x1b\[31m: Extra inputs"),
    ],
)
def test_text_that_no_description_has_is_one_line(folder: Path, old: str, new: str, problem: str) -> None:
    path = folder / "model.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(ModelError, match=problem) as error:
        load_model(folder)
    assert_one_line(error)


def test_a_description_that_is_a_pipe_or_larger_than_any_is_not_read(folder: Path) -> None:
    path = folder / "model.json"
    os.truncate(path, 2**40)
    with pytest.raises(ModelError, match="has more than 67,108,864 bytes"):
        load_model(folder)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ModelError, match="is not a file"):
        load_model(folder)


def test_a_description_with_flipped_bits_gives_a_model_of_these_classes_or_one_line(folder: Path) -> None:
    path, rng = folder / "model.json", random.Random(0)
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole)
        damaged[rng.randrange(len(whole))] ^= 1 << rng.randrange(8)
        path.write_bytes(damaged)
        try:
            description = read_description(path)
        except ModelError as error:
            assert "\n" not in str(error)
        else:
            assert len(set(description.classes)) == 4 and description.architecture.depth == 1.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(folder: Path, value: float) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["head.conv.weight"][0, 0] = value
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(WeightsError, match=r"'head\.conv\.weight' has values that are not finite") as error:
        load_model(folder)
    assert_one_line(error)


@pytest.mark.parametrize(
    ("length", "header"),
    [
        (10**12, b"{}"),
        (2**64 - 1, b"{}"),
        (None, b'{"a":' + b"[" * 100_000),
        (None, b'{"a":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4398046511104]}}'),
        (
            None,
            b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}',
        ),
        (None, b'{"a":{"dtype":"F32","shape":[4611686018427387904,4611686018427387904],"data_offsets":[0,16]}}'),
        (None, b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}'),
    ],
)
def test_a_header_that_promises_other_bytes_than_there_are_is_refused(
    folder: Path, length: int | None, header: bytes
) -> None:
    content = struct.pack("<Q", len(header) if length is None else length) + header + bytes(16)
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(WeightsError, match=r"not a whole \.safetensors file") as error:
        load_model(folder)
    assert_one_line(error)


def test_a_model_that_could_not_be_loaded_is_not_saved(model: EfficientNet, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"can't be saved: classes: has 'jay' 4 times"):
        save_model(tmp_path, model, ["jay"] * 4, PREPROCESSING)
    assert not list(tmp_path.iterdir())
