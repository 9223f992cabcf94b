"""Every promotion is kept: from, to, when, who, why; by the gate or by hand."""

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient
from registering import NAME, add, hits

from plumage.errors import TrackingError
from plumage.registry.promote import champions, promote, rollback
from plumage.registry.promotions import Promotion, author, champion_before, promotions, record, withdrawal
from plumage.tracking.store import use_store


def entries(*moves: tuple[int | None, int, str]) -> list[Promotion]:
    return [Promotion(before, to, how, "why", "who") for before, to, how in moves]  # type: ignore[arg-type]


@pytest.fixture
def three(photos: Path) -> Path:
    """A repository whose gate made versions 1, 2 and 3 champion, one after the other."""
    for seed, right in ((1, 20), (2, 40), (3, 60)):
        assert add(photos, seed, hits(right))["decision"]["promoted"]
    return photos


def test_the_gate_and_people_leave_an_entry_each_in_order(three: Path) -> None:
    started = datetime.now(UTC)
    rollback(three, NAME, None, "3 calls every wren an owl")
    promote(three, NAME, 1, "back to\nwhat we know")
    found = champions(three, NAME)
    assert found.now == 1 and MlflowClient().get_model_version_by_alias(NAME, "champion").version in (1, "1")
    assert [(entry.before, entry.to, entry.how) for entry in found.history] == [
        (None, 1, "gate"), (1, 2, "gate"), (2, 3, "gate"), (3, 2, "rollback"), (2, 1, "promote"),
    ]  # fmt: skip
    assert [entry.why for entry in found.history[3:]] == ["3 calls every wren an owl", "back to what we know"]
    assert {entry.who for entry in found.history} == {author(three)}
    times = [datetime.fromisoformat(entry.when) for entry in found.history]
    assert times == sorted(times) and times[2] < started < times[3]
    comparison = found.history[2].numbers["comparison"]
    assert comparison["photos"] == 60 and comparison["p_value"] < 0.05
    assert found.history[2].numbers["rule"]["name"] == "superior"


def test_rollbacks_go_back_one_champion_at_a_time_and_end_with_the_first(three: Path) -> None:
    assert rollback(three, NAME, None, "why").to == 2
    assert rollback(three, NAME, None, "why").to == 1
    with pytest.raises(TrackingError, match="no champion before version 1"):
        rollback(three, NAME, None, "why")
    assert rollback(three, NAME, 3, "it was right").to == 3


def test_the_gate_does_not_undo_what_a_person_took_back(three: Path) -> None:
    rollback(three, NAME, None, "too slow")
    again = add(three, 3, hits(60))["decision"]
    assert not again["promoted"] and "took version 3 back" in again["reason"] and "too slow" in again["reason"]
    assert champions(three, NAME).now == 2
    promote(three, NAME, 3, "fast enough now")
    assert champions(three, NAME).now == 3


def test_what_cannot_be_done_is_one_line_and_leaves_no_entry(three: Path) -> None:
    add(three, 4, hits(10))
    for move, told in (
        (lambda: promote(three, NAME, 9, "why"), "has no version 9; it has 1, 2, 3, 4"),
        (lambda: promote(three, NAME, 3, "why"), "version 3 is the champion already"),
        (lambda: rollback(three, NAME, 3, "why"), "version 3 is the champion already"),
        (lambda: rollback(three, NAME, 4, "why"), "version 4 was never champion (these were: 1, 2, 3)"),
        (lambda: promote(three, NAME, 2, " \n"), "a reason is needed"),
        (lambda: promote(three, NAME, 2, "x" * 501), "takes 500 at most"),
        (lambda: promote(three, "owls", 2, "why"), "owls: no such registered model; there are bird-classifier"),
        (lambda: champions(three, "it's"), "no such registered model"),
    ):
        with pytest.raises(TrackingError) as error:
            move()
        assert told in str(error.value) and "\n" not in str(error.value)
    found = champions(three, NAME)
    assert found.now == 3 and len(found.history) == 3


def test_many_that_write_at_once_lose_no_entry(root: Path) -> None:
    """Without the lock too: people at two machines share no lock."""
    use_store(root)
    client = MlflowClient()
    client.create_registered_model(NAME)
    when = "2026-01-01T00:00:00.000000+00:00"
    writers = [
        Thread(target=record, args=(client, NAME, Promotion(None, number, "promote", "why", "who", when=when)))
        for number in range(8)
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = promotions(client.get_registered_model(NAME).tags)
    assert sorted(entry.to for entry in found) == list(range(8))


def test_the_longest_reason_fits_into_the_registry(photos: Path) -> None:
    add(photos, 1, hits(40))
    add(photos, 2, hits(40))
    promote(photos, NAME, 2, "ü" * 500)
    assert champions(photos, NAME).history[-1].why == "ü" * 500


def test_who_is_gits_user_or_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_SYSTEM", "/dev/null")
    monkeypatch.setenv("LOGNAME", "ada")
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    assert author(tmp_path) == "ada"
    subprocess.run(["git", "-C", tmp_path, "config", "user.name", "Ada L."], check=True)
    assert author(tmp_path) == "Ada L."
    subprocess.run(["git", "-C", tmp_path, "config", "user.email", "ada@example.org"], check=True)
    assert author(tmp_path) == "Ada L. <ada@example.org>"
    monkeypatch.setenv("PATH", "")
    assert author(tmp_path) == "ada"


def test_the_champion_before_is_whose_place_it_took_whatever_was_rolled_back_since() -> None:
    gate = entries((None, 1, "gate"), (1, 2, "gate"), (2, 3, "gate"))
    assert champion_before(gate, 3) == 2
    back = [*gate, *entries((3, 2, "rollback"))]
    assert champion_before(back, 2) == 1
    assert champion_before([*back, *entries((2, 3, "promote"))], 3) == 2
    assert champion_before(gate, 1) is None and champion_before([], 1) is None


def test_a_version_is_withdrawn_until_a_person_promotes_it_again() -> None:
    gate = entries((None, 1, "gate"), (1, 2, "gate"))
    assert withdrawal(gate, 1) is None  # a better one took its place: that says nothing against it
    back = [*gate, *entries((2, 1, "rollback"))]
    assert withdrawal(back, 2) == back[-1] and withdrawal(back, 1) is None
    assert withdrawal([*back, *entries((1, 2, "promote"))], 2) is None
    assert withdrawal([*back, *entries((1, 2, "promote"))], 1) is not None


def test_an_entry_is_plain_json_with_every_field(photos: Path) -> None:
    add(photos, 1, hits(40))
    tags = MlflowClient().get_registered_model(NAME).tags
    (entry,) = (json.loads(value) for key, value in tags.items() if key.startswith("plumage.promotion."))
    assert set(entry) == {"before", "to", "how", "why", "who", "when", "numbers"}


def test_a_tag_that_somebody_has_edited_is_named() -> None:
    for broken in ("no JSON", "{}", '{"to": 1, "from": 2}', "3"):
        with pytest.raises(TrackingError, match=r"tag plumage\.promotion\.x is no promotion") as error:
            promotions({"plumage.promotion.x": broken})
        assert "\n" not in str(error.value)
