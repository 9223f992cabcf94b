"""docs/params.md and docs/params.schema.json are generated from the classes of params.yaml."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from plumage.cli.reference import json_schema, reference
from plumage.config import sections

ROOT = Path(__file__).parents[2]
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))


def definition(section: str) -> dict[str, Any]:
    """The schema of a section, found through its reference."""
    schema = json_schema()
    found: dict[str, Any] = schema["$defs"][schema["properties"][section]["$ref"].rpartition("/")[2]]
    return found


def test_the_reference_in_docs_is_up_to_date() -> None:
    assert (ROOT / "docs" / "params.md").read_text(encoding="utf-8") == reference(), (
        "run: plumage params > docs/params.md"
    )


def test_the_schema_in_docs_is_up_to_date() -> None:
    assert json.loads((ROOT / "docs" / "params.schema.json").read_text(encoding="utf-8")) == json_schema(), (
        "run: plumage params --schema > docs/params.schema.json"
    )


def test_params_yaml_names_the_schema_as_editors_expect() -> None:
    first = (ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()[0]
    assert first == "# yaml-language-server: $schema=docs/params.schema.json"
    assert (ROOT / first.partition("$schema=")[2]).is_file()


@pytest.mark.parametrize("section", sections())
def test_the_schema_has_every_key_with_description_and_default_and_no_other(section: str) -> None:
    schema, fields = definition(section), sections()[section].model_fields
    assert list(schema["properties"]) == list(fields)
    assert schema["additionalProperties"] is False
    for key, field in fields.items():
        assert schema["properties"][key]["description"] == field.description
        assert schema["properties"][key]["default"] == field.default


def test_the_schema_has_choices_bounds_and_nulls() -> None:
    assert json_schema()["additionalProperties"] is False and "register" in json_schema()["properties"]
    assert definition("data")["properties"]["source"]["enum"][0] == "sample"
    assert "efficientnet_b7" in definition("model")["properties"]["name"]["enum"]
    val, lr = definition("split")["properties"]["val"], definition("train")["properties"]["lr"]
    assert (val["type"], val["exclusiveMinimum"], val["maximum"]) == ("number", 0, 0.5)
    assert {"type": "null"} in lr["anyOf"] and lr["anyOf"][0]["maximum"] == 100


def changed(key: str, value: object) -> dict[str, Any]:
    """params.yaml with one value changed."""
    tree = deepcopy(PARAMS)
    section, _, name = key.partition(".")
    tree[section][name] = value
    return tree  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("key", "value", "valid"),
    [
        ("split.seed", 0, True), ("train.batch_size", "auto", True), ("train.lr", 1e-3, True), ("model.weights", None, True),
        ("train.compile", True, True), ("register.max_ece", 0.1, True), ("data.source", "url", True),
        ("train.lrr", 1, False), ("split.val", 0.6, False), ("split.val", 0, False), ("data.source", "ftp", False),
        ("train.epochs", "ten", False), ("model.name", "resnet50", False), ("data.sha256", "12", False),
        ("register.gate", None, False),
    ],
)  # fmt: skip
def test_a_validator_accepts_params_yaml_and_valid_changes_and_rejects_others(
    key: str, value: object, valid: bool
) -> None:
    validator = jsonschema.Draft202012Validator(json_schema())
    validator.check_schema(validator.schema)
    assert validator.is_valid(PARAMS)
    assert validator.is_valid(changed(key, value)) == valid
