"""A file of predictions goes on where it ended, and refuses rows that it could not have written."""

import csv
import json
import os
from pathlib import Path

import pytest

from plumage.common.tables import read_rows
from plumage.errors import PredictionFileError
from plumage.inference.prediction_file import FORMATS, Csv, JsonLines, PredictionFile
from plumage.inference.stream import Answer

ODD = [
    "=1+1.jpg",
    "a,b\n\x1b[2J.jpg",
    "-x.jpg",
    os.fsdecode(b"caf\xe9.jpg"),
    'quote".jpg',
    "Säger.jpg",
    "a.jpg",
    "a.jpg",
]
RANKED = [("=HYPERLINK()", 0.75), ("b\n", 0.25)]


def rows(name: str, paths: list[str]) -> str:
    format = FORMATS[name](2, "abc")
    return format.header + "".join(format.row(Answer(path, RANKED)) for path in paths)


def test_csv_has_no_formula_and_json_the_exact_name(tmp_path: Path) -> None:
    (tmp_path / "out.csv").write_text(rows("csv", ODD), encoding="utf-8")
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert not any(cell.startswith(("=", "+", "-", "@")) or "\n" in cell or "\x1b" in cell for cell in cells)
    read = list(read_rows(tmp_path / "out.csv"))
    assert list(read[0]) == ["photo", "pred_1", "prob_1", "pred_2", "prob_2", "model"]
    assert read[0]["photo"] == "=1+1.jpg" and read[3]["photo"] == r"caf\xe9.jpg" and read[0]["prob_1"] == "0.750000"
    lines = rows("jsonl", ODD).splitlines()
    assert all(line.isascii() for line in lines) and len(lines) == len(ODD)
    photos = [json.loads(line)["photo"] for line in lines]
    assert photos == [*ODD[:3], r"caf\xe9.jpg", *ODD[4:]]
    assert json.loads(lines[0])["predictions"][1] == {"class": "b\n", "probability": 0.25}


@pytest.mark.parametrize("name", FORMATS)
def test_it_goes_on_from_any_byte_at_which_it_was_cut(name: str, tmp_path: Path) -> None:
    path, whole = tmp_path / "out", rows(name, ODD).encode()
    for cut in range(len(whole) + 1):
        path.write_bytes(whole[:cut])
        format = FORMATS[name](2, "abc")
        file = PredictionFile(path, format)
        file.write("".join(format.row(Answer(photo, RANKED)) for photo in ODD if not file.take(photo)))
        file.close()
        assert path.read_bytes() == whole
    assert file.taken == len(ODD)


@pytest.mark.parametrize(
    ("content", "format", "message"),
    [
        (rows("csv", ODD), Csv(3, "abc"), "line 1 has other columns than photo,.*; was --top another number"),
        (rows("csv", ODD), Csv(2, "def"), "line 2 is of another model"),
        (rows("jsonl", ODD), JsonLines(3, "abc"), "line 1 has 2 classes, not 3"),
        (rows("jsonl", ODD), JsonLines(2, "def"), "line 1 is of another model"),
        (rows("jsonl", ODD), Csv(2, "abc"), "line 1 is not photo,pred_1"),
        (rows("csv", ODD), JsonLines(2, "abc"), "line 1 is not a prediction in JSON Lines"),
        ("my notes", Csv(2, "abc"), "line 1 is not photo,pred_1"),
        (rows("jsonl", ODD[:1]) + "{}\n", JsonLines(2, "abc"), "line 2 is no prediction"),
        (rows("csv", ODD[:1]) + "\n", Csv(2, "abc"), "line 2|line 3"),
    ],
)
def test_another_files_rows_are_refused_and_left_alone(
    content: str, format: Csv | JsonLines, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "out"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PredictionFileError, match=message) as caught:
        PredictionFile(path, format)
    assert path.read_text(encoding="utf-8") == content and "\n" not in str(caught.value)


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    first = PredictionFile(tmp_path / "out", Csv(2, "abc"))
    with pytest.raises(PredictionFileError, match="another process writes it"):
        PredictionFile(tmp_path / "out", Csv(2, "abc"))
    first.close()


def test_a_full_disk_is_named_and_keeps_what_was_written(small_disk: Path) -> None:
    format = Csv(2, "abc")
    file = PredictionFile(small_disk / "out.csv", format)
    with pytest.raises(OSError, match="No space left") as caught:
        for number in range(1_000):
            file.write(format.row(Answer(f"{number}.jpg", RANKED)) * 100)
    assert caught.value.filename == str(small_disk / "out.csv")
    with pytest.raises(OSError, match="No space left"):
        file.close()  # writes what is left
    assert len((small_disk / "out.csv").read_bytes().splitlines()) > 1_000
