"""The champion named by a person: what the gate does, by hand, with a reason."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from plumage.errors import TrackingError
from plumage.registry.promotions import Promotion, author, champion_before, promotions, record
from plumage.registry.versions import model_versions
from plumage.tracking.store import lock, one_line_errors, use_store

LONGEST_REASON = 500


@dataclass(frozen=True)
class Champions:
    """A registered model's champion, and how it came to be."""

    now: int | None
    history: list[Promotion]
    """Oldest first."""


def champions(root: Path, name: str) -> Champions:
    """The champion of the registered model `name` and its promotions. TrackingError when there is no such model."""
    use_store(root)
    with one_line_errors("MLflow's registry"):
        return _champions(MlflowClient(), name)


def promote(root: Path, name: str, version: int, why: str) -> Promotion:
    """Make `version` champion, and keep that, with the reason `why` and its author.

    Raises:
        TrackingError: no such model or version, no reason or one of over 500 characters, or it is the champion already.
    """
    return _move(root, name, "promote", why, lambda known: version)


def rollback(root: Path, name: str, version: int | None, why: str) -> Promotion:
    """Go back to `version`, which was champion once, or to the champion before this one. The gate leaves it at that.

    Raises:
        TrackingError: as `promote`; or there is no champion before this one; or `version` was never champion.
    """

    def choose(known: Champions) -> int:
        if version is None:
            before = champion_before(known.history, known.now) if known.now else None
            if before is None:
                this = f"before version {known.now}" if known.now else "at all"
                raise TrackingError(f"{name}: its history has no champion {this}; see `plumage registry history`")
            return before
        been = sorted({number for entry in known.history for number in (entry.before, entry.to) if number})
        if version not in been:
            listed = ", ".join(map(str, been)) or "none"
            raise TrackingError(
                f"{name}: version {version} was never champion (these were: {listed}); "
                f"`plumage registry promote {version}` makes it one"
            )
        return version

    return _move(root, name, "rollback", why, choose)


def _move(
    root: Path, name: str, how: Literal["promote", "rollback"], why: str, choose: Callable[[Champions], int]
) -> Promotion:
    """Move the alias to the version that `choose` names, and keep that."""
    why = " ".join(why.split())
    if not why:
        raise TrackingError("a reason is needed, for those who read the history: --reason '...'")
    if len(why) > LONGEST_REASON:
        raise TrackingError(f"the reason has {len(why)} characters; takes {LONGEST_REASON} at most")
    use_store(root)
    client = MlflowClient()
    with one_line_errors("MLflow's registry"), lock(root):
        known = _champions(client, name)
        version = choose(known)
        there = [int(found.version) for found in model_versions(client, name)]
        if version not in there:
            raise TrackingError(f"{name}: has no version {version}; it has {', '.join(map(str, there)) or 'none'}")
        if version == known.now:
            raise TrackingError(f"{name}: version {version} is the champion already")
        promotion = Promotion(before=known.now, to=version, how=how, why=why, who=author(root))
        record(client, name, promotion)
        client.set_registered_model_alias(name, "champion", str(version))
    return promotion


def _champions(client: MlflowClient, name: str) -> Champions:
    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        names = ", ".join(sorted(found.name for found in client.search_registered_models())) or "none"
        raise TrackingError(f"{name}: no such registered model; there are {names}") from None
    champion = model.aliases.get("champion")
    return Champions(int(champion) if champion else None, promotions(model.tags))
