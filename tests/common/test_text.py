"""Text from outside is shown, not obeyed: by terminals, by Markdown, by HTML pages."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from plumage.cli.shared import out, plain_table
from plumage.common.page import write_page
from plumage.common.text import BIDI, code_span, escaped, markdown, shown, shown_error, shown_json
from plumage.errors import PlumageError

HOSTILE = [
    "a\nerror: forged",
    "a\x1b[2J",
    "a\x9b2J",
    "a\a",
    "a\r",
    "a\u202egpj.exe",
    "a\u2028b",
    "a\x85b",
    "a\udce9",
    "a\ud800",
]
"""A forged line, escape sequences, BEL, a reversed name, other line breaks, a byte that is not UTF-8, half a character."""
MARKUP = [
    "<img src=https://example.org/x.png>", "<script>alert(1)</script>", "<iframe src=x>", "</code><b>", "![x](https://example.org/x)",
    "[x](javascript:alert(1))", "`x`", "a | b", "**x**", "_x_", "~~x~~", "# x", "https://example.org/x", "www.example.org", "@birds",
    "bird@example.org", ":heart:", "&lt;img&gt;", "\\<img src=x>", "a\n\n<img src=x>", "<https://example.org>", "\x1b]8;;x\a",
]  # fmt: skip


def test_a_table_or_line_of_a_command_has_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = plain_table()
    table.add_row(":bird: [red]wren")
    out.print(table)
    out.print(":bird: [red]wren")
    assert [line.rstrip() for line in capsys.readouterr().out.splitlines()] == [":bird: [red]wren"] * 2


@pytest.mark.parametrize("text", HOSTILE)
def test_no_terminal_obeys_a_name(text: str) -> None:
    for one in (
        escaped(text),
        shown(text),
        shown_error(PlumageError(text)),
        markdown(text),
        code_span(text),
        shown_json(text),
    ):
        assert len(one.splitlines()) == 1 and one.isprintable() and not BIDI & set(one)
        one.encode()  # has no half characters


@given(st.text())
def test_no_text_at_all_is_obeyed_and_printable_text_stays(text: str) -> None:
    one = escaped(text)
    assert len(one.splitlines()) <= 1 and not any(character < " " or "\x7f" <= character <= "\x9f" for character in one)
    assert text == one or not text.isprintable()


def test_names_in_any_script_stay_as_they_are() -> None:
    for name in ("鳥", "طائر", "ציפור", "नीलकंठ", "🏴\U000e0067\U000e0062\U000e007f", "👩‍🔬", "می‌خواهم"):
        assert escaped(name) == name


def test_an_error_has_a_line_and_one_for_each_thing_that_it_lists() -> None:
    error = PlumageError("2 photos\n  error: forged", ["a.jpg: bad", "b.jpg\nerror: forged: bad"])
    assert shown_error(error) == "2 photos\\x0a  error: forged\n  a.jpg: bad\n  b.jpg\\x0aerror: forged: bad"


@pytest.mark.parametrize("text", MARKUP)
def test_markup_in_a_name_is_text_in_a_model_card(text: str) -> None:
    for value in (markdown(text), code_span(text)):
        page = MarkdownIt("gfm-like", {"linkify": False, "html": True}).render(
            f"- {value}.\n\n| x |\n|---|\n| {value} |\n"
        )
        tags = {tag.partition(">")[0].partition(" ")[0] for tag in page.split("<")[1:]} - {""}
        assert tags <= {
            f"{end}{name}"
            for name in ("ul", "li", "table", "thead", "tbody", "tr", "th", "td", "code")
            for end in ("", "/")
        }
        assert page.count("<tr>") == 2 and page.count("<td>") == 1
    # MLflow's Markdown makes links, mentions and emoji of plain text, and takes no backslash before HTML.
    assert not any(sign in markdown(text) for sign in ("<", "://", "www.", "@", ":h"))


def test_a_page_shows_text_without_secrets_and_control_characters(tmp_path: Path) -> None:
    template = tmp_path / "t.html.j2"
    template.write_text("{% macro m(x) %}<b>{{ x }}</b>{% endmacro %}{{ m(text) }} {{ text | breaking }} {{ number }}")
    write_page(tmp_path / "page.html", template, text="<i>\x1b\u202e https://me:hunter2@host/x", number=2)
    page = (tmp_path / "page.html").read_text()
    assert page.startswith("<b>&lt;i&gt;\\x1b\\u202e https://***@host/x</b>") and page.endswith(" 2")
    assert "hunter2" not in page and "\x1b" not in page
