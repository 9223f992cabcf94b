"""reports/data.html: a self-contained page that shows the data set."""

import base64
import io
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image, ImageOps

from plumage.common.cores import cores
from plumage.common.page import write_page
from plumage.data.dataset.decode import decode, named
from plumage.data.dataset.store import Dataset
from plumage.data.split.splits_file import SPLITS, UNUSED

TILE, TILES_PER_CLASS, COLUMNS = 80, 12, 4
MAX_TILES = 3200  # tiles on all contact sheets together; with many classes, each gets fewer
MAX_TILE_PIXELS = 5_000_000_000  # pixels to decode: large photos get fewer tiles, or the page would take minutes
PICTURE = 112  # the longer side of a photo shown alone or in a group, in pixels
SHOWN_GROUPS, SHOWN_IN_GROUP, SHOWN_EXTREMES = 60, 4, 8
LISTED_REFUSED, LISTED_CONFLICTS, LISTED_COPIES, LISTED_EXTREMES = 2000, 200, 6, 3
BINS = 40
STEPS = [step * 10**power for power in range(6) for step in (1, 2, 5)]
OWN_SECTIONS = {
    "source", "photos", "bytes", "classes", "splits", "photos_per_class", "repaired", "refused", "duplicates",
    "label_conflicts", "passed_over", "merged_classes",
}  # fmt: skip
"""Keys of reports/data.json with a place of their own on the page; the others are details of the source."""


def write_data_page(
    path: Path, dataset: Dataset, splits: list[str], about: dict[str, Any], report: dict[str, Any]
) -> None:
    """Write the page; the same inputs give the same bytes.

    `splits` has each photo's split, `about` and `report` the content of reports/data.json and reports/split.json.
    """
    with ThreadPoolExecutor(cores()) as threads:
        write_page(
            path,
            Path(__file__).with_name("data_page.html.j2"),
            title=f"The data: {about.get('dataset') or about.get('source') or 'photos'}",
            source=about.get("source", "photos"),
            about=about,
            labels=report.get("labels"),
            details={name: value for name, value in about.items() if name not in OWN_SECTIONS},
            num_repairs=sum(about["repaired"].values()),
            **_split_counts(dataset, splits),
            **_sizes(dataset),
            **_refused(about["refused"]),
            **_pictured(threads, dataset, splits, about, report),
            sheets=_sheets(threads, dataset),
        )


def _split_counts(dataset: Dataset, splits: list[str]) -> dict[str, Any]:
    """The number of photos per split, overall (`totals`, by split) and per class (`classes`, most photos first)."""
    names = [*SPLITS, UNUSED]
    index = {split: number for number, split in enumerate(names)}
    split_of = np.fromiter((index[split] for split in splits), np.int64, len(splits))
    counts = np.bincount(dataset.targets() * len(names) + split_of, minlength=len(dataset.classes) * len(names))
    counts = counts.reshape(-1, len(names))
    if not counts[:, -1].any():
        names, counts = names[:-1], counts[:, :-1]
    of_class = counts.sum(axis=1)
    order = np.argsort(-of_class, kind="stable").tolist()
    return {
        "split_names": names,
        "totals": dict(zip(names, counts.sum(axis=0).tolist(), strict=True)),
        "total": int(of_class.sum()),
        "classes": [
            {"number": i, "label": dataset.classes[i], "photos": int(of_class[i]), "splits": counts[i].tolist()}
            for i in order
        ],
        "split_counts": counts.tolist(),
    }


def _sizes(dataset: Dataset) -> dict[str, Any]:
    """Statistics of the photos' sizes, and the extreme ones."""
    width, height = (np.array(dataset.column(name), np.int64) for name in ("width", "height"))
    pairs, counts = np.unique(width << 32 | height, return_counts=True)
    short, ratio = np.minimum(width, height), np.maximum(width, height) / np.minimum(width, height)

    def extreme(order: NDArray[Any]) -> list[dict[str, Any]]:
        rows = np.argsort(order, kind="stable")[:LISTED_EXTREMES].tolist()
        return [{"key": dataset.keys[row], "width": int(width[row]), "height": int(height[row])} for row in rows]

    common = np.argsort(-counts, kind="stable")[:5]
    return {
        "common_sizes": [(int(pairs[i] >> 32), int(pairs[i] & 0xFFFFFFFF), int(counts[i])) for i in common.tolist()],
        "different_sizes": len(pairs),
        "short_side": _side_histogram(short),
        "median_short_side": int(np.median(short)),
        "extreme_sizes": {"Smallest": extreme(short), "Largest": extreme(-width * height), "Longest": extreme(-ratio)},
    }


def _side_histogram(sides: NDArray[np.int64]) -> list[dict[str, Any]]:
    """A histogram of about BINS bars. The last bar holds the top 1%, which would squeeze the others together."""
    high = int(np.percentile(sides, 99))
    step = next(step for step in STEPS if (high - int(sides.min())) // step < BINS)
    first = int(sides.min()) // step
    counts = np.bincount(np.minimum(sides, high) // step - first)
    names = [f"{(first + i) * step} to {(first + i + 1) * step - 1} pixels" for i in range(len(counts))]
    if int(sides.max()) >= (first + len(counts)) * step:
        names[-1] = f"{(first + len(counts) - 1) * step} to {sides.max()} pixels"
    return _bars(counts, names)


def _bars(counts: NDArray[np.int64], names: Sequence[str]) -> list[dict[str, Any]]:
    shares = counts / counts.max()
    return [
        {"index": index, "name": name, "count": int(count), "share": float(share)}
        for index, (name, count, share) in enumerate(zip(names, counts, shares, strict=True))
    ]


def _refused(refused: list[dict[str, str]]) -> dict[str, Any]:
    """The refused photos by kind of reason, most frequent first. When too many to list, rare kinds are listed completely."""
    kinds: dict[str, list[dict[str, str]]] = {}
    for photo in refused:
        kinds.setdefault(photo["reason"].partition(" (")[0], []).append(photo)
    left, listed = LISTED_REFUSED, {}
    for number, kind in enumerate(sorted(kinds, key=lambda kind: (len(kinds[kind]), kind))):
        listed[kind] = kinds[kind][: left // (len(kinds) - number)]
        left -= len(listed[kind])
    order = sorted(kinds, key=lambda kind: (-len(kinds[kind]), kind))
    return {"refused": [{"kind": kind, "count": len(kinds[kind]), "photos": listed[kind]} for kind in order]}


def _pictured(
    threads: ThreadPoolExecutor, dataset: Dataset, splits: list[str], about: dict[str, Any], report: dict[str, Any]
) -> dict[str, Any]:
    """Everything shown as single pictures: duplicates, near-duplicates and leaks, the darkest and brightest photos."""
    near = sorted(report["near_duplicates"], key=lambda group: not _several_labels(group))
    exact, leaks, conflicts = about["duplicates"], report["leaks"], about["label_conflicts"]
    shown_near, shown_exact, shown_leaks = near[:SHOWN_GROUPS], exact[:SHOWN_GROUPS], leaks[:SHOWN_GROUPS]

    leaking = {photo["key"] for leak in shown_leaks for photo in leak["photos"]}
    kept_for = {copy["key"]: photo["key"] for photo in exact for copy in photo["copies"] if copy["key"] in leaking}
    wanted = leaking | set(kept_for.values()) | {photo["key"] for photo in shown_exact}
    wanted |= {photo["key"] for group in shown_near for photo in group}
    row_of = {key: row for row, key in enumerate(dataset.keys) if key in wanted}

    brightness = np.array(dataset.column("brightness"), np.int64)
    by_brightness = np.argsort(brightness, kind="stable")
    dark, bright = by_brightness[:SHOWN_EXTREMES].tolist(), by_brightness[::-1][:SHOWN_EXTREMES].tolist()

    def photo(key: str, label: str | None = None) -> dict[str, Any]:
        """The figure of a photo; for a copy that was left out, that of the kept photo."""
        row = row_of.get(kept_for.get(key, key))
        if row is not None:
            pictured.setdefault(row, "")
        return {
            "key": key,
            "label": label if label is not None or row is None else dataset.labels[row],
            "split": splits[row] if row is not None and key not in kept_for else None,
            "kept": kept_for.get(key),
            "row": row,
        }

    def figures(group: list[dict[str, Any]]) -> dict[str, Any]:
        """The size of a group and the figures of its first photos."""
        shown = [photo(each["key"], each.get("label")) | {"official": each["split"]} for each in group[:SHOWN_IN_GROUP]]
        return {"count": len(group), "photos": shown}

    def extremes(rows: list[int]) -> list[dict[str, Any]]:
        values = brightness[rows].tolist()
        return [
            {"key": dataset.keys[row], "label": dataset.labels[row], "row": row, "value": value}
            for row, value in zip(rows, values, strict=True)
        ]

    pictured: dict[int, str] = dict.fromkeys([*dark, *bright], "")
    context = {
        "near_duplicates": {
            "count": len(near),
            "across": sum(map(_several_labels, near)),
            "groups": [{"across": _several_labels(group)} | figures(_varied(group)) for group in shown_near],
        },
        "leaks": {
            "count": len(leaks),
            "groups": [{"kept_in": leak["kept_in"]} | figures(leak["photos"]) for leak in shown_leaks],
        },
        "duplicates": {
            "count": sum(len(group["copies"]) for group in exact),
            "num_groups": len(exact),
            "groups": [
                photo(group["key"], group["label"])
                | {"copies": group["copies"][:LISTED_COPIES], "more": max(0, len(group["copies"]) - LISTED_COPIES)}
                for group in shown_exact
            ],
        },
        "conflicts": {"count": len(conflicts), "groups": conflicts[:LISTED_CONFLICTS]},
        "brightness": _bars(
            np.bincount(brightness // 8, minlength=32), [f"brightness {8 * i} to {8 * i + 7}" for i in range(32)]
        ),
        "mean_brightness": float(brightness.mean()),
        "extremes": {"Darkest": extremes(dark), "Brightest": extremes(bright)},
    }
    rows = list(pictured)
    # Runs of photos: a single one is too little work for a thread.
    runs = [rows[start : start + 16] for start in range(0, len(rows), 16)]
    uris = threads.map(lambda run: [_picture(dataset, row) for row in run], runs)
    pictured.update(zip(rows, (uri for run in uris for uri in run), strict=True))
    return {**context, "pictures": pictured}


def _several_labels(group: Iterable[dict[str, Any]]) -> bool:
    return len({photo["label"] for photo in group}) > 1


def _varied(group: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Move the first photo of each label and split to the front, so that the first few show why the group matters."""
    first: dict[tuple[str, str], dict[str, Any]] = {}
    repeated = [photo for photo in group if first.setdefault((photo["label"], photo["split"]), photo) is not photo]
    return [*first.values(), *repeated]


def _sheets(threads: ThreadPoolExecutor, dataset: Dataset) -> list[dict[str, Any]]:
    """One contact sheet per class, in class order, of photos spread evenly over the class. Classes past MAX_TILES get none."""
    pixels = sum(dataset.column("width")) * sum(dataset.column("height")) // len(dataset) ** 2
    tiles = min(MAX_TILES, MAX_TILE_PIXELS // pixels)
    per_class = max(1, min(TILES_PER_CLASS, tiles // len(dataset.classes)))
    targets = dataset.targets()
    in_order = np.argsort(targets, kind="stable")
    ends = np.cumsum(np.bincount(targets, minlength=len(dataset.classes)))
    chosen = []
    for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True):
        indices = start + (np.arange(per_class) + 0.5) * (end - start) / per_class
        chosen.append(in_order[np.unique(indices.astype(np.int64))].tolist() if end > start else [])
    chosen = chosen[:MAX_TILES]
    sprites = threads.map(partial(_sprite, dataset), chosen)
    return [
        {
            "number": number,
            "label": dataset.classes[number],
            "keys": [dataset.keys[row] for row in rows],
            "width": min(COLUMNS, len(rows)) * TILE,
            "height": -(-len(rows) // COLUMNS) * TILE,
            "picture": sprite,
        }
        for number, (rows, sprite) in enumerate(zip(chosen, sprites, strict=True))
        if rows
    ]


def _picture(dataset: Dataset, row: int) -> str:
    photo = _reduced(dataset, row, PICTURE)
    photo.thumbnail((PICTURE, PICTURE), Image.Resampling.BILINEAR)
    return _data_uri(photo, 80)


def _sprite(dataset: Dataset, rows: list[int]) -> str:
    """Square tiles of photos as one JPEG, COLUMNS per row."""
    columns = min(COLUMNS, len(rows))
    sheet = Image.new("RGB", (columns * TILE, -(-len(rows) // COLUMNS) * TILE), "#888")
    for index, row in enumerate(rows):
        tile = ImageOps.fit(_reduced(dataset, row, TILE), (TILE, TILE), Image.Resampling.BILINEAR)
        sheet.paste(tile, (index % COLUMNS * TILE, index // COLUMNS * TILE))
    return _data_uri(sheet, 72)


def _reduced(dataset: Dataset, row: int, side: int) -> Image.Image:
    """The photo, upright; a JPEG at reduced size, but no smaller than `side`."""
    with named(dataset.keys[row]):
        return decode(dataset.photo(row), max_pixels=None, side=side)


def _data_uri(picture: Image.Image, quality: int) -> Markup:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return Markup("data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"))
