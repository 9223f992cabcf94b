"""Promote and roll back by hand: what the gate does, done by a person who gives a reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from plumage.common.text import shown
from plumage.errors import NoStoreError, TrackingError
from plumage.registry.aliases import CHAMPION, KEPT
from plumage.registry.model_page import describe_model
from plumage.registry.promotions import (
    Promotion,
    author,
    champion_before,
    complete_promotions,
    move_champion,
    promotions,
)
from plumage.registry.versions import model_versions
from plumage.tracking.alive import recover
from plumage.tracking.store import lock_model, one_line_errors, use_store

LONGEST_REASON = 500
"""Characters. The whole entry has to fit into a tag."""


@dataclass(frozen=True)
class Champions:
    """A registered model's champion and the promotions that led to it."""

    now: int | None
    history: list[Promotion]
    """Oldest first."""
    kept: Mapping[str, int]
    """The champions of other sets of classes, by their aliases."""


def champions(root: Path, name: str) -> Champions:
    """The champion of the registered model `name` and its promotions. TrackingError when there is no such model."""
    _use_store(root, name)
    with one_line_errors("MLflow's registry"):
        return _champions(MlflowClient(), name)


def promote(root: Path, name: str, version: int, reason: str) -> Promotion:
    """Make `version` champion, and record the reason and the author.

    Raises:
        TrackingError: no such model or version, it is champion already, or no reason or one over 500 characters.
    """
    return _promote(root, name, "promote", reason, lambda known: version)


def rollback(root: Path, name: str, version: int | None, reason: str) -> Promotion:
    """Go back to `version`, a former champion, or to the champion before this one. The gate will not undo that.

    Raises:
        TrackingError: as in `promote`; or there is no champion before this one; or `version` was never champion.
    """
    return _promote(root, name, "rollback", reason, lambda known: _former_champion(name, known, version))


def _promote(
    root: Path, name: str, how: Literal["promote", "rollback"], reason: str, choose: Callable[[Champions], int]
) -> Promotion:
    """Make the version that `choose` picks champion, and record it."""
    reason = shown(" ".join(reason.split()))
    if not reason:
        raise TrackingError("a reason is needed, for those who read the history: --reason '...'")
    if len(reason) > LONGEST_REASON:
        raise TrackingError(f"the reason has {len(reason)} characters; takes {LONGEST_REASON} at most")
    _use_store(root, name)
    recover(root)
    client = MlflowClient()
    with one_line_errors("MLflow's registry"):
        _champions(client, name)  # on a server, the lock is the registered model's
    with one_line_errors("MLflow's registry"), lock_model(root, name):
        complete_promotions(client, name)
        known = _champions(client, name)
        version = choose(known)
        existing = [int(found.version) for found in model_versions(client, name)]
        if version not in existing:
            raise TrackingError(f"{name}: has no version {version}; it has {', '.join(map(str, existing)) or 'none'}")
        if version == known.now:
            raise TrackingError(f"{name}: version {version} is the champion already")
        promotion = Promotion(before=known.now, to=version, how=how, why=reason, who=author(root))
        move_champion(client, name, promotion)
        describe_model(client, name)
    return promotion


def _use_store(root: Path, name: str) -> None:
    try:
        use_store(root)
    except NoStoreError as error:
        raise TrackingError(f"{name}: no such registered model; {error}") from None


def _former_champion(name: str, known: Champions, version: int | None) -> int:
    """`version`, if it was champion; for None the champion before this one."""
    if version is None:
        before = champion_before(known.history, known.now) if known.now else None
        if before is None:
            this = f"before version {known.now}" if known.now else "at all"
            raise TrackingError(f"{name}: its history has no champion {this}; see `plumage registry history`")
        return before
    former = sorted({number for entry in known.history for number in (entry.before, entry.to) if number})
    if version not in former:
        raise TrackingError(
            f"{name}: version {version} was never champion (these were: {', '.join(map(str, former)) or 'none'}); "
            f"`plumage registry promote {version}` makes it one"
        )
    return version


def _champions(client: MlflowClient, name: str) -> Champions:
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        names = ", ".join(sorted(found.name for found in client.search_registered_models())) or "none"
        raise TrackingError(f"{name}: no such registered model; there are {names}") from None
    champion = model.aliases.get(CHAMPION)
    kept = {alias: int(number) for alias, number in sorted(model.aliases.items()) if alias.startswith(KEPT)}
    return Champions(int(champion) if champion else None, promotions(model.tags), kept)
