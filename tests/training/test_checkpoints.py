"""An interrupted training resumes to the same bytes, from its own checkpoints alone."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from warm_python import warm_python

from plumage.common.paths import CHECKPOINTS
from plumage.config import ResolvedTrain, Train
from plumage.data.dataset.store import Dataset
from plumage.errors import TrainingError
from plumage.training.batches import Batch, Batches
from plumage.training.checkpoints import MAX_ABANDONED, Checkpoints, open_checkpoints, training_key
from plumage.training.context import TrainingContext
from plumage.training.soup import ModelSoup
from plumage.training.state import History
from plumage.training.trainer import CHECKPOINT, Trainer

CPU = torch.device("cpu")
EPOCHS, STEPS = 3, 4
ALWAYS = 1e-9
"""Minutes between checkpoints."""


class Killed(BaseException):
    """Stands in for the death of the process."""


def settings(**changes: Any) -> ResolvedTrain:
    return Train(
        epochs=EPOCHS, lr=0.05, head_lr=0.02, ema_decay=0.9, label_smoothing=0.1, max_grad_norm=1.0, **changes
    ).resolved()


def run(
    checkpoints: Checkpoints | None,
    kill_at: tuple[int, int] | None = None,
    seen: list[int] | None = None,
    soup_size: int | None = None,
    **changes: Any,
) -> tuple[dict[str, torch.Tensor], History]:
    """Train a model with dropout and batch norm; killed before step (epoch, step) or, at STEPS, after the epoch."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.3), nn.Linear(8, 2))
    inputs = torch.randn(STEPS * 16, 2, generator=torch.Generator().manual_seed(1))
    labels = (inputs[:, 0] > 0).long()

    def of(epoch: int, first: int) -> Iterator[Batch]:
        for step in range(first, STEPS):
            if (epoch, step) == kill_at:
                raise Killed
            rows = slice(step * 16, step * 16 + 16)
            yield inputs[rows], labels[rows]

    def on_epoch(epoch: int, metrics: dict[str, float], timing: dict[str, float]) -> None:
        if (epoch, STEPS) == kill_at:
            raise Killed
        if seen is not None:
            seen.append(epoch)

    val = Batches(lambda epoch, first: [(inputs, labels)], 1, len(labels), len(labels))
    train = Batches(of, STEPS, len(labels), 16)
    context = TrainingContext(settings(**changes), CPU, checkpoints=checkpoints, on_epoch=on_epoch)
    soup = ModelSoup(net, soup_size) if soup_size else None
    history = Trainer(net, net[3], train, val, context, soup).fit()
    return net.state_dict(), history


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("minutes", [ALWAYS, 60])
def test_killed_before_any_step_or_after_any_epoch_it_ends_with_the_same_weights(
    tmp_path: Path, optimizer: str, minutes: float
) -> None:
    weights, history = run(None, optimizer=optimizer)
    for epoch in range(1, EPOCHS + 1):
        for step in range(STEPS + 1):
            folder = tmp_path / f"{epoch}-{step}"
            with pytest.raises(Killed):
                run(Checkpoints(folder, minutes), (epoch, step), optimizer=optimizer)
            seen: list[int] = []
            resumed, resumed_history = run(Checkpoints(folder, minutes), seen=seen, optimizer=optimizer)
            assert resumed_history == history
            assert seen == list(range(1, EPOCHS + 1))
            assert all(torch.equal(resumed[name], value) for name, value in weights.items())


def test_a_soup_killed_in_any_of_its_trainings_ends_with_the_same_weights(tmp_path: Path) -> None:
    weights, history = run(None, soup_size=2)
    for epoch in range(1, 2 * EPOCHS + 1):
        for step in (0, 2, STEPS):
            folder = tmp_path / f"{epoch}-{step}"
            with pytest.raises(Killed):
                run(Checkpoints(folder, ALWAYS), (epoch, step), soup_size=2)
            seen: list[int] = []
            resumed, resumed_history = run(Checkpoints(folder, ALWAYS), seen=seen, soup_size=2)
            assert resumed_history == history and seen == list(range(1, 2 * EPOCHS + 1))
            assert all(torch.equal(resumed[name], value) for name, value in weights.items())


def test_it_resumes_where_it_was_and_does_not_start_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Killed):
        run(Checkpoints(tmp_path, ALWAYS), (2, 3))
    run(Checkpoints(tmp_path))
    assert "resuming from epoch 2, step 3" in capsys.readouterr().out


def test_a_checkpoint_names_its_parts(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(Checkpoints(tmp_path, ALWAYS), (2, 3), soup_size=2)
    state = Checkpoints(tmp_path).load(CHECKPOINT, CPU)
    assert state is not None
    parts = {"model", "optimizer", "scheduler", "ema", "soup", "early_stopping", "history", "progress"}
    assert set(state) == parts
    assert (state["progress"]["epoch"], state["progress"]["step"]) == (2, 3)


SCRIPT = """
import os, signal, sys
from pathlib import Path
import torch
from plumage.config import Train
from plumage.data.dataset.store import Dataset
from plumage.models.preprocessing import Preprocessing
from plumage.models import create_model
from plumage.models.saved_model import save_model
from plumage.training import forward, recipes
from plumage.training.checkpoints import open_checkpoints
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.recipes import train_model
from plumage.training.seeding import seed_everything


def die_at(name, call):
    "Kill the process at this call of the function."
    module = forward if name == "extract_features" else recipes
    function, calls = getattr(module, name), []

    def called(*arguments, **named):
        calls.append(name)
        if len(calls) == int(call):
            os.kill(os.getpid(), signal.SIGKILL)
        return function(*arguments, **named)

    setattr(module, name, called)


signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs start with SIGINT ignored
torch.set_num_threads(1)
root = Path(sys.argv[1])
dataset = Dataset(root / "dataset")
rows = {"train": [row for row in range(len(dataset)) if row % 4], "val": list(range(0, len(dataset), 4))}
train = Train(device="cpu", recipe=sys.argv[2], epochs=int(sys.argv[3]), batch_size=4, ema_decay=0.9, soup=2).resolved()
if sys.argv[4:]:
    die_at(*sys.argv[4:])
pre = Preprocessing(size=32, crop_fraction=1.0)
seed_everything(0)
model = create_model("efficientnet_lite0", len(dataset.classes), "imagenet" if train.recipe == "finetune" else None)
with open_checkpoints(root, "key", 0.005) as checkpoints:
    on_epoch = lambda epoch, *_: print("epoch", epoch, flush=True)
    context = TrainingContext(train, torch.device("cpu"), checkpoints=checkpoints, on_epoch=on_epoch)
    train_model(model, TrainingData(dataset, rows, pre), context)
    save_model(root / "models", model, dataset.classes, pre)
"""


class Training:
    """A training in its own process."""

    def __init__(self, root: Path, recipe: str = "scratch", epochs: int = 3) -> None:
        self.root, self.recipe, self.epochs = root, recipe, epochs
        self.environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def start(self, *die_at: str) -> subprocess.Popen[str]:
        """Start the process; `die_at` names a function, and the call of it that kills the process."""
        command = [warm_python(), "-c", SCRIPT, str(self.root), self.recipe, str(self.epochs), *die_at]
        return subprocess.Popen(
            command, env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )

    def wait_for(self, process: subprocess.Popen[str], epoch: int) -> None:
        """Wait until `epoch` is reported."""
        assert process.stdout
        while line := process.stdout.readline():
            if line == f"epoch {epoch}\n":
                return
        raise AssertionError("the process has ended")

    def finish(self) -> bytes:
        """Train to the end and return the weights file."""
        process = self.start()
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        file = self.root / "models" / "model.safetensors"
        weights = file.read_bytes()
        file.unlink()
        assert not (self.root / ".checkpoints" / "key").exists()
        return weights


@pytest.fixture
def trainings(tmp_path: Path, color_dataset: Callable[[int], Dataset]) -> list[Training]:
    """The same training in two folders."""
    color_dataset(8)
    for name in "ab":
        shutil.copytree(tmp_path / "dataset", tmp_path / name / "dataset")
    return [Training(tmp_path / name) for name in "ab"]


@pytest.mark.slow
def test_killed_at_ten_random_moments_and_every_epoch_and_stopped_by_ctrl_c_it_gives_the_same_bytes(
    trainings: list[Training],
) -> None:
    subprocess.run([warm_python(), "-c", "pass"], check=True)  # the first start waits for the libraries' imports
    started = time.monotonic()
    undisturbed = trainings[0].finish()
    duration = time.monotonic() - started

    def killed(training: Training, kill: float | int) -> bool:
        """Start it, and kill it. False if it had ended by then."""
        process = training.start()
        if isinstance(kill, int):
            training.wait_for(process, kill)
        else:
            time.sleep(kill)
        was_running = process.poll() is None
        process.kill()
        process.communicate()
        return was_running

    def survive(training: Training, kills: list[float | int]) -> bytes:
        """The final weights after a Ctrl-C, then kills, each after some seconds (a float) or an epoch (an int)."""
        process = training.start()
        training.wait_for(process, 1)
        process.send_signal(signal.SIGINT)
        output, _ = process.communicate(timeout=60)
        assert "a checkpoint is saved; the same command resumes from epoch " in output and "KeyboardInterrupt" in output
        for kill in kills:
            while not killed(training, kill):
                kill *= 0.7  # it was slower when its duration was measured
        return training.finish()

    moments = [random.Random(number).uniform(0.4 * duration, 0.9 * duration) for number in range(10)]
    with ThreadPoolExecutor(2) as pool:  # one core each
        ends: list[list[float | int]] = [[*moments[:4], 1, 2, 3], [*moments[4:]]]
        assert list(pool.map(survive, trainings, ends)) == [undisturbed, undisturbed]


@pytest.mark.slow
def test_killed_while_the_classifier_is_refitted_it_gives_the_same_bytes(
    tmp_path: Path, color_dataset: Callable[[int], Dataset]
) -> None:
    color_dataset(8)
    for name in "ab":
        shutil.copytree(tmp_path / "dataset", tmp_path / name / "dataset")
    undisturbed, training = (Training(tmp_path / name, "finetune", epochs=1) for name in "ab")
    # Features of train, train mirrored and val are computed for the probe, then for the trained network.
    for function, call in (
        ("fit_classifier", "1"),
        ("extract_features", "2"),
        ("extract_features", "2"),
        ("fit_classifier", "1"),
    ):
        process = training.start(function, call)
        output, _ = process.communicate(timeout=120)
        assert process.returncode == -signal.SIGKILL, output
    assert "refitting the classifier" in output and "epoch 1/2" not in output
    assert training.finish() == undisturbed.finish()


def test_a_training_key_depends_on_parameters_and_files(tmp_path: Path) -> None:
    file = tmp_path / "splits.csv"
    file.write_text("a")
    keys = [training_key(file, settings().decisive()), training_key(file, settings(seed=1).decisive())]
    file.write_text("b")
    keys.append(training_key(file, settings().decisive()))
    assert len(set(keys)) == 3
    assert training_key(file, settings(checkpoint_minutes=1).decisive()) == keys[2]


def test_a_second_process_with_the_same_training_is_refused(tmp_path: Path) -> None:
    with (
        open_checkpoints(tmp_path, "one", 1),
        open_checkpoints(tmp_path, "two", 1),
        pytest.raises(TrainingError, match="another process"),
        open_checkpoints(tmp_path, "one", 1),
    ):
        pass


def test_checkpoints_are_deleted_at_the_end_and_kept_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(Killed), open_checkpoints(tmp_path, "key", 1) as checkpoints:
        checkpoints.run_id = "run"
        raise Killed
    with open_checkpoints(tmp_path, "key", 1) as checkpoints:
        assert checkpoints.run_id == "run"
    assert not list((tmp_path / ".checkpoints").iterdir())


def test_only_the_newest_abandoned_trainings_keep_their_checkpoints(tmp_path: Path) -> None:
    for number in range(MAX_ABANDONED + 3):
        with pytest.raises(Killed), open_checkpoints(tmp_path, str(number), 1) as checkpoints:
            checkpoints.save("trainer", {"number": number})
            os.utime(tmp_path / ".checkpoints" / str(number), (number, number))
            raise Killed
    left = sorted(folder.name for folder in (tmp_path / ".checkpoints").iterdir())
    assert left == [str(number) for number in range(2, MAX_ABANDONED + 3)]


def test_a_file_or_a_damaged_lock_among_abandoned_trainings_stops_none(tmp_path: Path) -> None:
    for number in range(MAX_ABANDONED + 1):
        (tmp_path / f".checkpoints/{number}/lock").mkdir(parents=True)
        (tmp_path / f".checkpoints/file-{number}").touch()
    with open_checkpoints(tmp_path, "key", 1) as checkpoints:
        assert checkpoints.save("trainer", {})


def flipped(data: bytearray, rng: random.Random) -> bytes:
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


def zeroed(data: bytearray, rng: random.Random) -> bytes:
    start = rng.randrange(len(data)) // 512 * 512
    data[start : start + 512] = bytes(len(data[start : start + 512]))
    return bytes(data)


def cut(data: bytearray, rng: random.Random) -> bytes:
    return bytes(data[: rng.randrange(len(data))])


@pytest.mark.parametrize("damage", [flipped, zeroed, cut])
def test_a_damaged_checkpoint_is_never_loaded(
    tmp_path: Path, damage: Callable[[bytearray, random.Random], bytes], capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints, file = Checkpoints(tmp_path), tmp_path / "trainer.pt"
    assert checkpoints.save("trainer", {"weights": torch.arange(2000.0), "step": 3})
    whole, rng = file.read_bytes(), random.Random(0)
    for _ in range(100):
        file.write_bytes(damaged := damage(bytearray(whole), rng))
        if damaged != whole:
            assert checkpoints.load("trainer", CPU) is None and not file.exists()
            assert (tmp_path / "trainer.pt.damaged").read_bytes() == damaged
            assert (
                capsys.readouterr().out
                == f"{file} is damaged (its SHA-256 is wrong): it is set aside as trainer.pt.damaged\n"
            )


def test_the_checkpoint_of_another_name_or_training_is_not_loaded(tmp_path: Path) -> None:
    one, other = Checkpoints(tmp_path / "one"), Checkpoints(tmp_path / "other")
    one.save("features of train", {"step": 1})
    for target, checkpoints in (
        (tmp_path / "one/features of val.pt", one),
        (tmp_path / "other/features of train.pt", other),
    ):
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(tmp_path / "one/features of train.pt", target)
        assert checkpoints.load(target.stem, CPU) is None
    assert one.load("features of train", CPU) == {"step": 1}


@pytest.mark.parametrize("number", [1, 2])
def test_if_the_newest_checkpoint_is_damaged_the_one_before_is_taken_and_if_both_are_training_starts_over(
    tmp_path: Path, number: int, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, history = run(None)
    with pytest.raises(Killed):
        run(Checkpoints(tmp_path, ALWAYS), (2, 3))
    for name in (f"{CHECKPOINT}.pt", f"{CHECKPOINT}.before.pt")[:number]:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:1000])
    resumed, resumed_history = run(Checkpoints(tmp_path))
    printed = capsys.readouterr().out
    assert printed.count("is set aside as") == number
    assert ("resuming from epoch 2, step 2" in printed) == (number == 1)
    assert resumed_history == history
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())


def test_a_kill_while_a_checkpoint_is_saved_leaves_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each of the file operations of a save."""
    Checkpoints(tmp_path).save("trainer", {"step": 1})
    for operation in ("replace", "stat", "open"):
        original = getattr(Path, operation)
        for die_at in range(1, 9):
            calls: list[Path] = []

            def killed(path: Path, *arguments: Any, calls: list[Path] = calls, at: int = die_at, **named: Any) -> Any:
                calls.append(path)
                if len(calls) == at:
                    raise Killed
                return original(path, *arguments, **named)  # noqa: B023

            with monkeypatch.context() as patch, suppress(Killed):
                patch.setattr(Path, operation, killed)
                Checkpoints(tmp_path).save("trainer", {"step": 2})
            assert (Checkpoints(tmp_path).load("trainer", CPU) or {}).get("step") in (1, 2)


def test_on_a_disk_that_is_full_with_two_checkpoints_the_older_one_makes_room(small_disk: Path) -> None:
    checkpoints = Checkpoints(small_disk)
    for step in range(4):
        assert checkpoints.save("trainer", {"step": step, "weights": torch.zeros(200_000)})
    state = checkpoints.load("trainer", CPU)
    assert state is not None and state["step"] == 3


def test_on_a_full_disk_training_continues_without_checkpoints(
    small_disk: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    weights, _ = run(None)
    (small_disk / "else").write_bytes(bytes(2**21 - 8192))
    resumed, _ = run(Checkpoints(small_disk, ALWAYS))
    assert capsys.readouterr().out.count("can't be written") == 1
    assert all(torch.equal(resumed[name], value) for name, value in weights.items())
    assert [path.name for path in small_disk.iterdir()] == ["else"]


@pytest.mark.parametrize("kind", ["a file", "a dangling link", "a file in its place"])
def test_something_else_where_checkpoints_go_is_one_clear_error_and_stays(tmp_path: Path, kind: str) -> None:
    place = tmp_path / CHECKPOINTS
    if kind == "a file":
        place.write_text("mine")
    elif kind == "a dangling link":
        place.symlink_to(tmp_path / "gone")
    else:
        place.mkdir()
        (place / "key").write_text("mine")
    with (
        pytest.raises(TrainingError, match="must be a folder that you can write to"),
        open_checkpoints(tmp_path, "key", 1),
    ):
        pass
    assert place.is_symlink() or (place if kind == "a file" else place / "key").read_text() == "mine"
