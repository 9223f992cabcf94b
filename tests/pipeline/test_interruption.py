"""Download and split survive kills, a full disk and a second pipeline: outputs are complete, or those from before."""

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
from filelock import FileLock

from plumage.common.project import scratch_folder
from plumage.data.sources.sample import SampleSource

OUTPUTS = ("data/dataset", "data/splits.csv", "reports/data.json", "reports/split.json", "reports/data.html")
KILLS = 4


class Server:
    """Serves one file, with Range requests, 16 KiB at a time with pauses, and counts the bytes sent."""

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


def clone_for(folder: Path, url: str, cold: bool = False) -> Clone:
    clone = Clone.of_working_tree(folder / "clone", cold)
    clone.set(data={"source": "url", "url": url})
    clone.commit()
    return clone


def outputs(clone: Clone) -> dict[str, bytes]:
    paths = [
        path for output in OUTPUTS for path in sorted([clone.folder / output, *(clone.folder / output).rglob("*")])
    ]
    return {path.relative_to(clone.folder).as_posix(): path.read_bytes() for path in paths if path.is_file()}


def files(clone: Clone) -> set[str]:
    """All files except those of Git and DVC."""
    found = (path.relative_to(clone.folder) for path in clone.folder.rglob("*") if path.is_file())
    return {
        path.as_posix() for path in found if path.parts[0] not in (".git", ".dvc") and "__pycache__" not in path.parts
    }


def kill_group(leader: subprocess.Popen) -> bool:
    """Kill a process group. Returns whether it was still running."""
    was_running = leader.poll() is None
    if was_running:
        os.killpg(leader.pid, signal.SIGKILL)
        leader.communicate()
    return was_running


@pytest.mark.slow
def test_killed_at_any_moment_the_next_run_gives_the_same_bytes_and_downloads_nothing_twice(
    tmp_path: Path, server: Server, archive: bytes
) -> None:
    clone = clone_for(tmp_path, server.url)
    started = time.monotonic()
    clone.run("dvc", "repro", "split")
    duration = time.monotonic() - started
    undisturbed, present = outputs(clone), files(clone)
    rng = random.Random(0)
    hit = 0
    for kill in range(KILLS):
        fetched_before = kill % 2 == 0
        if not fetched_before:
            shutil.rmtree(clone.folder / "data" / "downloads")
        server.sent = 0
        # Parameters that change nothing, but make both stages run again.
        clone.set(data={"max_refused": 0.02 + kill / 1000}, split={"similarity": 0.94 + kill / 1e6})
        killed = clone.start("dvc", "repro", "split")
        time.sleep(rng.uniform(0.3, duration if not fetched_before else duration * 0.7))
        hit += kill_group(killed)
        clone.run("plumage", "repair")  # as `make repro` does: DVC may have been writing its own files
        clone.run("dvc", "repro", "split")
        assert outputs(clone) == undisturbed
        assert files(clone) == present
        again = 0 if fetched_before else len(archive) + 512 * 1024  # in flight to the killed process
        assert server.sent <= again
    assert hit >= KILLS / 2


@pytest.fixture
def running(request: pytest.FixtureRequest, tmp_path: Path, archive: bytes) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """A clone, and its `dvc repro`, started from the given shell, whose download stage runs for ten seconds."""
    server = Server(archive, pause=0.5)
    clone = clone_for(tmp_path, server.url, cold=True)  # a warm process has another parent
    clone.environment["SHELL"] = getattr(request, "param", "/bin/sh")
    dvc = clone.start("dvc", "repro", "download")
    while not server.sent:  # a stage before it checks the parameters
        time.sleep(0.05)
    yield clone, dvc
    kill_group(dvc)
    server.close()


@pytest.mark.slow
@pytest.mark.parametrize(
    "running", ["/bin/sh", "/bin/bash"], indirect=True
)  # bash replaces itself by the command it runs
def test_a_stage_ends_when_its_dvc_is_killed(running: tuple[Clone, subprocess.Popen]) -> None:
    clone, dvc = running
    os.kill(dvc.pid, signal.SIGKILL)
    dvc.communicate()  # returns once the stage has closed its output too
    assert not (clone.folder / "data" / "dataset").exists(), "the stage ran to its end"


@pytest.mark.slow
def test_a_second_pipeline_in_the_same_checkout_is_refused(
    running: tuple[Clone, subprocess.Popen],
) -> None:
    clone, first = running
    output = clone.run(sys.executable, "pipeline/download.py", code=1)
    assert output.startswith("error: download: another pipeline is running in ") and output.count("\n") == 1
    output = clone.run("dvc", "repro", "download", code=255)
    assert "is busy" in output
    assert first.poll() is None


def test_a_stage_waits_for_one_that_is_being_killed(tmp_path: Path) -> None:
    clone = Clone.of_working_tree(tmp_path / "clone")
    lock = scratch_folder(clone.folder) / "plumage.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        stage = clone.start("python", "pipeline/check.py")
        time.sleep(1)
        assert stage.poll() is None
    assert stage.communicate()[0] == "" and stage.returncode == 0


@pytest.mark.slow
def test_a_full_disk_gives_a_one_line_error_and_keeps_the_previous_outputs(tmp_path: Path, small_disk: Path) -> None:
    clone = Clone.of_working_tree(tmp_path / "clone")
    clone.set(data={"species": 4, "images_per_species": 20, "image_size": 64})
    clone.commit()
    for file in (clone.folder / "data").iterdir():
        shutil.move(file, small_disk)
    (clone.folder / "data").rmdir()
    (clone.folder / "data").symlink_to(small_disk)
    clone.run("python", "pipeline/download.py")
    clone.run("python", "pipeline/split.py")
    before, present = outputs(clone), sorted(path.name for path in small_disk.rglob("*"))
    clone.set(data={"images_per_species": 2000})
    output = clone.run("python", "pipeline/download.py", code=1)
    lines = [line for line in output.splitlines() if not line.startswith("photos: ")]  # progress, on a slow machine
    assert re.fullmatch(r"error: download: .*: the disk is full; make room, then run the same command again", *lines)
    assert outputs(clone) == before
    assert sorted(path.name for path in small_disk.rglob("*")) == present


@pytest.mark.slow
def test_a_download_that_fails_under_dvc_keeps_the_previous_outputs(tmp_path: Path, server: Server) -> None:
    clone = clone_for(tmp_path, server.url)
    clone.run("dvc", "repro", "split")
    before = outputs(clone)
    (clone.folder / "birds.zip").write_bytes(b"not an archive")
    clone.set(data={"source": "archive", "path": "birds.zip"})
    assert "birds.zip is not a complete zip, tar or tar.gz" in clone.run("dvc", "repro", "split", code=255)
    assert outputs(clone) == before
