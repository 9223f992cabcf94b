"""`data.source: url`: an archive from the web, fetched once into a folder that all experiments share.

An incomplete download is `<name>.part`; `<name>.part.json` identifies the server's version of the file. An interrupted
download resumes, and a file never mixes two versions.
"""

import hashlib
import json
import os
import re
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from plumage.common import files
from plumage.common.progress import Progress, console
from plumage.common.redaction import redacted
from plumage.common.text import shown
from plumage.config import Data
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.photo import SourcePaths
from plumage.data.sources.retry import TransientError, exclusive, is_transient, no_connection, retry
from plumage.errors import DataError

TIMEOUT_SECONDS = 30.0  # to connect, and between two blocks of the file
BLOCK_BYTES = 64 * 1024
PRIVATE_URL = "PLUMAGE_DATA_URL"
"""Environment variable with `data.url` as it is fetched: with a user and password, a token or a signature."""


class Version(NamedTuple):
    """Identifies a version of a file on a server: by its strong ETag, else its Last-Modified; and its size."""

    validator: str | None = None
    size: int | None = None


def from_params(data: Data, paths: SourcePaths) -> ArchiveSource:
    """Fetch and open the archive at `data.url`."""
    assert data.url is not None, "config.Params checks it"
    if redacted(data.url) != data.url:
        console.print(
            f"data.url: has a login or token, which DVC writes to dvc.lock; give it in {PRIVATE_URL} or ~/.netrc",
            soft_wrap=True,
            markup=False,
        )
    archive = fetch(data.url, paths.downloads, data.sha256)
    try:
        return ArchiveSource(archive, paths.scratch, where="data.url")
    except DataError:
        archive.unlink()  # once the file on the server is repaired, the next run fetches it again
        raise


def fetch(url: str, downloads: Path, sha256: str | None) -> Path:
    """Fetch the file at `url` into the folder `downloads` unless it is there; return its path. Check `sha256` if given.

    Raises:
        DataError: the server refuses it, all retries failed, or the file has another SHA-256.
    """
    if not url.startswith(("http://", "https://")) or not _is_address(url):
        raise DataError("data.url: is not a web address; takes http(s)://... of a zip, tar or tar.gz")
    path = downloads / _file_name(url)
    incomplete = downloads / f"{path.name}.part"
    with exclusive(downloads / f"{path.name}.lock", redacted(url)):
        if path.is_file():
            if sha256 is None or files.sha256(path) == sha256.lower():
                return path
            console.print(f"{path} doesn't match data.sha256; fetching it again", soft_wrap=True, markup=False)
        retry(partial(_resume, _private(url), incomplete), partial(_size, incomplete), f"data.url: {redacted(url)}")
        if sha256 is not None and (found := files.sha256(incomplete)) != sha256.lower():
            _discard(incomplete)
            raise DataError(
                f"data.url: {redacted(url)} has SHA-256 {found}, but data.sha256 is {sha256.lower()}; if the file is right, "
                "correct data.sha256; the next run fetches it again"
            )
        incomplete.replace(path)
        _discard(incomplete)
    return path


def _private(url: str) -> str:
    """The address to fetch `url` from: PRIVATE_URL if it is set, else itself.

    Raises:
        DataError: PRIVATE_URL is another address.
    """
    private = os.environ.get(PRIVATE_URL, "").strip() or url
    if not _is_address(private) or _place(private) != _place(url):
        raise DataError(f"{PRIVATE_URL}: {redacted(private)} is not data.url; takes it with a login or token")
    return private


def _is_address(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:  # as of http://[::1/
        return False


def _place(url: str) -> tuple[str, str, str]:
    scheme, host, path, *_ = urlsplit(url)
    return scheme, host.rpartition("@")[2].lower(), path


def _resume(url: str, incomplete: Path) -> None:
    """Fetch the rest of the file into `incomplete`, or all of it when the server has another version now."""
    version = _read_version(incomplete)
    done = _size(incomplete) if version.validator else 0
    if done and done == version.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if done and version.validator:
        headers |= {"Range": f"bytes={done}-", "If-Range": version.validator}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            _check_status(response, url, done)
            if done and not _is_continuation(response, version, done):
                _discard(incomplete)
                raise TransientError("the file has changed on the server, starting over")
            _write(response, incomplete, done)
    except requests.exceptions.SSLError:
        raise DataError(
            f"data.url: {redacted(url)}: its certificate can't be verified; takes a server with a valid certificate"
        ) from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise TransientError(f"no data for {TIMEOUT_SECONDS:g} s") from None
    except requests.ConnectionError as error:
        raise TransientError(no_connection(error, str(urlsplit(url).hostname))) from None
    except urllib3.exceptions.HTTPError:
        raise TransientError(f"the connection dropped after {_size(incomplete):,} bytes") from None
    except requests.RequestException as error:  # redirects to another protocol, or in circles
        raise DataError(
            f"data.url: {redacted(url)} leads nowhere ({type(error).__name__}); takes the address of a file"
        ) from None


def _write(response: requests.Response, incomplete: Path, done: int) -> None:
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        done = 0
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdigit() else None
    with (
        incomplete.open("ab" if done else "wb") as file,
        Progress("download", total, in_bytes=True, done=done) as progress,
    ):
        if not done:  # only after the file is truncated, so that the version fits its content
            _version_file(incomplete).unlink(missing_ok=True)
            files.write_json(_version_file(incomplete), Version(_validator(response), total)._asdict())
        # Undecoded: some servers call a tar.gz a tar with Content-Encoding gzip.
        for block in response.raw.stream(BLOCK_BYTES, decode_content=False):
            with files.naming(incomplete):
                file.write(block)
            progress.advance(len(block))
    if total is not None and _size(incomplete) < total:
        raise TransientError(f"the connection dropped after {_size(incomplete):,} of {total:,} bytes")


def _check_status(response: requests.Response, url: str, done: int) -> None:
    status = response.status_code
    if status == HTTPStatus.OK or (
        done and status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
    ):
        return
    answer = f"{status} ({shown(response.reason)})" if response.reason else f"{status}"
    if is_transient(status):
        raise TransientError(f"the server answers {answer}")
    raise DataError(f"data.url: {redacted(url)} answers {answer}; takes the address of a public file")


def _is_continuation(response: requests.Response, version: Version, done: int) -> bool:
    """Whether the response continues the version of the first `done` bytes, or starts over (with any version)."""
    if response.status_code == HTTPStatus.OK:
        return True
    same = _validator(response) in (None, version.validator)
    return same and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def _validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):  # a weak ETag doesn't promise the same bytes
        return etag
    return response.headers.get("Last-Modified")


def _read_version(incomplete: Path) -> Version:
    try:
        return Version(**json.loads(_version_file(incomplete).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Version()


def _version_file(incomplete: Path) -> Path:
    return incomplete.with_name(f"{incomplete.name}.json")


def _discard(incomplete: Path) -> None:
    incomplete.unlink(missing_ok=True)
    _version_file(incomplete).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _file_name(url: str) -> str:
    """The URL's last segment, after a hash of the whole URL: files of the same name stay apart."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{re.sub(r'[^A-Za-z0-9._-]+', '_', last)[-80:] or 'archive'}"
