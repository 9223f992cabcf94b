"""Read and check params.yaml.

An unknown key, a wrong type or an impossible value is a ConfigError: the key's full name, what it got, what it takes.
"""

import difflib
import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from plumage.common.merge_conflicts import conflict_line, has_markers
from plumage.config import Params, Section, sections
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
RENAMED_VALUES = {("split.on_leak", "mend"): "repair"}
"""Values that had another name in earlier versions, by key."""


class _Loader(yaml.SafeLoader):
    """YAML 1.2, as DVC reads it: `1e-3` is a number, and a repeated key is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"),
    list("-+0123456789."),
)


def load_params(path: Path) -> Params:
    """Read params.yaml and check all of it.

    Raises:
        ConfigError: it can't be read, or something in it is wrong; one line.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if has_markers(text):
            raise ConfigError(conflict_line([str(path)]))
        tree = yaml.load(text, _Loader) or {}
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); takes a YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: is not valid YAML ({' '.join(str(error).split())})") from None
    return check_params(tree, str(path))


def check_params(tree: Any, where: str = "params.yaml") -> Params:
    """Check a tree of sections.

    Raises:
        ConfigError: names the first wrong key, what it got and what it takes.
    """
    if not isinstance(tree, dict):
        raise ConfigError(f"{where}: got {tree!r}; takes sections: {', '.join(_keys(Params))}")
    try:
        return Params.model_validate(tree)
    except ValidationError as error:
        errors = error.errors()
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise ConfigError(f"{where}: {_line(errors[0])}{more}") from None


def _line(error: Any) -> str:
    """Reword one of pydantic's errors as `section.key: got ...; takes ...`."""
    location = [str(part) for part in error["loc"]][:2]
    if not location:
        return str(error["ctx"]["error"])
    key = ".".join(location)
    section = sections().get(location[0])
    if error["type"] == "extra_forbidden" and key in RENAMED:
        return f"{key}: is called {RENAMED[key]} now"
    if isinstance(error["input"], str) and (key, error["input"]) in RENAMED_VALUES:
        return f"{key}: {error['input']} is called {RENAMED_VALUES[key, error['input']]} now"
    if error["type"] == "extra_forbidden":
        known = _keys(section) if section and len(location) > 1 else _keys(Params)
        near = difflib.get_close_matches(location[-1], known, n=1)
        guess = f"; did you mean {'.'.join([*location[:-1], near[0]])}?" if near else ""
        return f"{key}: unknown key{guess or '; known keys: ' + ', '.join(known)}"
    if section is None or len(location) == 1:
        takes = f"a section with the keys {', '.join(_keys(section))}" if section else error["msg"]
    else:
        takes = section.model_fields[location[1]].description or error["msg"]
    return f"{key}: got {error['input']!r}; takes {takes}"


def _keys(section: type[Section]) -> list[str]:
    return [field.alias or name for name, field in section.model_fields.items()]
