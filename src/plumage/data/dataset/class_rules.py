"""Rules for a usable data set: two classes or more, and at least one photo per class."""

import difflib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from plumage.common.class_names import ClassNames, class_identity
from plumage.common.text import some
from plumage.errors import DataError

NAMED = 5  # the number of classes that a message names


def refuse_empty_classes(contents: Mapping[str, str]) -> None:
    """Raise a DataError that names the classes whose folders hold no photo, and what they hold."""
    if contents:
        named = [f"{label!r} holds no photo ({what})" for label, what in contents.items()]
        raise DataError(f"the class {some(named, NAMED)}; delete such folders, or put photos into them")


def refuse_unknown_classes(names: ClassNames, classes: Collection[str]) -> None:
    """Raise a DataError if an old name of `names` is none of `classes`, those of the source, and its new name isn't either.

    If its new name is, the folder was renamed already, and the old one is for comparisons with models that know it.
    """
    now = {class_identity(names(label)) for label in classes}
    for old in names.unused(classes):
        if class_identity(names(old)) not in now:
            near = difflib.get_close_matches(old, classes, n=1, cutoff=0.5)
            known = (
                f"did you mean {near[0]!r}?" if near else f"there are {some(list(map(repr, sorted(classes))), NAMED)}"
            )
            raise DataError(f"data.classes: no photos are of a class {old!r}; {known}")


def refuse_lost_classes(refused: Iterable[Mapping[str, Any]], classes: Iterable[str]) -> None:
    """Raise a DataError that names the classes of `refused` photos that are not among `classes`, and why."""
    kept = set(classes)
    reasons: dict[str, Counter[str]] = {}
    for photo in refused:
        if photo["label"] not in kept:
            reasons.setdefault(photo["label"], Counter())[photo["reason"]] += 1
    if reasons:
        named = [
            f"{label!r} lost all its photos (refused: {_most_common(counts)})"
            for label, counts in sorted(reasons.items())
        ]
        raise DataError(f"the class {some(named, NAMED)}; replace these photos, or delete the folder")


def refuse_single_class(classes: Sequence[str]) -> None:
    """Raise a DataError if there are fewer than two classes."""
    if not classes:
        raise DataError("no photo is left; takes a source with usable photos")
    if len(classes) < 2:
        raise DataError(
            f"all photos are of one class, {classes[0]!r}; takes two classes or more, each a folder of photos"
        )


def _most_common(reasons: Counter[str]) -> str:
    (reason, count), *others = reasons.most_common()
    more = f", and {sum(number for _, number in others):,} for other reasons" if others else ""
    return f"{count:,} {reason}{more}"
