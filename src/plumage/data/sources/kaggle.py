"""`data.source: kaggle`: a data set of Kaggle, fetched by kagglehub into its own cache, which keeps what is whole."""

import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import requests

from plumage.config import DEFAULT_DATASETS
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.retry import BUSY, TransientError, exclusive, no_connection, one_line, retry
from plumage.errors import DataError

BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError)
"""What kagglehub lets through when the archive that it unpacks is no whole one."""
ACCESS = "set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json into ~/.kaggle"


def kaggle_source(dataset: str) -> FolderSource:
    """The photos of `dataset`: owner/name, its newest version, or owner/name/versions/N, which needs no network once fetched.

    DataError when there is no such data set, it may not be had, or it can't be fetched however often it is tried.
    """
    from kagglehub.config import get_cache_folder, get_kaggle_credentials  # here: other sources start without it

    try:
        get_kaggle_credentials()
    except ValueError as error:
        raise DataError(f"data.dataset: {one_line(error)}; {ACCESS}") from None
    owner, name = dataset.split("/")[:2]
    cache = Path(get_cache_folder(), "datasets", owner, name)
    with exclusive(cache / ".lock", f"data.dataset: {dataset}"):  # kagglehub has none, and would mix two downloads
        folder = retry(
            lambda: _download(dataset, cache),
            lambda: sum(archive.stat().st_size for archive in _archives(cache)),
            f"data.dataset: {dataset}",
        )
    source = FolderSource(folder, where="data.dataset")
    source.about |= {"dataset": dataset}
    if folder.parent.name == "versions" and folder.name.isdigit():
        source.about["version"] = int(folder.name)
    return source


def _download(dataset: str, cache: Path) -> Path:
    import kagglehub
    from kagglehub.exceptions import DataCorruptionError, KaggleApiHTTPError

    try:
        return Path(kagglehub.dataset_download(dataset))
    except KaggleApiHTTPError as error:
        raise _refused(dataset, error.response) from None
    except DataCorruptionError:  # kagglehub has removed it
        raise TransientError("what came hasn't the checksum that Kaggle tells") from None
    except requests.ConnectionError as error:
        raise TransientError(no_connection(error, "Kaggle")) from None
    except requests.RequestException as error:
        raise TransientError(f"the connection dropped ({type(error).__name__})") from None
    except BROKEN as error:
        for archive in _archives(cache):  # else kagglehub would take it for whole, now and ever after
            archive.unlink()
        raise TransientError(f"what came is no whole archive ({one_line(error)})") from None


def _refused(dataset: str, response: requests.Response) -> Exception:
    status = response.status_code
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return TransientError(f"Kaggle answers {status}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return DataError(f"data.dataset: Kaggle doesn't give {dataset} to you ({status}); {ACCESS}, or mend the name")
    if status == HTTPStatus.NOT_FOUND:
        default = DEFAULT_DATASETS["kaggle"]
        removed = f"the default, {default}, may have been removed" if dataset == default else "mistyped, or removed"
        return DataError(f"data.dataset: Kaggle has no {dataset} (404): {removed}; name another with data.dataset")
    return DataError(f"data.dataset: Kaggle answers {status} for {dataset}; takes owner/name of a data set there")


def _archives(cache: Path) -> Iterator[Path]:
    return cache.glob("*.archive")
