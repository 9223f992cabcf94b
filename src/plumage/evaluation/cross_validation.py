"""Cross-validation of the recipe: every photo is predicted by a model that saw neither it nor its near-duplicates.

Whatever a training chooses (epoch, L2 penalty, temperature, class weights) it chooses on its own train and val photos, never
on those it is judged on. A probe computes the features of all photos once and fits its classifier K times; other recipes
train K times. Each fold's result is kept with the checkpoints, so an interrupted cross-validation resumes.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from plumage.common.figures import share
from plumage.common.text import some
from plumage.config import Model, ResolvedTrain
from plumage.data.dataset.store import Dataset
from plumage.data.split.folds import Fold, Folds
from plumage.errors import TrainingError
from plumage.evaluation.held_out import HeldOut
from plumage.evaluation.sample import Sample
from plumage.inference.predict import predict
from plumage.inference.probabilities import probabilities
from plumage.training.build import new_model
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.probe import Labelled
from plumage.training.recipes import fit_probe, prepare, probe_features, train_model
from plumage.training.temperature import best_temperature


@dataclass(frozen=True)
class CrossValidation:
    """What is judged, on which photos. Every process of the context's group makes the same calls."""

    model: Model
    dataset: Dataset
    folds: Sequence[Fold]
    context: TrainingContext
    root: Path  # a weights file is relative to it

    def run(self) -> HeldOut:
        """Train and predict fold after fold. In other processes than the main one the probabilities are undefined.

        Raises:
            TrainingError: a training failed; the message names the fold.
        """
        predict_fold = self._probe() if self.context.train.recipe == "probe" else self._train
        answers = [self._finish(number, fold, predict_fold) for number, fold in enumerate(self.folds, start=1)]
        rows = [row for fold in self.folds for row in fold["test"]]
        numbers = [number for number, fold in enumerate(self.folds, start=1) for _ in fold["test"]]
        sample = Sample(self.dataset.targets()[rows], torch.cat(answers).numpy())
        return HeldOut([self.dataset.keys[row] for row in rows], np.array(numbers), sample)

    def _finish(self, number: int, fold: Fold, predict_fold: Callable[[Fold, TrainingContext], Tensor]) -> Tensor:
        """The probabilities of a fold's test photos, N x C: from an earlier, interrupted call, or computed and kept."""
        context, name, started = self.context, f"fold-{number}", time.monotonic()
        state = done = context.load(name)
        if state is None:
            try:
                with context.nested(name) as inner:
                    state = {"probabilities": predict_fold(fold, inner)}
                    context.save(name, state)
            except TrainingError as error:
                raise TrainingError(f"fold {number} of {len(self.folds)}: {error}") from None
        answers: Tensor = state["probabilities"].cpu()
        if context.group.is_main:
            labels = torch.from_numpy(self.dataset.targets()[fold["test"]])
            accuracy = share(float((answers.argmax(1) == labels).double().mean()), len(labels))
            took = "kept" if done else _duration(time.monotonic() - started)
            name = f"fold {number} of {len(self.folds)}"
            print(f"{name}: accuracy {accuracy}, {len(labels):,} photos, {took}", flush=True)
        return answers

    def _train(self, fold: Fold, context: TrainingContext) -> Tensor:
        """Train a model of its own on the fold's train photos, and predict its test photos."""
        dataset, device = self.dataset, context.device
        model, preprocessing = new_model(self.model, dataset, context.train.seed, self.root)
        data = TrainingData(dataset, {split: fold[split] for split in ("train", "val")}, preprocessing)
        history = train_model(model, data, context)
        if not context.group.is_main:
            return torch.zeros(len(fold["test"]), model.num_classes)
        temperature = best_temperature(model, history, data, device)
        logits = predict(model, dataset, fold["test"], preprocessing, device).logits
        return torch.from_numpy(probabilities(logits, temperature))

    def _probe(self) -> Callable[[Fold, TrainingContext], Tensor]:
        """Compute the features of all photos; the rest of a probe takes a second per fold."""
        dataset, context = self.dataset, self.context
        model, preprocessing = new_model(self.model, dataset, context.train.seed, self.root)
        prepare(model, context)
        rows = sorted(row for part in self.folds[0].values() for row in part)
        place = np.zeros(len(dataset), np.int64)
        place[rows] = np.arange(len(rows))
        data = TrainingData(dataset, {"all": rows}, preprocessing)
        views = probe_features(model, data, "all", context)

        def part_of(view: Labelled, chosen: list[int]) -> Labelled:
            places = torch.from_numpy(place[chosen]).to(context.device)
            return view[0][places], view[1][places]

        def predict_fold(fold: Fold, context: TrainingContext) -> Tensor:
            train, val = [part_of(view, fold["train"]) for view in views], part_of(views[0], fold["val"])
            history = fit_probe(model, train, val, context)
            temperature = best_temperature(model, history, TrainingData(dataset, fold, preprocessing), context.device)
            with torch.inference_mode():
                logits = model.classifier(part_of(views[0], fold["test"])[0]).float().cpu()
            return torch.from_numpy(probabilities(logits.numpy(), temperature))

        return predict_fold


def announcement(drawn: Folds, train: ResolvedTrain, num_train: int, seconds: float | None) -> list[str]:
    """What is about to be done, and what it costs: `seconds` is what a training on `num_train` photos took, if known."""
    num_folds, num_photos = len(drawn.folds), sum(len(part) for part in drawn.folds[0].values())
    what = f"cross-validation: {num_photos:,} photos in {num_folds} folds"
    if train.recipe == "probe":
        lines = [f"{what}; their features are computed once"]
    elif seconds is None:
        lines = [f"{what}, each about as long as a training; the first fold shows how long"]
    else:
        total = seconds * sum(len(fold["train"]) for fold in drawn.folds) / num_train
        lines = [
            f"{what}, each with a training; about {_duration(total)} in all (the last training took {_duration(seconds)})"
        ]
    if small := drawn.small_classes:
        named = some([f"{label!r} {count}" for label, count in small.items()], 3)
        lines.append(f"fewer photos than folds: {named}; some folds hold out none of these")
    return lines


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(1, round(seconds))))
