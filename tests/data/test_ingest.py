"""Every photo is decoded and checked on its way into the data set."""

from pathlib import Path

import pytest
from support import make_photo

from plumage.data.ingest import ingest
from plumage.data.photo import Photo
from plumage.data.store import Dataset
from plumage.errors import DataError

WHOLE = make_photo((200, 40, 50), 0)


def test_refused_photos_are_listed_with_the_reason_and_left_out(tmp_path: Path) -> None:
    bad = {"a/empty.jpg": b"", "a/cut.jpg": WHOLE[: len(WHOLE) // 2], "a/text.jpg": b"no photo"}
    photos = [Photo(key, key[0], None, data) for key, data in {**bad, "a/1.jpg": WHOLE, "b/1.png": WHOLE}.items()]
    report = ingest(photos, len(photos), tmp_path / "dataset")
    assert [refused["key"] for refused in report["refused"]] == list(bad)
    assert all("not a whole photo" in refused["reason"] for refused in report["refused"])
    assert (report["photos"], report["photos_per_class"]) == (2, {"a": 1, "b": 1})
    assert Dataset(tmp_path / "dataset").keys == ["a/1.jpg", "b/1.png"]


@pytest.mark.parametrize("keys", [["a/1.jpg", "a/1.jpg"], []])
def test_a_failure_leaves_no_half_data_set(tmp_path: Path, keys: list[str]) -> None:
    photos = [Photo(key, "a", None, WHOLE) for key in keys] or [Photo("a/x.jpg", "a", None, b"")]
    with pytest.raises(DataError):
        ingest(photos, len(photos), tmp_path / "dataset")
    assert not list(tmp_path.iterdir())
