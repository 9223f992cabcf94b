"""The typed parameters of params.yaml, one class a section.

A key left out takes the default written here (for `train`, its recipe's, RECIPES). Each field's description says what it takes:
`plumage.params` tells it of a wrong one, and `plumage.cli.reference` makes docs/params.md from them.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from plumage.architectures import ARCHITECTURES, WITH_IMAGENET_WEIGHTS

Scalar = str | int | float | bool | None
Recipe = Literal["scratch", "finetune", "probe"]
Precision = Literal["auto", "fp32", "bf16"]
if TYPE_CHECKING:
    ModelName = str
else:
    ModelName = Literal[tuple(ARCHITECTURES)]
DEFAULT_DATASETS = {
    "kaggle": "gpiosenka/100-bird-species",
    "huggingface": "yashikota/birds-525-species-image-classification",
}


class Section(BaseModel):
    """A section of params.yaml: unknown keys and silent conversions are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Data(Section):
    """Where the photos come from."""

    source: Literal["sample", "folder", "archive", "url", "kaggle", "huggingface"] = Field(
        "sample",
        description="sample (birds drawn by Plumage), folder or archive (your photos, at `path`), url, kaggle or huggingface",
    )
    path: str = Field(
        "data/photos",
        min_length=1,
        description="a folder of class folders, or of train|valid|test over class folders; for `archive` a zip, tar or tar.gz",
    )
    url: str | None = Field(
        None, pattern=r"^https?://[^\s/]+/\S+$", description="http(s)://... of a zip, tar or tar.gz (url)"
    )
    sha256: str | None = Field(
        None,
        pattern=r"^[0-9a-fA-F]{64}$",
        description="64 hexadecimal digits: what is downloaded must have this SHA-256 (url); null: it is not checked",
    )
    dataset: str | None = Field(
        None,
        pattern=r"^[\w.-]+/[\w.-]+(/versions/\d+)?$",
        description="owner/name, on Kaggle also owner/name/versions/N (kaggle, huggingface); null: "
        + ", ".join(f"{name} for {source}" for source, name in DEFAULT_DATASETS.items()),
    )
    revision: str | None = Field(
        None, min_length=1, description="a commit, tag or branch (huggingface); null: what is newest when it is fetched"
    )
    min_size: int = Field(32, ge=1, le=10_000, description="1 to 10000 pixels: photos with a shorter side are refused")
    max_refused: float = Field(
        0.01, ge=0, le=1, description="0 to 1: the share of the photos that may be refused before the stage stops"
    )
    species: int = Field(10, ge=4, le=1000, description="4 to 1000 (sample: the number of species)")
    images_per_species: int = Field(150, ge=3, le=100_000, description="3 or more (sample: the photos of each species)")
    image_size: int = Field(96, ge=32, le=224, description="32 to 224 (sample: the side of a photo in pixels)")
    seed: int = Field(0, ge=0, description="a whole number, 0 or more (sample: the seed of the drawing)")


class Split(Section):
    """Which photos are for training, for choosing (val) and for the final figures (test)."""

    strategy: Literal["stratified", "official"] = Field(
        "stratified",
        description="stratified (drawn anew from all photos) or official (the parts the data set comes with)",
    )
    similarity: float | None = Field(
        0.94,
        ge=0.8,
        le=1,
        description="0.8 to 1: photos at least so much alike go to one part (the correlation of their thumbnails); null: none do",
    )
    on_leak: Literal["mend", "refuse"] = Field(
        "mend",
        description="mend (leave out of train, then val, what is also in test) or refuse: when an official split has a photo in two parts",
    )
    val: float = Field(0.05, gt=0, le=0.5, description="over 0 to 0.5: the share of what is not test")
    test: float = Field(0.10, gt=0, le=0.5, description="over 0 to 0.5: the share of each class")
    seed: int = Field(0, ge=0, description="a whole number, 0 or more")


class Model(Section):
    """The network and the weights that it starts from."""

    name: ModelName = Field("efficientnet_b0", description=", ".join(ARCHITECTURES))
    weights: str | None = Field(
        None,
        min_length=1,
        description="null (random), imagenet, or the path of a .safetensors or .pth file (DVC sees its name only: rename one that changes)",
    )
    image_size: int | None = Field(
        None,
        ge=32,
        le=1024,
        description="32 to 1024 pixels: the side of the model's input; null: 9/7 of that of the weights, from scratch that of the photos",
    )
    crop: float | None = Field(
        None,
        gt=0.3,
        le=1,
        description="over 0.3 to 1: the share of the short side that the central crop keeps; null: 1, all of it",
    )
    dropout: float | None = Field(
        None, ge=0, lt=1, description="0 to under 1; null: 0 with weights, from scratch the architecture's"
    )
    drop_path: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="0 to under 1: stochastic depth's rate at the last block; null: 0 with weights, from scratch 0.05 "
        "(the paper's 0.2 is for hundreds of epochs)",
    )

    def weights_from(self, root: Path) -> str | None:
        """`weights`, a file's path being meant from the repository's `root`."""
        return str(root / self.weights) if self.weights and self.weights != "imagenet" else self.weights


class Train(Section):
    """How it is trained. Every null takes the recipe's default."""

    recipe: Recipe = Field("scratch", description="scratch, finetune or probe")
    epochs: int | None = Field(None, ge=1, le=10_000, description="a whole number, 1 or more")
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] | None = Field(
        None,
        description="1 to 65536 photos, on all processes together; auto: the recipe's, or the part of it that fits, accumulated to it",
    )
    grad_accumulation: int | None = Field(
        None, ge=1, le=65_536, description="1 or more: batches whose gradients make a step"
    )
    optimizer: Literal["adamw", "sgd"] | None = Field(None, description="adamw or sgd (Nesterov momentum 0.9)")
    lr: float | None = Field(None, gt=0, le=100, description="a number over 0, to 100: the peak learning rate")
    head_lr: float | None = Field(
        None, gt=0, le=100, description="a number over 0, to 100: the classifier's peak learning rate"
    )
    weight_decay: float | None = Field(None, ge=0, le=10, description="0 to 10; never applied to biases and norms")
    warmup_epochs: float | None = Field(None, ge=0, description="0 or more: epochs of linear warm-up before the cosine")
    label_smoothing: float | None = Field(None, ge=0, lt=1, description="0 to under 1")
    ema_decay: float | None = Field(
        None, ge=0, lt=1, description="0 (none) to under 1: the decay of the weights' moving average at each step"
    )
    min_scale: float | None = Field(
        None, gt=0, le=1, description="over 0 to 1: the smallest share of a photo's area in a random crop"
    )
    flip: bool | None = Field(None, description="true or false: mirror half of the photos")
    max_grad_norm: float | None = Field(
        None, ge=0, description="0 (no limit) or more: the largest norm of a step's gradient"
    )
    patience: int | None = Field(
        None, ge=1, description="1 or more: epochs without a better val accuracy before it stops"
    )
    freeze_norm: bool | None = Field(
        None, description="true or false: keep batch norm's statistics as the weights bring them"
    )
    frozen_stages: int | None = Field(
        None,
        ge=0,
        le=7,
        description="0 to 7: with 1 or more, the stem and so many of the seven stages stay as they are",
    )
    size_ratio: float | None = Field(
        None,
        ge=0.25,
        le=1,
        description="0.25 to 1: the side of a training view as a share of the model's input, to the nearest multiple of 32",
    )
    soup: int | None = Field(
        None, ge=1, le=100, description="1 or more fine-tunings, one after the other, whose weights are averaged"
    )
    wise_ft_alpha: float | None = Field(
        None,
        ge=0,
        le=1,
        description="0 to 1: how far of the way from the weights that fine-tuning starts from to those that it comes to the network ends",
    )
    l2: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="a number over 0: the probe's penalty on its weights; null: chosen on a part of the training photos",
    )
    seed: int = Field(0, ge=0, description="a whole number, 0 or more")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, mps, cuda or cuda:N")
    precision: Precision = Field(
        "auto", description="auto (bf16 on a GPU or processor that computes in it, else fp32), fp32 or bf16"
    )
    compile: Literal["auto"] | bool = Field(
        "auto",
        description="auto (true on CUDA), true or false: fuse operations with torch.compile, minutes at the first step",
    )
    accelerate: bool = Field(
        True,
        description="true or false: fast layers and C kernels on a CPU; false: plain torch",
    )
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        1, description="1 or more processes on this machine; auto: one a GPU, or 1"
    )
    sync_norm: bool = Field(
        False, description="true or false: batch norm over the batch of all processes, for small batches"
    )
    max_bad_steps: int = Field(
        10,
        ge=0,
        description="0 or more: steps in a row that may be skipped as their loss or gradient is no finite number",
    )
    checkpoint_minutes: float = Field(
        5, gt=0, description="a number over 0: minutes between checkpoints within an epoch; each epoch ends with one"
    )

    def resolved(self) -> "ResolvedTrain":
        """These parameters with the recipe's defaults where a key is null; those that the recipe lacks are without effect."""
        given = {key: value for key, value in self.model_dump().items() if value is not None}
        return ResolvedTrain.model_validate({**RECIPES["finetune"], **RECIPES[self.recipe], **given})


class ResolvedTrain(Section):
    """`Train` with nothing left open."""

    recipe: Recipe
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
    l2: float | None
    seed: int
    device: str
    precision: Precision
    compile: Literal["auto"] | bool
    accelerate: bool
    processes: Literal["auto"] | int
    sync_norm: bool
    max_bad_steps: int
    checkpoint_minutes: float

    @property
    def all_epochs(self) -> int:
        """Those of all trainings, one after the other."""
        return self.epochs * (self.soup if self.recipe == "finetune" else 1)

    def decisive(self) -> dict[str, Scalar]:
        """What the outcome depends on, but for the rounding of another number of processes."""
        return self.model_dump(exclude={"checkpoint_minutes", "processes"})


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
"""What a recipe fills in where a key is null. A key that a recipe lacks, it does not take; finetune has all."""


class Evaluate(Section):
    """How the test photos are judged."""

    batch_size: int = Field(32, ge=1, le=65_536, description="a whole number, 1 or more")
    bins: int = Field(15, ge=2, le=1000, description="2 to 1000: the bins of the expected calibration error")
    bootstrap: int = Field(
        1000, ge=100, le=100_000, description="100 to 100000: the resamples behind the 95% intervals"
    )
    target_accuracy: float = Field(
        0.95,
        gt=0,
        le=1,
        description="over 0 to 1: the accuracy that is wanted of a model that may abstain; the threshold for it is sought on val",
    )
    tta: bool = Field(False, description="true or false: judge the mean over each photo and its mirror image as well")
    seed: int = Field(0, ge=0, description="a whole number, 0 or more")


class Register(Section):
    """Where the model goes in MLflow's registry, and what it takes to become champion there."""

    model_name: str = Field(
        "bird-classifier", pattern=r"^[^/:.%\"']+$", description="a name without / : . % and quotes"
    )
    gate: Literal["superior", "not_inferior"] = Field(
        "superior",
        description="superior (shown to be better than the champion) or not_inferior (shown not to be worse by `margin` or more)",
    )
    margin: float = Field(0.01, gt=0, le=0.5, description="over 0 to 0.5: the accuracy that may be lost (not_inferior)")
    alpha: float = Field(
        0.05, gt=0, le=0.25, description="over 0 to 0.25: how often the gate may err in favour of a challenger"
    )
    min_photos: int = Field(
        50, ge=1, description="1 or more: with fewer test photos that both can be judged on, the champion stays"
    )
    min_accuracy: float | None = Field(None, ge=0, le=1, description="0 to 1: of the test photos; null: any")
    min_class_recall: float | None = Field(
        None, ge=0, le=1, description="0 to 1: the recall of the worst class with test photos; null: any"
    )
    max_ece: float | None = Field(None, ge=0, le=1, description="0 to 1: expected calibration error; null: any")
    max_latency_ms: float | None = Field(
        None,
        gt=0,
        description="a number over 0: milliseconds from a photo's bytes to its probabilities, one photo at a time, on the CPU of "
        "the machine that registers (the median of 30, warmed up); null: any",
    )
    max_size_mb: float | None = Field(
        None, gt=0, description="a number over 0: millions of bytes of the weights' file; null: any"
    )


class Tracking(Section):
    """Where the run goes in MLflow."""

    experiment: str = Field(
        "plumage", min_length=1, max_length=200, description="an experiment's name, 1 to 200 characters"
    )


class Params(Section):
    """The whole of params.yaml."""

    data: Data = Data()
    split: Split = Split()
    model: Model = Model()
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    register_: Register = Field(Register(), alias="register")
    tracking: Tracking = Tracking()

    @model_validator(mode="after")
    def _fit_together(self) -> "Params":
        if self.data.source == "url" and self.data.url is None:
            raise ValueError("data.url: got null with data.source url; takes the http(s)://... address of an archive")
        if self.train.recipe != "scratch" and self.model.weights is None:
            raise ValueError(
                f"model.weights: got null with train.recipe {self.train.recipe}; takes imagenet or a weights file "
                "(or set train.recipe to scratch)"
            )
        for key in RECIPES["finetune"].keys() - RECIPES[self.train.recipe].keys():
            if (value := getattr(self.train, key)) is not None:
                raise ValueError(
                    f"train.{key}: got {value!r} with train.recipe {self.train.recipe}, which has no such setting; takes null"
                )
        if self.model.weights == "imagenet" and self.model.name not in WITH_IMAGENET_WEIGHTS:
            raise ValueError(
                f"model.weights: got imagenet for {self.model.name}; takes null or a weights file "
                f"(there are ImageNet weights for {', '.join(WITH_IMAGENET_WEIGHTS)})"
            )
        return self

    def flat(self, but: str | None = None) -> dict[str, Scalar]:
        """Every parameter as `section.key`, the recipe's defaults filled in, `but` one section: what MLflow shows."""
        sections = self.model_dump(by_alias=True)
        lacking = RECIPES["finetune"].keys() - RECIPES[self.train.recipe].keys()
        sections["train"] = self.train.resolved().model_dump(exclude=lacking)
        return {
            f"{name}.{key}": value
            for name, section in sections.items()
            if name != but
            for key, value in section.items()
        }


def sections() -> dict[str, type[Section]]:
    """Each section's name in params.yaml, and its class."""
    return {field.alias or name: type(field.default) for name, field in Params.model_fields.items()}
