"""Work that has a process of its own, since threads and memory are set up once: a benchmark lets several work in turn."""

import os
import subprocess
import sys
from collections.abc import Callable

OURS = {"GOMP_SPINCOUNT"}
"""The variable that Plumage sets: it would change a baseline, too."""


def started(script: str, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """A process of `script` that calls `serve`, once it is ready."""
    environment = {key: value for key, value in os.environ.items() if key not in OURS} | variables
    command, pipe = [sys.executable, script, *arguments], subprocess.PIPE
    worker = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, text=True)
    answer_of(worker)
    return worker


def ask(worker: subprocess.Popen[str]) -> str:
    """Let a process do its work once. Returns what it says."""
    assert worker.stdin
    print(file=worker.stdin, flush=True)
    return answer_of(worker)


def answer_of(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout
    answer = worker.stdout.readline()
    assert answer, f"{worker.args} ended"
    return answer


def serve(do: Callable[[], object], first: Callable[[], object]) -> None:
    """Do something `first`, then the work at each line of input, and print what it returns. All else that is printed goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    first()
    print("ready", file=answers, flush=True)
    for _ in sys.stdin:
        print(do(), file=answers, flush=True)
