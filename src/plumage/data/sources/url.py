"""`data.source: url`: an archive from the web, fetched once into a folder that all experiments share.

An incomplete download is `<name>.part`; `<name>.part.json` identifies the server's version of the file. An interrupted
download resumes, and a file never mixes two versions.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Generator, Iterator
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import requests
import urllib3

from plumage.common import files
from plumage.common.pace import TooSlowError, blocks_in_time
from plumage.common.progress import Progress, console
from plumage.common.redaction import redacted
from plumage.common.text import shown
from plumage.config import Data
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.photo import SourcePaths
from plumage.data.sources.retry import TransientError, exclusive, is_transient, no_connection, retry
from plumage.errors import DataError

TIMEOUT_SECONDS = 30.0  # to connect, and for the average rate of what comes
BLOCK_BYTES = 64 * 1024
MAX_UNSIZED_BYTES = 10 * 1000**3  # of a file whose size the server doesn't say: it may never end
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
        )
    archive = fetch(data.url, paths.downloads, data.sha256)
    try:
        return ArchiveSource(archive, paths.scratch, "data.url", data.max_bytes)
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
            console.print(f"{path} doesn't match data.sha256; fetching it again", soft_wrap=True)
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
    answer = _Answer(url, headers)
    blocks = blocks_in_time(answer.blocks(), TIMEOUT_SECONDS)
    try:
        while answer.response is None:
            next(blocks)
        _check_status(answer.response, url, done)
        if done and not _is_continuation(answer.response, version, done):
            _discard(incomplete)
            raise TransientError("the file has changed on the server, starting over")
        _write(answer.response, blocks, url, incomplete, done)
    except TooSlowError as error:
        raise TransientError(str(error)) from None
    except requests.exceptions.SSLError:
        raise DataError(
            f"data.url: {redacted(url)}: its certificate can't be verified; takes a server with a valid certificate"
        ) from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise TransientError(f"no data for {TIMEOUT_SECONDS:g} s") from None
    except requests.ConnectionError as error:
        raise TransientError(no_connection(error, str(urlsplit(url).hostname))) from None
    except (requests.RequestException, ValueError) as error:  # redirects in circles, to another protocol or no address
        raise DataError(
            f"data.url: {redacted(url)} leads nowhere ({type(error).__name__}); takes the address of a file"
        ) from None
    except urllib3.exceptions.HTTPError:
        raise TransientError(f"the connection dropped after {_size(incomplete):,} bytes") from None
    finally:
        blocks.close()


class _Answer:
    """A server's answer. `blocks` asks for it: the first, which is empty, has come when `response` has."""

    response: requests.Response | None = None

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url, self._headers = url, headers

    def blocks(self) -> Generator[bytes]:
        hooks = {"response": _skip_body_of_redirect}
        with requests.get(
            self._url, headers=self._headers, stream=True, timeout=TIMEOUT_SECONDS, hooks=hooks
        ) as response:
            self.response = response
            yield b""
            # Undecoded: some servers call a tar.gz a tar with Content-Encoding gzip.
            while block := response.raw.read1(BLOCK_BYTES, decode_content=False):
                yield block


def _skip_body_of_redirect(response: requests.Response, **_: Any) -> None:
    """requests would read it into memory, and it may never end."""
    if response.is_redirect:
        response._content = b""
        response.close()


def _length(response: requests.Response) -> int | None:
    """The number of bytes that the server says will come."""
    length = response.headers.get("Content-Length", "")
    return int(length) if re.fullmatch("[0-9]{1,18}", length) else None


def _write(response: requests.Response, blocks: Iterator[bytes], url: str, incomplete: Path, done: int) -> None:
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        done = 0
    length = _length(response)
    total = None if length is None else done + length
    _check_room(length or 0, url, incomplete)
    with (
        incomplete.open("ab" if done else "wb") as file,
        Progress("download", total, in_bytes=True, done=done) as progress,
    ):
        if not done:  # only after the file is truncated, so that the version fits its content
            _version_file(incomplete).unlink(missing_ok=True)
            files.write_json(_version_file(incomplete), Version(_validator(response), total)._asdict())
        for block in blocks:
            with files.naming(incomplete):
                file.write(block)
            progress.advance(len(block))
            if total is None and progress.done > MAX_UNSIZED_BYTES:
                _discard(incomplete)
                raise DataError(
                    f"data.url: {redacted(url)} sends more than {MAX_UNSIZED_BYTES:,} bytes without saying how many "
                    "(Content-Length); takes the address of a file"
                )
    if total is not None and _size(incomplete) < total:
        raise TransientError(f"the connection dropped after {_size(incomplete):,} of {total:,} bytes")


def _check_room(length: int, url: str, incomplete: Path) -> None:
    free = shutil.disk_usage(incomplete.parent).free
    if length > free:
        raise DataError(
            f"data.url: {redacted(url)} has {length:,} more bytes, and the disk is full after {free:,}; make room at "
            f"{incomplete.parent}, then run the same command again"
        )


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
    length = _length(response)
    fits = None in (length, version.size) or done + (length or 0) == version.size
    return same and fits and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


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
