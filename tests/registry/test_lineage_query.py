"""From a version to what it was made from, and from a file to its version."""

from pathlib import Path

import pytest
from registering import NAME, add, hits, make_model

from plumage.errors import TrackingError
from plumage.registry.lineage_query import lineage_of, version_uri, versions_of_file


@pytest.mark.parametrize(
    ("text", "uri"),
    [
        ("3", "models:/birds/3"),
        ("@champion", "models:/birds@champion"),
        ("owls@champion", "models:/owls@champion"),
        ("models:/owls/3", "models:/owls/3"),
        ("models/model.safetensors", None),
        ("some@where/model.json", None),
    ],
)
def test_a_version_is_named_in_short_or_in_full(text: str, uri: str | None) -> None:
    assert version_uri(text, "birds") == uri


def test_a_file_leads_to_its_version_by_content_whatever_it_is_called(photos: Path) -> None:
    add(photos, 1, hits(40))
    add(photos, 2, hits(40))
    copy = make_model(photos / "elsewhere", 2) / "model.safetensors"
    (found,) = versions_of_file(copy.rename(photos / "some file"), photos)
    assert (found.name, int(found.version)) == (NAME, 2)
    both = versions_of_file(photos / "models-1" / "model.json", photos)  # the same of both models
    assert [int(version.version) for version in both] == [1, 2]
    (photos / "other").write_text("no model")
    assert versions_of_file(photos / "other", photos) == []
    with pytest.raises(TrackingError, match="no such file; takes a version"):
        versions_of_file(photos / "absent", photos)


def test_what_a_version_does_not_know_is_empty(photos: Path) -> None:
    outcome = add(photos, 1, hits(40))
    found = lineage_of(f"models:/{NAME}@champion", photos)
    assert found.title == f"{NAME} version 1 @challenger @champion" and found.run == outcome["run_id"]
    assert (found.commit, found.dirty, found.diff, found.params, found.packages) == (None, False, None, {}, {})
    assert found.sha256.keys() == {"model.safetensors", "model.json"}
    with pytest.raises(TrackingError, match="no such version"):
        lineage_of(f"models:/{NAME}/2", photos)
