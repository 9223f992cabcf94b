"""The history of champions: who promoted which version, when and why. Entries are added and never changed.

Each entry is a tag of the registered model, `plumage.promotion.<time>-<random>`, so that two writers, even on two
machines, lose nothing. The entry is written before the alias moves, so no champion is ever without one.
"""

import getpass
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient

from plumage.common import git
from plumage.common.text import shown
from plumage.errors import GitError, TrackingError
from plumage.registry.versions import CHAMPION
from plumage.tracking import tags


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
    """Record a promotion, then move the alias of the registered model `name`."""
    record(client, name, promotion)
    client.set_registered_model_alias(name, CHAMPION, str(promotion.to))


def record(client: MlflowClient, name: str, promotion: Promotion) -> None:
    """Add a promotion to the history of the registered model `name`."""
    moment = datetime.fromisoformat(promotion.when).strftime("%Y%m%dT%H%M%S.%fZ")
    entry = json.dumps(asdict(promotion), ensure_ascii=False)
    client.set_registered_model_tag(name, f"{tags.PROMOTION}{moment}-{secrets.token_hex(3)}", entry)


def promotions(model_tags: Mapping[str, str]) -> list[Promotion]:
    """The promotions among a registered model's tags, oldest first. TrackingError when one can't be read any more."""
    found = []
    for key in sorted(model_tags):
        if key.startswith(tags.PROMOTION):
            try:
                found.append(Promotion(**json.loads(model_tags[key])))
            except (ValueError, TypeError) as error:
                raise TrackingError(f"the registered model's tag {key} is not a promotion any more ({error})") from None
    return found


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
