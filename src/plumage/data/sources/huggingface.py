"""`data.source: huggingface`: a data set of the Hugging Face Hub, fetched by huggingface_hub into its own cache.

Three layouts are known, and tried in this order: parquet files with images and labels, archives of class folders, class
folders.
"""

import re
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import urlsplit

import yaml

from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.joined import JoinedSource, Piece
from plumage.data.sources.layout import PART_NAMES, PHOTO_SUFFIXES
from plumage.data.sources.parquet import ParquetSource, columns_of
from plumage.data.sources.photo import Source
from plumage.data.sources.retry import BUSY, TransientError, one_line, retry
from plumage.errors import DataError

T = TypeVar("T")
ARCHIVES = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
SPLITS = PART_NAMES | {"training": "train", "dev": "val", "testing": "test"}
"""The names that parts, which are called splits there, have on the Hub."""
TIMEOUT_SECONDS = 30.0


def huggingface_source(dataset: str, revision: str | None, scratch: Path) -> Source:
    """The photos of `dataset` (owner/name) at `revision`: a commit, tag or branch; None: the newest.

    A full commit that has been fetched once needs no network. `scratch` is where compressed tars are unpacked to: the caller
    removes all files whose names begin like its own. DataError when there is no such data set or revision, it may not be
    had, can't be fetched however often it is tried, or has none of the layouts.
    """
    hub = _Dataset(dataset, revision)
    source = _source(hub, scratch)
    source.about |= {"dataset": dataset, "revision": hub.commit}
    if licence := hub.licence():
        source.about["licence"] = licence
    return source


def part_of(name: str) -> str | None:
    """The part that a file's name, else the folder nearest to it, tells: data/train-00000-of-00005.parquet is train."""
    for piece in reversed(PurePosixPath(name).parts):
        parts = {SPLITS[word] for word in re.split(r"[^a-z]+", piece.lower()) if word in SPLITS}
        if parts:
            return parts.pop() if len(parts) == 1 else None
    return None


def _source(hub: "_Dataset", scratch: Path) -> Source:
    where = f"data.dataset: {hub.name}"
    tables = [name for name in hub.files if name.endswith(".parquet")]
    if tables and columns_of(hub.fetch_file(tables[0]), where):
        root = hub.fetch(tables)
        return ParquetSource([(root / name, part_of(name)) for name in tables], where)
    if archives := [name for name in hub.files if ARCHIVES.search(name)]:
        root = hub.fetch(archives)
        pieces = [
            Piece(prefix, part_of(name), ArchiveSource(root / name, scratch.with_name(f"{scratch.name}.{i}"), where))
            for i, (name, prefix) in enumerate(zip(archives, _prefixes(archives), strict=True))
        ]
        return JoinedSource(pieces)
    if photos := [name for name in hub.files if PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES]:
        return FolderSource(hub.fetch(photos), where)
    raise DataError(
        f"{where} holds no photos in a known layout; takes parquet files with columns of images and labels, zip or tar archives "
        "of class folders, or class folders"
    )


def _prefixes(archives: list[str]) -> list[str]:
    """What the keys of each archive's photos begin with: nothing, its own name, or, where that is not unique, its whole one."""
    if len(archives) == 1:
        return [""]
    whole = [ARCHIVES.sub("", name) for name in archives]
    short = [PurePosixPath(name).name for name in whole]
    names = short if len(set(short)) == len(short) else whole if len(set(whole)) == len(whole) else archives
    return [f"{name}/" for name in names]


class _Dataset:
    """A data set on the Hub at a commit: which files it has, and where they lie once fetched."""

    def __init__(self, name: str, revision: str | None) -> None:
        from huggingface_hub import HfApi, get_cached_repo_tree  # here: other sources start without it
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        self.name, self.revision = name, revision
        if revision and re.fullmatch("[0-9a-f]{40}", revision):
            self.commit = revision
        else:
            self.commit = str(
                self._ask(lambda: HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_SECONDS).sha)
            )
        try:
            cached = self._ask(lambda: get_cached_repo_tree(name, repo_type="dataset", revision=self.commit))
            self.files = sorted(file.path for file in cached)
        except CachedRepoTreeNotFoundError:
            self.files = sorted(
                self._ask(lambda: HfApi().list_repo_files(name, repo_type="dataset", revision=self.commit))
            )

    def licence(self) -> str | None:
        """What the head of its README.md gives as licence, if it does: its owner's word, and nobody else's."""
        if "README.md" not in self.files:
            return None
        head = re.match(r"---\s*\n(.*?)\n---", self.fetch_file("README.md").read_text("utf-8", "replace"), re.DOTALL)
        try:
            given = yaml.safe_load(head[1]) if head else None
        except yaml.YAMLError:
            return None
        named = given.get("license") if isinstance(given, dict) else None
        return ", ".join(map(str, named)) if isinstance(named, list) else str(named) if named else None

    def fetch_file(self, file: str) -> Path:
        """The path of a file that is here now."""
        from huggingface_hub import hf_hub_download

        return Path(self._ask(lambda: hf_hub_download(self.name, file, repo_type="dataset", revision=self.commit)))

    def fetch(self, files: list[str]) -> Path:
        """The folder in which these files, and perhaps others with their suffixes, are here now."""
        from huggingface_hub import snapshot_download

        suffixes = sorted({f"*{PurePosixPath(file).suffix}" for file in files})
        return Path(
            self._ask(
                lambda: snapshot_download(self.name, repo_type="dataset", revision=self.commit, allow_patterns=suffixes)
            )
        )

    def _ask(self, ask: Callable[[], T]) -> T:
        """What the Hub answers; DataError for its refusals."""
        return retry(lambda: self._try(ask), lambda: 0, f"data.dataset: {self.name}")

    def _try(self, ask: Callable[[], T]) -> T:
        from huggingface_hub import constants, errors

        where, host = f"data.dataset: {self.name}", urlsplit(constants.ENDPOINT).hostname
        try:
            return ask()
        except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
            if constants.is_offline_mode():
                raise DataError(
                    f"{where} isn't here whole, and HF_HUB_OFFLINE keeps it from being fetched; unset it"
                ) from None
            # The library has tried as often as `retry` would.
            raise DataError(
                f"{where}: there is no connection to {host}; run it again later, what has been fetched is kept"
            ) from None
        except errors.GatedRepoError:
            raise DataError(f"{where} asks for consent; give it on its page at {host}, and set HF_TOKEN") from None
        except errors.RepositoryNotFoundError:
            raise DataError(f"{where} isn't at {host}, or it is private; mend data.dataset, or set HF_TOKEN") from None
        except errors.RevisionNotFoundError:
            raise DataError(f"{where} has no revision {self.revision}; takes a commit, tag or branch of it") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise TransientError(f"{host} answers {status}") from None
            raise DataError(f"{where}: {host} answers {status}; set HF_TOKEN if it isn't for everyone") from None
        except errors.HTTPError:
            raise TransientError(f"there is no connection to {host}") from None
        except (errors.HFValidationError, errors.CorruptedCacheException) as error:
            raise DataError(f"{where}: {one_line(error)}") from None
        except (OSError, RuntimeError) as error:  # came incomplete; but a disk that is full is another thing
            if getattr(error, "errno", None) is not None:
                raise
            raise TransientError(one_line(error)) from None
