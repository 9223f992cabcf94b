"""Decisions about labels: made by command, kept in data/labels.csv, applied without touching a photo."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from warm_python import warm_python

from plumage.config import Split
from plumage.data.dataset.store import Dataset
from plumage.data.split.decisions import apply_decisions, decide, read_decisions, write_decisions
from plumage.data.split.draw import draw_splits
from plumage.data.split.export import export_photos
from plumage.data.split.splits_file import read_split, write_splits
from plumage.data.split.stratified import Photos
from plumage.errors import DataError

JAY, JAY_2, OWN = "BLUE JAY/000.jpg", "BLUE JAY/001.jpg", "BLUE JAY"


@pytest.fixture
def dataset(color_dataset: Callable[[int], Dataset]) -> Dataset:
    return color_dataset(5)


@settings(deadline=None, max_examples=30)
@given(st.dictionaries(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(min_size=1) | st.none()))
def test_decisions_come_back_as_they_were_written_sorted_by_key(tmp_path_factory, decisions) -> None:
    decisions = {key: label for key, label in decisions.items() if f"{key}{label}".isprintable()}  # as names are
    path = tmp_path_factory.mktemp("labels") / "labels.csv"
    write_decisions(path, decisions)
    assert list(read_decisions(path).items()) == sorted(decisions.items())


def test_a_missing_or_empty_file_and_one_from_a_spreadsheet_are_read(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    assert read_decisions(path) == {}
    path.write_bytes(b"")
    assert read_decisions(path) == {}
    path.write_bytes(b"\xef\xbb\xbfkey,label\r\na/1.jpg,b\r\n\r\na/2.jpg,\r\n")
    assert read_decisions(path) == {"a/1.jpg": "b", "a/2.jpg": None}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("photo,label\na,b\n", "its first line is 'photo,label'; takes 'key,label'"),
        ("key,label\na,b\n<<<<<<< HEAD\n", "line 3: '<<<<<<< HEAD'; takes a key, a comma and a label"),
        ("key,label\na,b\na,c\n", "line 3: 'a' has another label in a line above"),
        ('key,label\n"a,b\n', "can't be read"),
        ("key,label\na,\udcff\n", "can't be read"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_the_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError) as raised:
        read_decisions(path)
    assert said in str(raised.value) and "labels.csv" in str(raised.value) and "\n" not in str(raised.value)


def test_a_decision_replaces_the_one_before_and_can_be_undone(dataset: Dataset) -> None:
    made = decide({}, dataset, [JAY, JAY_2], "CARDINAL", False)
    assert made == {JAY: "CARDINAL", JAY_2: "CARDINAL"}
    made = decide(made, dataset, [JAY], "refuse", False)
    assert made == {JAY: None, JAY_2: "CARDINAL"}
    assert decide(made, dataset, [JAY], "original", False) == {JAY_2: "CARDINAL"}
    assert decide(made, dataset, [JAY, JAY_2], OWN, False) == {}, "its own label is no decision"


def test_a_decision_about_a_photo_that_is_gone_can_be_undone_and_is_no_error(dataset: Dataset) -> None:
    decided = apply_decisions({"gone.jpg": "CARDINAL", "lost.jpg": None}, dataset)
    assert decided.missing == ["gone.jpg", "lost.jpg"] and decided.dataset.labels == dataset.labels
    assert decided.lines(Path("data/labels.csv")) == [
        "warning: data/labels.csv: gone.jpg, lost.jpg are not in the data set"
    ]
    assert decide({"gone.jpg": None}, dataset, ["gone.jpg"], "original", False) == {}


@pytest.mark.parametrize(
    ("key", "wanted", "new", "said"),
    [
        ("BLUE JAY/00.jpg", "CARDINAL", False, "no photo has the key 'BLUE JAY/00.jpg'; similar keys: BLUE JAY/00"),
        (
            JAY,
            "CARDNAL",
            False,
            "no photo is of the class 'CARDNAL'; did you mean 'CARDINAL'? --new-class adds a class",
        ),
        (JAY, "cardinal", True, "no photo is of the class 'cardinal'; did you mean 'CARDINAL'?"),
        (JAY, "a\nb", True, "can't be a class"),
        (JAY, " ", True, "can't be a class"),
    ],
)
def test_unknown_keys_and_classes_are_one_line_with_close_matches(
    dataset: Dataset, key: str, wanted: str, new: bool, said: str
) -> None:
    with pytest.raises(DataError) as raised:
        decide({}, dataset, [key], wanted, new)
    assert said in str(raised.value) and "\n" not in str(raised.value)


def test_a_new_class_can_be_made_and_is_known_from_then_on(dataset: Dataset) -> None:
    made = decide({}, dataset, [JAY], "OWL", True)
    made = decide(made, dataset, [JAY_2], "OWL", False)
    assert apply_decisions(made, dataset).dataset.classes == sorted([*dataset.classes, "OWL"])


def test_a_class_called_refuse_comes_before_the_word(dataset: Dataset) -> None:
    made = decide({}, dataset, [JAY], "refuse", False) | {JAY_2: "refuse"}
    assert decide(made, dataset, ["CARDINAL/000.jpg"], "refuse", False)["CARDINAL/000.jpg"] == "refuse"


def test_a_class_keeps_a_photo_and_a_spelling(dataset: Dataset) -> None:
    jays = [key for key in dataset.keys if key.startswith(OWN)]
    made = decide({}, dataset, jays[:4], "refuse", False)
    with pytest.raises(DataError, match=r"'BLUE JAY' has no photo left \(1 of 5 relabelled, the others refused\)"):
        decide(made, dataset, jays[4:], "CARDINAL", False)
    with pytest.raises(DataError, match="is written 'cardinal'; takes 'CARDINAL'"):
        apply_decisions({JAY: "cardinal"}, dataset)


def split_with(dataset: Dataset, decisions: dict[str, str | None], path: Path, **settings: object) -> None:
    """What the split stage does with `decisions`."""
    decided = apply_decisions(decisions, dataset)
    labelled = decided.dataset
    ids = [row.tobytes() for row in dataset.bytes_column("sha256")]
    photos = Photos(labelled.keys, labelled.labels, ids, [[0, 1]])
    splits, _ = draw_splits(photos, decided.kept, dataset.official_splits, [], Split(val=0.2, test=0.2, **settings))
    write_splits(path, labelled.keys, labelled.labels, splits)


def test_later_stages_get_the_decided_labels_and_no_refused_photo(dataset: Dataset, tmp_path: Path) -> None:
    split_with(
        dataset,
        {JAY: "OWL", JAY_2: None} | dict.fromkeys(["ORIOLE/000.jpg", "ORIOLE/001.jpg"], "OWL"),
        tmp_path / "s.csv",
    )
    labelled, rows = read_split(tmp_path / "s.csv", dataset)
    used = {labelled.keys[row]: labelled.labels[row] for of_split in rows.values() for row in of_split}
    assert used[JAY] == "OWL" and JAY_2 not in used and len(used) == len(dataset) - 1
    assert labelled.classes == sorted([*dataset.classes, "OWL"])
    assert labelled.classes[labelled.targets()[labelled.keys.index(JAY)]] == "OWL"
    assert dataset.labels[dataset.keys.index(JAY)] == OWN, "the data set itself is unchanged"


def test_without_decisions_nothing_changes(dataset: Dataset, tmp_path: Path) -> None:
    split_with(dataset, {}, tmp_path / "none.csv")
    split_with(dataset, {"gone.jpg": None}, tmp_path / "gone.csv")
    assert (tmp_path / "none.csv").read_bytes() == (tmp_path / "gone.csv").read_bytes()
    labelled, _ = read_split(tmp_path / "none.csv", dataset)
    assert (labelled.labels, labelled.classes) == (dataset.labels, dataset.classes)
    assert apply_decisions({}, dataset).report() == {} and apply_decisions({}, dataset).lines(tmp_path) == []


def test_exported_folders_are_those_of_the_decided_labels(dataset: Dataset, tmp_path: Path) -> None:
    assert export_photos(dataset, tmp_path / "out", None, {JAY: "CARDINAL", JAY_2: None}) == len(dataset) - 1
    assert len(list((tmp_path / "out" / "CARDINAL").iterdir())) == 6
    assert len(list((tmp_path / "out" / OWN).iterdir())) == 3


def test_the_command_writes_the_file_and_says_what_changed(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "dataset").rename(tmp_path / "data" / "dataset")
    (tmp_path / "params.yaml").write_text("{}\n")
    (tmp_path / "dvc.yaml").write_text("{}\n")
    command = [warm_python(), "-c", "from plumage.cli.main import main; main()", "data", "relabel"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *words], cwd=tmp_path, capture_output=True, text=True)

    done = run(JAY, JAY_2, "CARDINAL")
    assert done.returncode == 0, done.stderr
    assert f"{JAY}: BLUE JAY -> CARDINAL" in done.stdout and "data/labels.csv: 2 in all" in done.stdout
    before = (tmp_path / "data" / "labels.csv").read_text()
    assert before == f"key,label\n{JAY},CARDINAL\n{JAY_2},CARDINAL\n"
    wrong = run(JAY, "no such key", "CARDINAL")
    assert wrong.returncode == 1 and wrong.stderr.count("\n") == 1 and "no photo has the key" in wrong.stderr
    assert (tmp_path / "data" / "labels.csv").read_text() == before, "all keys or none"
    assert run("CARDINAL").stderr == "error: takes one key or more, then a class, `refuse` or `original`\n"
