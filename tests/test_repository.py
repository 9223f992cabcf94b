"""The files around the code agree with each other and with the code."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

import plumage

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def make(folder: Path, *arguments: str, fails: bool = False) -> str:
    """What `make` prints in a folder, as a user runs it: not as a part of the `make test` that runs this."""
    environment = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    result = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert (result.returncode != 0) == fails, result.stdout + result.stderr
    return result.stdout + result.stderr


def create(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def files_of(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_citation_has_what_its_format_requires_and_this_version() -> None:
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["message"] and CITATION["title"] == "Plumage"
    assert [author["name"] for author in CITATION["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert CITATION["version"] == plumage.__version__


def test_changelog_dates_this_version_as_the_citation_does() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d.*)\] - (.*)$", changelog, re.MULTILINE)
    assert newest and newest.groups() == (plumage.__version__, CITATION["date-released"])


def test_the_licence_is_apache_2_everywhere() -> None:
    assert PROJECT["license"] == CITATION["license"] == "Apache-2.0"
    sha256 = hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest()
    assert sha256 == "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # apache.org's LICENSE-2.0.txt


def test_help_lists_every_target() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    listed = re.findall(r"^make (\S+) +\S", make(ROOT, "help"), re.MULTILINE)
    assert sorted(listed) == sorted(phony[1].split())


def test_an_environment_that_was_moved_or_copied_is_recreated(tmp_path: Path) -> None:
    project, link = tmp_path / "it's 50% new", tmp_path / "link"
    project.mkdir()
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, project)
    create(project, ".venv/bin/python", ".venv/installed")
    (project / ".venv/pyvenv.cfg").write_text(f"command = /usr/bin/python3 -m venv {project}/.venv\n")
    link.symlink_to(project)
    assert "-m venv" not in make(project, "-n", "ui") + make(link, "-n", "ui")
    shutil.copytree(project, tmp_path / "copy")
    moved = project.rename(tmp_path / "moved")
    for folder in (tmp_path / "copy", moved):
        assert "-m venv --clear .venv" in make(folder, "-n", "ui")


def test_clean_removes_what_tools_left_and_nothing_of_the_user(tmp_path: Path) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    create(
        tmp_path, ".venv/bin/python", ".bench/a", "build/a", "src/plumage.egg-info/a", "src/plumage/data/__pycache__/a",
        "tests/__pycache__/a", ".mypy_cache/a", ".pytest_cache/a", ".ruff_cache/a", ".hypothesis/a",
    )  # fmt: skip
    of_the_user = (
        "data/photos/OWL/1.jpg", "data/photos/build/1.jpg", "data/dataset/images-0.arrow", "models/model.safetensors",
        "mlflow.db", "mlartifacts/1/a", ".mlflow-waiting/a", ".checkpoints/a", ".dvc/cache/files/md5/00/a",
        "reports/report.html", "params.yaml", "benchmarks/a.py", "pipeline/a.py", "src/plumage/a.py", "tests/a.py",
    )  # fmt: skip
    create(tmp_path, *of_the_user)
    make(tmp_path, "clean")
    assert files_of(tmp_path) == {"Makefile", *of_the_user}
    make(tmp_path, "clean")  # again, with nothing left to remove


PYTHON_STAND_IN = """#!/bin/sh
case "$*" in
    "-m venv "*) mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    *install*) exit "$INSTALL_STATUS" ;;
    *freeze*) printf 'numpy==2.4.6\\ntorch==2.14.1+cpu\\nzc.lockfile==4.0.post1\\n' ;;
esac
"""


@pytest.mark.parametrize(
    ("fails", "expected"), [(False, "numpy==2.4.6\ntorch==2.14.1\nzc.lockfile==4.0.post1\n"), (True, "numpy==2.4.5\n")]
)
def test_constraints_are_what_was_installed_and_stay_if_installing_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool, expected: str
) -> None:
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "python").write_text(PYTHON_STAND_IN)
    (tmp_path / "python").chmod(0o755)
    (tmp_path / "constraints.txt").write_text("numpy==2.4.5\n")
    monkeypatch.setenv("INSTALL_STATUS", str(int(fails)))
    make(tmp_path, "constraints", f"PYTHON={tmp_path}/python", fails=fails)
    assert (tmp_path / "constraints.txt").read_text() == expected


INSTALLER = """#!/bin/sh
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    *install*) env > environment; echo "$@" > arguments; [ -n "$ELSEWHERE" ] || { touch .venv/bin/plumage; chmod +x .venv/bin/plumage; } ;;
esac
"""


def test_packages_go_into_the_environment_whatever_pip_and_python_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "python").write_text(INSTALLER)
    (tmp_path / "python").chmod(0o755)
    dropped = {"PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PYTHONHOME", "PYTHONPATH"}
    for name in (*dropped, "PIP_INDEX_URL"):
        monkeypatch.setenv(name, "x")
    install = (".venv/installed", "PYTHON=./python")
    monkeypatch.setenv("ELSEWHERE", "as a pip.conf may say")
    make(tmp_path, *install, fails=True)
    assert not (tmp_path / ".venv/installed").exists()
    monkeypatch.delenv("ELSEWHERE")
    make(tmp_path, *install)
    names = {line.partition("=")[0] for line in (tmp_path / "environment").read_text().splitlines()}
    assert not names & dropped and "PIP_INDEX_URL" in names
    assert "--no-user" in (tmp_path / "arguments").read_text()


PIP_LOG = """#!/bin/sh
case "$*" in
    "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    "-c "*) exec python3 "$@" ;;
    *install*) echo "$@" >> pip.log; touch .venv/bin/plumage; chmod +x .venv/bin/plumage ;;
esac
"""


@pytest.fixture
def torch_index(tmp_path: Path) -> Iterator[str]:
    """The URL of an index with a page for torch."""
    (tmp_path / "index/torch").mkdir(parents=True)
    handler = partial(QuietHandler, directory=str(tmp_path / "index"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="torch's builds for other systems have no CUDA")
def test_torch_is_installed_without_cuda_where_it_is_of_no_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torch_index: str
) -> None:
    for name in ("Makefile", "requirements.txt", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    for name, script in (("python", PIP_LOG), ("bin/nvidia-smi", "#!/bin/sh\nexit $NO_GPU\n")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(script)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")

    def installed(*variables: str, gpu: bool = False, index: str = torch_index) -> tuple[list[str], str]:
        (tmp_path / "pip.log").write_text("")
        monkeypatch.setenv("NO_GPU", str(int(not gpu)))
        said = make(tmp_path, ".venv/installed", "PYTHON=./python", f"TORCH_CPU_INDEX={index}", *variables)
        calls = [line.partition("constraints.txt ")[2] for line in (tmp_path / "pip.log").read_text().splitlines()]
        return [call for call in calls if "torch" in call], said

    cpu = f"--index-url {torch_index} --no-deps torch torchvision"
    if not Path("/proc/driver/nvidia/version").exists():
        assert installed()[0] == [cpu]
    assert installed()[0] == []  # up to date
    assert installed("TORCH=cuda")[0] == ["--force-reinstall --no-deps torch torchvision"]
    assert installed("TORCH=cuda")[0] == []
    assert installed("TORCH=cpu")[0] == [cpu.replace("--no-deps", "--force-reinstall --no-deps")]
    (tmp_path / ".venv/installed").unlink()
    assert installed(gpu=True)[0] == []  # with what needs it
    (tmp_path / ".venv/installed").unlink()
    calls, said = installed("TORCH=cpu", index="http://127.0.0.1:9")
    assert calls == [] and "http://127.0.0.1:9 gave no torch: it comes with CUDA" in said
    assert "TORCH is gpu; it takes auto, cpu or cuda" in make(tmp_path, "ui", "TORCH=gpu", fails=True)


def test_pre_commit_runs_the_linters_of_make_test_from_the_same_environment() -> None:
    recipe = re.search(r"^test:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    assert recipe
    commands = [line.removeprefix("\t@$(RUN) ") for line in recipe[1].splitlines()]
    linters = [command for command in commands if "pytest" not in command]
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    assert local["repo"] == "local"
    assert [hook["entry"] for hook in local["hooks"]] == [f".venv/bin/{linter}" for linter in linters]
    assert {(hook["language"], hook["pass_filenames"]) for hook in local["hooks"]} == {("system", False)}


def test_every_requirement_is_pinned() -> None:
    def names(file: str) -> set[str]:
        found = re.findall(r"^[A-Za-z0-9][\w.-]*", (ROOT / file).read_text(encoding="utf-8"), re.MULTILINE)
        return {re.sub(r"[-_.]+", "-", name).lower() for name in found}

    assert names("requirements.txt") | names("requirements-dev.txt") <= names("constraints.txt")
