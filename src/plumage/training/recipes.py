"""The recipes: what is trained, from what, on which views of the photos.

- scratch: the whole network, from wherever its weights start, on random crops.
- probe: the network stays frozen; its features of every photo (and of its mirror image) are computed once, then its
  classifier is trained on them.
- finetune: a probe's classifier first, then the whole network on random crops, batch norm's statistics frozen.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from PIL import Image

from plumage.config import RECIPES, ResolvedTrain
from plumage.data.loader import View, in_batches, load_batches
from plumage.data.store import Dataset
from plumage.data.transforms import Preprocessing, eval_view, to_model_input, train_view
from plumage.models.efficientnet import EfficientNet
from plumage.progress import track
from plumage.training.checkpoints import Checkpoints
from plumage.training.loop import Batch, Batches, Fit, History, OnEpoch, autocast

EVAL_BATCH = 8
"""Small batches stay in a CPU's cache."""


def train_model(
    model: EfficientNet,
    dataset: Dataset,
    rows: dict[str, list[int]],
    preprocessing: Preprocessing,
    train: ResolvedTrain,
    device: torch.device,
    on_epoch: OnEpoch,
    checkpoints: Checkpoints | None = None,
) -> History:
    """Train `model` in place by `train.recipe` on the rows `train`, choosing the best epoch on the rows `val`.

    The same arguments give the same weights, byte for byte, on the same machine, also when it goes on from `checkpoints`.
    Diverged when the loss is no longer a finite number.
    """
    be_deterministic(train.seed)
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    work = _Photos(dataset, rows, preprocessing, train, device)
    if train.recipe == "probe":
        return _probe(model, work, train, on_epoch, checkpoints)
    if train.recipe == "finetune" and not (checkpoints and checkpoints.has("network")):
        probe = ResolvedTrain.model_validate({**train.model_dump(), **RECIPES["probe"]})
        _probe(model, work, probe, lambda epoch, metrics, speed: None, checkpoints)
    views, val = work.random_views(), work.central_views("val")
    return Fit(model, model.classifier, views, val, train, device, on_epoch, checkpoints).run()


def input_for(
    model: EfficientNet, image_size: int | None, crop: float | None, photo_side: int | None = None
) -> Preprocessing:
    """The preprocessing of the model's weights, with another size or crop where one is asked for.

    A model from scratch sees photos of a short side of `photo_side` pixels at the nearest multiple of 32 from 32 up to
    the architecture's resolution.
    """
    if image_size is None and photo_side is not None:
        image_size = min(model.config.resolution, max(32, round(photo_side / 32) * 32))
    changes = {"size": image_size, "crop_fraction": crop}
    return model.preprocessing.model_copy(update={key: value for key, value in changes.items() if value is not None})


def be_deterministic(seed: int) -> None:
    """Seed torch and take only its reproducible algorithms: before a model is made, and before it is trained."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False


class _Photos:
    """The photos as batches of the model's inputs."""

    def __init__(
        self,
        dataset: Dataset,
        rows: dict[str, list[int]],
        preprocessing: Preprocessing,
        train: ResolvedTrain,
        device: torch.device,
    ) -> None:
        self.labels = torch.from_numpy(dataset.targets())
        self.dataset, self.rows, self.preprocessing, self.train, self.device = (
            dataset,
            rows,
            preprocessing,
            train,
            device,
        )

    def random_views(self) -> Batches:
        """The training photos in a new order each epoch, randomly cut. A last batch of one photo is left out (batch
        norm needs two).
        """
        train, size = self.train, self.train.batch_size
        rows = np.array(self.rows["train"])
        count = len(rows) - (1 if len(rows) % size == 1 and len(rows) > 1 else 0)

        def of(epoch: int, first: int) -> Iterator[Batch]:
            def view(image: Image.Image, row: int) -> np.ndarray:
                rng = np.random.default_rng((train.seed, epoch, row))
                return train_view(image, self.preprocessing, rng, train.min_crop, train.flip)

            order = rows[np.random.default_rng((train.seed, epoch)).permutation(len(rows))][:count]
            return self._batches(in_batches(order.tolist(), size)[first:], view)

        return Batches(of, per_epoch=len(in_batches(range(count), size)), photos=count)

    def central_views(self, part: str, mirrored: bool = False) -> Batches:
        """The photos of `part` in order, as evaluation sees them, or their mirror images."""

        def view(image: Image.Image, row: int) -> np.ndarray:
            seen = eval_view(image, self.preprocessing)
            return seen[:, ::-1] if mirrored else seen

        batches = in_batches(self.rows[part], EVAL_BATCH)
        return Batches(
            lambda epoch, first: self._batches(batches[first:], view),
            per_epoch=len(batches),
            photos=len(self.rows[part]),
        )

    def _batches(self, batches: Sequence[Sequence[int]], view: View) -> Iterator[Batch]:
        for rows, photos in zip(batches, load_batches(self.dataset, batches, view), strict=True):
            yield to_model_input(photos, self.preprocessing, self.device), self.labels[rows].to(self.device)


def _probe(
    model: EfficientNet, photos: _Photos, train: ResolvedTrain, on_epoch: OnEpoch, checkpoints: Checkpoints | None
) -> History:
    """Train the classifier alone, on features computed once."""
    model.eval()

    def features_of(part: str, mirrored: bool = False) -> Batch:
        name = f"features of {part}{', mirrored' if mirrored else ''}"

        def make() -> dict[str, torch.Tensor]:
            values, targets = _features(model, photos, photos.central_views(part, mirrored), name)
            return {"features": values, "labels": targets}

        made = checkpoints.once(name, make, photos.device) if checkpoints else make()
        return made["features"], made["labels"]

    views = [features_of("train", mirrored) for mirrored in ([False, True] if train.flip else [False])]
    features, labels = (torch.cat(tensors) for tensors in zip(*views, strict=True))
    val = features_of("val")
    # Features of one common scale suit one learning rate; the scale goes into the classifier afterwards.
    scale = features.square().mean().sqrt()
    features = features / scale

    def of(epoch: int, first: int) -> Iterator[Batch]:
        order = torch.from_numpy(np.random.default_rng((train.seed, epoch)).permutation(len(labels)))
        parts = order.to(labels.device).split(train.batch_size)[first:]
        return ((features[chosen], labels[chosen]) for chosen in parts)

    batches = Batches(of, per_epoch=-(-len(labels) // train.batch_size), photos=len(labels))
    val_batches = Batches(lambda epoch, first: [(val[0] / scale, val[1])], per_epoch=1, photos=len(val[1]))
    head = model.classifier
    try:
        return Fit(head, head, batches, val_batches, train, photos.device, on_epoch, checkpoints, "classifier").run()
    finally:
        with torch.no_grad():
            head.weight /= scale


@torch.inference_mode()
def _features(model: EfficientNet, photos: _Photos, batches: Batches, what: str) -> Batch:
    """The pooled features, float32 N x F, and the labels of all of `batches`."""
    features, labels = [], []
    for inputs, batch_labels in track(batches.of(0, 0), what, batches.per_epoch):
        with autocast(photos.device, photos.train.precision):
            features.append(model.forward_features(inputs).float())
        labels.append(batch_labels)
    return torch.cat(features).clone(), torch.cat(labels)
