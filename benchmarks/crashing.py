"""A tiny project whose stages can be crashed, restored, and compared with an undisturbed run (kills.py and faults.py)."""

import ctypes
import json
import os
import runpy
import shutil
import signal
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests"))

from cheap_forks import make_forks_cheap
from clone import STAGES, TINY, Clone
from killing import kill_all_of

OUTPUTS = ("data", "models", "reports")
CODE = (".git", "benchmarks", "docs", "pipeline", "src", "tests")
"""Folders in which no stage writes, with most of the project's files: they are not restored."""
REGISTRY = "reports/registry.json"
TEMPORARY = ".system-tmp"
"""The stages' TMPDIR. What a killed one leaves there is the system's to remove."""
COUNT_ONLY = -1


@dataclass(frozen=True)
class Ended:
    """How a stage ended: exit code (negative: by that signal), what it printed, and the calls it made, one line each."""

    code: int
    said: str
    calls: list[str]


class Project:
    """A tiny project, whose stages run in forks of this process. `prepare` runs each once, and keeps what was before it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._kept = folder / "project", folder / "kept"
        self._said, self._log = folder / "said", folder / "log"
        self.clone = Clone.of_working_tree(self.folder)
        self.clone.set(**TINY)
        self.clone.commit()
        self.reference: dict[str, dict[str, bytes]] = {}
        self.calls: dict[str, list[str]] = {}
        self.seconds: dict[str, float] = {}

    def prepare(self) -> None:
        """Run every stage undisturbed."""
        make_forks_cheap()
        for stage in STAGES:
            shutil.copytree(self.folder, self._kept / stage, symlinks=True, ignore=self._code)
            started = time.monotonic()
            ended = self.run(stage)
            assert ended.code == 0, ended.said
            self.seconds[stage] = time.monotonic() - started
            self.calls[stage], self.reference[stage] = ended.calls, self.outputs()

    def restore(self, stage: str) -> None:
        """Make the project what it was before `stage`."""
        kill_all_of(self.folder)
        # Renamed first: the dying may still remove their files.
        aside = Path(tempfile.mkdtemp(dir=self.folder.parent))
        for path in self.folder.iterdir():
            if path.name not in CODE:
                path.rename(aside / path.name)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.copytree(self._kept / stage, self.folder, symlinks=True, dirs_exist_ok=True)

    def _code(self, folder: str, _: list[str]) -> tuple[str, ...]:
        return CODE if Path(folder) == self.folder else ()

    def outputs(self) -> dict[str, bytes]:
        """Content by path of all files in the output folders, temporary ones included.

        Of registry.json only what the registry is, not what the stage found there: a version that a killed one registered.
        """
        files = (path for name in OUTPUTS for path in (self.folder / name).rglob("*") if path.is_file())
        found = {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}
        if REGISTRY in found:
            registry = json.loads(found[REGISTRY])
            found[REGISTRY] = repr([registry[key] for key in ("name", "version", "aliases", "model_hash")]).encode()
        return found

    def run(self, stage: str, at: int = COUNT_ONLY, error: int = 0, kill_after: float | None = None) -> Ended:
        """Run `stage`. Its call `at` fails with `error` (0: the process is killed there); or kill it after some seconds."""
        sys.stdout.flush()
        if (child := os.fork()) == 0:
            self._become(stage, at, error)
        os.setpgid(child, child)
        if kill_after is not None:
            time.sleep(kill_after)
            os.killpg(child, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code == -signal.SIGKILL:
            # Else the watchdog would import MLflow beside the next run, which has to do without it.
            kill_all_of(self.folder)
        return Ended(code, self._said.read_text(errors="replace"), self._log.read_text(errors="replace").splitlines())

    def _become(self, stage: str, at: int, error: int) -> None:
        """Be the process of `stage`, to its end."""
        code = 1
        try:
            os.chdir(self.folder)
            said = os.open(self._said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(said, 1)
            os.dup2(said, 2)
            log = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            temporary = self.folder / TEMPORARY
            temporary.mkdir(exist_ok=True)
            os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
            sys.argv = [f"pipeline/{stage}.py"]
            ctypes.CDLL(None).faults_arm(os.fsencode(f"{self.folder}/"), ctypes.c_long(at), error, log)
            runpy.run_path(sys.argv[0], run_name="__main__")
            code = 0
        except SystemExit as ended:  # as Python's own end: a text is printed and is code 1
            code = ended.code if isinstance(ended.code, int) else 1
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def recovers(self, stage: str) -> str | None:
        """Run `stage` again, undisturbed. Return what differs from the reference; None if nothing does."""
        ended = self.run(stage)
        if ended.code != 0:
            return f"the next run ended with {ended.code}:\n{ended.said}"
        return self.difference(stage)

    def difference(self, stage: str) -> str | None:
        """What differs from the outputs of an undisturbed run."""
        now, then = self.outputs(), self.reference[stage]
        differing = [path for path in sorted(now | then) if now.get(path) != then.get(path)]
        left = [
            path for path in self.folder.rglob("*.tmp*") if TEMPORARY not in path.parts and ".git" not in path.parts
        ]
        return (
            f"differ: {', '.join(differing)}" if differing else f"left: {', '.join(map(str, left))}" if left else None
        )
