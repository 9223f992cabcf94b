"""The number of processor cores to use."""


def cores() -> int:
    """The number of cores that this process may use, by its affinity mask and its container's CPU quota (cgroup)."""
    from joblib import cpu_count  # late: importing joblib takes 0.1 s

    return int(cpu_count())
