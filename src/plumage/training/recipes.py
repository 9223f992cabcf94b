"""The recipes: what is trained, from which weights, on which views of the photos.

- scratch: trains the whole network on random crops, from whatever weights it has.
- probe: computes the frozen network's features of each photo (and its mirror image) once, fits the classifier to them.
- finetune: fits the classifier as a probe does, trains the network on random crops with batch norm's statistics frozen,
  `train.soup` times from the same weights, averages the results and the initial weights, and refits the classifier.
"""

import time
from dataclasses import replace

import torch

from plumage.accelerate import kernels
from plumage.accelerate.layers import accelerate
from plumage.config import RECIPES
from plumage.models.batch_norm import fold_bn_scale
from plumage.models.classifier import ImageClassifier
from plumage.training.batches import eval_batches, train_batches
from plumage.training.build import freeze_stages, train_image_size
from plumage.training.class_weights import class_weights
from plumage.training.context import TrainingContext, TrainingData
from plumage.training.early_stopping import score
from plumage.training.forward import cached_features
from plumage.training.memory import fit_batch_size
from plumage.training.probe import Labelled, ProbeSettings, fit_classifier
from plumage.training.seeding import seed_everything
from plumage.training.soup import ModelSoup, wise_ft
from plumage.training.state import History, Metrics
from plumage.training.trainer import CHECKPOINT, Trainer

PROBE_ITERATIONS = int(RECIPES["probe"]["epochs"] or 1)
REFIT_SHRINKAGE = 0.7
"""For features trained on these photos, on which classes scatter less. 0.5 was 0.001 worse over 13 networks."""


def train_model(model: ImageClassifier, data: TrainingData, context: TrainingContext) -> History:
    """Train `model` in place by `context.train.recipe`, choosing the best epoch on the val photos.

    The same arguments give the same weights, byte for byte, on the same machine, also when training resumes. Every
    process of the group makes this call. DivergedError if the loss is not finite, TrainingError if memory runs out.
    """
    train = context.train
    prepare(model, context)
    if train.recipe == "probe":
        return train_probe(model, data, context)
    freeze_stages(model, train.frozen_stages)
    if train.freeze_norm:
        fold_bn_scale(model)
    image_size = train_image_size(data.preprocessing, train.size_ratio)
    batch_size, accumulation = fit_batch_size(model, image_size, train, context.group)
    train = train.model_copy(update={"batch_size": batch_size, "grad_accumulation": accumulation})
    context = replace(context, train=train)
    return _finetune(model, data, context) if train.recipe == "finetune" else _trainer(model, data, context).fit()


def prepare(model: ImageClassifier, context: TrainingContext) -> None:
    """Seed, and bring `model` to the device, with fast layers if the settings want them."""
    seed_everything(context.train.seed, context.train.deterministic)
    kernels.keep_memory()
    model.to(context.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if context.train.accelerate:
        accelerate(model)


def train_probe(
    model: ImageClassifier, data: TrainingData, context: TrainingContext, settings: ProbeSettings | None = None,
    name: str = "features",
) -> History:  # fmt: skip
    """Fit the classifier alone, to features called `name`. Processes share computing these; each fits the same."""
    views = probe_features(model, data, "train", context, name)
    return fit_probe(model, views, cached_features(model, data, "val", context, name), context, settings)


def probe_features(
    model: ImageClassifier, data: TrainingData, split: str, context: TrainingContext, name: str = "features"
) -> list[Labelled]:
    """Features of the photos of `split`, and with `train.flip` those of their mirror images."""
    model.eval()
    mirrorings = [False, True] if context.train.flip else [False]
    return [cached_features(model, data, split, context, name, mirrored) for mirrored in mirrorings]


def fit_probe(
    model: ImageClassifier, views: list[Labelled], val: Labelled, context: TrainingContext,
    settings: ProbeSettings | None = None,
) -> History:  # fmt: skip
    """Fit the classifier to the training photos' `views`; by default with the settings of the recipe `probe`."""
    train, history = context.train, History(val_features=val[0])
    settings = settings or ProbeSettings(train.l2, train.epochs)
    weights = class_weights(train.class_weights, views[0][1], model.num_classes)

    def on_iteration(iteration: int, metrics: Metrics) -> None:
        num_samples = iteration * len(views) * len(views[0][1])
        history.append(metrics, {"train/images_per_second": num_samples / (time.perf_counter() - started)})
        history.best_epoch = iteration  # the solution is the last
        context.on_epoch(iteration, metrics, history.timings[-1])

    started = time.perf_counter()
    fit_classifier(model.classifier, views, val, settings, on_iteration, weights)
    return history


def _finetune(model: ImageClassifier, data: TrainingData, context: TrainingContext) -> History:
    train, silent = context.train, replace(context, on_epoch=lambda *_: None)
    if not context.has(CHECKPOINT):
        # Without whitening (shrinkage 1): it amplifies small differences, which training the features changes first.
        settings = ProbeSettings(train.l2, PROBE_ITERATIONS, shrinkage=1.0, label_smoothing=train.label_smoothing)
        train_probe(model, data, silent, settings)
    soup = ModelSoup(model, train.soup)
    trainer = _trainer(model, data, context, soup)
    history = trainer.fit()
    wise_ft(model, soup.initial_weights, train.wise_ft_alpha)
    if context.group.is_main:
        print("finetune: refitting the classifier on the trained features", flush=True)
    settings = ProbeSettings(train.l2, PROBE_ITERATIONS, REFIT_SHRINKAGE)
    refitted = train_probe(model, data, silent, settings, "tuned features")
    if not _append_refitted(history, refitted):
        trainer.load_best_weights()
    context.on_epoch(len(history.epochs), history.epochs[-1], history.timings[-1])
    return history


def _append_refitted(history: History, refitted: History) -> bool:
    """Add the refitted classifier to `history` as one more epoch. Returns whether it is the best."""
    metrics = {name: refitted.epochs[-1].get(name, 0.0) for name in history.epochs[0]}  # its learning rate is 0
    is_best = score(metrics) > score(history.epochs[history.best_epoch - 1])
    history.append(metrics, refitted.timings[-1])
    if is_best:
        history.best_epoch, history.val_features = len(history.epochs), refitted.val_features
    return is_best


def _trainer(
    model: ImageClassifier, data: TrainingData, context: TrainingContext, soup: ModelSoup | None = None
) -> Trainer:
    train, val = train_batches(data, context), eval_batches(data, "val", context)
    labels = torch.from_numpy(data.dataset.targets()[data.rows["train"]]).to(context.device)
    weights = class_weights(context.train.class_weights, labels, model.num_classes)
    return Trainer(model, model.classifier, train, val, replace(context, class_weights=weights), soup)
