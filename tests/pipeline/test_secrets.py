"""One secret in each place where people have some: none reaches an artifact, the registry, a page, a line or a command line."""

import io
import secrets
import sqlite3
import threading
import zipfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from clone import TINY, Clone
from mlflow import MlflowClient
from mlflow_servers import Server
from stand_ins import StandIn, serve
from support import make_photo

PLACES = (
    "data.url password", "data.url token", "tracking URI", "tracking password", "tracking token", "Git remote", "DVC remote",
    "DVC local", "secret file", "private key", "random value", "environment variable",
)  # fmt: skip
OWN_FILES = {"params.yaml", "dvc.lock", ".env", "id_ed25519", "notes.py", "config", "config.local"}
"""Files that the secrets are planted in, and the one to which DVC copies params.yaml."""
OWN_FOLDERS = {".git", "cache", "tmp"}
"""Git's objects, DVC's run cache and DVC's temporary files."""


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(48):
            file.writestr(f"{'ABCD'[number % 4]}/{number}.jpg", make_photo((60 * (number % 4), 130, 170), number))
    return buffer.getvalue()


@contextmanager
def watched_command_lines() -> Iterator[set[str]]:
    """The command lines of all processes that run meanwhile."""
    seen: set[str] = set()
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(0.2):
            seen.update(" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"]))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        ended.set()
        thread.join()


def plant(clone: Clone, site: StandIn, server: Server, planted: dict[str, str]) -> None:
    """Put each secret in its place, as uncommitted changes of tracked files where it is in a file."""
    folder = clone.folder
    for name in (".env", "id_ed25519", "notes.py", ".dvc/config.local"):
        (folder / name).write_text("")
    clone.commit()
    clone.run("git", "add", "-f", ".env", ".dvc/config.local")
    clone.run("git", "commit", "-q", "-m", "settings")
    clone.run("git", "remote", "add", "origin", f"x-access-token:{planted['Git remote']}@github.com:birds/birds.git")
    clone.run("dvc", "remote", "add", "-d", "storage", f"https://me:{planted['DVC remote']}@dvc.example.org/birds")
    clone.run("dvc", "remote", "modify", "--local", "storage", "password", planted["DVC local"])
    (folder / ".env").write_text(f"BIRDS={planted['secret file']}\n")
    (folder / "id_ed25519").write_text(f"{planted['private key']}\n")
    (folder / "notes.py").write_text(f"print('{planted['random value']}')\n")
    (folder / "README.md").write_text("# Recorded\n")
    address = site.url.replace("//", f"//me:{planted['data.url password']}@")
    clone.set(**TINY)
    clone.set(
        data={"source": "url", "url": f"{address}/birds.zip?token={planted['data.url token']}", "max_refused": 0.5}
    )
    clone.environment |= {
        "MLFLOW_TRACKING_URI": server.url.replace("//", f"//bird:{planted['tracking URI']}@"),
        "MLFLOW_TRACKING_PASSWORD": planted["tracking password"],
        "MLFLOW_TRACKING_TOKEN": planted["tracking token"],
        "BIRD_API_KEY": planted["environment variable"],
    }


def texts(clone: Clone, server: Server) -> Iterator[tuple[str, bytes]]:
    """What the pipeline left in the project and at the server, file by file, and the server's database as SQL."""
    for folder in (clone.folder, server.folder):
        for path in folder.rglob("*"):
            inside = path.relative_to(folder).parts
            if path.is_file() and not (folder == clone.folder and (path.name in OWN_FILES or OWN_FOLDERS & {*inside})):
                yield str(path), path.read_bytes()
    with closing(sqlite3.connect(server.folder / "server.db")) as database:
        yield "server.db", "\n".join(database.iterdump()).encode()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    there = Server(tmp_path / "server")
    there.folder.mkdir()
    try:
        there.start()
        yield there
    finally:
        there.kill()


@pytest.mark.slow
def test_no_secret_reaches_an_artifact_the_registry_a_page_a_line_or_a_command_line(
    tmp_path: Path, server: Server
) -> None:
    planted = {place: f"s3cret{number}-{secrets.token_urlsafe(32)}" for number, place in enumerate(PLACES)}
    (tmp_path / "project").mkdir()
    clone = Clone.of_working_tree(tmp_path / "project")
    with serve(StandIn()) as site:
        site.files["/birds.zip"] = archive()
        plant(clone, site, server, planted)
        with watched_command_lines() as command_lines:
            said = clone.run("dvc", "repro")
            for command in ("summary", "lineage 1", "lineage 1 --json", "registry history"):
                said += clone.run("plumage", *command.split())
    client = MlflowClient(server.url, server.url)
    server_keeps = [
        *texts(clone, server),
        ("output", said.encode()),
        ("command lines", "\n".join(command_lines).encode()),
    ]
    version = client.get_model_version("bird-classifier", "1")
    run = client.get_run(version.run_id)
    diff = Path(client.download_artifacts(version.run_id, "uncommitted.diff", str(tmp_path))).read_text()

    for place, secret in planted.items():
        found = [where for where, content in server_keeps if secret.encode() in content]
        assert not found, f"the secret of {place} is in {found}"
    assert any("dvc repro" in line for line in command_lines)
    assert "bird-classifier version 1" in said and "## Data" in version.description
    assert site.seen[0].credentials.startswith("Basic ") and planted["data.url token"] in site.seen[0].path
    assert run.data.params["data.url"] == f"{site.url.replace('//', '//***@')}/birds.zip?token=***"
    assert run.data.tags["mlflow.source.git.repoURL"] == "***@github.com:birds/birds.git"
    assert "data.url: has a login or token" in said and "+# Recorded" in diff
    for name in (".env", "id_ed25519", "notes.py", ".dvc/config", ".dvc/config.local", "params.yaml"):
        assert f"# {name} is left out: " in diff and f"uncommitted changes of {name} are not recorded" in said
