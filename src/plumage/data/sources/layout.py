"""Recognises the labelled photos among the files of a folder or an archive.

Known layouts: class folders, or splits (keys of SPLIT_NAMES in any case) with class folders; both inside any wrapping folders.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import takewhile
from types import MappingProxyType
from typing import Any, NamedTuple
from unicodedata import normalize

from plumage.common.class_names import class_identity
from plumage.common.text import escaped
from plumage.config import MAX_BYTES
from plumage.data.sources.names import is_system_file, merge_spellings, unique_keys
from plumage.data.sources.photo import RAW_SUFFIXES, SUFFIXES, Photo, suffix_by_content
from plumage.errors import DataError

SPLIT_NAMES = {
    "train": "train", "training": "train", "valid": "val", "validation": "val", "val": "val", "dev": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
PHOTO_SUFFIXES = set().union(*SUFFIXES.values())
EXPECTED = "takes <class>/<photo>, or train|valid|test/<class>/<photo>"
PHOTOS_PER_CHUNK = 64
BYTES_PER_CHUNK = 8 * 1024**2


class Found(NamedTuple):
    """A photo that was found: its `name` in the folder or archive, its `key` (the name below the wrapping folders)."""

    name: str
    key: str
    label: str
    split: str | None
    size: int  # in bytes
    problem: str = ""  # why it is refused without being read

    def photo(self, data: bytes = b"", problem: str = "") -> Photo:
        """The photo with its `data`, or with what is wrong with it."""
        return Photo(self.key, self.label, self.split, data, self.problem or problem)


class Layout(NamedTuple):
    """Where class folders are: in the folder `above`, or in the splits in it."""

    above: tuple[str, ...]
    has_splits: bool

    def class_folder(self, segments: list[str]) -> str | None:
        """The class folder that a path is in or at; None outside of class folders."""
        depth = len(self.above) + self.has_splits
        inside = len(segments) > depth and tuple(segments[: len(self.above)]) == self.above
        return segments[depth] if inside and (not self.has_splits or self._split(segments)) else None

    def fits(self, segments: list[str]) -> bool:
        """Whether a photo's path is directly in a class folder."""
        return len(segments) == len(self.above) + self.has_splits + 2 and self.class_folder(segments) is not None

    def split_of(self, segments: list[str]) -> str | None:
        """The split of a photo that fits."""
        return self._split(segments) if self.has_splits else None

    def _split(self, segments: list[str]) -> str | None:
        return SPLIT_NAMES.get(segments[len(self.above)].lower())


def recognise(
    files: Mapping[str, int],
    where: str,
    folders: Mapping[str, str] | None = None,
    head: Callable[[str], bytes] = lambda name: b"",
    problems: Mapping[str, str] = MappingProxyType({}),
    max_bytes: int = MAX_BYTES,
) -> tuple[list[Found], dict[str, Any]]:
    """Find the photos among `files` (size in bytes by name); return them sorted by key, and what the report says of the rest.

    A photo has a photo's suffix, or its first bytes, which `head` reads, are a photo's. `folders` are known to exist; the value
    says what is wrong with one, or is empty. `problems` says of files why they can't be read; larger ones than `max_bytes` get
    one, too. What the report says: `passed_over`, the number of files by suffix or reason;
    `merged_classes`; and `empty_classes`, what is in the class folders of each class without a photo, if there are any.

    Raises:
        DataError: there are no photos, or they don't have a known layout; it names `where`.
    """
    photos: list[str] = []  # names only, split again on each use: the segments of a million names would fill the memory
    others: list[str] = []
    for name in files:
        segments = _segments(name)
        if not any(map(is_system_file, segments)):
            (photos if is_photo(name, segments[-1], head) else others).append(name)
    folders = folders or {}
    passed_over = Counter(_suffix(_segments(name)[-1]) or "(no suffix)" for name in others)
    passed_over.update("(link)" for name, problem in folders.items() if problem and name not in files)
    if not photos:
        raise DataError(f"{where}: holds no photos{_in_brackets(passed_over)}; {EXPECTED}")
    layout = _most_likely_layout(photos, where)
    odd = [name for name in photos if not layout.fits(_segments(name))]
    if odd:
        photos = sorted(set(photos).difference(odd))
    unlabelled = _unlabelled(odd, photos, layout) | _without_class(photos, layout)
    _refuse_odd(sorted(set(odd).difference(unlabelled)), photos, layout, where)
    if unlabelled:
        photos = [name for name in photos if name not in unlabelled]
        passed_over.update(unlabelled.values())

    label_of, merged = merge_spellings(_labels(photos, layout, where))
    photos.sort(key=escaped)
    found = []
    for name, key in zip(photos, unique_keys([_key(name, layout) for name in photos]), strict=True):
        segments = _segments(name)
        label = label_of[str(layout.class_folder(segments))]
        problem = problems.get(name) or too_large(files[name], max_bytes)
        found.append(Found(name, name if key == name else key, label, layout.split_of(segments), files[name], problem))
    found.sort(key=lambda photo: photo.key)
    about: dict[str, Any] = {"passed_over": dict(sorted(passed_over.items())), "merged_classes": merged}
    labelled = set(label_of.values()) | {str(layout.class_folder(_segments(name))) for name in unlabelled}
    if empty := _empty_classes(labelled, others, folders, layout):
        about["empty_classes"] = empty
    return found, about


def too_large(size: int, max_bytes: int) -> str:
    """Why a photo of `size` bytes is refused; empty if it isn't."""
    return f"too large ({size:,} bytes; data.max_bytes takes at most {max_bytes:,})" if size > max_bytes else ""


def in_chunks(found: list[Found]) -> Iterator[list[Found]]:
    """Cut `found` into runs of at most PHOTOS_PER_CHUNK photos and BYTES_PER_CHUNK bytes; a larger photo is a run by itself."""
    run: list[Found] = []
    size = 0
    for photo in found:
        read = 0 if photo.problem else photo.size
        if run and (len(run) == PHOTOS_PER_CHUNK or size + read > BYTES_PER_CHUNK):
            yield run
            run, size = [], 0
        run.append(photo)
        size += read
    if run:
        yield run


def in_words(counts: Mapping[str, int], limit: int = 6) -> str:
    """Counts by suffix or reason, the most frequent first: 3 .txt, 1 .csv."""
    order = sorted(counts, key=lambda what: (-counts[what], what))
    more = [f"{sum(counts[what] for what in order[limit:]):,} of other kinds"] if len(order) > limit else []
    return ", ".join([f"{counts[what]:,} {what}" for what in order[:limit]] + more)


def _in_brackets(counts: Mapping[str, int]) -> str:
    return f" ({in_words(counts)})" if counts else ""


def is_photo(name: str, last: str, head: Callable[[str], bytes]) -> bool:
    """Whether a file has a photo's suffix, or, unless it is a raw file, a photo's first bytes. `last` is its name's last part."""
    suffix = _suffix(last)
    return suffix in PHOTO_SUFFIXES or (suffix not in RAW_SUFFIXES and bool(suffix_by_content(head(name))))


def _suffix(name: str) -> str:
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if stem and dot else ""


def _segments(name: str) -> list[str]:
    """The folders and the file name in a path, without the ./ and // that archives may have."""
    return [segment for segment in escaped(name).split("/") if segment not in ("", ".")]


def _key(name: str, layout: Layout) -> str:
    return normalize("NFC", "/".join(_segments(name)[len(layout.above) :]))


def _most_likely_layout(photos: list[str], where: str) -> Layout:
    """The layout that most of `photos` have. DataError if none has a class folder.

    First come those with two classes. Before all comes one with two classes in train: more photos may lie unlabelled beside it.
    """
    counts: Counter[Layout] = Counter()
    classes: dict[Layout, set[str]] = {}
    trained: dict[Layout, set[str]] = {}
    for segments in map(_segments, photos):
        if len(segments) > 1:
            layout = Layout(tuple(segments[:-2]), has_splits=False)
            counts[layout] += 1
            classes.setdefault(layout, set()).add(segments[-2])
        split = SPLIT_NAMES.get(segments[-3].lower()) if len(segments) > 2 else None
        if split:
            layout = Layout(tuple(segments[:-3]), has_splits=True)
            counts[layout] += 1
            classes.setdefault(layout, set()).add(segments[-2])
            if split == "train":
                trained.setdefault(layout, set()).add(segments[-2])
    if not counts:
        raise DataError(f"{where}: its photos, such as {escaped(photos[0])}, are in no class folder; {EXPECTED}")
    ends = zip(_segments(min(photos)), _segments(max(photos)), strict=False)
    shared = len(list(takewhile(lambda pair: pair[0] == pair[1], ends)))

    def rank(layout: Layout) -> tuple[Any, ...]:
        sure = len(trained.get(layout, ())) > 1 and len(layout.above) <= shared
        return (
            not sure, len(classes[layout]) < 2, -counts[layout], not layout.has_splits, len(layout.above), layout.above,
        )  # fmt: skip

    return min(counts, key=rank)


def _labels(photos: list[str], layout: Layout, where: str) -> Counter[str]:
    """The class folders of `photos` and how many are in each. DataError if all of them are splits."""
    labels = Counter(str(layout.class_folder(_segments(name))) for name in photos)
    if not layout.has_splits and {label.lower() for label in labels} <= SPLIT_NAMES.keys():
        first = _segments(min(photos))
        raise DataError(f"{where}: {'/'.join(first)} is in no class folder, as {first[-2]} is a split; {EXPECTED}")
    return labels


def _unlabelled(odd: list[str], photos: list[str], layout: Layout) -> dict[str, str]:
    """Those of `odd` that lie directly in a folder beside train, and why they are passed over.

    Such are the test photos of a competition, whose labels are secret. In a folder with class folders, or in train, they would be
    a mistake.
    """
    depth = len(layout.above)
    labelled = {_segments(name)[depth] for name in photos} if layout.has_splits else set()
    unlabelled = {}
    for name in odd if layout.has_splits else []:
        *folders, _ = _segments(name)
        beside = len(folders) == depth + 1 and tuple(folders[:depth]) == layout.above
        if beside and folders[-1] not in labelled and SPLIT_NAMES.get(folders[-1].lower()) != "train":
            unlabelled[name] = f"photos without a class folder in {folders[-1]}/"
    return unlabelled


def _without_class(photos: list[str], layout: Layout) -> dict[str, str]:
    """Those of `photos` in the only folder of val or test, and why they are passed over: the folder is no class of train.

    So unlabelled photos lie where a program asks for class folders: `test/unknown/1.jpg`.
    """
    if not layout.has_splits:
        return {}
    depth = len(layout.above)
    classes: dict[str, set[str]] = {}
    for segments in map(_segments, photos):
        classes.setdefault(segments[depth], set()).add(segments[depth + 1])
    known = {
        class_identity(label)
        for split, labels in classes.items()
        if SPLIT_NAMES[split.lower()] == "train"
        for label in labels
    }
    unknown = {
        (split, label)
        for split, labels in classes.items()
        for label in labels
        if known and len(labels) == 1 and class_identity(label) not in known
    }
    return {
        name: f"photos of no class of train in {'/'.join(folders)}/"
        for name in (photos if unknown else [])
        if (folders := tuple(_segments(name)[depth : depth + 2])) in unknown
    }


def _refuse_odd(odd: list[str], photos: list[str], layout: Layout, where: str) -> None:
    """Raise a DataError that names the first of `odd`, which don't fit the layout as `photos` do, and what is odd about it."""
    if not odd:
        return
    first, depth = _segments(odd[0]), len(layout.above)
    below = depth + layout.has_splits
    if layout.class_folder(first) is not None and len(first) > below + 2:
        problem, remedy = f"is in a folder inside the class folder {first[below]}", "move it one folder up"
    elif len(first) <= below + 1:
        problem, remedy = "is in no class folder", "move it into one, or remove it"
    elif layout.has_splits:
        problem, remedy = (
            f"is in the folder {first[min(depth, len(first) - 2)]}, which is no split",
            "move or remove it",
        )
    else:
        problem, remedy = "is in other folders", "put all class folders into one folder"
    such = f" ({len(odd):,} such photos)" if len(odd) > 1 else ""
    right = "/".join(_segments(photos[0]))
    raise DataError(f"{where}: {'/'.join(first)} {problem}{such}, unlike {right}; {remedy}; {EXPECTED}")


def _empty_classes(classes: set[str], others: list[str], folders: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """What is in the class folders of each class that isn't among `classes`, those with a photo."""
    known = {class_identity(label) for label in classes}
    contents: dict[str, Counter[str]] = {}
    problems: dict[str, str] = {}
    for name, problem in folders.items():
        segments = _segments(name)
        label = layout.class_folder(segments)
        if (
            label
            and len(segments) == len(layout.above) + layout.has_splits + 1
            and not any(map(is_system_file, segments))
        ):
            contents.setdefault(label, Counter())
            problems[label] = problem
    for segments in map(_segments, others):
        label = layout.class_folder(segments[:-1])
        if label:
            contents.setdefault(label, Counter())[_suffix(segments[-1]) or "without a suffix"] += 1
    empty = {label: counts for label, counts in contents.items() if class_identity(label) not in known}
    return {label: problems.get(label) or in_words(counts) or "empty" for label, counts in sorted(empty.items())}
