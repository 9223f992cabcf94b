"""Download and split survive being killed, a full disk and company: what comes out is whole, or what was there before."""

import io
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clone import Clone

from plumage.data.sources.sample import SampleSource

OUTPUTS = ("data/dataset", "data/splits.csv", "reports/data.json", "reports/split.json", "reports/data.html")
KILLS = 20


class Server:
    """Serves one file with Range requests, in pieces of 16 KiB with pauses, and counts what it has sent."""

    def __init__(self, file: bytes, pause: float) -> None:
        self.sent = 0

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                start = int(re.findall(r"\d+", handler.headers.get("Range", "0"))[0])
                handler.send_response(206 if start else 200)
                handler.send_header("Content-Length", str(len(file) - start))
                handler.send_header("Content-Range", f"bytes {start}-{len(file) - 1}/{len(file)}")
                handler.send_header("ETag", '"one"')
                handler.end_headers()
                try:
                    for place in range(start, len(file), 16384):
                        handler.wfile.write(file[place : place + 16384])
                        self.sent += len(file[place : place + 16384])
                        time.sleep(pause)
                except OSError:  # the client was killed
                    pass

            def log_message(handler, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/birds.zip"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def archive() -> bytes:
    """A zip of 320 drawn photos."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        for load in SampleSource(species=5, images_per_species=64, image_size=64, seed=0).chunks():
            for photo in load():
                packed.writestr(photo.key, photo.data)
    return file.getvalue()


@pytest.fixture
def server(archive: bytes) -> Iterator[Server]:
    server = Server(archive, pause=0.02)
    yield server
    server.close()


def clone_for(folder: Path, url: str) -> Clone:
    clone = Clone.of_working_tree(folder / "clone")
    clone.set(data={"source": "url", "url": url})
    clone.commit()
    return clone


def outputs(clone: Clone) -> dict[str, bytes]:
    paths = [
        path for output in OUTPUTS for path in sorted([clone.folder / output, *(clone.folder / output).rglob("*")])
    ]
    return {path.relative_to(clone.folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def files(clone: Clone) -> set[str]:
    """All files outside of what Git and DVC keep for themselves."""
    found = (path.relative_to(clone.folder) for path in clone.folder.rglob("*") if path.is_file())
    return {
        path.as_posix() for path in found if path.parts[0] not in (".git", ".dvc") and "__pycache__" not in path.parts
    }


def kill_all(leader: subprocess.Popen) -> bool:
    """Kill a process group; whether it was still at work."""
    at_work = leader.poll() is None
    if at_work:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.communicate()
    return at_work


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_gives_the_same_bytes_and_fetches_nothing_twice(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    clone = clone_for(tmp_path, server.url)
    started = time.monotonic()
    clone.run("dvc", "repro", "split")
    lasts = time.monotonic() - started
    undisturbed, present = outputs(clone), files(clone)
    rng = random.Random(0)
    hit = 0
    for kill in range(KILLS):
        fetched_before = kill % 2 == 0
        if not fetched_before:
            shutil.rmtree(clone.folder / "data" / "downloads")
        server.sent = 0
        # Other parameters, the same outcome: both stages have to run again.
        clone.set(data={"max_refused": 0.02 + kill / 1000}, split={"similarity": 0.94 + kill / 1e6})
        killed = clone.start("dvc", "repro", "split")
        time.sleep(rng.uniform(0.3, lasts if not fetched_before else lasts * 0.7))
        hit += kill_all(killed)
        clone.run("plumage", "repair")  # as `make repro` does: DVC may have been at its own files
        clone.run("dvc", "repro", "split")
        assert outputs(clone) == undisturbed
        assert files(clone) == present
        again = 0 if fetched_before else len(archive) + 512 * 1024  # what was on its way to a process that is no more
        assert server.sent <= again
    assert hit >= KILLS * 0.7


@pytest.fixture
def at_work(request: pytest.FixtureRequest, tmp_path: Path, archive: bytes) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """A clone, and the `dvc repro` in it, from the shell asked for, whose download stage is at work for ten seconds."""
    server = Server(archive, pause=0.5)
    clone = clone_for(tmp_path, server.url)
    clone.environment["SHELL"] = getattr(request, "param", "/bin/sh")
    dvc = clone.start("dvc", "repro", "download")
    while not (clone.folder / ".dvc" / "tmp" / "plumage.lock").exists():
        time.sleep(0.05)
    yield clone, dvc
    kill_all(dvc)
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize("at_work", ["/bin/sh", "/bin/bash"], indirect=True)  # of which one becomes the command it runs
def test_a_stage_whose_dvc_is_killed_goes_with_it(at_work: tuple[Clone, subprocess.Popen]) -> None:
    clone, dvc = at_work
    os.kill(dvc.pid, signal.SIGKILL)
    dvc.communicate()  # ends when the stage has closed its output too
    assert not (clone.folder / "data" / "dataset").exists(), "the stage went on to its end"


@pytest.mark.slow
def test_the_second_of_two_pipelines_on_a_checkout_says_that_it_is_one_too_many(
    at_work: tuple[Clone, subprocess.Popen],
) -> None:
    clone, first = at_work
    said = clone.run(sys.executable, "pipeline/download.py", code=1)
    assert said.startswith("error: download: another pipeline is running in ") and said.count("\n") == 1
    said = clone.run("dvc", "repro", "download", code=255)
    assert "is busy" in said
    assert first.poll() is None


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_leaves_the_former_outputs(tmp_path: Path, small_disk: Path) -> None:
    clone = Clone.of_working_tree(tmp_path / "clone")
    clone.set(data={"species": 4, "images_per_species": 20, "image_size": 64})
    clone.commit()
    for file in (clone.folder / "data").iterdir():
        shutil.move(file, small_disk)
    (clone.folder / "data").rmdir()
    (clone.folder / "data").symlink_to(small_disk)
    clone.run(sys.executable, "pipeline/download.py")
    clone.run(sys.executable, "pipeline/split.py")
    before, present = outputs(clone), sorted(path.name for path in small_disk.rglob("*"))
    clone.set(data={"images_per_species": 2000})
    said = clone.run(sys.executable, "pipeline/download.py", code=1)
    assert re.fullmatch(r"error: download: the disk is full.*; make room and run `dvc repro` again\n", said)
    assert outputs(clone) == before
    assert sorted(path.name for path in small_disk.rglob("*")) == present


@pytest.mark.slow
def test_a_download_that_fails_under_dvc_leaves_the_former_outputs(tmp_path: Path, server: Server) -> None:
    clone = clone_for(tmp_path, server.url)
    clone.run("dvc", "repro", "split")
    before = outputs(clone)
    (clone.folder / "birds.zip").write_bytes(b"no archive")
    clone.set(data={"source": "archive", "path": "birds.zip"})
    assert "birds.zip is not a complete zip, tar or tar.gz" in clone.run("dvc", "repro", "split", code=255)
    assert outputs(clone) == before
