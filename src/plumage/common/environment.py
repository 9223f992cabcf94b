"""Settle what a person's environment may lack: a user name, an output that takes every letter."""

import getpass
import io
import os
import re
import sys
import warnings

from plumage.common.git import forget_left_overs
from plumage.errors import PlumageError

LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torchrun sets, beside TORCHELASTIC_RUN_ID."""
CORES = "GOMP_CPU_AFFINITY"


def settle_environment() -> None:
    """Make this process and those that it starts independent of settings that have nothing to do with photos.

    - A user ID without a name, as containers have, gets its number as LOGNAME: DVC, MLflow and torch.compile ask for one.
    - Letters that the output's encoding lacks (LANG=C, PYTHONIOENCODING=ascii) are printed as escapes.
    - Stages run in /bin/sh: DVC takes SHELL, which for a service's user may be /usr/sbin/nologin.
    - A GOMP_CPU_AFFINITY that lists no cores, as `bogus`, is forgotten: importing torch would never end (libgomp loops).
    - A rank that another job left behind is forgotten, unless torchrun has started this process.
    - Git's variables that a hook sets, or another repository's, are forgotten (`plumage.common.git.LEFT_OVER`).
    - PYTHONWARNINGS=error would turn warnings within other libraries into their failure; they are shown instead.

    Raises:
        PlumageError: PYTHONOPTIMIZE=2, with which MLflow can't be imported.
    """
    forget_left_overs()
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["LOGNAME"] = str(os.getuid())
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # None when closed by `>&-`
            stream.reconfigure(errors="backslashreplace")
    if os.name == "posix":
        os.environ["SHELL"] = "/bin/sh"
    if not re.fullmatch(r"[\d\s,:-]*", os.environ.get(CORES, "")):
        del os.environ[CORES]
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        for name in LAUNCHER:
            os.environ.pop(name, None)
    if any(action == "error" and category is Warning for action, _, category, _, _ in warnings.filters):
        warnings.simplefilter("default")
        os.environ.pop("PYTHONWARNINGS", None)
    if sys.flags.optimize > 1:
        raise PlumageError("PYTHONOPTIMIZE=2 removes docstrings, without which MLflow fails; unset it, or set it to 1")


def discard_output() -> None:
    """Discard all further output: its reader, such as `head`, has exited."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
