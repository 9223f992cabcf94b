"""Parameters that suit a person's photos, each with a reason.

What they rest on was measured on 100 bird species (docs/experiments.md): on 2,694 photos a probe of Lite0 reaches 0.929 in a
minute, fine-tuning 0.947 in eight on two cores.
"""

import math
from collections import Counter
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np

from plumage.common.text import some
from plumage.config import Data
from plumage.data.dataset.class_rules import refuse_empty_classes, refuse_single_class
from plumage.data.dataset.decode import examine
from plumage.data.sources import open_source
from plumage.data.sources.archive import ArchiveSource
from plumage.data.sources.folder import FolderSource
from plumage.data.sources.photo import SourcePaths
from plumage.errors import DataError, PhotoError
from plumage.evaluation.intervals import exact

FINETUNE_PHOTOS = 2_500
"""Training photos from which fine-tuning is known to be more accurate than a probe; with fewer it was not measured."""
SCRATCH_PHOTOS = 1_000_000
"""Photos from which training from scratch is worth its time: as many as ImageNet has, which the weights come from."""
SMALL_SIDE = 160
"""Photos with a shorter side below this gain nothing from the default input of 288 pixels."""
PRETRAINED_SIDE = 224
TEST_PHOTOS, VAL_PHOTOS = 100, 50
SHARES = {"test": (0.10, 0.30), "val": (0.05, 0.15)}
"""The least share (the default) and the largest, with which train keeps most of the photos."""
LEAST_PER_CLASS = 3
UNEVEN = 10
"""Ratio of class sizes from which class weights are suggested; that they help was measured at 20 (docs/experiments.md)."""
FOLDS = 5
SAMPLED_CHUNKS, SAMPLED_PHOTOS = 8, 8
Value = str | float | None


class Suggested(NamedTuple):
    """A key of params.yaml with a value, and why."""

    key: str
    value: Value
    reason: str


class Photos(NamedTuple):
    """What is known of the photos at a path, without reading all of them."""

    source: str  # folder or archive
    classes: dict[str, int]  # the number of photos of each
    splits: dict[str, int]  # those that the data set comes with; "none" for photos without one
    side: float  # the median shorter side of some photos, in pixels

    @property
    def total(self) -> int:
        """The number of photos."""
        return sum(self.classes.values())


def look_at(path: Path, scratch: Path) -> Photos:
    """Look at a folder or an archive of photos as the stage download does; `scratch` is for what a compressed tar unpacks to.

    Raises:
        DataError: it is neither, its layout isn't known, or there are fewer than two classes; as in the stage.
    """
    if not path.exists():
        raise DataError(f"{path}: no such folder or archive; takes your photos, one folder per class")
    data = Data(source="folder" if path.is_dir() else "archive")
    with open_source(data, SourcePaths(path, scratch, scratch)) as source:
        assert isinstance(source, FolderSource | ArchiveSource)
        refuse_empty_classes(source.about.get("empty_classes", {}))
        classes = dict(sorted(Counter(photo.label for photo in source.found).items()))
        refuse_single_class(list(classes))
        splits = Counter(photo.split or "none" for photo in source.found)
        return Photos(data.source, classes, dict(splits), _typical_side(source))


def describe(photos: Photos) -> str:
    """The photos in a line."""
    fewest, most = min(photos.classes.values()), max(photos.classes.values())
    each = f"{fewest:,} each" if fewest == most else f"{fewest:,} to {most:,} each"
    return f"{photos.total:,} photos of {len(photos.classes):,} classes ({each}), shorter side about {photos.side:,.0f} pixels"


def suggest(photos: Photos, path: str) -> list[Suggested]:
    """Values for the keys of params.yaml that depend on the photos at `path`.

    Raises:
        DataError: a class has too few photos for train, val and test.
    """
    split = _split(photos)
    model = _model(photos, {one.key: one.value for one in split})
    return [
        Suggested("data.source", photos.source, f"your photos are in {_article(photos.source)}"),
        Suggested("data.path", path, "where they are"),
        *split,
        *model,
        _class_weights(photos),
        _folds(_num_test(photos, {one.key: one.value for one in split}), model[-1].value),
    ]


def _split(photos: Photos) -> list[Suggested]:
    """`split.strategy` and, where the splits are drawn, their shares."""
    if photos.splits.get("train") and (photos.splits.get("test") or photos.splits.get("val")):
        return _official(photos.splits)
    if few := [f"{label!r} has {count}" for label, count in photos.classes.items() if count < LEAST_PER_CLASS]:
        raise DataError(
            f"too few photos: {some(few, 5)}; every class takes {LEAST_PER_CLASS} or more, one for each of "
            "train, val, test"
        )
    test = _share("test", TEST_PHOTOS, photos.total)
    in_test = round(test * photos.total)
    val = _share("val", VAL_PHOTOS, photos.total - in_test)
    low, high = exact(np.array([0.9 * in_test]), np.array([in_test]))
    return [
        Suggested("split.strategy", "stratified", "they come without splits, so each class is split"),
        Suggested(
            "split.test",
            test,
            f"about {in_test:,} photos tell an accuracy of 90% to ±{50 * float(high[0] - low[0]):.0f} points",
        ),
        Suggested("split.val", val, f"about {round(val * (photos.total - in_test)):,} photos choose and calibrate"),
    ]


def _official(splits: Mapping[str, int]) -> list[Suggested]:
    """The splits that the photos come with; one that is missing is drawn from train."""
    comes = ", ".join(f"{splits[name]:,} {name}" for name in ("train", "val", "test") if name in splits)
    suggested, left = [Suggested("split.strategy", "official", f"they come split: {comes}")], splits["train"]
    for name, wanted in (("test", TEST_PHOTOS), ("val", VAL_PHOTOS)):
        if name not in splits:
            share = _share(name, wanted, left)
            suggested.append(
                Suggested(f"split.{name}", share, f"of train, about {round(share * left):,} photos, as none come")
            )
            left -= round(share * left)
    return suggested


def _model(photos: Photos, split: Mapping[str, Value]) -> list[Suggested]:
    """`model` and `train.recipe`."""
    if photos.total >= SCRATCH_PHOTOS:
        return [
            Suggested("model.name", "efficientnet_b0", "the smallest of the paper's networks"),
            Suggested(
                "model.weights",
                None,
                f"over {SCRATCH_PHOTOS:,} photos, as many as ImageNet has, need no other's weights",
            ),
            Suggested("model.image_size", None, "the photos' size, up to the network's"),
            Suggested(
                "train.recipe", "scratch", "trains the whole network; raise train.epochs for the highest accuracy"
            ),
        ]
    small = photos.side < SMALL_SIDE
    size = f"enlarged to the {PRETRAINED_SIDE} pixels of the weights, as more would add no detail"
    return [
        Suggested("model.name", "efficientnet_lite0", "its ImageNet weights are installed with Plumage"),
        Suggested(
            "model.weights", "imagenet", "a start that knows shapes and textures; from scratch takes far more photos"
        ),
        Suggested(
            "model.image_size",
            PRETRAINED_SIDE if small else None,
            size if small else "288 pixels, more accurate than 224",
        ),
        _recipe(_num_train(photos, split)),
    ]


def _recipe(num_train: int) -> Suggested:
    if num_train < FINETUNE_PHOTOS:
        return Suggested(
            "train.recipe", "probe", f"about {num_train:,} photos for train: minutes on a CPU; then try finetune"
        )
    minutes = 8 * num_train / 2_694
    time = f"{minutes:,.0f} minutes" if minutes < 120 else f"{minutes / 60:,.0f} hours"
    return Suggested(
        "train.recipe",
        "finetune",
        f"about {num_train:,} photos for train: 2 points more than a probe, {time} on 2 cores",
    )


def _class_weights(photos: Photos) -> Suggested:
    fewest, most = min(photos.classes.values()), max(photos.classes.values())
    if most >= UNEVEN * fewest:
        return Suggested(
            "train.class_weights", "balanced", f"classes of {fewest:,} to {most:,} photos: rare ones count more"
        )
    return Suggested("train.class_weights", "none", "no class is much rarer than the others")


def _folds(num_test: int, recipe: Value) -> Suggested:
    """Cross-validation where the test photos decide little and it costs seconds."""
    if num_test < TEST_PHOTOS and recipe == "probe":
        return Suggested(
            "evaluate.folds", FOLDS, f"about {num_test:,} test photos decide little; this judges the recipe on all"
        )
    why = "the test photos are enough" if num_test >= TEST_PHOTOS else f"{FOLDS} would train {FOLDS} more times"
    return Suggested("evaluate.folds", None, why)


def _num_test(photos: Photos, split: Mapping[str, Value]) -> int:
    """The number of test photos with these values of `split`."""
    if "test" in photos.splits and split["split.strategy"] == "official":
        return photos.splits["test"]
    total = photos.splits["train"] if split["split.strategy"] == "official" else photos.total
    return round(total * float(split.get("split.test") or 0))


def _num_train(photos: Photos, split: Mapping[str, Value]) -> int:
    """The number of training photos with these values of `split`."""
    test, val = (float(split.get(f"split.{name}") or 0) for name in ("test", "val"))
    official = split["split.strategy"] == "official"
    return round((photos.splits["train"] if official else photos.total) * (1 - test) * (1 - val))


def _share(split: str, wanted: int, total: int) -> float:
    """The share of `total` photos that has `wanted` ones, within SHARES, in steps of 0.05."""
    least, most = SHARES[split]
    return round(min(most, max(least, math.ceil(20 * wanted / total) / 20)), 2)


def _typical_side(source: FolderSource | ArchiveSource) -> float:
    """The median shorter side of some photos, in pixels; DataError if none of them can be read."""
    chunks = list(source.chunks())
    sides, problem = [], ""
    for chunk in chunks[:: max(1, len(chunks) // SAMPLED_CHUNKS)]:
        for photo in islice(chunk(), SAMPLED_PHOTOS):
            try:
                if photo.problem:
                    raise PhotoError(photo.problem)
                sides.append(min(examine(photo.data, photo.key)[1]))
            except PhotoError as error:
                problem = f"{photo.key}: {error}"
    if not sides:
        raise DataError(f"{problem}; so are the other photos that were looked at: takes photos that can be read")
    return median(sides)


def _article(source: str) -> str:
    return "an archive" if source == "archive" else "a folder"
