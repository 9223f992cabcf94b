"""`data.source: kaggle`: a Kaggle data set, fetched by kagglehub into its own cache."""

import tarfile
import zipfile
import zlib
from http import HTTPStatus
from pathlib import Path

import requests

from plumage.common.extras import check_source
from plumage.config import DEFAULT_DATASETS, MAX_BYTES, Data
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.photo import SourcePaths
from plumage.data.sources.retry import TransientError, exclusive, in_time, is_transient, no_connection, one_line, retry
from plumage.errors import DataError

BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, ValueError)
"""What kagglehub raises for an incomplete or damaged archive."""
ACCESS = "set KAGGLE_API_TOKEN, or KAGGLE_USERNAME and KAGGLE_KEY, or put kaggle.json into ~/.kaggle"


def from_params(data: Data, paths: SourcePaths) -> FolderSource:
    """Fetch and open the data set that `data` names."""
    check_source("kaggle")
    return kaggle_source(data.dataset or DEFAULT_DATASETS["kaggle"], data.max_bytes)


def kaggle_source(dataset: str, max_bytes: int = MAX_BYTES) -> FolderSource:
    """Fetch and open `dataset`: owner/name (the newest version), or owner/name/versions/N (no network once fetched).

    Raises:
        DataError: the data set doesn't exist, access is denied, or all retries failed.
    """
    from kagglehub.config import get_cache_folder, get_kaggle_credentials

    try:
        get_kaggle_credentials()
    except ValueError as error:
        raise DataError(f"data.dataset: {one_line(error)}; {ACCESS}") from None
    owner, name = dataset.split("/")[:2]
    cache = Path(get_cache_folder(), "datasets", owner, name)
    with exclusive(cache / ".lock", f"data.dataset: {dataset}"):  # kagglehub doesn't lock, and would mix two downloads
        folder = retry(
            lambda: in_time(lambda: _download(dataset, cache), cache, f"data.dataset: {dataset}"),
            lambda: sum(archive.stat().st_size for archive in cache.glob("*.archive")),
            f"data.dataset: {dataset}",
        )
    source = FolderSource(folder, "data.dataset", max_bytes)
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
        raise _http_error(dataset, error.response) from None
    except DataCorruptionError:  # kagglehub has removed the file
        raise TransientError("the download doesn't match Kaggle's checksum") from None
    except requests.ConnectionError as error:
        raise TransientError(no_connection(error, "Kaggle")) from None
    except requests.RequestException as error:
        raise TransientError(f"the connection dropped ({type(error).__name__})") from None
    except BROKEN as error:
        for archive in cache.glob("*.archive"):  # else kagglehub would take it for complete from now on
            archive.unlink()
        raise TransientError(f"the download is not a complete archive ({one_line(error)})") from None


def _http_error(dataset: str, response: requests.Response) -> Exception:
    status = response.status_code
    if is_transient(status):
        return TransientError(f"Kaggle answers {status}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return DataError(f"data.dataset: Kaggle denies access to {dataset} ({status}); {ACCESS}, or correct the name")
    if status == HTTPStatus.NOT_FOUND:
        default = DEFAULT_DATASETS["kaggle"]
        cause = f"the default, {default}, may have been removed" if dataset == default else "mistyped, or removed"
        return DataError(f"data.dataset: Kaggle has no {dataset} (404): {cause}; name another with data.dataset")
    return DataError(f"data.dataset: Kaggle answers {status} for {dataset}; takes owner/name of a Kaggle data set")
