"""The history of champions: who promoted which version, when and why. Entries are added and never changed.

Each entry is a tag of the registered model, `plumage.promotion.n<number>-<random>`. The number, not a clock, orders them. Entries
of earlier versions have a time instead, and come first; their order is mended where a clock was wrong.

A promotion is first written under `plumage.promoting.`, so that one that is cut off is completed later, and is listed once.
"""

import getpass
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient

from plumage.common import git
from plumage.common.text import shown
from plumage.errors import GitError, TrackingError
from plumage.registry.aliases import CHAMPION, kept_alias
from plumage.registry.versions import model_versions
from plumage.tracking import tags

NUMBERED = "n"
"""Prefix of an entry's name that has a number. It sorts behind a time."""


@dataclass(frozen=True)
class Promotion:
    """One move of the alias `champion`. The fields' names are stored: renaming one makes old histories unreadable."""

    before: int | None
    """The champion until then, if there was one."""
    to: int
    how: Literal["gate", "promote", "rollback"]
    """Made by the gate, or by a person with that command."""
    why: str
    who: str
    """The author, as `author` names them."""
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """The gate's rule and the comparison behind its decision; empty for a move by hand."""
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    """UTC, ISO 8601."""


def move_champion(client: MlflowClient, name: str, promotion: Promotion) -> None:
    """Record a promotion, and move the alias of the registered model `name`. Call it with `lock_model`."""
    found = (re.match(rf"{NUMBERED}(\d+)-", key) for key in _entries(client.get_registered_model(name).tags))
    last = max((int(match[1]) for match in found if match), default=0)
    key = f"{NUMBERED}{last + 1:06d}-{secrets.token_hex(3)}"
    entry = json.dumps(asdict(promotion), ensure_ascii=False)
    client.set_registered_model_tag(name, f"{tags.PROMOTING}{key}", entry)
    _complete(client, name, key, entry)


def complete_promotions(client: MlflowClient, name: str) -> None:
    """Complete the promotions that a killed process began, but for those of deleted versions. Call it with `lock_model`."""
    begun = {
        key: entry for key, entry in client.get_registered_model(name).tags.items() if key.startswith(tags.PROMOTING)
    }
    existing = {int(version.version) for version in (model_versions(client, name) if begun else [])}
    for key, entry in sorted(begun.items()):
        number = key.removeprefix(tags.PROMOTING)
        if (version := _read(number, entry).to) in existing:
            _complete(client, name, number, entry)
        else:
            client.delete_registered_model_tag(name, key)
            print(f"{name}: version {version} was deleted before its promotion was complete", flush=True)


def _complete(client: MlflowClient, name: str, key: str, entry: str) -> None:
    promotion = _read(key, entry)
    _keep_champion_of_other_classes(client, name, promotion)
    client.set_registered_model_alias(name, CHAMPION, str(promotion.to))
    client.set_registered_model_tag(name, f"{tags.PROMOTION}{key}", entry)
    client.delete_registered_model_tag(name, f"{tags.PROMOTING}{key}")


def _keep_champion_of_other_classes(client: MlflowClient, name: str, promotion: Promotion) -> None:
    """Give the version that is replaced an alias of its own if its classes are others than those of the new champion."""
    sets = {int(version.version): version.tags.get(tags.CLASS_SET) for version in model_versions(client, name)}
    before, now = sets.get(promotion.before or 0), sets.get(promotion.to)
    if before and before != now:
        client.set_registered_model_alias(name, kept_alias(before), str(promotion.before))
    if now and kept_alias(now) in client.get_registered_model(name).aliases:
        client.delete_registered_model_alias(name, kept_alias(now))


def promotions(model_tags: Mapping[str, str]) -> list[Promotion]:
    """The promotions among a registered model's tags, oldest first. TrackingError when one can't be read any more."""
    entries = {key: _read(key, entry) for key, entry in sorted(_entries(model_tags).items())}
    timed = [entry for key, entry in entries.items() if not key.startswith(NUMBERED)]
    return [*_chained(timed), *(entry for key, entry in entries.items() if key.startswith(NUMBERED))]


def _entries(model_tags: Mapping[str, str]) -> dict[str, str]:
    """The entries among a registered model's tags, by what follows the prefix."""
    found: dict[str, str] = {}
    for prefix in (tags.PROMOTING, tags.PROMOTION):
        found |= {key.removeprefix(prefix): entry for key, entry in model_tags.items() if key.startswith(prefix)}
    return found


def _read(key: str, entry: str) -> Promotion:
    try:
        return Promotion(**json.loads(entry))
    except (ValueError, TypeError) as error:
        raise TrackingError(
            f"the registered model's tag {tags.PROMOTION}{key} is not a promotion any more ({error})"
        ) from None


def _chained(history: list[Promotion]) -> list[Promotion]:
    """The entries in an order in which each replaces the champion before it, the earliest first where several can follow.

    That is an Eulerian path (Hierholzer 1873). Where there is none, as somebody moved the alias by hand, they stay as they are.
    """
    leaving: dict[int | None, list[Promotion]] = {}
    for entry in reversed(history):
        leaving.setdefault(entry.before, []).append(entry)
    path: list[Promotion] = []
    pending: list[Promotion] = []
    champion: int | None = None
    while leaving.get(champion) or pending:
        if after := leaving.get(champion):
            pending.append(after.pop())
        else:
            path.insert(0, pending.pop())
        champion = pending[-1].to if pending else None
    follows = all(entry.before == before.to for before, entry in pairwise(path))
    return path if len(path) == len(history) and follows else history


def champion_before(history: Sequence[Promotion], champion: int) -> int | None:
    """The version that `champion` replaced when it was last promoted. Rollbacks to it do not count."""
    replaced = (entry.before for entry in reversed(history) if entry.to == champion and entry.how != "rollback")
    return next(replaced, None)


def replaced_by_hand(history: Sequence[Promotion], version: int) -> Promotion | None:
    """The move by hand that replaced `version` as champion, if no later entry is about `version`."""
    last = next((entry for entry in reversed(history) if version in (entry.before, entry.to)), None)
    return last if last and last.before == version and last.how != "gate" else None


def author(folder: Path) -> str:
    """The author of a promotion: Git's user.name and user.email in `folder`, else the system's user."""
    name, email = _setting(folder, "user.name"), _setting(folder, "user.email")
    if name or email:
        return shown(" ".join(part for part in (name, f"<{email}>" if email else "") if part))
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user ID without a name
        return "unknown"


def _setting(folder: Path, key: str) -> str:
    """A value of Git's configuration; empty if it is not set or Git does not tell."""
    try:
        return git.setting(folder, key).strip()
    except GitError:
        return ""
