"""How this process uses the processor's cores."""

import ctypes
import os
import platform
import sys
from pathlib import Path

_SCHED_ATTR_CALLS = {"x86_64": (315, 314), "aarch64": (275, 274)}
"""Linux's numbers of sched_getattr and sched_setattr, for which few C libraries have functions."""
_SHARING_POLICIES = (0, 3)
"""SCHED_NORMAL and SCHED_BATCH. With the others, sched_runtime isn't a slice."""
_SLICE = 250_000
"""Nanoseconds. Linux's own is 1.4 ms on two cores."""


class _SchedAttr(ctypes.Structure):
    """`struct sched_attr` of linux/sched/types.h, in its first version."""

    _fields_ = (
        ("size", ctypes.c_uint32), ("sched_policy", ctypes.c_uint32), ("sched_flags", ctypes.c_uint64),
        ("sched_nice", ctypes.c_int32), ("sched_priority", ctypes.c_uint32),
        ("sched_runtime", ctypes.c_uint64), ("sched_deadline", ctypes.c_uint64), ("sched_period", ctypes.c_uint64),
    )  # fmt: skip


def cores() -> int:
    """The number of cores that this process may use, by its affinity mask and its container's CPU quota (cgroup)."""
    from joblib import cpu_count  # late: importing joblib takes 0.1 s

    return int(cpu_count())


def threads() -> int:
    """Threads for one computation, as many as torch would take: one per physical core, or OMP_NUM_THREADS if that is fewer."""
    from psutil import cpu_count  # late, as above

    wanted = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    limits = (cores(), cpu_count(logical=False), int(wanted) if wanted.isdecimal() else 0)
    return min(limit for limit in limits if limit)


def take_short_slices() -> None:
    """Have this process's threads run in shorter slices, and so sooner once they can go on. Their share of a core stays.

    On a busy machine, a thread that isn't run holds up those that wait for its part of a computation. Nothing happens off
    Linux, and before Linux 6.12 (the kernel's documentation, scheduler/sched-eevdf.rst).
    """
    if sys.platform != "linux" or platform.machine() not in _SCHED_ATTR_CALLS:
        return
    get, set_ = _SCHED_ATTR_CALLS[platform.machine()]
    call, attr = ctypes.CDLL(None).syscall, _SchedAttr()
    size = ctypes.sizeof(attr)
    for thread in (int(path.name) for path in Path("/proc/self/task").iterdir()):
        if call(get, thread, ctypes.byref(attr), size, 0) == 0 and attr.sched_policy in _SHARING_POLICIES:
            attr.sched_runtime = _SLICE
            call(set_, thread, ctypes.byref(attr), 0)
