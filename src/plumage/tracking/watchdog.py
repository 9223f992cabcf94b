"""A process beside a run that marks it KILLED when the run's own process is gone without a word (kill -9, no memory).

Started as `python watchdog.py TRACKING_URI RUN_ID PARENT_PID` in a session of its own, so that what ends its parent
does not end it. It looks once a second whether it still has that parent, and imports MLflow only when it has not. The
run's process kills it when the run has ended by itself.
"""

import os
import sys
import time


def main() -> None:
    uri, run_id, parent = sys.argv[1:]
    while os.getppid() == int(parent):
        time.sleep(1)

    from mlflow import MlflowClient

    client = MlflowClient(uri)
    if client.get_run(run_id).info.status == "RUNNING":
        client.set_terminated(run_id, "KILLED")


if __name__ == "__main__":
    main()
