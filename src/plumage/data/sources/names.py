"""Names of files and folders: what systems leave between photos, readable spellings, and spellings of one class."""

from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

from plumage.common.class_names import class_identity, tidy
from plumage.common.text import escaped

SYSTEM_NAMES = frozenset({
    "thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "$recycle.bin", "system volume information",
    "__macosx", "icon\r", "@eadir", "@tmp", "#recycle", "#snapshot", "@recycle", "lost+found",
})  # fmt: skip
"""What Windows, macOS, NAS systems and Linux put beside photos, in lower case."""


def is_system_file(name: str) -> bool:
    """Whether a file or folder isn't the user's: hidden (.DS_Store, ._1.jpg, .git, .Trash-1000), or one of SYSTEM_NAMES."""
    return name.startswith(".") or name.lower() in SYSTEM_NAMES


def merge_spellings(labels: Counter[str]) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Map each of the counted labels to its class, and each class with several spellings to these.

    Labels with the same `class_identity` name one class, under the most frequent spelling.
    """
    spellings: dict[str, Counter[str]] = {}
    for name, count in labels.items():
        spellings.setdefault(class_identity(name), Counter())[name] = count
    label_of = {name: _best_spelling(counts) for counts in spellings.values() for name in counts}
    merged = {_best_spelling(counts): sorted(map(escaped, counts)) for counts in spellings.values() if len(counts) > 1}
    return label_of, dict(sorted(merged.items()))


def unique_keys(keys: list[str]) -> Iterator[str]:
    """Yield each key, numbered before its suffix if it was there before: the keys of `a/1.jpg` twice end with `a/1 (2).jpg`."""
    taken = set(keys)
    if len(taken) == len(keys):
        yield from keys
        return
    seen: set[str] = set()
    for key in keys:
        unique, number, path = key, 1, PurePosixPath(key)
        while unique in seen or (number > 1 and unique in taken):
            number += 1
            unique = key.removesuffix(path.name) + f"{path.stem} ({number}){path.suffix}"
        seen.add(unique)
        yield unique


def _best_spelling(counts: Counter[str]) -> str:
    """The most frequent spelling, with single spaces between words; the first in alphabetical order among equals."""
    spellings: Counter[str] = Counter()
    for name, count in counts.items():
        spellings[tidy(name)] += count
    return min(spellings, key=lambda name: (-spellings[name], name))
