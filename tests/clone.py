"""A clone of this repository, in which a test runs commands as a user does."""

import json
import os
import shutil
import signal
import subprocess
import sys
from importlib.util import cache_from_source
from pathlib import Path
from typing import Any

import yaml
from mlflow import MlflowClient
from warm_python import warm_commands

from plumage.common.yaml_file import read_yaml
from plumage.tracking.store import sqlite_uri

ROOT = Path(__file__).parents[1]
STAGES = ("check", "download", "split", "train", "folds", "evaluate", "register")
TINY = {
    "data": {"species": 4, "images_per_species": 12, "image_size": 32},
    "split": {"val": 0.2, "test": 0.2},
    "model": {"name": "efficientnet_lite0", "image_size": 32},
    "train": {"epochs": 1, "batch_size": 16},
    "evaluate": {"bootstrap": 100},
}
"""Parameters with which the whole pipeline takes seconds."""


def stage_outputs(name: str) -> list[str]:
    """The paths of all outputs, metrics and plots of a stage of dvc.yaml."""
    stage = read_yaml(ROOT / "dvc.yaml")["stages"][name]
    outputs = [output for kind in ("outs", "metrics", "plots") for output in stage.get(kind, [])]
    return [output if isinstance(output, str) else next(iter(output)) for output in outputs]


class Clone:
    """A clone, and a user's environment for commands in it: this Python first in PATH, an author for commits.

    Commands start warm, as forks of a Python that has imported the large libraries, unless it is `cold`.
    """

    def __init__(self, folder: Path, cold: bool = False) -> None:
        self.folder = folder
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith(("DVC_", "MLFLOW_"))}
        commands = [] if cold else [str(warm_commands())]
        self.environment["PATH"] = os.pathsep.join([*commands, str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment |= {
            f"GIT_{who}_{what}": "test@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
        }

    @classmethod
    def of_working_tree(cls, folder: Path, cold: bool = False) -> "Clone":
        """A new Git repository with this one's tracked files as they are now; nothing is committed."""
        tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for name in filter(None, tracked.split("\0")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
            if name.endswith(".py") and (compiled := Path(cache_from_source(str(ROOT / name)))).exists():
                copy = folder / compiled.relative_to(ROOT)
                copy.parent.mkdir(exist_ok=True)
                shutil.copy2(compiled, copy)
        clone = cls(folder, cold)
        clone.run("git", "init", "-q")
        return clone

    def start(self, *command: str) -> subprocess.Popen:
        """Start a command in its own process group, so that all of it can be killed; stderr goes to stdout."""
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
        """Run a command and return its output. It must end with exit code `code`."""
        process = self.start(*command)
        try:
            said, _ = process.communicate(timeout=limit)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        assert process.returncode == code, said
        return said

    def set(self, **sections: dict[str, Any]) -> None:
        """Change keys of params.yaml, given by section."""
        path = self.folder / "params.yaml"
        params = read_yaml(path)
        for name, keys in sections.items():
            params[name] |= keys
        path.write_text(yaml.safe_dump(params, sort_keys=False))

    def commit(self) -> None:
        """Commit all that Git does not ignore."""
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "--allow-empty", "-m", "state")

    def stages_run(self, *command: str) -> list[str]:
        """Run `dvc repro`, or another command, and return the stages that it ran; restored ones don't count."""
        output = self.run(*(command or ("dvc", "repro")))
        return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]

    def report(self, name: str) -> Any:
        """The content of a JSON file in reports/."""
        return json.loads((self.folder / "reports" / name).read_text())

    @property
    def mlflow(self) -> MlflowClient:
        """A client of this clone's MLflow store."""
        uri = sqlite_uri(self.folder / "mlflow.db")
        return MlflowClient(uri, uri)  # without the second, the registry is the one that this process used last

    def runs(self) -> list[Any]:
        """The runs of the default experiment, the newest first."""
        experiment = self.mlflow.get_experiment_by_name("plumage")
        assert experiment is not None
        return list(self.mlflow.search_runs([experiment.experiment_id], order_by=["start_time DESC"]))
