"""docs/params.md is what `plumage params` prints."""

from pathlib import Path

from plumage.cli.reference import reference

ROOT = Path(__file__).parents[2]


def test_the_reference_in_docs_is_up_to_date() -> None:
    assert (ROOT / "docs" / "params.md").read_text(encoding="utf-8") == reference(), (
        "run: plumage params > docs/params.md"
    )
