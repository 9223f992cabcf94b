"""A clone of this repository, in which a test runs commands as a user does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient

ROOT = Path(__file__).parents[1]


class Clone:
    """A clone of the working tree in which commands run as a user's do."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        self.environment |= {
            f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

    @classmethod
    def of_working_tree(cls, folder: Path) -> "Clone":
        """The tracked files of this repository as they are now, in a repository of their own, nothing committed."""
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, tracked.split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
        clone = cls(folder)
        clone.run("git", "init", "-q")
        return clone

    def start(self, *command: str) -> subprocess.Popen:
        """A command in a process group of its own, to be killed as a whole; its output in one stream."""
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *command: str, code: int = 0, limit: float = 600) -> str:
        """What a command says, which has to end with `code`."""
        process = self.start(*command)
        try:
            said, _ = process.communicate(timeout=limit)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == code, said
        return said

    def set(self, **sections: dict[str, Any]) -> None:
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        for name, keys in sections.items():
            params[name] |= keys
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", "state")

    def stages_run(self, *command: str) -> list[str]:
        output = self.run(*(command or ("dvc", "repro")))
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def report(self, name: str) -> Any:
        return json.loads((self.folder / "reports" / name).read_text())

    @property
    def mlflow(self) -> MlflowClient:
        uri = f"sqlite:///{self.folder}/mlflow.db"
        return MlflowClient(uri, uri)  # the registry's would else be the one that this process last used

    def runs(self) -> list[Any]:
        experiment = self.mlflow.get_experiment_by_name("plumage")
        assert experiment is not None
        return list(self.mlflow.search_runs([experiment.experiment_id], order_by=["start_time DESC"]))
