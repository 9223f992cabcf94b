"""Every promotion, by the gate or by hand, is recorded: from, to, when, who and why."""

import json
import shutil
import subprocess
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import Thread

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from registering import NAME, add, hits, repository

from plumage.cli.registry import history
from plumage.errors import TrackingError
from plumage.registry.promote import champions, promote, rollback
from plumage.registry.promotions import (
    Promotion,
    author,
    champion_before,
    complete_promotions,
    move_champion,
    promotions,
    replaced_by_hand,
)
from plumage.tracking.store import use_store


def entries(*moves: tuple[int | None, int, str]) -> list[Promotion]:
    return [Promotion(before, to, how, "why", "who") for before, to, how in moves]  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made_once(photos_made_once: Path, empty_database: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose gate made versions 1, 2 and 3 champion, one after the other."""
    folder = tmp_path_factory.mktemp("three")
    with repository(folder, empty_database, photos_made_once):
        for seed, right in ((1, 20), (2, 40), (3, 60)):
            assert add(folder, seed, hits(right))["decision"]["promoted"]
    return folder


@pytest.fixture
def three(root: Path, made_once: Path) -> Path:
    """A copy of it."""
    shutil.copytree(made_once, root, dirs_exist_ok=True)
    return root


def test_each_move_of_the_gate_or_a_person_is_one_entry_in_order(three: Path) -> None:
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


def test_each_rollback_goes_back_one_champion_until_the_first(three: Path) -> None:
    assert rollback(three, NAME, None, "why").to == 2
    assert rollback(three, NAME, None, "why").to == 1
    with pytest.raises(TrackingError, match="no champion before version 1"):
        rollback(three, NAME, None, "why")
    assert rollback(three, NAME, 3, "it was right").to == 3


def test_the_gate_does_not_promote_again_what_a_person_replaced(three: Path) -> None:
    rollback(three, NAME, None, "too slow")
    again = add(three, 3, hits(60))["decision"]
    assert not again["promoted"] and "replaced version 3 by hand" in again["reason"] and "too slow" in again["reason"]
    assert champions(three, NAME).now == 2
    promote(three, NAME, 3, "fast enough now")
    assert champions(three, NAME).now == 3


def test_an_impossible_move_is_one_line_and_leaves_no_entry(three: Path) -> None:
    add(three, 4, hits(10))
    for move, message in (
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
        assert message in str(error.value) and "\n" not in str(error.value)
    found = champions(three, NAME)
    assert found.now == 3 and len(found.history) == 3


def test_concurrent_writers_lose_no_entry(root: Path) -> None:
    """Also without the lock."""
    use_store(root)
    client = MlflowClient()
    create_versions(client, 8)
    when = "2026-01-01T00:00:00.000000+00:00"

    def write(number: int) -> None:
        with suppress(MlflowException):  # MLflow refuses to add an alias that another writer has just added
            move_champion(client, NAME, Promotion(None, number, "promote", "why", "who", when=when))

    writers = [Thread(target=write, args=(number,)) for number in range(1, 9)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = promotions(client.get_registered_model(NAME).tags)
    assert sorted(entry.to for entry in found) == list(range(1, 9))


def create_versions(client: MlflowClient, count: int) -> None:
    client.create_registered_model(NAME)
    for _ in range(count):
        client.create_model_version(NAME, "file:///nowhere")


def test_a_promotion_follows_those_before_it_whatever_the_clock_says(root: Path) -> None:
    use_store(root)
    client = MlflowClient()
    create_versions(client, 2)
    times = (
        "2026-01-01T12:00",
        "2026-01-01T12:05",
        "2026-01-01T11:40",
    )  # the last by a machine that is 30 minutes slow
    moves = ((None, 1, "gate"), (1, 2, "gate"), (2, 1, "rollback"))
    for move, when in zip(entries(*moves), times, strict=True):
        move_champion(client, NAME, replace(move, when=f"{when}:00.000000+00:00"))
    found = promotions(client.get_registered_model(NAME).tags)
    assert [(entry.before, entry.to, entry.how) for entry in found] == list(moves)
    assert replaced_by_hand(found, 2) == found[-1]


def test_a_promotion_cut_off_before_its_version_was_deleted_stops_no_later_one(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use_store(root)
    client = MlflowClient()
    create_versions(client, 3)
    move_champion(client, NAME, *entries((None, 1, "gate")))
    for number in (2, 3):
        key = f"plumage.promoting.n00000{number}-abcdef"
        client.set_registered_model_tag(NAME, key, as_tag(*entries((1, number, "gate"))))
    client.delete_model_version(NAME, "2")
    complete_promotions(client, NAME)
    model = client.get_registered_model(NAME)
    assert [entry.to for entry in promotions(model.tags)] == [1, 3] and int(model.aliases["champion"]) == 3
    assert capsys.readouterr().out == f"{NAME}: version 2 was deleted before its promotion was complete\n"


def test_a_history_of_an_earlier_version_goes_on_and_is_in_order_even_if_a_clock_was_wrong() -> None:
    moves = entries((None, 1, "gate"), (1, 2, "gate"), (2, 1, "rollback"), (1, 3, "gate"), (3, 4, "gate"))
    times = ("20260101T120000", "20260101T120500", "20260101T114000", "20260101T113000", "20260101T130000")
    tags = {f"plumage.promotion.{time}.000000Z-abcdef": as_tag(move) for time, move in zip(times, moves, strict=True)}
    assert promotions(tags) == moves
    later = entries((4, 2, "promote"))
    tags["plumage.promotion.n000001-abcdef"] = as_tag(*later)
    assert promotions(tags) == [*moves, *later]


def test_a_history_with_a_gap_keeps_the_order_of_its_times() -> None:
    moves = entries((None, 1, "gate"), (1, 2, "gate"), (1, 3, "gate"))  # the alias went back to 1 in MLflow's UI
    tags = {f"plumage.promotion.2026010{day}T000000.000000Z-abcdef": as_tag(move) for day, move in enumerate(moves)}
    assert promotions(tags) == moves


def as_tag(promotion: Promotion) -> str:
    return json.dumps(asdict(promotion))


def test_the_longest_reason_fits_into_the_registry(registered: Path) -> None:
    add(registered, 2, hits(40))
    promote(registered, NAME, 2, "ü" * 500)
    assert champions(registered, NAME).history[-1].why == "ü" * 500


def test_the_author_is_git_s_user_or_the_system_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_the_champion_before_is_the_one_replaced_whatever_was_rolled_back_since() -> None:
    gate = entries((None, 1, "gate"), (1, 2, "gate"), (2, 3, "gate"))
    assert champion_before(gate, 3) == 2
    back = [*gate, *entries((3, 2, "rollback"))]
    assert champion_before(back, 2) == 1
    assert champion_before([*back, *entries((2, 3, "promote"))], 3) == 2
    assert champion_before(gate, 1) is None and champion_before([], 1) is None


def test_a_version_replaced_by_hand_is_blocked_until_a_person_promotes_it_again() -> None:
    gate = entries((None, 1, "gate"), (1, 2, "gate"))
    assert replaced_by_hand(gate, 1) is None  # by a better one, through the gate
    back = [*gate, *entries((2, 1, "rollback"))]
    assert replaced_by_hand(back, 2) == back[-1] and replaced_by_hand(back, 1) is None
    assert replaced_by_hand([*back, *entries((1, 2, "promote"))], 2) is None
    assert replaced_by_hand([*back, *entries((1, 2, "promote"))], 1) is not None


def test_an_entry_is_plain_json_with_every_field(registered: Path) -> None:
    tags = MlflowClient().get_registered_model(NAME).tags
    (entry,) = (json.loads(value) for key, value in tags.items() if key.startswith("plumage.promotion."))
    assert set(entry) == {"before", "to", "how", "why", "who", "when", "numbers"}


def test_an_edited_tag_is_named() -> None:
    for broken in ("no JSON", "{}", '{"to": 1, "from": 2}', "3"):
        with pytest.raises(TrackingError, match=r"tag plumage\.promotion\.x is not a promotion") as error:
            promotions({"plumage.promotion.x": broken})
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("as_json", [False, True])
def test_an_entry_that_others_wrote_is_shown_and_not_obeyed(
    photos: Path, as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        (photos / name).touch()
    add(photos, 1, hits(20))
    hostile = Promotion(1, 1, "promote", "good\nerror: forged\x1b[2J", "a bird\x9b2J\u202e")
    MlflowClient().set_registered_model_tag(NAME, "plumage.promotion.x", json.dumps(asdict(hostile)))
    capsys.readouterr()
    history(NAME, as_json)
    said = capsys.readouterr().out
    assert "forged" in said and not any(line.lstrip().startswith("error:") for line in said.splitlines())
    assert all(line.isprintable() for line in said.split("\n"))


def test_an_author_s_name_is_one_line(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subprocess.run(["git", "init", "-q"], cwd=photos, check=True)
    subprocess.run(["git", "config", "user.name", "a bird\x1b[2J\nerror: forged"], cwd=photos, check=True)
    assert author(photos).startswith("a bird\\x1b[2J\\x0aerror: forged")
