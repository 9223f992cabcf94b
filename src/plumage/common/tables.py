"""CSV files that people open in a spreadsheet: text that it would take for a formula gets an apostrophe.

`=1+1` is written as `'=1+1`, which a spreadsheet shows and does not compute. Reading takes one apostrophe away, so any text
comes back as it was: `'=1+1` itself is written as `''=1+1`.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

FORMULA = r"[=+\-@\t\r\n＝＋－＠]"
"""How a formula starts. In some languages a spreadsheet takes the full-width signs, and splits cells at semicolons."""
UNGUARDED = re.compile(rf"(^|[;\t|])(?='*{FORMULA})")
GUARDED = re.compile(rf"(^|[;\t|])'(?='*{FORMULA})")


def guarded(text: str) -> str:
    """`text` as a cell that no spreadsheet computes."""
    return UNGUARDED.sub(r"\1'", text)


def unguarded(cell: str) -> str:
    """The text that `guarded` made `cell` from."""
    return GUARDED.sub(r"\1", cell)


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a CSV file by column, each cell as it was before `guarded`."""
    with path.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            yield {name: unguarded(cell) for name, cell in row.items() if name is not None and cell is not None}
