"""Kill `register` just before chosen commits to its database, run it again, and print what is left.

Started as `python killed_register.py FOLDER EVERY`. FOLDER has a store and photos; of the commits, each EVERYth is tried.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import sqlalchemy
from cheap_forks import make_forks_cheap
from killing import kill_all_of
from mlflow import MlflowClient
from registering import NAME, add, hits

from plumage.registry.promotions import promotions
from plumage.tracking.store import use_store


def main() -> None:
    folder, every = Path(sys.argv[1]), int(sys.argv[2])
    make_forks_cheap()
    count = int(in_child(folder, "counted", lambda root: register(root, None)))
    for at in range(1, count + 1, every):
        in_child(folder, f"at-{at}", lambda root, at=at: register(root, at))
        print(json.dumps([at, in_child(folder, f"at-{at}", register_again)]), flush=True)


def in_child(folder: Path, name: str, work: Any) -> Any:
    """Do `work` in a copy of the folder, in a child process of its own. Returns what it returns; None if it was killed."""
    root = folder.parent / name
    if not root.exists():
        shutil.copytree(folder, root)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.chdir(root)
        os.write(writing, json.dumps(work(root)).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if not answer:  # the next process has to end its run: the watchdog, which imports MLflow for that, dies, too
        kill_all_of(root)
    return json.loads(answer) if answer else None


def register(root: Path, at: int | None) -> int:
    """Register a second model, which is better. The process is killed before commit `at`."""
    commits = 0

    def count(_: Any) -> None:
        nonlocal commits
        commits += 1
        if commits == at:
            os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "commit", count)
    add(root, 2, hits(60))
    return commits


def register_again(root: Path) -> dict[str, Any]:
    """Register the same model. Returns what the store has then."""
    add(root, 2, hits(60))
    use_store(root)
    client = MlflowClient()
    model = client.get_registered_model(NAME)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    versions = client.search_model_versions(f"name = '{NAME}'")
    logged = client.search_logged_models(experiments)
    return {
        "aliases": {alias: int(number) for alias, number in model.aliases.items()},
        "promotions": [[entry.before, entry.to] for entry in promotions(model.tags)],
        "tags left": [key for key in model.tags if key.startswith("plumage.promoting")],
        "each model is a version": {version.source for version in versions}
        == {f"models:/{it.model_id}" for it in logged},
        "each model links to its version": all("mlflow.modelVersions" in found.tags for found in logged),
        "runs without an end": sum(run.info.status == "RUNNING" for run in client.search_runs(experiments)),
        "files without a model": len(list((root / "mlartifacts").rglob("MLmodel"))) - len(logged),
    }


if __name__ == "__main__":
    main()
