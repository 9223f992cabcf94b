"""The classes of two models, compared by name, and what a change of classes means for the alias `@champion`."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plumage.common.class_names import ClassNames, class_identity
from plumage.common.text import plural, some

NAMED = 3
"""Classes that a sentence names."""


@dataclass(frozen=True)
class ClassSets:
    """The classes of a challenger (`shared` and `new`), and those of a champion (`shared` and `lost`)."""

    shared: Sequence[str]
    new: Sequence[str]
    lost: Sequence[str]

    @classmethod
    def of(cls, challenger: Sequence[str], champion: Sequence[str], names: ClassNames) -> "ClassSets":
        """Compare by name: the champion's classes have the names that `names` gives them now."""
        known = {class_identity(names(label)): names(label) for label in champion}
        wanted = {class_identity(label) for label in challenger}
        return cls(
            shared=[label for label in challenger if class_identity(label) in known],
            new=[label for label in challenger if class_identity(label) not in known],
            lost=[label for identity, label in known.items() if identity not in wanted],
        )

    @property
    def equal(self) -> bool:
        """Whether both models know the same classes."""
        return not self.new and not self.lost

    @property
    def comparable(self) -> bool:
        """Whether they share the two classes that a comparison takes."""
        return len(self.shared) > 1


def class_set(classes: Sequence[str]) -> str:
    """Identifies a set of classes, whatever their order and spelling: `10-classes-3f2a91c4`, which an alias can end with."""
    text = "\n".join(sorted(map(class_identity, classes)))
    return f"{len(classes)}-classes-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def named(labels: Iterable[str]) -> str:
    """The first classes, quoted, and how many more there are."""
    return some(list(map(repr, labels)), NAMED)


def count(labels: Sequence[str]) -> str:
    """`1 class` or `12 classes`."""
    return plural(len(labels), "class", "classes")
