"""Read YAML as DVC does: YAML 1.2 by ruamel.yaml's safe loader, so that `010` is ten and `yes` is text for both."""

import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import Node

from plumage.common.merge_conflicts import conflict_line, has_markers
from plumage.errors import ConfigError

REWORDED = {
    r"found character '\\t' that cannot start any token": "a tab; indent with spaces",
    r"expected <block end>, but found .*": "indented differently from the lines above",
    r"but found another document": "a second document; takes one",
    r"found duplicate key \"(.*)\" with value.*": r"the key \1 is given twice",
}
"""Clearer wordings for some of the parser's messages."""


class _Constructor(SafeConstructor):
    """Adds the position to errors about invalid dates and numbers, such as `2024-13-45`."""

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError) as error:
            raise ConstructorError(None, None, f"{node.value!r}: {error}", node.start_mark) from None


def read_yaml(path: Path) -> Any:
    """The content of a YAML file; an empty one gives an empty dict.

    Raises:
        ConfigError: it can't be read or is not valid YAML; one line with the file, line and column.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: can't be read ({error.strerror}); takes a YAML file") from None
    except UnicodeDecodeError as error:
        where = _position(error.object[: error.start].decode("utf-8"))
        raise ConfigError(f"{path}{where}: is not valid YAML (not UTF-8); save it as UTF-8") from None
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """The content of a YAML text, as `read_yaml`; errors name `source`."""
    if has_markers(text):
        raise ConfigError(conflict_line([source]))
    yaml = YAML(typ="safe")
    yaml.Constructor = _Constructor
    try:
        return yaml.load(text) or {}
    except (YAMLError, AssertionError, RecursionError) as error:  # the last two: %YAML 3.0, and 1000 levels
        where, problem = _describe(error, text)
        raise ConfigError(f"{source}{where}: is not valid YAML ({problem})") from None


def _describe(error: BaseException, text: str) -> tuple[str, str]:
    """Where the parser stopped, and why."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark and error.problem:
        problem = " ".join(error.problem.split())
        for pattern, better in REWORDED.items():
            problem = re.sub(pattern, better, problem)
        return _at(error.problem_mark.line, error.problem_mark.column), problem
    if (offset := getattr(error, "position", None)) is not None:
        return _position(text[:offset]), f"it has the control character {text[offset]!r}"
    return "", "it is nested too deeply" if isinstance(error, RecursionError) else " ".join(str(error).split())


def _position(before: str) -> str:
    """The position after the text `before`."""
    return _at(before.count("\n"), len(before) - before.rfind("\n") - 1)


def _at(line: int, column: int) -> str:
    """A position counted from 0, for people."""
    return f", line {line + 1}, column {column + 1}"
