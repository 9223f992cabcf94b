"""The seconds that a training took are recorded once, for estimates."""

from pathlib import Path

from plumage.common.paths import CHECKPOINTS
from plumage.training.duration import recorded_seconds, timed


def test_a_training_is_timed_unless_it_was_resumed(tmp_path: Path) -> None:
    with timed(tmp_path, "birds", resumed=False):
        pass
    seconds = recorded_seconds(tmp_path, "birds")
    assert seconds is not None and recorded_seconds(tmp_path, "cats") is None
    with timed(tmp_path, "birds", resumed=True):
        pass
    assert recorded_seconds(tmp_path, "birds") == seconds


def test_a_resumed_training_removes_what_a_killed_one_left(tmp_path: Path) -> None:
    (tmp_path / CHECKPOINTS).mkdir()
    (tmp_path / CHECKPOINTS / ".duration.json.tmp").write_text("{")
    with timed(tmp_path, "birds", resumed=True):
        pass
    assert not list((tmp_path / CHECKPOINTS).iterdir())
