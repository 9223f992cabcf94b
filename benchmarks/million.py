"""A million photos through the stages download and split, as DVC runs them."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import simplejpeg
import yaml
from common import ROOT, Rows, measured
from PIL import Image

from plumage.common.paths import PARAMS, REPORTS
from plumage.common.workers import map_in_processes
from plumage.common.yaml_file import read_yaml

PER_CLASS = 1_000
NOTE = "A million photos of 32 pixels in a tar file: `pipeline/download.py`, then `pipeline/split.py`."


def measure(parent: Path, photos: Path | None) -> Rows:
    """One row per stage, on a tar file of a million photos of 32 pixels in 1,000 classes."""
    work = parent / "million"
    shutil.rmtree(work, ignore_errors=True)
    (work / REPORTS).mkdir(parents=True)
    with (work / "photos.tar").open("wb") as archive:
        classes = (range(first, first + PER_CLASS) for first in range(0, 1_000_000, PER_CLASS))
        archive.writelines(map_in_processes(paint, classes))
        archive.write(bytes(tarfile.RECORDSIZE))  # a tar file's end
    params = read_yaml(ROOT / PARAMS)
    params["data"] |= {"source": "archive", "path": "photos.tar"}
    (work / PARAMS).write_text(yaml.safe_dump(params))
    (work / "dvc.yaml").write_text("stages: {}\n")
    rows = []
    for stage in ("download", "split"):
        with measured(others_only=True) as usage:
            subprocess.run([sys.executable, ROOT / f"pipeline/{stage}.py"], cwd=work, check=True)
        rows.append({"stage": stage, "s": usage.seconds, "memory, MB": usage.megabytes})
        print(rows[-1], flush=True)
    shutil.rmtree(work)
    return rows


def paint(numbers: range) -> bytes:
    """A class in a tar file: photos of blurred random colours, 32 pixels, which are much faster to make than drawn birds."""
    colors = np.random.default_rng(numbers.start).integers(0, 255, (len(numbers) * 10, 10, 3), dtype=np.uint8)
    blurred = np.asarray(Image.fromarray(colors).resize((32, len(numbers) * 32), Image.Resampling.BICUBIC))
    return b"".join(
        member(f"CLASS {numbers.start // PER_CLASS:03d}/{index:03d}.jpg", simplejpeg.encode_jpeg(photo, quality=75))
        for index, photo in enumerate(np.split(blurred, len(numbers)))
    )


def member(name: str, content: bytes) -> bytes:
    """A file in a tar file."""
    header = tarfile.TarInfo(name)
    header.size = len(content)
    return header.tobuf(tarfile.USTAR_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
