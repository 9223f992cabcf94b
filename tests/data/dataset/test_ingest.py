"""Each photo is checked on its way into the data set: repaired or refused, and kept once."""

import dataclasses
import io
import os
import re
import signal
import sys
from functools import partial
from pathlib import Path

import pytest
from PIL import Image
from support import MemorySource, make_photo

from plumage.common.class_names import ClassNames
from plumage.data.dataset import decode
from plumage.data.dataset.ingest import describe, heic_hint, ingest
from plumage.data.dataset.store import Dataset
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.photo import Photo
from plumage.errors import DataError

WHOLE = make_photo((200, 40, 50), 0)


def photo(key: str, data: bytes, split: str | None = None) -> Photo:
    return Photo(key, key.split("/")[-2], split, data)


def many(label: str, count: int) -> list[Photo]:
    return [photo(f"{label}/{n:03d}.jpg", make_photo((30, 90, 200), n)) for n in range(count)]


def test_refused_photos_are_listed_with_the_reason_and_left_out(tmp_path: Path) -> None:
    bad = {"a/cut.jpg": WHOLE[: len(WHOLE) // 2], "a/empty.jpg": b"", "a/small.jpg": make_photo((1, 2, 3), 1, (40, 31))}
    source = MemorySource(
        [photo(key, data) for key, data in bad.items()]
        + [photo("a/text.jpg", b"no photo"), photo("a/whole.jpg", WHOLE), *many("b", 9)]
    )
    report = ingest(source, tmp_path / "dataset", min_size=32, max_refused=1, processes=0)
    reasons = {refused["key"]: refused["reason"] for refused in report["refused"]}
    assert list(reasons) == [*bad, "a/text.jpg"]
    assert [reason.split(" (")[0] for reason in reasons.values()] == [
        "truncated",
        "zero bytes",
        "too small",
        "not an image",
    ]
    assert (report["photos"], report["photos_per_class"]) == (10, {"a": 1, "b": 9})
    assert Dataset(tmp_path / "dataset").classes == ["a", "b"]


def killing(photos: list[Photo]) -> list[Photo]:
    """A chunk whose third photo's data crash the process that reads them."""

    class Crashing(bytes):
        def __getitem__(self, _: object) -> bytes:  # type: ignore[override]
            os.kill(os.getpid(), signal.SIGSEGV)
            return b""

    return [*photos[:2], dataclasses.replace(photos[2], data=Crashing(photos[2].data)), *photos[3:]]


def test_a_photo_that_crashes_its_decoder_is_refused_by_name(tmp_path: Path) -> None:
    photos = [*many("a", 5), photo("b/0.jpg", WHOLE)]
    source = MemorySource(photos)
    source.chunks = lambda: iter([partial(killing, photos)])  # type: ignore[method-assign]
    report = ingest(source, tmp_path / "dataset", min_size=1, max_refused=0.2)
    assert report["refused"] == [{"key": "a/002.jpg", "label": "a", "reason": "its decoder was killed (SIGSEGV)"}]
    assert report["photos"] == 5


def test_a_photo_over_the_limit_is_refused_with_its_size_and_the_key(tmp_path: Path) -> None:
    wide = io.BytesIO()
    Image.new("L", (1500, 1000)).save(wide, "PNG")
    source = MemorySource([photo("a/1.png", wide.getvalue()), photo("b/2.jpg", make_photo((1, 2, 3), 0, (1500, 1000)))])
    with pytest.raises(DataError) as caught:
        ingest(source, tmp_path / "dataset", min_size=1, max_refused=0, max_pixels=1_400_000, processes=0)
    reason = "too large (1,500 x 1,000 pixels; data.max_pixels takes at most 1,400,000)"
    assert str(caught.value).splitlines()[1:] == [f"  a/1.png: {reason}", f"  b/2.jpg: {reason}"]
    assert ingest(source, tmp_path / "dataset", 1, 0, max_pixels=1_500_000, processes=0)["photos"] == 2


def test_heic_without_pillow_heif_is_refused_with_the_command_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)  # makes its import fail
    decode._reads_heif.cache_clear()
    header = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"
    source = MemorySource(
        [photo("a/1.heic", header), photo("a/2.HEIC", header + b"2"), *many("a", 5), photo("b/0.jpg", WHOLE)]
    )
    report = ingest(source, tmp_path / "dataset", min_size=1, max_refused=1, processes=0)
    assert {refused["key"]: "pip install" in refused["reason"] for refused in report["refused"]} == {
        "a/1.heic": True,
        "a/2.HEIC": True,
    }
    (line,) = heic_hint(report["refused"])
    assert line.startswith("2 refused") and "pip install -c constraints.txt -e '.[heic]'" in line
    with pytest.raises(DataError, match=re.escape(line)):
        ingest(source, tmp_path / "dataset", min_size=1, max_refused=0, processes=0)
    decode._reads_heif.cache_clear()


def test_too_many_refused_photos_are_an_error_that_lists_them_and_the_old_data_set_stays(tmp_path: Path) -> None:
    source = MemorySource([*many("a", 5), photo("b/0.jpg", WHOLE)])
    ingest(source, tmp_path / "dataset", min_size=1, max_refused=0, processes=0)
    before = {file.name: file.read_bytes() for file in (tmp_path / "dataset").iterdir()}
    source = MemorySource([*many("b", 97), photo("a/0.jpg", WHOLE), photo("b/x.jpg", b""), photo("b/y.jpg", b"?")])
    with pytest.raises(
        DataError, match=r"2 of 100 photos are refused, more than data.max_refused: 0.01[^$]*b/x.jpg: zero"
    ):
        ingest(source, tmp_path / "dataset", min_size=1, max_refused=0.01, processes=0)
    assert {file.name: file.read_bytes() for file in (tmp_path / "dataset").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]
    assert ingest(source, tmp_path / "dataset", min_size=1, max_refused=0.02, processes=0)["photos"] == 98


def test_copies_in_one_class_are_kept_once_and_in_two_classes_not_at_all(tmp_path: Path) -> None:
    twin, torn = make_photo((9, 200, 9), 1), make_photo((9, 9, 200), 2)
    source = MemorySource([
        photo("test/a/1.jpg", twin, "test"), photo("train/a/2.jpg", twin, "train"), photo("train/a/3.jpg", torn, "train"),
        photo("train/b/4.jpg", torn, "train"), photo("train/b/5.jpg", WHOLE, "train"),
    ])  # fmt: skip
    report = ingest(source, tmp_path / "dataset", min_size=1, max_refused=1, processes=0)
    assert Dataset(tmp_path / "dataset").keys == ["test/a/1.jpg", "train/b/5.jpg"]
    assert report["duplicates"] == [
        {
            "key": "test/a/1.jpg",
            "label": "a",
            "split": "test",
            "copies": [{"key": "train/a/2.jpg", "label": "a", "split": "train"}],
        }
    ]
    assert [[photo["key"] for photo in photos] for photos in report["label_conflicts"]] == [
        ["train/a/3.jpg", "train/b/4.jpg"]
    ]
    assert [refused["key"] for refused in report["refused"]] == ["train/a/3.jpg", "train/b/4.jpg"]
    assert "label conflict" in report["refused"][0]["reason"] and "train/b/4.jpg" in report["refused"][0]["reason"]


def test_repairs_are_counted(tmp_path: Path) -> None:
    grey = io.BytesIO()
    Image.linear_gradient("L").save(grey, "PNG")
    source = MemorySource([photo("a/1.png", grey.getvalue()), photo("a/2.png", WHOLE), *many("b", 5)])
    report = ingest(source, tmp_path / "dataset", min_size=1, max_refused=0, processes=0)
    assert report["repaired"] == {"grey": 1, "wrong extension": 1}


def test_no_photo_left_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the class 'a' lost all its photos \(refused: 1 zero bytes\)"):
        ingest(MemorySource([photo("a/x.jpg", b"")]), tmp_path / "dataset", min_size=1, max_refused=1, processes=0)
    assert not list(tmp_path.iterdir())


def test_a_class_whose_photos_are_all_refused_is_an_error_that_names_it_and_the_old_data_set_stays(
    tmp_path: Path,
) -> None:
    good = [*many("b", 200), photo("c/1.jpg", WHOLE)]
    ingest(MemorySource(good), tmp_path / "dataset", min_size=1, max_refused=0)
    link = Photo("a/2.jpg", "a", None, b"", problem="unreadable (a link to /gone.jpg, which doesn't exist)")
    with pytest.raises(
        DataError, match=r"the class 'a' lost all its photos \(refused: 1 [^\n]*1 for other reasons\); replace"
    ):
        ingest(MemorySource([photo("a/1.jpg", b""), link, *good]), tmp_path / "dataset", min_size=1, max_refused=0.5)
    assert Dataset(tmp_path / "dataset").classes == ["b", "c"]


def test_one_class_only_is_an_error_that_names_it_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="all photos are of one class, 'a'; takes two classes or more"):
        ingest(MemorySource(many("a", 5)), tmp_path / "dataset", min_size=1, max_refused=0)
    assert not list(tmp_path.iterdir())


def test_what_is_not_used_is_described_with_its_reasons(tmp_path: Path) -> None:
    photos = [
        Photo(f"{label}/1.jpg", label, None, make_photo(color, 0))
        for label, color in (("a", (9, 9, 9)), ("b", (99, 9, 9)))
    ]
    source = MemorySource(photos)
    source.about = {"passed_over": {".csv": 1, ".txt": 12}, "merged_classes": {"a": ["A", "a"]}, "unlabelled": 4}
    assert describe(ingest(source, tmp_path / "dataset", min_size=1, max_refused=0)) == [
        "2 photos of 2 classes; 0 refused, 0 duplicates, 0 label conflicts",
        "13 files passed over: 12 .txt, 1 .csv",
        "4 photos without a label passed over",
        "one class, 'a': 'A', 'a'",
    ]


def test_a_repeated_key_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a/001.jpg: two photos have this path"):
        ingest(
            MemorySource([*many("a", 2), photo("a/001.jpg", WHOLE)]), tmp_path / "dataset", min_size=1, max_refused=1
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_several_processes_write_the_same_bytes_as_one(tmp_path: Path) -> None:
    for number, item in enumerate(many("a", 700)):
        path = tmp_path / "photos" / ("ab"[number % 2]) / item.key.split("/")[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(item.data)
    source = FolderSource(tmp_path / "photos")
    for processes in (0, 3):
        ingest(source, tmp_path / str(processes), min_size=1, max_refused=0, processes=processes)
    one, three = ({file.name: file.read_bytes() for file in (tmp_path / n).iterdir()} for n in ("0", "3"))
    assert one == three


def test_classes_are_renamed_and_merged_before_copies_are_resolved(tmp_path: Path) -> None:
    source = MemorySource(
        [*many("Grey Owl", 3), photo("Tawny Owl/a.jpg", WHOLE), photo("Owls/b.jpg", WHOLE), *many("b", 4)[3:]]
    )
    with pytest.raises(DataError, match="label conflict"):
        ingest(source, tmp_path / "plain", min_size=32, max_refused=1, processes=0)
    names = ClassNames({"grey owl": "OWLS", "Tawny Owl": "OWLS"})
    report = ingest(source, tmp_path / "dataset", min_size=32, max_refused=1, processes=0, names=names)
    assert report["photos_per_class"] == {"OWLS": 4, "b": 1} and not report["label_conflicts"]
    assert report["renamed_classes"] == {"OWLS": ["Grey Owl", "Tawny Owl"]}
    assert Dataset(tmp_path / "dataset").classes == ["OWLS", "b"]
    assert "'OWLS' by data.classes: 'Grey Owl', 'Tawny Owl'" in describe(report)


def test_an_unknown_old_name_is_one_line_and_writes_nothing_unless_its_new_name_is_there(tmp_path: Path) -> None:
    source = MemorySource([*many("Owl", 2), photo("Jay/a.jpg", WHOLE)])
    for old, told in (("Owwl", "did you mean 'Owl'?"), ("Xyz", "there are 'Jay', 'Owl'")):
        with pytest.raises(DataError) as error:
            ingest(source, tmp_path / "d", min_size=32, max_refused=1, processes=0, names=ClassNames({old: "Kea"}))
        assert str(error.value) == f"data.classes: no photos are of a class {old!r}; {told}"
        assert not (tmp_path / "d").exists()
    renamed_on_disk = ClassNames({"Strix": "Owl"})
    report = ingest(source, tmp_path / "d", min_size=32, max_refused=1, processes=0, names=renamed_on_disk)
    assert report["photos_per_class"] == {"Jay": 1, "Owl": 2} and "renamed_classes" not in report
