"""Names of classes: spellings of one class, and classes that have another name now (`data.classes`)."""

from collections.abc import Iterable, Mapping
from unicodedata import normalize

from plumage.common.text import escaped


def readable(name: str) -> str:
    """`escaped` in Unicode's composed form (NFC), in which texts that look the same are the same string."""
    return normalize("NFC", escaped(name))


def class_identity(label: str) -> str:
    """Equal for spellings of one class: they differ in case, in spaces, in dots at the end, or in Unicode's form."""
    return tidy(label).casefold().rstrip(". ")


def tidy(label: str) -> str:
    """`label` in a readable spelling, with single spaces between words."""
    return readable(" ".join(label.split())) or repr(label)


class ClassNames:
    """The name that each class has now: `changes` maps old names to new ones, in any spelling. Several old ones may share a new one.

    A new name may be the old name of a further change, or another spelling of its own old name.

    Raises:
        ValueError: a name has two new ones, or a name leads back to itself; it names the key `data.classes`.
    """

    def __init__(self, changes: Mapping[str, str]) -> None:
        self.changes = dict(changes)
        self._new: dict[str, str] = {}
        for old, new in changes.items():
            if self._new.setdefault(class_identity(old), new) != new:
                raise ValueError(f"data.classes: {old!r} gets two new names; takes one new name for each old one")
        self._new = {old: new for old, new in self._new.items() if class_identity(new) != old}  # but for spellings
        for old in changes:
            self._follow(old)
        self._spelling = {class_identity(new): tidy(new) for new in reversed(list(changes.values()))}

    def __bool__(self) -> bool:
        return bool(self.changes)

    def __call__(self, label: str) -> str:
        """The name now of the class `label`, in the spelling of `changes` if that has it."""
        final = self._follow(label)
        return self._spelling.get(class_identity(final), final)

    def _follow(self, label: str) -> str:
        path = [label]
        while (new := self._new.get(class_identity(path[-1]))) is not None:
            if class_identity(new) in map(class_identity, path):
                loop = " to ".join(map(repr, [*path, new]))
                raise ValueError(f"data.classes: a name leads back to itself ({loop}); takes old name: new name")
            path.append(new)
        return path[-1]

    def renamed(self, labels: Iterable[str]) -> dict[str, list[str]]:
        """Each new name that classes among `labels` get, with their old ones."""
        found: dict[str, list[str]] = {}
        for label in sorted(set(labels)):
            if class_identity(label) in self._new:
                found.setdefault(self(label), []).append(label)
        return dict(sorted(found.items()))

    def unused(self, labels: Iterable[str]) -> list[str]:
        """The old names that no class among `labels` has."""
        known = {class_identity(label) for label in labels}
        return [old for old in self.changes if class_identity(old) not in known]
