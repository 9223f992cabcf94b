"""Who was champion when, and why: each promotion is kept with the registered model, and none is ever changed.

An entry is a tag of its own (`plumage.promotion.<time>-<random>`), so that two that write at once, from two machines too,
lose nothing. It is written before the alias moves: what is promoted is in the history, whatever comes in between.
"""

import getpass
import json
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from mlflow import MlflowClient

from plumage.errors import TrackingError

PREFIX = "plumage.promotion."


@dataclass(frozen=True)
class Promotion:
    """The alias `champion` goes from one version to another."""

    before: int | None
    """The champion until then, if there was one."""
    to: int
    how: Literal["gate", "promote", "rollback"]
    why: str
    who: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    """What the gate's rule was decided by."""
    when: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="microseconds"))
    """UTC, ISO 8601."""


def record(client: MlflowClient, name: str, promotion: Promotion) -> None:
    """Keep a promotion with the registered model `name`."""
    moment = datetime.fromisoformat(promotion.when).strftime("%Y%m%dT%H%M%S.%fZ")
    entry = json.dumps(asdict(promotion), ensure_ascii=False)
    client.set_registered_model_tag(name, f"{PREFIX}{moment}-{secrets.token_hex(3)}", entry)


def promotions(tags: Mapping[str, str]) -> list[Promotion]:
    """The promotions among the tags of a registered model, oldest first. TrackingError when one was tampered with."""
    found = []
    for key in sorted(tags):
        if key.startswith(PREFIX):
            try:
                found.append(Promotion(**json.loads(tags[key])))
            except (ValueError, TypeError) as error:
                raise TrackingError(f"the registered model's tag {key} is no promotion any more ({error})") from None
    return found


def champion_before(history: Sequence[Promotion], champion: int) -> int | None:
    """Whose place `champion` took, when it was last promoted; a rollback to it does not count as one."""
    taken = (entry.before for entry in reversed(history) if entry.to == champion and entry.how != "rollback")
    return next(taken, None)


def withdrawal(history: Sequence[Promotion], version: int) -> Promotion | None:
    """The move by hand that took the place of champion from `version`, if that is the last that befell it."""
    last = next((entry for entry in reversed(history) if version in (entry.before, entry.to)), None)
    return last if last and last.before == version and last.how != "gate" else None


def author(folder: Path) -> str:
    """Who works in `folder`: Git's user.name and user.email there, else the system's user."""
    name, email = (_git_config(folder, key) for key in ("user.name", "user.email"))
    if name or email:
        return " ".join(part for part in (name, f"<{email}>" if email else "") if part)
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return "unknown"


def _git_config(folder: Path, key: str) -> str:
    try:
        done = subprocess.run(["git", "config", key], cwd=folder, capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip()
