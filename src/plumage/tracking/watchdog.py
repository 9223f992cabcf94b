"""A process that marks a run KILLED when the run's own process disappears (kill -9, out of memory).

Started as `python watchdog.py RUN_ID PARENT_PID SIGN_OF_LIFE`, with the store in MLFLOW_TRACKING_URI, in its own session, so
that it outlives its parent. It checks once per second whether it still has that parent, and imports MLflow only when the
parent is gone. The run's process kills it once the run has ended normally.
"""

import os
import sys
import time
from pathlib import Path


def main() -> None:
    run_id, parent, life = sys.argv[1:]
    while os.getppid() == int(parent):
        time.sleep(1)

    from mlflow import MlflowClient

    Path(f"{life}.reserve").unlink(missing_ok=True)
    client = MlflowClient()
    run = client.get_run(run_id)
    is_same = Path(life).name.endswith(run.data.tags.get("plumage.process", ""))  # else another process goes on with it
    if run.info.status == "RUNNING" and is_same:
        client.set_terminated(run_id, "KILLED")
    Path(life).unlink(missing_ok=True)


if __name__ == "__main__":
    main()
