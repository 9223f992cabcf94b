"""`data.source: url`: an archive from the web, fetched once into a folder that all experiments share.

What is on its way lies beside its place: `<name>.part`, and `<name>.part.json`, which says which version of the file on the
server it is the start of. So what was dropped or killed goes on where it ended, and no file is ever half one version and
half another.
"""

import hashlib
import json
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
from plumage.data.sources.retry import BUSY, TransientError, exclusive, no_connection, retry
from plumage.errors import DataError

TIMEOUT_SECONDS = 30.0
"""To connect, and from one piece of the file to the next."""
BLOCK_BYTES = 64 * 1024


class Version(NamedTuple):
    """What tells a file on a server from another version of it: its strong ETag, else when it was changed; its size."""

    validator: str | None = None
    size: int | None = None


def fetch(url: str, downloads: Path, sha256: str | None) -> Path:
    """The path of the file at `url` in the folder `downloads`, fetched unless it is there whole, with this `sha256` if given.

    DataError when the server refuses it, can't be reached however often it is tried, or has a file with another SHA-256.
    """
    if not url.startswith(("http://", "https://")):
        raise DataError("data.url: is no address on the web; takes http(s)://... of a zip, tar or tar.gz")
    path = downloads / _name(url)
    part = downloads / f"{path.name}.part"
    with exclusive(downloads / f"{path.name}.lock", _shown(url)):
        if path.is_file():
            if sha256 is None or files.sha256(path) == sha256.lower():
                return path
            console.print(f"{path} hasn't the SHA-256 of data.sha256; fetching it anew", soft_wrap=True, markup=False)
        retry(partial(_go_on, url, part), partial(_size, part), f"data.url: {_shown(url)}")
        if sha256 is not None and (found := files.sha256(part)) != sha256.lower():
            _forget(part)
            raise DataError(
                f"data.url: {_shown(url)} has the SHA-256 {found}, not {sha256.lower()} as data.sha256 says; mend it if the "
                "file is the right one, which the next run fetches anew"
            )
        part.replace(path)
        _forget(part)
    return path


def _go_on(url: str, part: Path) -> None:
    """Fetch into `part` what it lacks of the file, or all of it when the server has another version now."""
    version = _remembered(part)
    done = _size(part) if version.validator else 0
    if done and done == version.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if done and version.validator:
        headers |= {"Range": f"bytes={done}-", "If-Range": version.validator}
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_SECONDS) as response:
            _check_status(response, url, done)
            if done and not _continues(response, version, done):
                _forget(part)
                raise TransientError("the file has changed meanwhile, it starts anew")
            _write(response, part, done)
    except requests.exceptions.SSLError:
        raise DataError(
            f"data.url: {_shown(url)}: its certificate can't be trusted; takes a server that proves its name"
        ) from None
    except (requests.Timeout, urllib3.exceptions.TimeoutError):
        raise TransientError(f"nothing came for {TIMEOUT_SECONDS:g} s") from None
    except requests.ConnectionError as error:
        raise TransientError(no_connection(error, str(urlsplit(url).hostname))) from None
    except urllib3.exceptions.HTTPError:
        raise TransientError(f"the connection dropped after {_size(part):,} bytes") from None
    except requests.RequestException as error:  # leads to no http(s) address, or round in circles
        raise DataError(
            f"data.url: {_shown(url)} leads nowhere ({type(error).__name__}); takes the address of a file"
        ) from None


def _write(response: requests.Response, part: Path, done: int) -> None:
    if response.status_code != HTTPStatus.PARTIAL_CONTENT:
        done = 0
    length = response.headers.get("Content-Length", "")
    total = done + int(length) if length.isdigit() else None
    with part.open("ab" if done else "wb") as file, Progress("download", total, in_bytes=True, done=done) as progress:
        if not done:  # only now, when nothing of another version is left
            _memory(part).unlink(missing_ok=True)
            files.write_json(_memory(part), Version(_validator(response), total)._asdict())
        # As it comes: some servers call a tar.gz a tar that they have packed for the way.
        for block in response.raw.stream(BLOCK_BYTES, decode_content=False):
            file.write(block)
            progress.advance(len(block))
    if total is not None and _size(part) < total:
        raise TransientError(f"the connection dropped after {_size(part):,} of {total:,} bytes")


def _check_status(response: requests.Response, url: str, done: int) -> None:
    status = response.status_code
    if status == HTTPStatus.OK or (
        done and status in (HTTPStatus.PARTIAL_CONTENT, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
    ):
        return
    answer = f"{status} ({response.reason})" if response.reason else f"{status}"
    if status in BUSY or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TransientError(f"the server answers {answer}")
    raise DataError(
        f"data.url: {_shown(url)} answers {answer}; takes the address of a file that can be fetched by anyone"
    )


def _continues(response: requests.Response, version: Version, done: int) -> bool:
    """Whether what comes is the rest of the version that the first `done` bytes are of, or another one from its start."""
    if response.status_code == HTTPStatus.OK:
        return True
    same = _validator(response) in (None, version.validator)
    return same and response.headers.get("Content-Range", "").startswith(f"bytes {done}-")


def _validator(response: requests.Response) -> str | None:
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):  # a weak one doesn't promise the same bytes
        return etag
    return response.headers.get("Last-Modified")


def _remembered(part: Path) -> Version:
    try:
        return Version(**json.loads(_memory(part).read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Version()


def _memory(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _forget(part: Path) -> None:
    part.unlink(missing_ok=True)
    _memory(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _name(url: str) -> str:
    """The last name in the URL, with a hash of it all: two files called train.zip don't meet."""
    last = unquote(urlsplit(url).path).rpartition("/")[2]
    return f"{hashlib.sha256(url.encode()).hexdigest()[:8]}-{re.sub(r'[^A-Za-z0-9._-]+', '_', last)[-80:] or 'archive'}"


def _shown(url: str) -> str:
    """The URL as far as it holds no secrets: without user, password and query."""
    scheme, place, path, query, _ = urlsplit(url)
    return f"{scheme}://{place.rpartition('@')[2]}{path}{'?...' if query else ''}"
