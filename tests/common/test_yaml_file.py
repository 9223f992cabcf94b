"""YAML means the same to the stages as to DVC, which tracks the parameters; a mistake is one line with its position."""

from pathlib import Path
from typing import Any

import pytest
from dvc.exceptions import DvcException
from dvc.utils.hydra import apply_overrides
from dvc.utils.serialize import load_yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from plumage.common.yaml_file import parse_yaml, read_dvc_file, read_yaml, set_values
from plumage.errors import ConfigError

SCALARS = [
    *("010", "+010", "09", "0o17", "0o8", "0x1F", "0b11", "1_000", "1__0", "190:20:30", "1:30", "-0", "+1"),
    *(".5", "-.5", "0.", ".5e1", "1e3", "1e-3", "1E+3", "1.e3", "12e03", "1e400", ".inf", "-.INF", ".nan", "-.nan"),
    *("yes", "no", "on", "off", "y", "n", "Yes", "NO", "true", "True", "TRUE", "null", "Null", "~", ""),
    *("2024-01-01", "2024-1-1", "2024-13-45", "2024-01-01 10:00:00", "12:30", "=", "<<", "*a", "!foo x", "!!str 010"),
    *("'yes'", '"010"', "'it''s'", "a # comment", "a#b", "a:b", "a: b", "[yes, 010]", "{yes: no}", "|\n  010\n", "\u0085", "é"),
]  # fmt: skip
DOCUMENTS = [
    "", "# nothing", "---\n", "[]", "a: 1\na: 2", "true: 1\nyes: 2", "1: a\n1.0: b", "a: 1\n---\nb: 2", "\ufeffa: yes",
    "%YAML 1.1\n---\na: yes\nb: 010", "%YAML 3.0\n---\na: 1", "x: &a {p: 1, q: 2}\ny:\n  <<: *a\n  p: 3",
    "a: {<<: {b: 1}, <<: {c: 1}}", "a: *b", "a:\n\tb: 1", "a:\tyes", "a: 1\r\nb: no\r\n", "? [1, 2]\n: 3", "a: \x07",
]  # fmt: skip


def read_as(reader: Any, path: Path) -> str:
    """What `reader` makes of a file, with its types; or that it refuses."""
    try:
        return repr(reader(path))
    except (
        ConfigError,
        DvcException,
        ValueError,
        AssertionError,
        LookupError,
    ):  # DVC lets some of its parser's through
        return "refused"


def assert_read_as_dvc_does(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="")
    as_dvc = read_as(load_yaml, path)
    assert read_as(read_yaml, path) == as_dvc, text
    assert as_dvc in ("refused", read_as(read_dvc_file, path)), text


@pytest.mark.parametrize("text", [f"key: {scalar}" for scalar in SCALARS] + DOCUMENTS)
def test_a_file_is_read_as_dvc_reads_it(tmp_path: Path, text: str) -> None:
    assert_read_as_dvc_does(tmp_path / "params.yaml", text)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("0123456789_.:+-exobaYyNnFfTtrulsi~ '#,[]{}&*!|>%@\t", max_size=9))
def test_any_scalar_is_read_as_dvc_reads_it(tmp_path_factory: pytest.TempPathFactory, scalar: str) -> None:
    assert_read_as_dvc_does(tmp_path_factory.getbasetemp() / "any.yaml", f"key: {scalar}")


@pytest.mark.parametrize(
    ("given", "meant"),
    [("010", "010"), ("yes", "yes"), ("0o17", "0o17"), ("null", None), ("'null'", "null"), ("1e-3", 1e-3), ("'1'", "1"),
     ("on", "on"), ("1:30", "1:30"), ("true", True), ("'true'", "true"), ("2024-01-01", "2024-01-01"), ("'é'", "é")],
)  # fmt: skip
def test_what_dvc_exp_run_sets_is_what_the_stages_read(tmp_path: Path, given: str, meant: object) -> None:
    (tmp_path / "params.yaml").write_text("data:\n  path: photos  # mine\n")
    apply_overrides(tmp_path / "params.yaml", [f"data.path={given}"])
    assert read_yaml(tmp_path / "params.yaml") == {"data": {"path": meant}}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"split:\n  seed: 1\n  seed: 2", "line 3, column 3: is not valid YAML (the key seed is given twice)"),
        (b"data:\n\tseed: 1", "line 2, column 1: is not valid YAML (a tab; indent with spaces)"),
        (b"data:\n  seed: 1\n source: x", "line 3, column 2: is not valid YAML (indented differently"),
        (b"data:\n  path: V\xf6gel", "line 2, column 10: is not valid YAML (not UTF-8); save it as UTF-8"),
        ("data: 1".encode("utf-16"), "line 1, column 1: is not valid YAML (not UTF-8)"),
        (b"data:\n  path: \x07", "line 2, column 9: is not valid YAML (it has the control character '\\x07')"),
        (b"data:\n  url: 2024-13-45", "line 2, column 8: is not valid YAML ('2024-13-45': month must be in 1..12)"),
        (b"a: 1\n<<<<<<< HEAD\nb: 1\n=======\nb: 2\n>>>>>>> x", "in a merge conflict; keep one side"),
        (b"a: 1\n---\nb: 2", "line 2, column 1: is not valid YAML (a second document; takes one)"),
        (b"[" * 200_000 + b"]" * 200_000, "is not valid YAML (it is nested too deeply)"),
        (b"- " * 200_000 + b"a", "is not valid YAML (it is nested too deeply)"),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line_with_its_position(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "params.yaml").write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_yaml(tmp_path / "params.yaml")
    assert message in str(caught.value) and str(tmp_path / "params.yaml") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_text_is_named_by_its_source() -> None:
    with pytest.raises(ConfigError, match=r"^README\.md, line 1, column 5: is not valid YAML"):
        parse_yaml("a: {", "README.md")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n  b: 1   # one\n  c: 2\n", "a:\n  b: x   # one\n  c: 2\n"),
        ("a:\n  b: 1 # one\n", "a:\n  b: x # one\n"),
        ("a:\n  b: longer  # one\n", "a:\n  b: x       # one\n"),
        ("a: {c: 2, b: 1}  # flow\n", "a: {c: 2, b: x}  # flow\n"),
        ("a: {c: 2}\n", "a: {b: x, c: 2}\n"),
        ("a:\n    c: 2\n", "a:\n    b: x\n    c: 2\n"),
        ("a:\n  b:\n  c: 2\n", "a:\n  b: x\n  c: 2\n"),
        ("a:\nd: {}\n", "a:\n  b: x\nd: {}\n"),
        ("d: 'ä'  # kept", "d: 'ä'  # kept\na:\n  b: x\n"),
        ("", "a:\n  b: x\n"),
        ("a:\n  b: 'q' \r\n  c: 2\r\n", "a:\n  b: x \r\n  c: 2\r\n"),
    ],
)
def test_a_value_is_set_and_every_other_character_stays(text: str, expected: str) -> None:
    assert set_values(text, {"a.b": "x"}, "params.yaml") == expected


def test_null_is_left_empty_as_dvc_writes_it() -> None:
    for text in ("a:\n  b: 1    # one\n  c: 2\n", "a:\n  b:      # one\n  c: 2\n"):
        assert set_values(text, {"a.b": None}, "params.yaml") == "a:\n  b:      # one\n  c: 2\n"


def test_values_are_quoted_where_yaml_needs_it() -> None:
    odd = {"a.b": "my birds #1: x", "a.c": "null", "a.d": None, "a.e": 0.3, "a.f": "tab\tend"}
    assert parse_yaml(set_values("a: {b: 1}\n", odd, "x"), "x")["a"] == {key[2:]: value for key, value in odd.items()}


def test_a_value_that_others_use_is_not_changed() -> None:
    with pytest.raises(ConfigError, match="x: a.b can't be set to 2 here; set it by hand"):
        set_values("a: &a\n  b: 1\nc: *a\n", {"a.b": 2}, "x")
