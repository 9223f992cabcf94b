"""The model card states what is known and leaves out the rest, and fits into MLflow's description."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

from plumage.evaluation.slices import Slice, slice_table
from plumage.evaluation.tables import write_table
from plumage.models.description import FORMAT, Description
from plumage.models.networks import configure
from plumage.models.preprocessing import Preprocessing
from plumage.registry.decision import version_description
from plumage.registry.model_card import LONGEST_DESCRIPTION, ModelCardData, model_card, shortened

CLASSES = ["BLUE JAY", "BLACK | WHITE_OWL", "WREN"]
TEST: dict[str, Any] = {"accuracy": 0.9, "n": 120}
CALIBRATED: dict[str, Any] = {
    "accuracy": 0.9,
    "accuracy_ci95": {"low": 0.85, "high": 0.94},
    "balanced_accuracy": 0.88,
    "loss": 0.31,
    "ece": 0.021,
    "brier": 0.15,
    "n": 120,
    "uncalibrated": {"ece": 0.083, "brier": 0.17},
    "abstain": {"target_accuracy": 0.95, "threshold": 0.7, "coverage": 0.8, "accuracy": 0.96, "reached": 1},
}


def row(label: str, f1: float, support: int) -> dict[str, str]:
    return {"label": label, "precision": "0.5", "recall": "0.6", "f1": str(f1), "support": str(support)}


CARD_DATA = ModelCardData(
    name="birds",
    description=Description(
        format=FORMAT,
        architecture=configure("efficientnet_lite0"),
        classes=CLASSES,
        preprocessing=Preprocessing(size=96, crop_fraction=1.0),
    ),
    parameters=3_400_000,
    params={"train.recipe": "probe", "model.weights": "imagenet", "split.strategy": "stratified"},
    data={"source": "kaggle", "dataset": "owner/birds", "photos_per_class": {"a": 30, "b": 50}},
    split_sizes={"train": 900, "val": 50, "test": 120},
    metrics={"test": TEST},
    per_class=[row("WREN", 0.9, 40), row("BLUE JAY", 0.4, 4), row("BLACK | WHITE_OWL", 0.7, 40)],
    slices=[],
    lineage={"run": "abc", "plumage.version": "0.1.0", "git.commit": "c" * 40, "git.dirty": "true"},
    machine={"processor": "a fast one", "gpu": "none", "system": "Linux"},
)


def test_the_card_states_the_model_and_the_source_of_its_data() -> None:
    card = model_card(CARD_DATA)
    assert card.startswith("# birds\n")
    assert (
        "`efficientnet_lite0` (3,400,000 parameters), a linear classifier on a frozen network from `imagenet`" in card
    )
    assert "96 x 96 pixels" in card and "3 classes" in card
    assert "Source: kaggle (dataset owner/birds)." in card and "900 train, 50 val, 120 test (stratified split" in card
    assert "as stated by the source: none; ask the source" in card
    licensed = replace(CARD_DATA, data={**CARD_DATA.data, "licence": "cc0-1.0"})
    assert "as stated by the source: cc0-1.0" in model_card(licensed)
    assert "drawn by Plumage itself" in model_card(replace(CARD_DATA, data={"source": "sample"}))
    assert "c" * 40 + ", with uncommitted changes" in card


def test_metrics_missing_from_metrics_json_are_left_out() -> None:
    card = model_card(CARD_DATA)
    assert "| accuracy | 90.0% |  |" in card
    for absent in ("balanced", "Calibration", "abstain", "chance", "Slices", "None", "nan"):
        assert absent not in card


def test_metrics_show_their_intervals_and_calibration_before_and_after() -> None:
    card = model_card(replace(CARD_DATA, metrics={"test": CALIBRATED, "temperature": 1.4}))
    assert "| accuracy | 90.0% | 85.0% to 94.0% |" in card
    assert "| balanced accuracy | 88.0% |  |" in card
    assert "temperature of 1.400" in card and "| expected calibration error | 0.083 | 0.021 |" in card
    assert "below a probability of 0.700, it classifies 80.0% of the photos, 96.0% of them correctly" in card
    assert "known to be 85.0% to 94.0%" in card


def test_the_worst_classes_come_first_and_classes_with_few_photos_are_counted() -> None:
    card = model_card(CARD_DATA)
    lines = card.split("## Worst classes")[1].splitlines()
    named = [line.split(" | ")[0] for line in lines if line.startswith("| ") and not line.startswith("| class")]
    assert named == ["| BLUE JAY", "| BLACK \\| WHITE\\_OWL", "| WREN"]
    assert "1 of 3 classes has under 10 test photos" in card
    with_interval = {**row("BLUE JAY", 0.4, 4), "recall_low": "0.12", "recall_high": "0.9"}
    assert "| BLUE JAY | 0.60 | 0.12 to 0.90 |" in model_card(replace(CARD_DATA, per_class=[with_interval]))


def test_abstaining_is_reported_whether_or_not_the_target_is_reached() -> None:
    def sentence(**abstain: float) -> str:
        test = CALIBRATED | {"abstain": CALIBRATED["abstain"] | abstain}
        return next(
            line for line in model_card(replace(CARD_DATA, metrics={"test": test})).splitlines() if "target" in line
        )

    reached = (
        "below a probability of 0.700, it classifies 80.0% of the photos, 96.0% of them correctly (target: 95.0%)."
    )
    assert sentence().endswith(reached)
    missed = sentence(accuracy=0.94, reached=0)
    assert missed.endswith("94.0% of them correctly (target: 95.0%, which it reached on the val photos).")
    assert sentence(threshold=1.0, coverage=0.0, accuracy=0.0, reached=0) == (
        "No threshold reaches the target accuracy of 95.0%."
    )


def test_only_slices_that_are_worse_are_listed(tmp_path: Path) -> None:
    worse, same = Slice("brightness", 3, 80, 12, 20, 95, 100, 0.01), Slice("sharpness", 5, 9, 95, 100, 12, 20, 1.0)
    write_table(tmp_path / "slices.csv", slice_table([worse, same]))
    with (tmp_path / "slices.csv").open(encoding="utf-8", newline="") as file:
        card = model_card(replace(CARD_DATA, slices=list(csv.DictReader(file))))
    assert "brightness 3 to 80: accuracy 60% (36% to 81%, 20 photos) against 95% on the rest" in card
    assert "sharpness" not in card


def test_a_long_card_is_cut_after_a_section_and_points_to_the_rest() -> None:
    whole = model_card(CARD_DATA)
    assert shortened(whole, LONGEST_DESCRIPTION) == whole
    long = model_card(replace(CARD_DATA, per_class=[row(f"{'A' * 400} {number}", 0.5, 40) for number in range(10)]))
    short = shortened(long, LONGEST_DESCRIPTION)
    assert len(short) <= LONGEST_DESCRIPTION < len(long)
    assert "## Calibration" not in short and "## Data" in short and "Worst classes" not in short
    assert short.endswith("The rest is in MODEL_CARD.md, among the model's files.\n")


def test_text_from_outside_is_no_markup_and_no_command() -> None:
    hostile = "<img src=https://example.org/x.png>"
    card = model_card(
        replace(
            CARD_DATA,
            name=f"birds; $(reboot) {hostile}",
            params={**CARD_DATA.params, "model.weights": f"`{hostile}`", "data.url": "https://me:hunter2@host/b.zip"},
            data={"source": "url", "licence": f"[x](https://example.org) {hostile}\x1b[2J"},
            per_class=[row(hostile, 0.4, 4)],
            machine={"processor": hostile, "gpu": "none", "system": "Linux"},
            lineage={"run": "abc", "plumage.version": "0.1.0", "git.unknown": hostile},
        )
    )
    assert "<" not in card and "example.org" in card and "hunter2" not in card and "\x1b" not in card
    assert "://" not in card and "'models&#58;/birds; $(reboot)" in card
    assert version_description(hostile, card).startswith("Gate: &lt;img src=https&#58;//example.org/x.png&gt;\n")
