"""Read and check params.yaml.

An unknown key, a wrong type or an impossible value is a ConfigError: the key's full name, what it got, what it takes.
"""

import difflib
import json
from collections.abc import Collection, Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from plumage.common.redaction import redacted
from plumage.common.yaml_file import read_yaml
from plumage.config import RECIPES, Params, Recipe, Section, sections
from plumage.errors import ConfigError

RENAMED = {
    "train.mixing": "train.wise_ft_alpha",
    "train.penalty": "train.l2",
    "train.min_crop": "train.min_scale",
    "train.ema": "train.ema_decay",
    "train.clip_norm": "train.max_grad_norm",
    "register.level": "register.alpha",
}
"""Keys of params.yaml that had another name in earlier versions."""
REMOVED = {
    "register.min_photos": "the gate compares on any number of test photos, and says what they can't tell (docs/registry.md)",
}
"""Keys of params.yaml that earlier versions had, and why they are gone."""
RENAMED_VALUES = {("split.on_leak", "mend"): "repair"}
"""Values that had another name in earlier versions, by key."""
TYPES = {bool: "a boolean", int: "a number", float: "a number", date: "a date", datetime: "a time"}
"""What YAML may make of unquoted text."""


def load_params(path: Path) -> Params:
    """Read params.yaml and check all of it.

    Raises:
        ConfigError: it can't be read, or something in it is wrong; one line per key.
    """
    return check_params(read_yaml(path), str(path))


def check_params(tree: Any, where: str = "params.yaml") -> Params:
    """Check a tree of sections.

    Raises:
        ConfigError: names each wrong key, what it got and what it takes, one per line.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: got {tree!r} at the top; takes sections: {', '.join(_keys(Params))}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        by_key = {each["loc"][:2]: each for each in reversed(error.errors())}  # a key of two types has two
        first, *others = [line for each in reversed(by_key.values()) for line in _line(each).split("\n")]
        raise ConfigError(f"{where}: {first}", others) from None


def effective(tree: Any) -> dict[str, Any]:
    """Every value of a tree of sections as `section.key`, unchecked; keys that it lacks, and nulls of `train`, by their defaults."""
    tree = tree if isinstance(tree, dict) else {}
    flat: dict[str, Any] = {}
    for name in {**sections(), **tree}:
        given = tree.get(name)
        if "." in str(name) or not (given is None or isinstance(given, dict)):  # dvc.lock has keys that dvc.yaml lists
            flat[str(name)] = given
            continue
        defaults = sections()[name]().model_dump() if name in sections() else {}
        values = {**defaults, **(given or {})}
        if name == "train":
            recipe = {
                **RECIPES["finetune"],
                **(RECIPES[values["recipe"]] if values["recipe"] in get_args(Recipe) else {}),
            }
            values = {key: recipe.get(key) if value is None else value for key, value in values.items()}
        flat |= {f"{name}.{key}": value for key, value in values.items()}
    return flat


def differences(before: Mapping[str, Any], after: Mapping[str, Any], names: Collection[str]) -> list[str]:
    """What differs in the sections or keys `names` of two `effective` trees, as `train.lr in params.yaml from 0.002 to 0.01`."""
    keys = [key for key in {**before, **after} if key in names or key.split(".")[0] in names]
    return [
        redacted(f"{key} in params.yaml from {_plain(before, key)} to {_plain(after, key)}")
        for key in keys
        if not _same(before.get(key), after.get(key))
    ]


def _same(one: Any, other: Any) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # for Python, true is 1


def _plain(values: Mapping[str, Any], key: str) -> str:
    """A value as YAML writes it."""
    value = values.get(key)
    return json.dumps(value) if value is None or isinstance(value, bool) else str(value)


def _line(error: Any) -> str:
    """Reword one of pydantic's errors as `section.key: got ...; takes ...`."""
    location = [str(part) for part in error["loc"]][:2]
    if not location:
        return str(error["ctx"]["error"])
    key = ".".join(location)
    section = sections().get(location[0])
    if error["type"] == "extra_forbidden" and key in RENAMED:
        return f"{key}: is called {RENAMED[key]} now"
    if error["type"] == "extra_forbidden" and key in REMOVED:
        return f"{key}: is gone: {REMOVED[key]}; remove the key"
    if isinstance(error["input"], str) and (key, error["input"]) in RENAMED_VALUES:
        return f"{key}: {error['input']} is called {RENAMED_VALUES[key, error['input']]} now"
    if error["type"] in ("extra_forbidden", "invalid_key"):
        known = _keys(section) if section and len(location) > 1 else _keys(Params)
        near = difflib.get_close_matches(location[-1], known, n=1)
        guess = f"; did you mean {'.'.join([*location[:-1], near[0]])}?" if near else ""
        return f"{key}: unknown key{guess or '; known keys: ' + ', '.join(known)}"
    if section is None or len(location) == 1:
        takes = f"a section with the keys {', '.join(_keys(section))}" if section else error["msg"]
    else:
        takes = section.model_fields[location[1]].description or error["msg"]
    return redacted(f"{key}: got {_shown(error['input'], error['type'])}; takes {takes}")


def _shown(value: Any, mistake: str) -> str:
    """A wrong value, and what YAML made of it where that may surprise."""
    if isinstance(value, str) and ("://" in value or "@" in value):
        value = "%20".join(value.split())  # a password with a space is hidden, too
    if mistake == "string_type" and type(value) in TYPES:
        return f"{value}, {TYPES[type(value)]} in YAML unless quoted"
    if mistake in ("bool_type", "int_type", "float_type") and isinstance(value, str):
        return f"{value!r}, text in YAML 1.2"
    return repr(value)


def _keys(section: type[Section]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]
