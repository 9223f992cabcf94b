"""`data.source: huggingface`: a data set of the Hugging Face Hub, fetched by huggingface_hub into its own cache.

Its layouts, tried in this order: parquet files with images and labels, archives of class folders, class folders.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from plumage.common.class_names import class_identity
from plumage.common.extras import check_source
from plumage.common.yaml_file import parse_yaml
from plumage.config import DEFAULT_DATASETS, MAX_BYTES, Data
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.layout import PHOTO_SUFFIXES, SPLIT_NAMES
from plumage.data.sources.names import merge_spellings
from plumage.data.sources.parquet import ParquetSource, columns_of
from plumage.data.sources.photo import Chunk, Photo, Source, SourcePaths
from plumage.data.sources.retry import TransientError, in_time, is_transient, one_line, retry
from plumage.errors import ConfigError, DataError

T = TypeVar("T")
ARCHIVES = re.compile(r"\.(zip|tar|tgz|tar\.(gz|bz2|xz))$", re.IGNORECASE)
TIMEOUT_SECONDS = 30.0


def from_params(data: Data, paths: SourcePaths) -> Source:
    """Fetch and open the data set that `data` names."""
    check_source("huggingface")
    dataset = data.dataset or DEFAULT_DATASETS["huggingface"]
    return huggingface_source(dataset, data.revision, paths.scratch, data.max_bytes)


def huggingface_source(dataset: str, revision: str | None, scratch: Path, max_bytes: int = MAX_BYTES) -> Source:
    """Fetch and open `dataset` (owner/name) at `revision`: a commit, tag or branch; None: the newest.

    A full commit needs no network once it is fetched. Compressed tars are unpacked to files whose names start with that of
    `scratch`; the caller removes them.

    Raises:
        DataError: the data set or revision doesn't exist, access is denied, all retries failed, or no layout fits.
    """
    hub = _Dataset(dataset, revision)
    source = _source(hub, scratch, max_bytes)
    source.about |= {"dataset": dataset, "revision": hub.commit}
    if licence := hub.licence():
        source.about["licence"] = licence
    return source


def split_of(name: str) -> str | None:
    """The split that a file's name, else its nearest folder, contains: data/train-00000-of-00005.parquet is train."""
    for segment in reversed(PurePosixPath(name).parts):
        words = re.split(r"[^a-z]+", segment.lower())
        splits = {SPLIT_NAMES[word] for word in words if word in SPLIT_NAMES}
        if splits:
            return splits.pop() if len(splits) == 1 else None
    return None


def _source(hub: "_Dataset", scratch: Path, max_bytes: int) -> Source:
    where = f"data.dataset: {hub.name}"
    tables = [name for name in hub.files if name.endswith(".parquet")]
    if tables and columns_of(hub.fetch_file(tables[0]), where):
        root = hub.fetch(tables)
        return ParquetSource([(root / name, split_of(name)) for name in tables], where, max_bytes)
    if archives := [name for name in hub.files if ARCHIVES.search(name)]:
        root = hub.fetch(archives)
        pieces = [
            Piece(
                prefix,
                split_of(name),
                ArchiveSource(root / name, scratch.with_name(f"{scratch.name}.{i}"), where, max_bytes),
            )
            for i, (name, prefix) in enumerate(zip(archives, _prefixes(archives), strict=True))
        ]
        return JoinedSource(pieces)
    if photos := [name for name in hub.files if PurePosixPath(name).suffix.lower() in PHOTO_SUFFIXES]:
        return FolderSource(hub.fetch(photos), where, max_bytes)
    raise DataError(
        f"{where} holds no photos in a known layout; takes parquet files with columns of images and labels, zip or tar "
        "archives of class folders, or class folders"
    )


def _prefixes(archives: list[str]) -> list[str]:
    """A key prefix for each archive: none for a single one, else its name, or its full path where names are not unique."""
    if len(archives) == 1:
        return [""]
    stems = [ARCHIVES.sub("", path) for path in archives]
    names = [PurePosixPath(stem).name for stem in stems]
    unique = next(choice for choice in (names, stems, archives) if len(set(choice)) == len(choice))
    return [f"{prefix}/" for prefix in unique]


class Piece(NamedTuple):
    """An archive. Its photos' keys get `prefix`; photos without a split inside the archive get `split`."""

    prefix: str
    split: str | None
    source: ArchiveSource


class JoinedSource:
    """The photos of all `pieces`, one after the other. Class names that differ only in case or spaces are one class."""

    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        labels = Counter(found.label for piece in pieces for found in piece.source.found)
        self._label_of = merge_spellings(labels)[0]
        passed_over: Counter[str] = Counter()
        spellings: dict[str, set[str]] = {}
        for piece in pieces:
            passed_over.update(piece.source.about["passed_over"])
            merged = piece.source.about["merged_classes"]
            for label in {found.label for found in piece.source.found}:
                spellings.setdefault(self._label_of[label], set()).update(merged.get(label, [label]))
        known = {class_identity(label) for label in labels}
        empty = {
            label: content
            for piece in pieces
            for label, content in piece.source.about.get("empty_classes", {}).items()
            if class_identity(label) not in known
        }
        self.about: dict[str, Any] = {
            "passed_over": dict(sorted(passed_over.items())),
            "merged_classes": {label: sorted(names) for label, names in sorted(spellings.items()) if len(names) > 1},
        }
        if empty:
            self.about["empty_classes"] = empty

    def __len__(self) -> int:
        return sum(len(piece.source) for piece in self._pieces)

    def chunks(self) -> Iterator[Chunk]:
        """The chunks of each archive in turn, with the photos' original bytes."""
        for prefix, split, source in self._pieces:
            for chunk in source.chunks():
                yield partial(_read, chunk, prefix, split, self._label_of)


def _read(chunk: Chunk, prefix: str, split: str | None, label_of: dict[str, str]) -> list[Photo]:
    return [
        replace(photo, key=prefix + photo.key, label=label_of[photo.label], split=photo.split or split)
        for photo in chunk()
    ]


class _Dataset:
    """A data set on the Hub at a commit: lists and fetches its files."""

    def __init__(self, name: str, revision: str | None) -> None:
        from huggingface_hub import HfApi, get_cached_repo_tree  # late: it is slow to import
        from huggingface_hub.errors import CachedRepoTreeNotFoundError

        self.name, self.revision = name, revision
        if revision and re.fullmatch("[0-9a-f]{40}", revision):
            self.commit = revision
        else:
            info = self._ask(lambda: HfApi().dataset_info(name, revision=revision, timeout=TIMEOUT_SECONDS))
            self.commit = str(info.sha)
        try:
            cached = self._ask(lambda: get_cached_repo_tree(name, repo_type="dataset", revision=self.commit))
            files = [file.path for file in cached]
        except CachedRepoTreeNotFoundError:
            files = self._ask(lambda: HfApi().list_repo_files(name, repo_type="dataset", revision=self.commit))
        self.files = sorted(files)

    def licence(self) -> str | None:
        """The licence in the metadata of README.md, if there is one. It is the owner's claim; nobody checks it."""
        if "README.md" not in self.files:
            return None
        head = re.match(r"---\s*\n(.*?)\n---", self.fetch_file("README.md").read_text("utf-8", "replace"), re.DOTALL)
        try:
            given = parse_yaml(head[1], "README.md") if head else None
        except ConfigError:
            return None
        named = given.get("license") if isinstance(given, dict) else None
        return ", ".join(map(str, named)) if isinstance(named, list) else str(named) if named else None

    def fetch_file(self, file: str) -> Path:
        """Fetch a file, and return its path in the cache."""
        from huggingface_hub import hf_hub_download

        return Path(self._ask(lambda: hf_hub_download(self.name, file, repo_type="dataset", revision=self.commit)))

    def fetch(self, files: list[str]) -> Path:
        """Fetch these files, and perhaps others with their suffixes; return the folder that holds them."""
        from huggingface_hub import snapshot_download

        suffixes = sorted({f"*{PurePosixPath(file).suffix}" for file in files})
        options: dict[str, Any] = {"repo_type": "dataset", "revision": self.commit, "allow_patterns": suffixes}
        return Path(self._ask(lambda: snapshot_download(self.name, **options)))

    def _ask(self, ask: Callable[[], T]) -> T:
        """Call `ask`, which asks the Hub, with retries; DataError when the Hub refuses, or sends too slowly."""
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        where = f"data.dataset: {self.name}"
        cache = Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=self.name, repo_type="dataset"))
        return retry(lambda: in_time(lambda: self._try(ask), cache, where), lambda: 0, where)

    def _try(self, ask: Callable[[], T]) -> T:
        from huggingface_hub import constants, errors

        where, host = f"data.dataset: {self.name}", urlsplit(constants.ENDPOINT).hostname
        try:
            return ask()
        except (errors.OfflineModeIsEnabled, errors.LocalEntryNotFoundError):
            if constants.is_offline_mode():
                raise DataError(
                    f"{where} isn't completely in the cache, and HF_HUB_OFFLINE forbids fetching it; unset HF_HUB_OFFLINE"
                ) from None
            # huggingface_hub has retried by itself.
            raise DataError(f"{where}: no connection to {host}; run it again later, what was fetched is kept") from None
        except errors.GatedRepoError:
            raise DataError(f"{where} is gated; accept its terms on its page at {host}, and set HF_TOKEN") from None
        except errors.RepositoryNotFoundError:
            raise DataError(
                f"{where} isn't at {host}, or it is private; correct data.dataset, or set HF_TOKEN"
            ) from None
        except errors.RevisionNotFoundError:
            raise DataError(f"{where} has no revision {self.revision}; takes a commit, tag or branch of it") from None
        except errors.HfHubHTTPError as error:
            status = error.response.status_code
            if is_transient(status):
                raise TransientError(f"{host} answers {status}") from None
            raise DataError(f"{where}: {host} answers {status}; set HF_TOKEN if the data set isn't public") from None
        except errors.HTTPError:
            raise TransientError(f"no connection to {host}") from None
        except (errors.HFValidationError, errors.CorruptedCacheException) as error:
            raise DataError(f"{where}: {one_line(error)}") from None
        except (OSError, RuntimeError) as error:  # incomplete download; a full disk has an errno
            if getattr(error, "errno", None) is not None:
                raise
            raise TransientError(one_line(error)) from None
