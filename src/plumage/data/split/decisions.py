"""data/labels.csv: a person's decisions about photos, by key: another label, or, with an empty one, that it is left out.

Git keeps the file, so the decisions survive a new download and no photo is touched. The split stage applies them; splits.csv
has the resulting labels, which all later stages use.
"""

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from plumage.common.class_names import class_identity
from plumage.common.files import atomic_path
from plumage.common.paths import LABELS
from plumage.common.tables import guarded, unguarded
from plumage.common.text import escaped, is_or_are, some
from plumage.data.dataset.class_rules import NAMED
from plumage.data.dataset.store import Dataset
from plumage.data.split.close_matches import nearest
from plumage.errors import DataError

COLUMNS = ["key", "label"]
REFUSE, ORIGINAL = "refuse", "original"
"""What `plumage data relabel` takes besides a class: leave the photos out, or undo a decision."""
Decisions = Mapping[str, str | None]
"""A photo's label by its key; None: the photo is left out."""


class Decided(NamedTuple):
    """A data set after the decisions."""

    dataset: Dataset  # with the labels as decided
    kept: list[int]  # its rows but the refused ones
    relabelled: int  # the number of photos
    missing: list[str]  # keys of decisions that have no photo

    @property
    def refused(self) -> int:
        """The number of refused photos."""
        return len(self.dataset) - len(self.kept)

    def report(self) -> dict[str, Any]:
        """What reports/split.json says of the decisions; nothing if there are none."""
        if not (self.relabelled or self.refused or self.missing):
            return {}
        return {"labels": {"relabelled": self.relabelled, "refused": self.refused, "missing": self.missing}}

    def lines(self, path: Path) -> list[str]:
        """What the decisions in `path` did, for people."""
        lines = []
        if self.relabelled or self.refused:
            lines.append(f"{self.relabelled:,} relabelled, {self.refused:,} refused by {path}")
        if self.missing:
            lines.append(
                f"warning: {path}: {some(self.missing, NAMED)} {is_or_are(len(self.missing))} not in the data set"
            )
        return lines


def read_decisions(path: Path) -> dict[str, str | None]:
    """Read data/labels.csv; without the file there are no decisions.

    Raises:
        DataError: a line is not a key and a label, or a key has two different labels.
    """
    decisions: dict[str, str | None] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:  # spreadsheets put a byte order mark at the start
            rows = csv.reader(file, strict=True)
            if (head := next(rows, COLUMNS)) != COLUMNS:
                raise DataError(f"{path}: its first line is {','.join(head)!r}; takes 'key,label'")
            for row in filter(None, rows):
                if len(row) != len(COLUMNS) or not row[0]:
                    raise DataError(
                        f"{path}, line {rows.line_num}: {','.join(row)!r}; takes a key, a comma and a label"
                    )
                key, label = unguarded(row[0]), unguarded(row[1]) or None
                if decisions.setdefault(key, label) != label:
                    raise DataError(f"{path}, line {rows.line_num}: {key!r} has another label in a line above")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: can't be read ({error}); takes UTF-8 text with the columns key,label") from None
    return decisions


def write_decisions(path: Path, decisions: Decisions) -> None:
    """Write data/labels.csv, one line per decision, sorted by key."""
    with atomic_path(path) as beside, beside.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((guarded(key), guarded(label or "")) for key, label in sorted(decisions.items()))


def decide(
    decisions: Decisions, dataset: Dataset, keys: list[str], wanted: str, new_class: bool
) -> dict[str, str | None]:
    """Return `decisions` with one more per key: the class `wanted`, REFUSE, or ORIGINAL, which undoes it.

    A class of this name comes before the two words. A class that no photo has yet takes `new_class`.

    Raises:
        DataError: a key or the class is unknown (the message has close matches), or a class would have no photo left.
    """
    own = dict(zip(dataset.keys, dataset.labels, strict=True))
    classes = {*own.values(), *filter(None, decisions.values())}
    undone = wanted == ORIGINAL and wanted not in classes
    known = own.keys() | (decisions.keys() if undone else set())  # a decision about a photo that is gone can be undone
    for key in keys:
        if key not in known:
            near = ", ".join(nearest(key, dataset.keys))
            hint = f"similar keys: {near}" if near else "a key is a path inside the source, as in data/splits.csv"
            raise DataError(f"no photo has the key {key!r}; {hint}")
    label = None if wanted == REFUSE and wanted not in classes else wanted
    if label is not None and not undone:
        _check_class(label, classes, new_class)
    changed = dict(decisions)
    for key in keys:
        changed[key] = own.get(key) if undone else label
        if changed[key] == own.get(key) and (undone or label is not None):
            del changed[key]
    apply_decisions(changed, dataset)
    return changed


def apply_decisions(decisions: Decisions, dataset: Dataset) -> Decided:
    """Apply `decisions` to `dataset`.

    Raises:
        DataError: a class has no photo left, or a label is another spelling of a class.
    """
    labels, refused, relabelled = list(dataset.labels), set(), Counter[str]()
    spelling = {class_identity(name): name for name in dataset.classes}
    for row, key in enumerate(dataset.keys) if decisions else ():
        if key not in decisions:
            continue
        label = decisions[key]
        if label is None:
            refused.add(row)
        elif label != labels[row]:
            if (known := spelling.setdefault(class_identity(label), label)) != label:
                raise DataError(f"{LABELS}: the class of {key!r} is written {label!r}; takes {known!r}")
            relabelled[labels[row]] += 1
            labels[row] = label
    kept = [row for row in range(len(dataset)) if row not in refused]
    _refuse_empty_classes(dataset, {labels[row] for row in kept}, relabelled)
    missing = sorted(decisions.keys() - set(dataset.keys)) if decisions else []
    return Decided(dataset.relabelled(labels), kept, relabelled.total(), missing)


def _refuse_empty_classes(dataset: Dataset, left: set[str], relabelled: Counter[str]) -> None:
    photos = Counter(dataset.labels)
    lost = [
        f"{label!r} has no photo left ({relabelled[label]:,} of {photos[label]:,} relabelled, the others refused)"
        for label in dataset.classes
        if label not in left
    ]
    if lost:
        raise DataError(
            f"{LABELS}: the class {some(lost, NAMED)}; undo one with `plumage data relabel KEY {ORIGINAL}`, or take "
            "the class out of the source"
        )


def _check_class(label: str, classes: set[str], new_class: bool) -> None:
    if label in classes:
        return
    same = [known for known in classes if class_identity(known) == class_identity(label)]
    if same or not new_class:
        near = " or ".join(map(repr, same or nearest(label, sorted(classes))))
        hints = [f"did you mean {near}?" if near else "", "" if same else "--new-class adds a class"]
        raise DataError(f"no photo is of the class {label!r}; {' '.join(filter(None, hints))}")
    if not label.strip() or label != " ".join(label.split()) or escaped(label) != label:
        raise DataError(f"{label!r} can't be a class; takes a name without control characters and spaces around it")
