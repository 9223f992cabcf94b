"""All of params.yaml is checked: a mistake is one line that names the key, what it got and what it takes."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from plumage.errors import ConfigError
from plumage.params import check_params, differences, effective, load_params

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("tree", "parts"),
    [
        ({"train": {"epochs": 0}}, ["train.epochs", "got 0", "takes an integer, 1 or more"]),
        ({"train": {"epochs": True}}, ["train.epochs", "got True"]),
        ({"train": {"epochs": "ten"}}, ["train.epochs", "got 'ten'"]),
        ({"train": {"lr": float("nan")}}, ["train.lr", "got nan"]),
        ({"train": {"lrr": 1}}, ["train.lrr", "unknown key", "did you mean train.lr?"]),
        ({"trian": {}}, ["trian", "unknown key", "did you mean train?"]),
        ({"split": {"val": 1.2}}, ["split.val", "got 1.2", "0 to 0.5"]),
        ({"model": {"name": "resnet50"}}, ["model.name", "got 'resnet50'", "efficientnet_b0"]),
        ({"data": {"source": "ftp"}}, ["data.source", "got 'ftp'", "sample", "folder", "archive"]),
        ({"data": {"source": "url"}}, ["data.url", "got null", "http(s)://"]),
        ({"data": {"url": "ftp://a/b.zip"}}, ["data.url", "got 'ftp://a/b.zip'", "http(s)://"]),
        ({"data": {"sha256": "12"}}, ["data.sha256", "got '12'", "64 hexadecimal digits"]),
        ({"data": {"dataset": "birds"}}, ["data.dataset", "got 'birds'", "owner/name"]),
        ({"data": {"max_refused": 5}}, ["data.max_refused", "got 5", "0 to 1"]),
        ({"split": {"on_leak": "ignore"}}, ["split.on_leak", "got 'ignore'", "repair", "refuse"]),
        ({"split": {"on_leak": "mend"}}, ["split.on_leak: mend is called repair now"]),
        ({"train": {"mixing": 0.5}}, ["train.mixing: is called train.wise_ft_alpha now"]),
        (
            {"register": {"min_photos": 50}},
            ["register.min_photos: is gone: the gate compares on any number", "remove the key"],
        ),
        (
            {"data": {"classes": {"A": "B", "B": "A"}}},
            ["data.classes: a name leads back to itself ('A' to 'B' to 'A')"],
        ),
        ({"data": {"classes": {"A": ""}}}, ["data.classes: got ''; takes old name: new name"]),
        ({"data": {"classes": {1: "A"}}}, ["data.classes: got 1, a number in YAML unless quoted"]),
        *(
            ({"register": {"model_name": name}}, [f"register.model_name: got {name!r}", "takes up to 250 characters"])
            for name in (
                "a/b",
                "birds@home",
                "a:b",
                "a#b",
                "a?b",
                "50%",
                "it's",
                '"a"',
                "..",
                "",
                " a",
                "a ",
                "a\tb",
                "x" * 251,
            )
        ),
        *(
            ({"tracking": {"experiment": name}}, [f"tracking.experiment: got {name!r}", "1 to 200 characters"])
            for name in ("", " ", "a ", "a\nb", "x" * 201)
        ),
        ({"train": {"seed": 2**63}}, ["train.seed: got 9223372036854775808; takes 0 to 2^63 - 1"]),
        ({"data": {"path": "a\nb"}}, [r"data.path: got 'a\nb'; takes a folder"]),
        ({"model": {"weights": "a\0b"}}, [r"model.weights: got 'a\x00b'; takes null"]),
        ({"register": {"model_name": 123}}, ["register.model_name: got 123, a number in YAML unless quoted; takes up"]),
        ({"data": {"path": date(2024, 1, 1)}}, ["data.path: got 2024-01-01, a date in YAML unless quoted; takes"]),
        ({"tracking": {"experiment": True}}, ["got True, a boolean in YAML unless quoted"]),
        ({"train": {"flip": "yes"}}, ["train.flip: got 'yes', text in YAML 1.2; takes true or false"]),
        ({1: {}}, ["1: unknown key"]),
        ({"data": {2: 3}}, ["data.2: unknown key; known keys: source"]),
        ({"train": {"recipe": "probe"}}, ["model.weights", "got null", "imagenet"]),
        (
            {"model": {"weights": "imagenet"}, "train": {"recipe": "probe", "lr": 0.1}},
            ["train.lr: got 0.1 with train.recipe probe", "takes null"],
        ),
        ({"train": {"l2": 0.1}}, ["train.l2", "recipe scratch"]),
        ({"train": {"batch_size": "big"}}, ["train.batch_size", "got 'big'", "auto"]),
        ({"train": {"batch_size": 0}}, ["train.batch_size", "got 0", "1 to 65536"]),
        ({"model": {"name": "efficientnet_lite4", "weights": "imagenet"}}, ["model.weights", "efficientnet_lite4"]),
        ({"train": 5}, ["train: got 5", "epochs"]),
        ([1], ["got [1]", "sections"]),
    ],
)
def test_a_mistake_is_one_line_with_the_key_and_what_it_takes(tree: Any, parts: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        check_params(tree)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("data: [", "not valid YAML"),
        ("data:\n\tseed: 1", "not valid YAML"),
        ("split:\n  seed: 1\n  seed: 2", "given twice"),
    ],
)
def test_invalid_yaml_is_one_line(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ConfigError, match=part) as caught:
        load_params(tmp_path / "params.yaml")
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read"):
        load_params(tmp_path / "params.yaml")


def test_numbers_are_read_as_dvc_reads_them(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("train: {lr: 1e-3, weight_decay: 5}\n")
    train = load_params(tmp_path / "params.yaml").train
    assert (train.lr, train.weight_decay) == (1e-3, 5.0)


@pytest.mark.parametrize("name", ["Vögel", "鳥", "garden birds", "123", "m-1", "no"])
def test_a_model_may_have_any_name_that_addresses_take(tmp_path: Path, name: str) -> None:
    (tmp_path / "params.yaml").write_text(f"register: {{model_name: '{name}'}}\n", encoding="utf-8")
    assert load_params(tmp_path / "params.yaml").register_.model_name == name


def test_the_repositorys_params_are_valid() -> None:
    assert load_params(ROOT / "params.yaml").data.source == "sample"


@pytest.mark.parametrize(
    "url",
    [
        "ftp://me:hunter2@host/x",
        "https://me:hunter2 hunter3@host/x",
        "https://host/x y?token=hunter2",
        "http:/me:hunter2@host/x",
    ],
)
def test_a_wrong_address_is_shown_without_its_secrets(url: str) -> None:
    with pytest.raises(ConfigError, match="data.url: got .*host/x") as error:
        check_params({"data": {"url": url}})
    assert "hunter" not in str(error.value)


def test_every_mistake_is_listed_in_a_line_of_its_own() -> None:
    with pytest.raises(ConfigError) as caught:
        check_params({"train": {"batch_size": "big", "seed": -1}, "evaluate": {"bins": 0}})
    keys = [line.split(": got")[0] for line in str(caught.value).splitlines()]
    assert keys == ["params.yaml: train.batch_size", "  train.seed", "  evaluate.bins"]
    with pytest.raises(ConfigError) as caught:
        check_params({"data": {"source": "url"}, "train": {"soup": 2, "l2": 1.0}})
    lines = str(caught.value).splitlines()
    assert [line.split(": got")[0] for line in lines] == ["params.yaml: data.url", "  train.soup", "  train.l2"]


@pytest.mark.parametrize(
    ("before", "after", "found"),
    [
        ({"train": {"lr": None}}, {"train": {"lr": 0.002}}, []),
        ({"train": {"lr": 1}}, {"train": {"lr": 1.0}}, []),
        ({"train": {"seed": 1}}, {"train": {"seed": True}}, ["train.seed in params.yaml from 1 to true"]),
        ({}, {"train": {"seed": 0}}, []),
        ({}, {"train": {"lrr": 1}}, ["train.lrr in params.yaml from null to 1"]),
        ({"train": {"lr": None}}, {"train": {"lr": 0.01}}, ["train.lr in params.yaml from 0.002 to 0.01"]),
        ({"split": {"seed": 0}}, {"split": {"seed": 1}}, []),
        ({"train": {}}, {"train": 5}, ["train in params.yaml from null to 5"]),
    ],
)
def test_values_are_compared_as_they_take_effect(before: Any, after: Any, found: list[str]) -> None:
    assert differences(effective(before), effective(after), ["train"])[-1:] == found
