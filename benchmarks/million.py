"""A million photos through the stages download and split, as DVC runs them."""

import io
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

NOTE = "A million photos of 32 pixels in a tar file: `pipeline/download.py`, then `pipeline/split.py`."


def measure(parent: Path, photos: Path | None) -> Rows:
    """One row per stage, on a tar file of a million photos of 32 pixels in 1,000 classes."""
    work = parent / "million"
    shutil.rmtree(work, ignore_errors=True)
    (work / REPORTS).mkdir(parents=True)
    with tarfile.open(work / "photos.tar", "w") as archive:
        per_class = 1_000
        classes = map_in_processes(paint, (range(start, start + per_class) for start in range(0, 1_000_000, per_class)))
        for number, of_class in enumerate(classes):
            for index, photo in enumerate(of_class):
                member = tarfile.TarInfo(f"CLASS {number:03d}/{index:03d}.jpg")
                member.size = len(photo)
                archive.addfile(member, io.BytesIO(photo))
    params = read_yaml(ROOT / PARAMS)
    params["data"] |= {"source": "archive", "path": "photos.tar"}
    (work / PARAMS).write_text(yaml.safe_dump(params))
    rows = []
    for stage in ("download", "split"):
        with measured(others_only=True) as usage:
            subprocess.run([sys.executable, ROOT / f"pipeline/{stage}.py"], cwd=work, check=True)
        rows.append({"stage": stage, "s": usage.seconds, "memory, MB": usage.megabytes})
        print(rows[-1], flush=True)
    shutil.rmtree(work)
    return rows


def paint(numbers: range) -> list[bytes]:
    """Photos of blurred random colours, 32 pixels: much faster to make than drawn birds."""
    colors = np.random.default_rng(numbers.start).integers(0, 255, (len(numbers), 10, 10, 3), dtype=np.uint8)
    blurred = (Image.fromarray(of_one).resize((32, 32), Image.Resampling.BICUBIC) for of_one in colors)
    return [simplejpeg.encode_jpeg(np.asarray(photo), quality=75) for photo in blurred]
