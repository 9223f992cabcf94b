"""The environment of a training: installed packages and the machine."""

import platform
from importlib.metadata import Distribution, distributions
from pathlib import Path

import psutil
import torch

from plumage.common.cores import cores


def environment() -> dict[str, dict[str, str]]:
    """Environment of this process: `packages` (version by name of every installed one) and `machine`."""
    found = {name: version for name, version in map(_name_and_version, distributions()) if name}
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    machine = {
        "processor": processor(),
        "cores": str(cores()),
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "gpu": ", ".join(gpus) or "none",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
    }
    return {"packages": dict(sorted(found.items(), key=lambda item: item[0].lower())), "machine": machine}


def _name_and_version(distribution: Distribution) -> tuple[str, str]:
    """What `name` and `version` say; each of those would parse the whole description."""
    files = ("METADATA", "PKG-INFO", "")  # "": an .egg-info that is a file
    text = next(filter(None, map(distribution.read_text, files)), "")
    lines = text.partition("\n\n")[0].splitlines()
    fields = dict(line.split(": ", 1) for line in lines if line.startswith(("Name: ", "Version: ")))
    return fields.get("Name", ""), fields.get("Version", "")


def processor() -> str:
    """Name of the processor. On Linux it is read from /proc/cpuinfo, where Python's `platform` does not look."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
