"""Photos are available in an experiment's copy of the repository."""

from pathlib import Path

import pytest
from support import read_all

from plumage.data.sources.folder import FolderSource
from plumage.data.sources.link_photos import link_photos


@pytest.fixture
def root(tmp_path: Path, class_folders: Path) -> Path:
    """A repository whose photos Git doesn't track: a copy has only the folder's README."""
    root = tmp_path / "repository"
    (root / "data").mkdir(parents=True)
    class_folders.rename(root / "data" / "photos")
    return root


def copy_of(root: Path, *below: str) -> Path:
    copy = root.joinpath(".dvc", "tmp", "exps", *below, "tmp1")
    (copy / "data" / "photos").mkdir(parents=True)
    (copy / "data" / "photos" / "README.md").touch()
    return copy


def test_untracked_photos_are_linked_into_a_copy(root: Path) -> None:
    copy = copy_of(root)
    found = link_photos("data/photos", root, copy)
    assert found == copy / "data" / "photos"
    assert read_all(FolderSource(found)) == read_all(FolderSource(root / "data" / "photos"))


def test_photos_that_a_copy_already_has_are_kept(root: Path) -> None:
    copy = copy_of(root)
    own = copy / "data" / "photos" / "CARDINAL" / "0.jpg"
    own.parent.mkdir()
    own.write_bytes(b"the version that DVC checked out")
    link_photos("data/photos", root, copy)
    assert own.read_bytes() == b"the version that DVC checked out"


@pytest.mark.parametrize("below", [[], ["standalone"]])
def test_a_relative_path_out_of_the_repository_leads_to_the_same_photos_from_a_copy(
    root: Path, below: list[str]
) -> None:
    (root / "data" / "photos").rename(root.parent / "elsewhere")
    link_photos("../elsewhere", root, root)
    copy = copy_of(root, *below)
    assert (copy / "../elsewhere").samefile(root.parent / "elsewhere")
    assert link_photos("../elsewhere", root, copy).samefile(root.parent / "elsewhere")


def test_an_absolute_path_needs_no_link(root: Path) -> None:
    photos = root / "data" / "photos"
    assert link_photos(str(photos), root, copy_of(root)) == photos
    assert link_photos(str(photos), root, root) == photos
    assert not list((root / ".dvc" / "tmp").rglob("photos/*/*.jpg"))


def test_dead_links_and_links_to_folders_are_links_in_a_copy_too(root: Path) -> None:
    photos, copy = root / "data" / "photos", copy_of(root)
    (photos / "ORIOLE" / "dead.jpg").symlink_to("/gone.jpg")
    (photos / "ORIOLE").rename(root / "elsewhere")
    (photos / "ORIOLE").symlink_to(root / "elsewhere")
    (photos / "loop").symlink_to(photos)
    for _ in range(2):
        found = link_photos("data/photos", root, copy)
    assert (found / "ORIOLE").is_symlink()
    assert len(FolderSource(found)) == 41
