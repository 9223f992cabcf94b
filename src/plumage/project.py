"""Where the repository is."""

import os
from pathlib import Path


def project_root() -> Path:
    """The repository's root, also for a stage that DVC runs in an experiment's copy (it sets DVC_ROOT for every command)."""
    return Path(os.environ.get("DVC_ROOT") or Path.cwd()).resolve()
