"""The number of processor cores to use."""

import os


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
