"""The typed parameters of params.yaml, one class per section.

A missing key takes the default written here (in `train`, that of its recipe in RECIPES). Each field's docstring lists its
valid values: error messages, docs/params.md and docs/params.schema.json show it.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumage.architectures import ARCHITECTURES, WITH_IMAGENET_WEIGHTS
from plumage.common.class_names import ClassNames

Scalar = str | int | float | bool | None
Recipe = Literal["scratch", "finetune", "probe"]
Precision = Literal["auto", "fp32", "bf16"]
ClassWeights = Literal["none", "balanced", "effective"]
if TYPE_CHECKING:
    ModelName = str
else:
    ModelName = Literal[tuple(ARCHITECTURES)]
MAX_PIXELS = 250_000_000
"""The default of `data.max_pixels`, and the limit for photos to predict: enough for phones of 200 megapixels."""
MAX_BYTES = 200_000_000
"""The default of `data.max_bytes`: enough for a TIFF of 24 megapixels with 16 bits per colour."""
PhotoSource = Literal["sample", "folder", "archive", "url", "kaggle", "huggingface"]
"""The modules of `plumage.data.sources` that can be `data.source`."""
NAME = r"^[^\s\x00-\x1f\x7f-\x9f{barred}]([^\x00-\x1f\x7f-\x9f{barred}]*[^\s\x00-\x1f\x7f-\x9f{barred}])?$"
"""A line of text without control characters, `barred` ones and spaces around it."""
LINE = r"^[^\x00\r\n]+$"
"""A path in one line."""
MAX_SEED = 2**63 - 1
"""Seeds up to this one fit torch's generators."""
DEFAULT_DATASETS = {
    "kaggle": "gpiosenka/100-bird-species",
    "huggingface": "yashikota/birds-525-species-image-classification",
}


class Section(BaseModel):
    """A section of params.yaml. Unknown keys and implicit conversions are errors."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Data(Section):
    """Where the photos come from."""

    source: PhotoSource = "sample"
    """sample (birds drawn by Plumage), folder or archive (your photos at `path`), url, kaggle or huggingface"""
    path: str = Field("data/photos", pattern=LINE)
    """a folder with one folder per class, or with train, valid and test above these; for `archive`, a zip, tar or tar.gz"""
    url: str | None = Field(None, pattern=r"^https?://[^\s/]+/\S+$")
    """http(s)://... of a zip, tar or tar.gz (url)"""
    sha256: str | None = Field(None, pattern=r"^[0-9a-fA-F]{64}$")
    """64 hexadecimal digits: the SHA-256 that the download must have (url); null: no check"""
    dataset: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+(/versions/\d+)?$",
        description="owner/name, or on Kaggle owner/name/versions/N (kaggle, huggingface); null: "
        + ", ".join(f"{name} for {source}" for source, name in DEFAULT_DATASETS.items()),
    )
    revision: str | None = Field(None, min_length=1)
    """a commit, tag or branch (huggingface); null: the newest when it is fetched"""
    classes: dict[
        Annotated[str, Field(pattern=NAME.format(barred=""))], Annotated[str, Field(pattern=NAME.format(barred="/"))]
    ] = {}
    """old name: new name, for each class that is renamed; several old names with one new name are merged (docs/data.md)"""
    min_size: int = Field(32, ge=1, le=10_000)
    """1 to 10000 pixels: photos with a side below this are refused"""
    max_pixels: int = Field(MAX_PIXELS, ge=1_000_000, le=4_000_000_000)
    """1000000 to 4000000000: photos with more pixels are refused, to protect the memory"""
    max_bytes: int = Field(MAX_BYTES, ge=1_000, le=2_000_000_000)
    """1000 to 2000000000: larger photo files are refused unread, to protect the memory"""
    max_refused: float = Field(0.01, ge=0, le=1)
    """0 to 1: the share of refused photos above which the stage fails"""
    species: int = Field(10, ge=4, le=1000)
    """4 to 1000: the number of species (sample)"""
    images_per_species: int = Field(150, ge=3, le=100_000)
    """3 to 100000: photos per species (sample)"""
    image_size: int = Field(96, ge=32, le=224)
    """32 to 224 pixels: the side of a photo (sample)"""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """0 to 2^63 - 1: the random seed (sample)"""


class Split(Section):
    """Which photos are for training (train), for choosing (val) and for the final metrics (test)."""

    strategy: Literal["stratified", "official"] = "stratified"
    """stratified (drawn from all photos, class by class) or official (the splits that the data set comes with)"""
    similarity: float | None = Field(0.94, ge=0.8, le=1)
    """0.8 to 1: near-duplicates, whose thumbnails correlate at least this much, go to one split; null: no check"""
    on_leak: Literal["repair", "refuse"] = "repair"
    """repair (leave the photo out of train, then val) or refuse: when official splits share a photo"""
    val: float = Field(0.05, gt=0, le=0.5)
    """over 0 to 0.5: the share of the photos that are not test"""
    test: float = Field(0.10, gt=0, le=0.5)
    """over 0 to 0.5: the share of each class"""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """0 to 2^63 - 1"""


class Model(Section):
    """The network and its initial weights."""

    name: ModelName = Field("efficientnet_b0", description=", ".join(ARCHITECTURES))
    weights: str | None = Field(None, pattern=LINE)
    """null (random), imagenet, or the path of a .safetensors or PyTorch file (DVC sees only its name: rename a changed file)"""
    image_size: int | None = Field(None, ge=32, le=1024)
    """32 to 1024 pixels: the side of the model's input; null: 9/7 of the pretrained size; from scratch, the photos' size"""
    crop: float | None = Field(None, gt=0.3, le=1)
    """over 0.3 to 1: the central crop's side as a share of the photo's shorter side; null: 1"""
    dropout: float | None = Field(None, ge=0, lt=1)
    """0 to under 1; null: 0 with weights; from scratch, the architecture's"""
    drop_path: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="0 to under 1: the rate of stochastic depth at the last block; null: 0 with weights; from scratch, 0.05 "
        "(the paper's 0.2 is for hundreds of epochs)",
    )

    def weights_from(self, root: Path) -> str | None:
        """`weights`; a file's path is relative to the repository's `root`."""
        return str(root / self.weights) if self.weights and self.weights != "imagenet" else self.weights


class Train(Section):
    """How the model is trained. Null takes the recipe's default."""

    recipe: Recipe = "scratch"
    """scratch, finetune or probe"""
    epochs: int | None = Field(None, ge=1, le=10_000)
    """an integer, 1 or more"""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] | None = None
    """1 to 65536 photos, over all processes; auto: the recipe's size, in micro-batches that fit in memory"""
    grad_accumulation: int | None = Field(None, ge=1, le=65_536)
    """1 or more: batches per optimizer step"""
    optimizer: Literal["adamw", "sgd"] | None = None
    """adamw or sgd (Nesterov momentum 0.9)"""
    lr: float | None = Field(None, gt=0, le=100)
    """over 0 to 100: the peak learning rate"""
    head_lr: float | None = Field(None, gt=0, le=100)
    """over 0 to 100: the classifier's peak learning rate"""
    weight_decay: float | None = Field(None, ge=0, le=10)
    """0 to 10; biases and norms have none"""
    warmup_epochs: float | None = Field(None, ge=0)
    """0 or more: epochs of linear warm-up before the cosine decay"""
    label_smoothing: float | None = Field(None, ge=0, lt=1)
    """0 to under 1"""
    ema_decay: float | None = Field(None, ge=0, lt=1)
    """0 (off) to under 1: the decay per step of the weights' exponential moving average"""
    min_scale: float | None = Field(None, gt=0, le=1)
    """over 0 to 1: the smallest share of a photo's area in a random crop"""
    flip: bool | None = None
    """true or false: mirror half of the photos"""
    max_grad_norm: float | None = Field(None, ge=0)
    """0 (off) or more: clip the gradient to this norm"""
    patience: int | None = Field(None, ge=1)
    """1 or more: epochs without a better val accuracy before training stops"""
    freeze_norm: bool | None = None
    """true or false: keep the pretrained statistics of batch norm"""
    frozen_stages: int | None = Field(None, ge=0, le=7)
    """0 to 7: freeze this many of the seven stages, and the stem; 0: nothing"""
    size_ratio: float | None = Field(None, ge=0.25, le=1)
    """0.25 to 1: the training size as a share of the model's input size, rounded to a multiple of 32"""
    soup: int | None = Field(None, ge=1, le=100)
    """1 to 100: fine-tunings, one after the other, whose weights are averaged"""
    wise_ft_alpha: float | None = Field(None, ge=0, le=1)
    """0 to 1: interpolate between the initial (0) and the fine-tuned (1) weights"""
    l2: float | None = Field(None, gt=0, le=1e6)
    """over 0 to 1000000: the L2 penalty of the probe; null: chosen on held-out training photos"""
    class_weights: ClassWeights = "none"
    """none, balanced (photos count in inverse proportion to the size of their class) or effective (likewise, less so; Cui et al. 2019)"""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """0 to 2^63 - 1"""
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    """auto, cpu, mps, cuda or cuda:N"""
    precision: Precision = "auto"
    """auto (bf16 if the hardware supports it, else fp32), fp32 or bf16"""
    compile: bool = False
    """true or false: use torch.compile, which takes minutes at the first step"""
    accelerate: bool = True
    """true or false: fast layers, our kernels, and ONNX Runtime for inference on a CPU; false: plain torch"""
    deterministic: bool = True
    """true or false: the same bytes from the same parameters, photos, code and machine; false: faster on a GPU"""
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = 1
    """1 to 1024 processes on this machine; auto: one per GPU, or 1"""
    sync_norm: bool = False
    """true or false: synchronise batch norm between processes, for small batches"""
    max_bad_steps: int = Field(10, ge=0)
    """0 or more: consecutive steps that may be skipped because the loss or gradient isn't finite"""
    checkpoint_minutes: float = Field(5, gt=0)
    """over 0: minutes between checkpoints within an epoch; each epoch ends with one"""

    def resolved(self) -> "ResolvedTrain":
        """Replace each null by the recipe's default. Keys that the recipe lacks have no effect."""
        given = {key: value for key, value in self.model_dump().items() if value is not None}
        return ResolvedTrain.model_validate({**RECIPES["finetune"], **RECIPES[self.recipe], **given})


class ResolvedTrain(Train):
    """`Train` without nulls, except in `l2`."""

    epochs: int
    batch_size: int | Literal["auto"]
    grad_accumulation: int
    optimizer: Literal["adamw", "sgd"]
    lr: float
    head_lr: float
    weight_decay: float
    warmup_epochs: float
    label_smoothing: float
    ema_decay: float
    min_scale: float
    flip: bool
    max_grad_norm: float
    patience: int
    freeze_norm: bool
    frozen_stages: int
    size_ratio: float
    soup: int
    wise_ft_alpha: float

    @property
    def augmentation(self) -> "Augmentation":
        """The random changes that a training photo goes through."""
        return Augmentation(min_scale=self.min_scale, flip=self.flip)

    @property
    def all_epochs(self) -> int:
        """The epochs of all trainings, one after the other."""
        return self.epochs * (self.soup if self.recipe == "finetune" else 1)

    def decisive(self) -> dict[str, Scalar]:
        """The parameters that the result depends on. The number of processes only changes rounding."""
        return self.model_dump(exclude={"checkpoint_minutes", "processes"})


@dataclass(frozen=True)
class Augmentation:
    """What `plumage.data.loading.transforms.train_view` does to a photo; the keys of `train` of the same names."""

    min_scale: float
    flip: bool


RECIPES: dict[Recipe, dict[str, Scalar]] = {
    "scratch": dict(
        epochs=12, batch_size=16, grad_accumulation=1, optimizer="adamw", lr=2e-3, head_lr=2e-3, weight_decay=0.02,
        warmup_epochs=0.5, label_smoothing=0.1, ema_decay=0.98, min_scale=0.75, flip=True, max_grad_norm=5.0, patience=20,
        freeze_norm=False, frozen_stages=0, size_ratio=1.0,
    ),
    "finetune": dict(
        epochs=4, batch_size=32, grad_accumulation=1, optimizer="adamw", lr=2e-4, head_lr=1e-3, weight_decay=0.02,
        warmup_epochs=0.5, label_smoothing=0.1, ema_decay=0.0, min_scale=0.5, flip=True, max_grad_norm=1.0, patience=4,
        freeze_norm=True, frozen_stages=3, size_ratio=0.78, soup=2, wise_ft_alpha=0.8, l2=None,
    ),
    "probe": dict(epochs=200, flip=True, l2=None),
}  # fmt: skip
"""The values of null keys, by recipe. A recipe doesn't accept keys that it lacks; finetune has all."""


class Evaluate(Section):
    """How the model is evaluated on the test photos."""

    batch_size: int = Field(32, ge=1, le=65_536)
    """an integer, 1 or more"""
    bins: int = Field(15, ge=2, le=1000)
    """2 to 1000: bins of the expected calibration error"""
    bootstrap: int = Field(1000, ge=100, le=100_000)
    """100 to 100000: bootstrap resamples for the 95% interval of the log loss"""
    target_accuracy: float = Field(0.95, gt=0, le=1)
    """over 0 to 1: the accuracy that a model that may abstain should reach; val gives the threshold"""
    folds: int | None = Field(None, ge=2, le=100)
    """2 to 100: also judge the recipe on all photos, by cross-validation with this many folds; null: off"""
    tta: bool = False
    """true or false: also evaluate the mean over each photo and its mirror image"""
    label_errors: bool = True
    """true or false: list photos of all splits whose label is likely wrong; takes a pass over the train photos"""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """0 to 2^63 - 1"""


class Register(Section):
    """The model's name in the MLflow registry, and the conditions for becoming champion."""

    model_name: str = Field("bird-classifier", max_length=250, pattern=NAME.format(barred=r"/:@.%#?\"'"))
    """up to 250 characters without spaces around them, and without / : @ . % # ? and quotes, which models:/NAME@champion can't have"""
    gate: Literal["superior", "not_inferior"] = "superior"
    """superior (significantly better than the champion) or not_inferior (significantly less than `margin` worse)"""
    margin: float = Field(0.01, gt=0, le=0.5)
    """over 0 to 0.5: the loss of accuracy that is tolerated (not_inferior, or if the classes differ)"""
    alpha: float = Field(0.05, gt=0, le=0.25)
    """over 0 to 0.25: the significance level, which bounds how often the gate errs in favour of a challenger"""
    min_new_recall: float = Field(0.2, ge=0, lt=1)
    """0 to under 1: the recall of the classes that the champion lacks, together, has to exceed this, and that of guessing"""
    min_accuracy: float | None = Field(None, ge=0, le=1)
    """0 to 1: the lowest accepted test accuracy; null: any"""
    min_class_recall: float | None = Field(None, ge=0, le=1)
    """0 to 1: the lowest accepted recall of any class with test photos; null: any"""
    max_ece: float | None = Field(None, ge=0, le=1)
    """0 to 1: the highest accepted expected calibration error; null: any"""
    max_latency_ms: float | None = Field(
        None,
        gt=0,
        description="over 0: maximum latency in milliseconds, from one photo's bytes to its probabilities, on the CPU that "
        "registers (median of 30 after warm-up); null: any",
    )
    max_size_mb: float | None = Field(None, gt=0)
    """over 0: the highest accepted size of the weights file, in millions of bytes; null: any"""


class Tracking(Section):
    """Where MLflow records the run."""

    experiment: str = Field("plumage", max_length=200, pattern=NAME.format(barred=""))
    """the name of an MLflow experiment, 1 to 200 characters without spaces around them"""


class Params(Section):
    """All parameters of params.yaml."""

    data: Data = Data()
    split: Split = Split()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(Register(), alias="register")
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _check_combinations(self) -> "Params":
        if problems := list(self._wrong_combinations()):
            raise ValueError("\n".join(problems))
        return self

    def _wrong_combinations(self) -> Iterator[str]:
        try:
            ClassNames(self.data.classes)
        except ValueError as error:
            yield str(error)
        if self.data.source == "url" and self.data.url is None:
            yield "data.url: got null with data.source url; takes the http(s)://... address of an archive"
        if self.train.recipe != "scratch" and self.model.weights is None:
            yield (
                f"model.weights: got null with train.recipe {self.train.recipe}; takes imagenet or a weights file "
                "(or set train.recipe to scratch)"
            )
        for key in (key for key in RECIPES["finetune"] if key not in RECIPES[self.train.recipe]):
            if (value := getattr(self.train, key)) is not None:
                yield (
                    f"train.{key}: got {value!r} with train.recipe {self.train.recipe}, which does not use it; takes null"
                )
        if self.model.weights == "imagenet" and self.model.name not in WITH_IMAGENET_WEIGHTS:
            yield (
                f"model.weights: got imagenet for {self.model.name}; takes null or a weights file "
                f"(there are ImageNet weights for {', '.join(WITH_IMAGENET_WEIGHTS)})"
            )

    def flat(self, *but: str) -> dict[str, Scalar]:
        """Every parameter as `section.key`, with the recipe's defaults, without the sections `but`: what MLflow shows.

        `data.classes` is JSON text.
        """
        sections = self.model_dump(by_alias=True)
        lacking = RECIPES["finetune"].keys() - RECIPES[self.train.recipe].keys()
        sections["train"] = self.train.resolved().model_dump(exclude=lacking)
        sections["data"]["classes"] = json.dumps(self.data.classes, ensure_ascii=False)
        kept = {name: section for name, section in sections.items() if name not in but}
        return {f"{name}.{key}": value for name, section in kept.items() for key, value in section.items()}


def sections() -> dict[str, type[Section]]:
    """The class of each section, by its name in params.yaml."""
    return {field.alias or name: type(field.default) for name, field in Params.model_fields.items()}
