"""An archive from the web: fetched once and completely, whatever goes wrong."""

import errno
import gzip
import hashlib
import io
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from stand_ins import Request, StandIn, closed_port, serve

from plumage.common.files import what_failed
from plumage.config import Data
from plumage.data.sources import open_source, retry, url
from plumage.data.sources.photo import SourcePaths
from plumage.data.sources.url import fetch
from plumage.errors import DataError

DATA = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(url, "BLOCK_BYTES", 4096)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What is printed."""
    text = io.StringIO()
    monkeypatch.setattr(retry.console, "file", text)
    return text


@pytest.fixture
def site() -> Iterator[StandIn]:
    with serve(StandIn()) as stand_in:
        stand_in.files["/birds.zip"] = DATA
        yield stand_in


def incomplete(downloads: Path) -> list[Path]:
    """The files of incomplete downloads."""
    return [file for file in downloads.iterdir() if ".part" in file.name]


def refusal(link: str, downloads: Path, sha256: str | None = None) -> str:
    with pytest.raises(DataError) as error:
        fetch(link, downloads, sha256)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_file_is_fetched_once(site: StandIn, tmp_path: Path) -> None:
    path = fetch(f"{site.url}/birds.zip", tmp_path, SHA256.upper())
    assert path.read_bytes() == DATA
    assert path.name.endswith("birds.zip")
    assert fetch(f"{site.url}/birds.zip", tmp_path, SHA256) == fetch(f"{site.url}/birds.zip", tmp_path, None) == path
    assert len(site.seen) == 1
    assert incomplete(tmp_path) == []


def test_files_of_the_same_name_stay_apart(site: StandIn, tmp_path: Path) -> None:
    site.files["/other/birds.zip"] = OTHER
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == DATA
    assert fetch(f"{site.url}/other/birds.zip", tmp_path, None).read_bytes() == OTHER


def test_a_name_from_the_web_stays_in_the_folder(site: StandIn, tmp_path: Path) -> None:
    site.files["/..%2F..%2Fa%20b"] = DATA
    assert fetch(f"{site.url}/..%2F..%2Fa%20b", tmp_path, None).parent == tmp_path


@pytest.mark.parametrize("drops", [[100_000], [0], [50_000] * 5, [1000] * 12])
def test_a_dropped_download_resumes(site: StandIn, tmp_path: Path, drops: list[int]) -> None:
    site.drops = list(drops)
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == DATA
    starts = [int(seen.range[6:-1] or 0) if seen.range else 0 for seen in site.seen]
    assert starts == [sum(drops[:n]) for n in range(len(drops) + 1)]


def test_a_server_that_always_drops_is_given_up_and_the_next_run_resumes(site: StandIn, tmp_path: Path) -> None:
    site.drops = [200_000] + [0] * 50
    assert "dropped after 200,000" in refusal(f"{site.url}/birds.zip", tmp_path)
    assert len(site.seen) == 1 + retry.RETRIES
    site.drops, site.seen = [], []
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == DATA
    assert [seen.range for seen in site.seen] == ["bytes=200000-"]


def test_the_download_of_a_killed_process_resumes(site: StandIn, tmp_path: Path) -> None:
    site.files["/birds.zip"] = large = random.Random(2).randbytes(30_000_000)
    site.throttle = 0.02
    script = "import sys; from pathlib import Path; from plumage.data.sources.url import fetch; fetch(sys.argv[1], Path(sys.argv[2]), None)"
    process = subprocess.Popen([sys.executable, "-c", script, f"{site.url}/birds.zip", str(tmp_path)])
    try:
        while sum(file.stat().st_size for file in tmp_path.glob("*.part")) < 2_000_000:
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    fetched = next(tmp_path.glob("*.part")).stat().st_size
    site.throttle = 0
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == large
    assert site.seen[-1].range == f"bytes={fetched}-"


def test_a_complete_download_of_a_killed_process_is_not_fetched_again(site: StandIn, tmp_path: Path) -> None:
    path = fetch(f"{site.url}/birds.zip", tmp_path, None)
    site.drops = [100_000] + [0] * 50
    path.unlink()
    refusal(f"{site.url}/birds.zip", tmp_path)
    next(tmp_path.glob("*.part")).write_bytes(DATA)
    site.seen.clear()
    assert fetch(f"{site.url}/birds.zip", tmp_path, SHA256).read_bytes() == DATA
    assert site.seen == []


@pytest.mark.parametrize("lacking", ["ranges", "etags"])
def test_without_ranges_or_etags_the_download_starts_over(site: StandIn, tmp_path: Path, lacking: str) -> None:
    setattr(site, lacking, False)
    site.drops = [100_000, 250_000]
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == DATA


def test_a_server_without_ranges_that_always_drops_at_the_same_byte_is_given_up(site: StandIn, tmp_path: Path) -> None:
    site.ranges = False
    site.drops = [100_000] * 50
    assert "dropped after 100,000" in refusal(f"{site.url}/birds.zip", tmp_path)


@pytest.mark.parametrize("size", [300_000, 150_000, 50_000])
def test_a_file_that_changes_between_retries_is_never_mixed(site: StandIn, tmp_path: Path, size: int) -> None:
    site.drops = [100_000] + [0] * 50
    refusal(f"{site.url}/birds.zip", tmp_path)
    site.drops = []
    site.files["/birds.zip"] = OTHER[:size]
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == OTHER[:size]


def test_a_server_that_ignores_if_range_gives_no_mixture_either(site: StandIn, tmp_path: Path) -> None:
    site.drops = [100_000] + [0] * 50
    refusal(f"{site.url}/birds.zip", tmp_path)
    site.drops, site.if_range = [], False
    site.files["/birds.zip"] = OTHER
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == OTHER


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
def test_a_refusal_is_not_retried(site: StandIn, tmp_path: Path, status: int) -> None:
    site.statuses = [status] * 50
    assert f"/birds.zip answers {status} (" in refusal(f"{site.url}/birds.zip", tmp_path)
    assert len(site.seen) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 503])
def test_a_busy_server_is_retried(site: StandIn, tmp_path: Path, status: int) -> None:
    site.statuses = [status] * 3
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == DATA
    site.statuses = [status] * 50
    assert f"answers {status} (" in refusal(f"{site.url}/birds.zip?again", tmp_path)
    assert len(site.seen) == 4 + 1 + retry.RETRIES


def test_a_wrong_checksum_names_both_and_the_next_run_fetches_again(site: StandIn, tmp_path: Path) -> None:
    site.files["/birds.zip"] = OTHER
    message = refusal(f"{site.url}/birds.zip", tmp_path, SHA256)
    assert SHA256 in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert incomplete(tmp_path) == list(tmp_path.glob("*birds.zip")) == []
    site.files["/birds.zip"] = DATA
    assert fetch(f"{site.url}/birds.zip", tmp_path, SHA256).read_bytes() == DATA


def test_an_existing_file_with_another_checksum_is_fetched_again(site: StandIn, tmp_path: Path) -> None:
    site.files["/birds.zip"] = OTHER
    fetch(f"{site.url}/birds.zip", tmp_path, None)
    site.files["/birds.zip"] = DATA
    assert fetch(f"{site.url}/birds.zip", tmp_path, SHA256).read_bytes() == DATA


def test_without_a_connection_the_host_is_named(tmp_path: Path) -> None:
    message = refusal(f"http://localhost:{closed_port()}/birds.zip", tmp_path)
    assert "no connection to localhost" in message
    assert "is kept" in message


def test_a_server_that_stops_sending_is_given_up(
    site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url, "TIMEOUT_SECONDS", 0.05)
    site.ranges = False
    site.throttle = 0.5
    site.files["/birds.zip"] = DATA * 10
    assert "no data for 0.05 s" in refusal(f"{site.url}/birds.zip", tmp_path)


def test_redirects_are_followed_except_to_other_protocols(site: StandIn, tmp_path: Path) -> None:
    site.redirects = {"/latest": "/birds.zip", "/odd": "ftp://127.0.0.1/birds.zip", "/round": "/round"}
    assert fetch(f"{site.url}/latest", tmp_path, None).read_bytes() == DATA
    assert "leads nowhere" in refusal(f"{site.url}/odd", tmp_path)
    assert "leads nowhere" in refusal(f"{site.url}/round", tmp_path)
    assert "takes http(s)://" in refusal("ftp://127.0.0.1/birds.zip", tmp_path)


def test_secrets_in_the_url_are_used_and_never_shown(site: StandIn, tmp_path: Path, screen: io.StringIO) -> None:
    secret = site.url.replace("//", "//me:hunter2@") + "/birds.zip?token=hunter3"
    site.statuses = [503, 403]
    assert "hunter" not in refusal(secret, tmp_path) + screen.getvalue() and "retrying" in screen.getvalue()
    assert site.seen[0].credentials.startswith("Basic ")
    gone = f"http://me:hunter2@localhost:{closed_port()}/birds.zip?token=hunter3"
    assert "hunter" not in refusal(gone, tmp_path) + screen.getvalue()


def test_a_login_or_token_comes_from_the_environment_or_netrc(
    site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password hunter2\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    fetch(f"{site.url}/birds.zip?from=netrc", tmp_path, None)
    monkeypatch.delenv("NETRC")
    monkeypatch.setenv(url.PRIVATE_URL, site.url.replace("//", "//me:hunter2@") + "/birds.zip?sig=hunter3")
    path = fetch(f"{site.url}/birds.zip", tmp_path, None)
    assert [seen.credentials for seen in site.seen] == ["Basic bWU6aHVudGVyMg=="] * 2
    assert site.seen[1].path == "/birds.zip?sig=hunter3"
    assert fetch(f"{site.url}/birds.zip", tmp_path, None) == path and len(site.seen) == 2
    assert "takes http(s)://" in refusal("http://[::1/birds.zip", tmp_path)
    refused = refusal(f"{site.url}/other.zip", tmp_path)
    assert "PLUMAGE_DATA_URL: http://***@127.0.0.1" in refused and "hunter" not in refused


def test_a_server_s_reason_is_shown_and_not_obeyed(
    site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, screen: io.StringIO
) -> None:
    for status in (403, 503):
        monkeypatch.setitem(Request.responses, status, ("no\x1b[2J\a\x9b\rerror: forged", ""))
    site.statuses = [503, 403]
    said = refusal(f"{site.url}/birds.zip", tmp_path) + screen.getvalue().replace("\n", "")
    assert said.isprintable() and said.count("no\\x1b[2J\\x07\\x9b\\x0derror: forged") == 2


def test_two_processes_fetch_a_file_once(site: StandIn, tmp_path: Path) -> None:
    site.throttle = 0.002
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        paths = pool.starmap(fetch, [(f"{site.url}/birds.zip", tmp_path, None)] * 2, chunksize=1)
    assert paths[0].read_bytes() == DATA
    assert paths[0] == paths[1]
    assert len(site.seen) == 1


def test_a_full_disk_is_not_retried(site: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(url.Progress, "advance", full)
    with pytest.raises(OSError, match="No space left"):
        fetch(f"{site.url}/birds.zip", tmp_path, None)
    assert len(site.seen) == 1


class Odd(StandIn):
    """Answers by path in ways that a server should not."""

    def answer(self, request: Request, path: str, body: dict[str, Any]) -> None:
        send = request.wfile.write
        request.close_connection = True
        if path in self.files:
            super().answer(request, path, body)
        elif path == "/drip":
            send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            self.drip(request, b"x")
        elif path == "/chunked":
            send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;")
            self.drip(request, b"x")
        elif path == "/headers":
            send(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            self.drip(request, b"x")
        elif path == "/redirect":
            send(b"HTTP/1.1 302 Found\r\nLocation: /birds.zip\r\n\r\n")
            self.drip(request, bytes(100_000))
        elif path == "/endless":
            send(b"HTTP/1.1 200 OK\r\n\r\n")
            self.drip(request, bytes(100_000))
        else:
            send(f"HTTP/1.1 200 OK\r\n{unquote(path[1:], 'latin-1')}\r\n\r\n".encode("latin-1") + DATA)

    def drip(self, request: Request, data: bytes) -> None:
        """Send `data` again and again, until the client is gone."""
        while not self.closed:
            request.wfile.write(data)
            request.wfile.flush()
            time.sleep(0.02)

    closed = False


@pytest.fixture
def odd() -> Iterator[Odd]:
    with serve(Odd()) as stand_in:
        stand_in.files["/birds.zip"] = DATA
        yield stand_in
        stand_in.closed = True


@pytest.mark.parametrize(
    ("path", "came"), [("drip", r"only \d+ bytes"), ("chunked", "no data"), ("headers", "no data")]
)
def test_a_server_that_sends_a_byte_now_and_then_is_given_up(
    odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, came: str
) -> None:
    monkeypatch.setattr(url, "TIMEOUT_SECONDS", 0.15)
    assert re.search(f"{came} for 0.15 s; run it again later", refusal(f"{odd.url}/{path}", tmp_path))
    assert len(odd.seen) == 1 + retry.RETRIES


def test_the_body_of_a_redirect_is_not_read(odd: Odd, tmp_path: Path) -> None:
    assert fetch(f"{odd.url}/redirect", tmp_path, None).read_bytes() == DATA


def test_a_file_without_an_end_is_given_up_and_not_kept(
    odd: Odd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(url, "MAX_UNSIZED_BYTES", 1_000_000)
    assert "sends more than 1,000,000 bytes without saying how many" in refusal(f"{odd.url}/endless", tmp_path)
    assert incomplete(tmp_path) == []


def test_a_file_that_the_disk_has_no_room_for_is_not_begun(odd: Odd, tmp_path: Path) -> None:
    message = refusal(f"{odd.url}/Content-Length: 900000000000000000", tmp_path)
    assert "has 900,000,000,000,000,000 more bytes, and the disk is full after" in message
    assert incomplete(tmp_path) == []


@pytest.mark.parametrize(
    "header", ["Content-Length: %B2", "Content-Length: -5", f"Content-Length: {'9' * 5000}", "X: y"]
)
def test_a_length_that_is_none_is_no_length(odd: Odd, tmp_path: Path, header: str) -> None:
    assert fetch(f"{odd.url}/{header}", tmp_path, None).read_bytes() == DATA


def test_a_redirect_to_no_address_leads_nowhere(site: StandIn, tmp_path: Path) -> None:
    site.redirects = {"/bracket": "http://[::1/birds.zip", "/name": "http://a..b/birds.zip"}
    assert "leads nowhere" in refusal(f"{site.url}/bracket", tmp_path)
    assert "leads nowhere" in refusal(f"{site.url}/name", tmp_path)


def test_a_server_that_resumes_with_another_length_gives_no_mixture(site: StandIn, tmp_path: Path) -> None:
    site.drops = [100_000] + [0] * 50
    refusal(f"{site.url}/birds.zip", tmp_path)
    site.drops, site.if_range, site.etags = [], False, False
    site.files["/birds.zip"] = OTHER + DATA
    assert fetch(f"{site.url}/birds.zip", tmp_path, None).read_bytes() == OTHER + DATA


def test_a_disk_that_fills_while_an_archive_is_unpacked_is_named_and_the_download_stays(
    site: StandIn, tmp_path: Path
) -> None:
    site.files["/birds.tar.gz"] = gzip.compress(DATA)
    scratch = tmp_path / "scratch"
    scratch.symlink_to("/dev/full")
    paths = SourcePaths(tmp_path, tmp_path / "downloads", scratch)
    with (
        pytest.raises(OSError, match="No space left") as caught,
        open_source(Data(source="url", url=f"{site.url}/birds.tar.gz"), paths),
    ):
        pass
    assert what_failed(caught.value) == f"{scratch}: the disk is full; make room, then run the same command again"
    assert len(list((tmp_path / "downloads").glob("*birds.tar.gz"))) == 1
