"""Read YAML as DVC does: YAML 1.2 by ruamel.yaml's safe loader, so that `010` is ten and `yes` is text for both."""

import copy
import functools
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar

import yaml
from ruamel.yaml import YAML
from ruamel.yaml.constructor import ConstructorError, SafeConstructor
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node
from ruamel.yaml.resolver import implicit_resolvers

from plumage.common.merge_conflicts import conflict_line, has_markers
from plumage.errors import ConfigError

DIFFERENT = re.compile("[\t\x85\u2028\u2029\ufeff]|^%|!|<<", re.MULTILINE)
"""What YAML 1.1, which libyaml reads, may take for something else: other line ends, directives, tags, merges."""
REFUSED = (YAMLError, AssertionError, RecursionError)
"""Errors of the parser; the last two for %YAML 3.0 and 1000 levels."""
MOST_LEVELS = 1_000
"""What may be nested deeper goes to ruamel.yaml's own parser, which refuses it; the one that calls libyaml crashes at 200,000 levels."""
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


class _FastLoader(yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader):  # type: ignore[misc]
    """Reads what DVC accepts as ruamel.yaml does, by libyaml in a tenth of the time. Errors: repeated keys, and integers such as 010."""

    yaml_implicit_resolvers: ClassVar[dict[str, Any]] = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        mapping = super().construct_mapping(node, deep)
        if len(mapping) != len(node.value):
            raise yaml.YAMLError("a key is given twice")
        return dict(mapping)

    def construct_int(self, node: yaml.ScalarNode) -> int:
        return int(node.value, 0)  # ValueError: 010


_FastLoader.add_constructor("tag:yaml.org,2002:int", _FastLoader.construct_int)
for _versions, _tag, _pattern, _first in implicit_resolvers:
    if (1, 2) in _versions:
        _FastLoader.add_implicit_resolver(_tag, _pattern, list(_first))


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


def read_dvc_file(path: Path) -> Any:
    """The content of a dvc.yaml or dvc.lock, which DVC has read before, as `read_yaml`: a stage starts 0.2 s sooner."""
    try:
        return copy.deepcopy(_parsed_fast(path.read_text(encoding="utf-8")))
    except (ValueError, OSError, yaml.YAMLError, RecursionError):
        return read_yaml(path)


@functools.lru_cache(maxsize=16)
def _parsed_fast(text: str) -> Any:
    """As `_FastLoader` reads it. ValueError or YAMLError where ruamel.yaml has to read it."""
    if DIFFERENT.search(text):
        raise ValueError
    return yaml.load(text, _FastLoader) or {}  # a safe loader


def parse_yaml(text: str, source: str) -> Any:
    """The content of a YAML text, as `read_yaml`; errors name `source`."""
    if has_markers(text):
        raise ConfigError(conflict_line([source]))
    try:
        return copy.deepcopy(_parsed(text))
    except REFUSED as error:
        where, problem = _describe(_clearest(error, text), text)
        raise ConfigError(f"{source}{where}: is not valid YAML ({problem})") from None


@functools.lru_cache(maxsize=16)
def _parsed(text: str) -> Any:
    """A process reads the same file several times."""
    return _parser(pure=sum(map(text.count, "[{-?")) > MOST_LEVELS).load(text) or {}


def _parser(pure: bool = False) -> YAML:
    """The parser that DVC takes, which is libyaml's if ruamel.yaml.clib is installed; `pure`: ruamel.yaml's own."""
    parser = YAML(typ="safe", pure=pure)
    parser.Constructor = _Constructor
    return parser


def _clearest(error: Exception, text: str) -> Exception:
    """The error of ruamel.yaml's own parser, whose words and positions are clearer; `error` if that has none."""
    try:
        _parser(pure=True).load(text)
    except REFUSED as clearer:
        return clearer
    return error


def set_values(text: str, values: Mapping[str, str | float | None], source: str) -> str:
    """`text` with new values of keys in its sections, given as `section.key`; every other character stays as it is.

    A comment after a value keeps its column if there is room; null is left empty, as DVC writes it. Missing keys and sections are
    added.

    Raises:
        ConfigError: `text` is not valid YAML, or the values can't be set in it; one line that names `source`.
    """
    tree = parse_yaml(text, source)
    for name, value in values.items():
        section, key = name.split(".")
        text = _set_value(text, section, key, value)
        tree[section] = {**(tree.get(section) or {}), key: value}
        if parse_yaml(text, source) != tree:  # an anchor that others use, for instance
            raise ConfigError(f"{source}: {name} can't be set to {_scalar(value)} here; set it by hand")
    return text


def _set_value(text: str, section: str, key: str, value: str | float | None) -> str:
    root, new = YAML(typ="safe", pure=True).compose(text), "" if value is None else f" {_scalar(value)}"
    found = _find(root, section)
    if found is None:
        end = "" if not text or text.endswith("\n") else "\n"
        return f"{text}{end}{section}:\n  {key}:{new}\n"
    name, inside = found
    if not isinstance(inside, MappingNode) or not inside.value:  # null or {}
        start, end_ = _span(text, name, inside)
        return f"{text[:start]}\n  {key}:{new}{text[end_:]}"
    if inside.flow_style:
        new = f" {_scalar(value)}"  # `{key:, ...}` would not be null
    found = _find(inside, key)
    if found is None:
        mark = inside.value[0][0].start_mark
        separator = ", " if inside.flow_style else "\n" + " " * mark.column
        return f"{text[: mark.index]}{key}:{new}{separator}{text[mark.index :]}"
    start, end_ = _span(text, *found)
    after = text[end_:]
    if comment := re.match(r"( +)#", after):
        spaces = len(comment[1]) + (end_ - start) - len(new)
        after = " " * max(1, spaces) + after[len(comment[1]) :]
    return f"{text[:start]}{new}{after}"


def _find(mapping: Node | None, key: str) -> tuple[Node, Node] | None:
    """The nodes of a key and its value."""
    pairs = mapping.value if isinstance(mapping, MappingNode) else []
    return next((pair for pair in pairs if pair[0].value == key), None)


def _span(text: str, key: Node, value: Node) -> tuple[int, int]:
    """Where the colon after `key` ends, and where `value` ends; nothing may stand for null."""
    colon = text.index(":", key.end_mark.index) + 1
    return colon, max(colon, value.end_mark.index if value.start_mark.index < value.end_mark.index else colon)


def _scalar(value: str | float | None) -> str:
    """The value as YAML in one line."""
    file = StringIO()
    writer = YAML(typ="safe", pure=True)
    writer.width = 1 << 20
    writer.dump(value, file)
    return file.getvalue().removesuffix("...\n").strip()


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
