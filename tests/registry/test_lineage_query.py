"""Lineage queries: what a version was made from, and which version a file belongs to."""

import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient
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
def test_a_version_can_be_named_in_short_or_in_full(text: str, uri: str | None) -> None:
    assert version_uri(text, lambda: "birds") == uri


def test_a_file_is_matched_to_its_version_by_content_whatever_its_name(registered: Path) -> None:
    add(registered, 2, hits(40))
    copy = make_model(registered / "elsewhere", 2) / "model.safetensors"
    (found,) = versions_of_file(copy.rename(registered / "some file"), registered)
    assert (found.name, int(found.version)) == (NAME, 2)
    both = versions_of_file(registered / "models-1" / "model.json", registered)  # both models have the same
    assert [int(version.version) for version in both] == [1, 2]
    (registered / "other").write_text("no model")
    assert versions_of_file(registered / "other", registered) == []
    with pytest.raises(TrackingError, match="no such file; takes a version"):
        versions_of_file(registered / "absent", registered)


def test_unknown_parts_of_a_lineage_are_empty(registered: Path) -> None:
    found = lineage_of(f"models:/{NAME}@champion", registered)
    assert found.title == f"{NAME} version 1 @challenger @champion"
    assert found.run == MlflowClient().get_model_version(NAME, "1").run_id
    assert (found.commit, found.dirty, found.diff, found.params, found.packages) == (None, False, None, {}, {})
    assert found.sha256.keys() == {"model.safetensors", "model.json"}
    with pytest.raises(TrackingError, match="no such version"):
        lineage_of(f"models:/{NAME}/2", registered)


def test_a_version_whose_files_are_gone_is_an_error_not_an_empty_lineage(registered: Path) -> None:
    shutil.rmtree(registered / "mlartifacts")
    with pytest.raises(TrackingError, match=r"the files of models:/.*/1 are gone.*mlartifacts/"):
        lineage_of(f"models:/{NAME}/1", registered)
