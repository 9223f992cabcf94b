"""The recipes: what is trained, from what, on which views of the photos.

- scratch: the whole network, from wherever its weights start, on random crops.
- probe: the network stays frozen; its features of every photo (and of its mirror image) are computed once, and its
  classifier is solved for on them.
- finetune: a probe's classifier first, then the network on random crops, batch norm's statistics frozen, several times from the same
  weights; then weights between those and the mean of the last, and the classifier once more, as a probe solves for it.
"""

import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from plumage.accelerate import accelerate, kernels
from plumage.accelerate.inference import compile_for_inference
from plumage.common.progress import track
from plumage.config import RECIPES, Model, ResolvedTrain
from plumage.data.dataset.store import Dataset
from plumage.data.loading.loader import Transform, batched, central_view, load_batches, typical_side
from plumage.data.loading.transforms import augmentation_draws, to_model_input, train_view
from plumage.models.batch_norm import fold_bn_scale
from plumage.models.classifier import ImageClassifier
from plumage.models.factory import create_model
from plumage.models.preprocessing import Preprocessing
from plumage.training.batches import Batch, Batches
from plumage.training.checkpoints import Checkpoints
from plumage.training.distributed import SINGLE_PROCESS, ProcessGroup
from plumage.training.memory import fit_batch
from plumage.training.probe import SHRINKAGE, fit_classifier
from plumage.training.trainer import History, OnEpoch, Trainer, quality

CLASSIFIER_ITERATIONS = int(RECIPES["probe"]["epochs"] or 1)
ENLARGED = 9 / 7
"""The size at which ImageNet's weights see whole photos, over that of the random crops that they were trained on: those show things
larger (Touvron et al. 2019, arXiv 1906.06423)."""
DROP_PATH = 0.05
"""From scratch: the paper's 0.2 is for hundreds of epochs. With weights, a few epochs do without it and dropout."""
TUNED_SHRINKAGE = 0.7
"""`fit_classifier`'s for features that were trained: photos of a class are closer than those that training did not see, and their
scatter says less. 0.5 was 0.001 worse, over 13 networks."""
EVAL_BATCH = 32
"""Photos of a process that are judged, or made features of, at a time."""


def train_model(
    model: ImageClassifier,
    dataset: Dataset,
    rows: dict[str, list[int]],
    preprocessing: Preprocessing,
    train: ResolvedTrain,
    device: torch.device,
    on_epoch: OnEpoch = lambda *_: None,
    checkpoints: Checkpoints | None = None,
    group: ProcessGroup = SINGLE_PROCESS,
) -> History:
    """Train `model` in place by `train.recipe` on the rows `train`, choosing the best epoch on the rows `val`.

    The same arguments give the same weights, byte for byte, on the same machine, also when it goes on from `checkpoints`.
    Every process of `team` calls this alike, only the first with `checkpoints`.

    Raises:
        Diverged: the loss is no longer a finite number.
        TrainingError: a batch does not fit in memory.
    """
    seed_everything(train.seed)
    kernels.keep_memory()
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if train.accelerate:
        accelerate(model)
    work = _Photos(dataset, rows, preprocessing, train, device, group)
    if train.recipe == "probe":
        return _probe(model, work, train.epochs, on_epoch, checkpoints)
    freeze_stages(model, train.frozen_stages)
    if train.freeze_norm:
        fold_bn_scale(model)
    batch, accumulation = fit_batch(model, view_size(preprocessing, train.size_ratio), train, group)
    work.train = train = train.model_copy(update={"batch_size": batch, "grad_accumulation": accumulation})
    if train.recipe == "finetune" and not group.broadcast(bool(checkpoints and checkpoints.has("network"))):
        # Whitening leans on differences that are small, which training the features would change first.
        smoothing = train.label_smoothing
        _probe(model, work, CLASSIFIER_ITERATIONS, lambda *_: None, checkpoints, shrinkage=1.0, smoothing=smoothing)
    views, val = work.random_views(), work.central_views("val")
    soup = train.soup if train.recipe == "finetune" else None
    fit = Trainer(model, model.classifier, views, val, train, device, on_epoch, checkpoints, group=group, soup=soup)
    history = fit.run()
    if not soup:
        return history
    mix_weights(model, fit.start, train.wise_ft_alpha)
    if not _solve_again(model, work, history, on_epoch, checkpoints):
        fit.take_best()
    return history


@torch.no_grad()
def mix_weights(model: ImageClassifier, start: dict[str, torch.Tensor], mixing: float) -> None:
    """Move `model` back to `mixing` of its way from the weights `start` (Wortsman et al. 2022, arXiv 2109.01903)."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.lerp(start[name], value, mixing))


def _solve_again(
    model: ImageClassifier, work: "_Photos", history: History, on_epoch: OnEpoch, checkpoints: Checkpoints | None
) -> bool:
    """Solve for the classifier on the features that training came to: one more epoch. Whether it is the best."""
    if work.group.is_main:
        print("finetune: solves for the classifier again, on the features as they are now", flush=True)
    timings: list[dict[str, float]] = []
    told: OnEpoch = lambda epoch, metrics, timing: timings.append(timing)  # noqa: E731
    again = _probe(model, work, CLASSIFIER_ITERATIONS, told, checkpoints, "tuned features", TUNED_SHRINKAGE)
    solved = again.epochs[-1]
    history.epochs.append({name: solved.get(name, 0.0) for name in history.epochs[0]})  # the learning rate is 0
    best = quality(solved) > quality(history.epochs[history.best_epoch - 1])
    if best:
        history.best_epoch, history.val_features = len(history.epochs), again.val_features
    on_epoch(len(history.epochs), history.epochs[-1], timings[-1])
    return best


def freeze_stages(model: ImageClassifier, stages: int) -> None:
    """Keep the stem and the first `stages` stages as they are; with 0, all learns."""
    for module in [model.stem, *model.stages()[:stages]] if stages else []:
        module.requires_grad_(False)


def new_model(wanted: Model, dataset: Dataset, seed: int, root: Path) -> tuple[ImageClassifier, Preprocessing]:
    """The network as training starts from it, and how it sees the photos of `dataset`; `root` is the repository's."""
    seed_everything(seed)
    weights = wanted.weights_from(root)
    dropout, drop_path = (0.0, 0.0) if weights else (None, DROP_PATH)
    model = create_model(
        wanted.name,
        len(dataset.classes),
        weights,
        drop_rate=dropout if wanted.dropout is None else wanted.dropout,
        drop_path_rate=drop_path if wanted.drop_path is None else wanted.drop_path,
    )
    return model, input_for(model, wanted.image_size, wanted.crop, None if weights else typical_side(dataset))


def input_for(
    model: ImageClassifier, image_size: int | None, crop: float | None, photo_side: int | None = None
) -> Preprocessing:
    """The preprocessing of the model's weights, of the whole short side, with another size or crop where one is asked for.

    Weights see photos ENLARGED. A model from scratch sees photos of a short side of `photo_side` pixels at the nearest multiple of
    32 from 32 up to the architecture's resolution.
    """
    if image_size is None and photo_side is not None:
        image_size = min(model.config.resolution, _multiple_of_32(photo_side))
    elif image_size is None:
        image_size = _multiple_of_32(model.preprocessing.size * ENLARGED)
    changes = {"size": image_size, "crop_fraction": 1.0 if crop is None else crop}
    return model.preprocessing.model_copy(update={key: value for key, value in changes.items() if value is not None})


def view_size(preprocessing: Preprocessing, ratio: float) -> int:
    """The side of a random view in pixels, `ratio` of what evaluation sees."""
    return preprocessing.size if ratio == 1 else _multiple_of_32(preprocessing.size * ratio)


def _multiple_of_32(side: float) -> int:
    return max(32, round(side / 32) * 32)


def seed_everything(seed: int) -> None:
    """Seed torch and take only its reproducible algorithms: before a model is made, and before it is trained."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Else all memory is written once before it is used: a seventh of a step's time, to find what reads it too early.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # else matrix products on CUDA are not reproducible


class _Photos:
    """The photos as batches of the model's inputs."""

    def __init__(
        self,
        dataset: Dataset,
        rows: dict[str, list[int]],
        preprocessing: Preprocessing,
        train: ResolvedTrain,
        device: torch.device,
        group: ProcessGroup,
    ) -> None:
        self.labels = torch.from_numpy(dataset.targets())
        self.dataset, self.rows, self.preprocessing = dataset, rows, preprocessing
        self.train, self.device, self.group = train, device, group

    def random_views(self) -> Batches:
        """The training photos in a new order each epoch, randomly cut. A last batch too small for two photos a process is
        left out (batch norm needs two).
        """
        train, size = self.train, self.train.batch_size
        assert isinstance(size, int)
        seen = self.preprocessing.model_copy(update={"size": view_size(self.preprocessing, train.size_ratio)})
        rows = np.array(self.rows["train"])
        rest = len(rows) % size
        count = len(rows) - (rest if rest < 2 * self.group.size and len(rows) > rest else 0)

        def of(epoch: int, first: int) -> Iterator[Batch]:
            def view(photo: np.ndarray, row: int, out: np.ndarray) -> None:
                train_view(photo, seen, augmentation_draws(train.seed, epoch, row), train.min_scale, train.flip, out)

            order = rows[np.random.default_rng((train.seed, epoch)).permutation(len(rows))][:count]
            return self._batches(batched(order.tolist(), size)[first:], view, seen.size)

        return Batches(of, per_epoch=len(batched(range(count), size)), photos=count, size=size)

    def central_views(self, part: str, mirrored: bool = False) -> Batches:
        """The photos of `part` in order, as evaluation sees them, or their mirror images."""
        view = central_view(self.preprocessing, mirrored)
        size = EVAL_BATCH * self.group.size
        batches = batched(self.rows[part], size)
        return Batches(
            lambda epoch, first: self._batches(batches[first:], view, self.preprocessing.size),
            per_epoch=len(batches),
            photos=len(self.rows[part]),
            size=size,
        )

    def _batches(self, batches: Sequence[Sequence[int]], view: Transform, side: int) -> Iterator[Batch]:
        """This process's part of each batch, its views `side` pixels wide."""
        mine = [part for part in map(self.group.shard, batches) if part]
        for rows, photos in zip(mine, load_batches(self.dataset, mine, view, side), strict=True):
            yield to_model_input(photos, self.preprocessing, self.device), self.labels[rows].to(self.device)


def _probe(
    model: ImageClassifier,
    photos: _Photos,
    iterations: int,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None,
    of: str = "features",
    shrinkage: float = SHRINKAGE,
    smoothing: float = 0.0,
) -> History:
    """Fit the classifier alone, on features computed once: by all processes together, then on each alike.

    `shrinkage` and `smoothing` are `fit_classifier`'s.
    """
    model.eval()
    group = photos.group

    def features_of(part: str, mirrored: bool = False) -> Batch:
        name = f"{of} of {part}{', mirrored' if mirrored else ''}"
        made = group.broadcast(checkpoints.load(name, photos.device) if checkpoints else None)
        if made is None:
            values, targets = _features(model, photos, photos.central_views(part, mirrored), name)
            made = {"features": values, "labels": targets}
            if checkpoints:
                checkpoints.save(name, made)
        return made["features"], made["labels"]

    views = [features_of("train", mirrored) for mirrored in ([False, True] if photos.train.flip else [False])]
    val = features_of("val")
    history = History(val_features=val[0])

    def on_iteration(iteration: int, metrics: dict[str, float]) -> None:
        history.epochs.append(metrics)
        history.best_epoch = iteration  # the last is the solution
        seen = iteration * len(views) * len(views[0][1])
        on_epoch(iteration, metrics, {"train/images_per_second": seen / (time.perf_counter() - started)})

    started = time.perf_counter()
    fit_classifier(model.classifier, views, val, photos.train.l2, iterations, on_iteration, shrinkage, smoothing)
    return history


@torch.inference_mode()
def _features(model: ImageClassifier, photos: _Photos, batches: Batches, what: str) -> Batch:
    """The pooled features, float32 N x F, and the labels of all of `batches`, of all processes."""
    features, labels, group = [], [], photos.group
    features_of = compile_for_inference(
        model, photos.train.precision, pre_logits=True, accelerate=photos.train.accelerate
    )
    for inputs, batch_labels in track(batches.of(0, 0), what, batches.per_epoch, shown=group.is_main):
        features.append(features_of(inputs))
        labels.append(batch_labels)
    count = batches.photos
    return group.all_gather(torch.cat(features).clone(), count), group.all_gather(torch.cat(labels), count)
