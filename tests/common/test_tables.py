"""No spreadsheet computes a name in a CSV file, and Plumage reads it back as it was."""

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from plumage.common.tables import guarded, read_rows, unguarded
from plumage.evaluation.tables import write_table

FORMULAS = ["=cmd|'/c calc'!A0", "+1", "-1", "@SUM(1)", "＝1", "\t=1", "owl;=1+1", "'=1", "''=1"]


@given(st.text(alphabet="'=+-@;\t|\r\n,a\"＝"))
def test_any_text_comes_back_and_starts_no_cell_as_a_formula(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert not any(
        cell.startswith(("=", "+", "-", "@", "\r", "\n", "＝")) for cell in guarded(text).replace("\t", ";").split(";")
    )


def test_other_text_stays_as_it_is() -> None:
    for text in ("BLUE JAY", "'tis", "a=b", "a-b", "O'Brien", "001", ""):
        assert guarded(text) == unguarded(text) == text


@pytest.mark.parametrize("name", FORMULAS)
def test_a_table_of_formulas_is_read_back(name: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"label": [name, "owl"], "f1": [-0.5, 0.25]})
    write_table(tmp_path / "table.csv", table)
    with (tmp_path / "table.csv").open(newline="") as file:
        [_, (written, number), _] = csv.reader(file)
    assert written == guarded(name) != name and number == "-0.500000"
    assert [row["label"] for row in read_rows(tmp_path / "table.csv")] == [name, "owl"]
