"""Commands that start warm: forks of one Python that has imported the large libraries, but nothing of Plumage.

Importing torch, MLflow and scikit-learn takes most of the time of a stage with a few photos. A fork is a process of its own: it
has its own files, environment, signals and end. What it shares with other forks is the seed of Python's hashes.
"""

import atexit
import fcntl
import importlib
import importlib.metadata
import multiprocessing
import multiprocessing.process
import os
import random
import runpy
import select
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
import weakref
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cheap_forks import make_forks_cheap

LIBRARIES = (
    "dvc.cli.parser", "dvc.repo", "dvc.repo.experiments.queue.celery", "filelock", "git", "matplotlib.backends.backend_agg",
    "matplotlib.pyplot", "mlflow.pyfunc", "mlflow.server.handlers", "mlflow.store.artifact.local_artifact_repo",
    "mlflow.store.model_registry.sqlalchemy_store", "mlflow.store.tracking.sqlalchemy_store", "mlflow.tracing.processor.base_mlflow",
    "mlflow.tracing.provider", "multiprocessing.sharedctypes", "networkx", "onnx", "onnxruntime", "opentelemetry.sdk.trace.export",
    "pandas", "PIL.ImageFont", "PIL.ImageOps", "PIL.JpegImagePlugin", "pyarrow.pandas_compat", "pyarrow.parquet", "rich.markdown",
    "ruamel.yaml", "safetensors.torch", "scipy.cluster.hierarchy", "scipy.stats", "scmrepo.git", "simplejpeg", "sklearn.decomposition",
    "sklearn.linear_model", "sklearn.metrics", "sqlalchemy.dialects.sqlite", "torch", "torch._dynamo", "torch.distributed.run",
    "typer.rich_utils", "uvicorn",
)  # fmt: skip
QUIET = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "ORT_DISABLE_TELEMETRY": "1", "MLFLOW_LOGGING_LEVEL": "WARNING",
         "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}  # fmt: skip
"""What Plumage sets before it imports these libraries."""
SCRIPTS = ("dvc", "gto", "plumage")
FOLDER = "PLUMAGE_TESTS_WARM_COMMANDS"
"""The variable with the folder of the commands."""
MOST_FILES = 64
"""Of a client."""


@cache
def warm_commands() -> Path:
    """A folder with the commands `python`, `dvc`, `gto` and `plumage` that start warm, until this process ends.

    They are those of the process that has started this one, if it has some. Without Linux's pidfd_open they are the usual
    ones, which start cold.
    """
    if not hasattr(os, "pidfd_open"):
        return Path(sys.executable).parent
    if FOLDER not in os.environ:
        os.environ[FOLDER] = str(start_server())
    folder = Path(os.environ[FOLDER])
    multiprocessing.set_executable(str(folder / "python"))  # of this process's own workers
    return folder


def start_server() -> Path:
    """Start the process that forks, which ends with this one. Returns the folder of its commands."""
    folder = Path(tempfile.mkdtemp(prefix="warm-"))
    client = [sys.executable, "-I", "-S", str(Path(__file__).with_name("warm_client.py")), str(folder / "socket")]
    for name in ("python", *SCRIPTS):
        (folder / name).write_text(f'#!/bin/sh\nexec {shlex.join(client)} {name} "$@"\n')
        (folder / name).chmod(0o755)
    own = {name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "MLFLOW_", "PYTHON"))}
    with socket.socket(socket.AF_UNIX) as listening:  # commands may come while it still imports
        listening.bind(str(folder / "socket"))
        listening.listen()
        server = subprocess.Popen(
            [sys.executable, __file__, str(folder), str(listening.fileno())],
            env=own | QUIET,
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
    atexit.register(server.communicate)  # which closes its input
    return folder


def warm_python() -> str:
    """A `python` that starts warm."""
    return str(warm_commands() / "python")


def serve(folder: Path, server: socket.socket) -> None:
    """Fork for every client, until this process's parent closes its input."""
    for name in LIBRARIES:
        importlib.import_module(name)
    importlib.import_module("new_stores").copy_new_stores(folder / "store.db")
    open_a_store(folder / "first.db")
    for name in [name for name in sys.modules if name.startswith("plumage")]:  # MLflow's entry point has imported them
        del sys.modules[name]
    sys.executable = str(folder / "python")
    multiprocessing.set_executable(sys.executable)
    atexit.unregister(sys.modules["torch._dynamo.utils"].dump_compile_times)
    weakref.finalize._registry.clear()  # type: ignore[attr-defined]  # each fork would take 100 ms for both at its end
    make_forks_cheap()
    children: dict[int, Child] = {}
    while True:
        clients = {child.client: child for child in children.values()}
        ready = select.select([server, sys.stdin, *clients, *children], [], [])[0]
        if sys.stdin in ready:
            break
        for source in ready:
            if source in clients:
                clients[source].pass_on_signal()
            elif source in children:
                children.pop(source).end()
            elif child := start_child(server, children):
                children[child.ended] = child
    shutil.rmtree(folder)


def open_a_store(path: Path) -> None:
    """Let MLflow and SQLAlchemy prepare what they need for every store."""
    stores = importlib.import_module("mlflow.store.tracking.sqlalchemy_store")
    stores.SqlAlchemyStore(f"sqlite:///{path}", str(path.parent)).engine.dispose()


@dataclass
class Child:
    """A command's process, its client, and what can be read when the process has ended."""

    process: int
    client: socket.socket
    ended: int

    def pass_on_signal(self) -> None:
        """Send it the signal that its client got, or kill it, because its client is dead."""
        with suppress(ProcessLookupError):
            os.killpg(self.process, (self.client.recv(1) or bytes([signal.SIGKILL]))[0])

    def end(self) -> None:
        """Tell its client the exit code."""
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        with suppress(OSError):
            self.client.sendall(str(code).encode())
        self.close()

    def close(self) -> None:
        """Close what this process holds of it."""
        self.client.close()
        os.close(self.ended)


def start_child(server: socket.socket, others: Mapping[int, Child]) -> Child | None:
    """Fork for the next client; None if it was killed while it asked."""
    client, _ = server.accept()
    head, files, _, _ = socket.recv_fds(client, 16, MOST_FILES)
    asked = client.recv(int(head or 0), socket.MSG_WAITALL)
    if not asked or len(asked) < int(head):
        for file in files:
            os.close(file)
        client.close()
        return None
    folder, numbers, count, *words = os.fsdecode(asked).split("\0")
    if (process := os.fork()) == 0:
        server.close()
        client.close()
        for other in others.values():
            other.close()
        os.setpgid(0, 0)
        take(dict(zip(map(int, numbers.split()), files, strict=True)))
        arguments, variables = words[: int(count)], words[int(count) :]
        become(arguments, folder, dict(variable.split("=", 1) for variable in variables))
    with suppress(OSError):  # it has done so, and has become another program
        os.setpgid(process, process)
    for file in files:
        os.close(file)
    return Child(process, client, os.pidfd_open(process))


def take(files: Mapping[int, int]) -> None:
    """Give open files the numbers that they have in the client."""
    aside = {number: fcntl.fcntl(file, fcntl.F_DUPFD, 256) for number, file in files.items()}
    for file in files.values():
        os.close(file)
    for number, file in aside.items():
        os.dup2(file, number)
        os.close(file)


def become(arguments: list[str], folder: str, environment: dict[str, str]) -> None:
    """Be the process of a command, to its end."""
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    multiprocessing.process.ORIGINAL_DIR = folder  # type: ignore[attr-defined]
    os.environ.clear()
    os.environ.update(QUIET | environment)
    sys.path[:] = [*filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)), *sys.path[1:]]
    random.seed()
    code = exit_code(arguments)
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(ValueError, OSError):  # closed by the command, or its reader
        sys.stdout.flush()
        sys.stderr.flush()
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


def exit_code(arguments: list[str]) -> int:
    """Run a command as Python does. Returns its exit code; one that is negative is a signal's."""
    try:
        execute(*arguments)
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except KeyboardInterrupt:
        traceback.print_exc()
        return -signal.SIGINT
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def execute(command: str, *arguments: str) -> None:
    """Run an installed script, or what stands behind `python`."""
    name = Path(command).name
    if name in SCRIPTS:
        sys.argv = [command, *arguments]
        (script,) = importlib.metadata.entry_points(group="console_scripts", name=name)
        sys.exit(script.load()())
    kind, *rest = arguments
    if kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        sys.path.insert(0, "")
        main = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(rest[0], "<string>", "exec"), vars(main))
    elif kind == "-m":
        sys.argv = rest
        sys.path.insert(0, str(Path.cwd()))
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = list(arguments)
        sys.path.insert(0, str(Path(kind).resolve().parent))
        runpy.run_path(kind, run_name="__main__")


if __name__ == "__main__":
    serve(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2])))
