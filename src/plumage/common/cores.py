"""How many processor cores there are to use."""


def cores() -> int:
    """The processor cores that this process may use: its affinity mask and its container's CPU quota (cgroup) count."""
    from joblib import cpu_count  # here: joblib takes 0.1 s to import, which `plumage --help` can do without

    return int(cpu_count())
