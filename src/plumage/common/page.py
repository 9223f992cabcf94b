"""Self-contained HTML pages: templates that extend page.html.j2, which has the style and script that pages share."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from plumage.common.files import write_text
from plumage.common.text import shown


def write_page(path: Path, template: Path, **context: Any) -> None:
    """Render `template` with `context` and write it to `path`. The same inputs give the same bytes.

    Filters: `n` (thousands separators), `sentence` (capitalised), `breaking` (a line may break after each slash).
    """
    loader = FileSystemLoader([template.parent, Path(__file__).parent])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown
    )
    environment.filters |= {
        "n": "{:,}".format,
        "sentence": lambda text: text[0].upper() + text[1:],
        "breaking": lambda text: escape(_shown(text)).replace("/", Markup("/<wbr>")),
    }
    page = environment.get_template(template.name).render(context)
    write_text(path, page)


def _shown(value: Any) -> Any:
    """Text, but not a template's own markup, without secrets and control characters."""
    return shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value
