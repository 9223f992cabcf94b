"""Show text from outside without obeying it: names of files and classes, authors, what servers answer.

Such text may hold control characters, line breaks that forge a line of output, or markup. `shown` is for one line of output,
`shown_error` for an error, `markdown` for a model card. HTML pages escape markup by themselves.
"""

import json
import re
from collections.abc import Sequence
from typing import Any
from unicodedata import category

from plumage.common.redaction import redacted
from plumage.errors import PlumageError

UNSAFE = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Unicode's categories of control characters (ESC, BEL, line breaks), surrogates, and separators of lines and paragraphs."""
BIDI = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that reverse the text after them: `gpj.exe` looks like `exe.jpg`. Right-to-left scripts don't need them."""
MARKUP = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]|#~"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;"})
LINKS = re.compile(r"[@:](?=\S)|(?<=www)\.", re.IGNORECASE)
"""What makes plain text a link, a mention or an emoji in GitHub's Markdown, which MLflow shows."""


def escaped(text: str) -> str:
    r"""`text` with control characters, bytes that are not UTF-8, line separators and BIDI written as `\x1b` or `\u202e`."""
    return text if text.isprintable() else "".join(map(_escaped_character, text))


def shown(text: object) -> str:
    """`text` as one line of output, without secrets."""
    return escaped(redacted(str(text)))


def shown_error(error: PlumageError) -> str:
    """An error as a line, and a line for each thing that it lists."""
    return "\n  ".join(map(shown, [error.message, *error.listed]))


def some(names: Sequence[str], limit: int, separator: str = ", ") -> str:
    """The first `limit` names in a line, and how many more there are: `JAY, OWL and 3 more`."""
    rest = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return separator.join(names[:limit]) + rest


def some_lines(lines: Sequence[str], limit: int) -> list[str]:
    """The first `limit` lines, and one that says how many more there are."""
    rest = [f"... and {len(lines) - limit:,} more"] if len(lines) > limit else []
    return [*lines[:limit], *rest]


def plural(number: int, what: str, many: str = "") -> str:
    """`1 photo` or `1,200 photos`; `many` for words whose plural isn't their singular with an s."""
    return f"{number:,} {what if number == 1 else many or f'{what}s'}"


def is_or_are(number: int) -> str:
    """The verb after so many things."""
    return "is" if number == 1 else "are"


def shown_json(value: Any) -> str:
    """`value` as indented JSON in ASCII, the only form in which no terminal obeys a character of it."""
    return json.dumps(value, indent=2)


def markdown(value: object) -> str:
    """`value` as plain text in a line or table cell of Markdown, without secrets.

    `<` becomes an entity, because not every Markdown takes a backslash before it; so does what makes text a link.
    """
    text = escaped(" ".join(redacted(str(value)).split())).translate(MARKUP)
    return LINKS.sub(lambda match: f"&#{ord(match[0])};", text)


def code_span(text: str) -> str:
    """`text` as code in a line of Markdown; as plain text if it has signs that could end the code or be taken for HTML."""
    text = shown(text)
    return markdown(text) if set(text) & set("`<>&|") else f"`{text}`"


def _escaped_character(character: str) -> str:
    if category(character) not in UNSAFE and character not in BIDI:
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # Python's stand-in for a byte that is not UTF-8
        number -= 0xDC00
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}"
