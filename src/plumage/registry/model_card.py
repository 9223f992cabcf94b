"""The model card, in Markdown: what a model is for, how good it is, and its limits.

After Mitchell et al. 2019, "Model Cards for Model Reporting". The card is a version's description in the registry and a
file of the logged model. Metrics that are missing from metrics.json are left out.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from plumage.common import paths
from plumage.common.figures import share
from plumage.common.text import code_span, markdown, some
from plumage.evaluation.folds import describe_folds
from plumage.evaluation.metric_table import CALIBRATION, HEADLINES
from plumage.models.description import Description
from plumage.tracking import tags
from plumage.tracking.lineage import DIFF_FILE

LONGEST_DESCRIPTION = 5000
"""Characters: the width of MLflow's column. PostgreSQL and MySQL refuse more, SQLite does not."""
NAMED_CLASSES = 8
LISTED_CLASSES = 10
FEW_PHOTOS = 10
"""With fewer test photos a class's metrics say little: for 10 of 10 correct, the exact 95% interval starts at 0.69."""
RECIPES = {
    "scratch": "trained from random weights",
    "finetune": "fine-tuned",
    "probe": "a linear classifier on a frozen network",
}


@dataclass(frozen=True)
class ModelCardData:
    """Everything that a card is written from."""

    name: str
    """The registered model's."""
    description: Description
    parameters: int
    params: Mapping[str, Any]
    """Flat: `section.key`."""
    data: Mapping[str, Any]
    """reports/data.json."""
    split_sizes: Mapping[str, int]
    """The number of photos in train, val and test."""
    metrics: Mapping[str, Any]
    """reports/metrics.json."""
    per_class: Sequence[Mapping[str, str]]
    """The rows of reports/per_class.csv."""
    slices: Sequence[Mapping[str, str]]
    """The rows of reports/slices.csv."""
    lineage: Mapping[str, str]
    """The run's id under `run`, and the tags of `plumage.tracking.lineage.lineage_tags`."""
    machine: Mapping[str, str]


def model_card(card_data: ModelCardData) -> str:
    """The card in Markdown, the most important sections first."""
    classes = len(card_data.description.classes)
    uri = shlex.quote(f"models:/{card_data.name}@champion")
    serve = f"mlflow models serve -m {uri} --env-manager virtualenv"
    sections = {
        "What it is": _what_it_is(card_data),
        "Figures": _figures(card_data.metrics),
        "Intended use": [
            f"- For photos that show one subject of one of the {classes:,} classes and resemble the training photos: "
            "to sort and search collections, or to make a suggestion that a person confirms.",
            "- Not for decisions about people, safety, law or protected animals without an expert; "
            "not for other subjects, drawings, several subjects per photo, counting or localisation.",
        ],
        "Use elsewhere": [
            f"- {code_span(serve)} installs what its "
            "`requirements.txt` lists and answers over HTTP. Plumage is not needed.",
        ],
        "Limits": _limits(card_data),
        "Data": _data(card_data),
        "Calibration": _calibration(card_data.metrics),
        "Worst classes": _worst_classes(card_data.per_class),
        "Slices that are worse": _slices(card_data.slices),
        "Lineage": _lineage(card_data),
    }
    written = [f"## {title}\n\n" + "\n".join(lines) for title, lines in sections.items() if lines]
    return f"# {markdown(card_data.name)}\n\n" + "\n\n".join(written) + "\n"


def shortened(card: str, limit: int) -> str:
    """The card cut to `limit` characters, after a whole section where possible, with a pointer to the full card."""
    if len(card) <= limit:
        return card
    rest = "\n\nThe rest is in MODEL_CARD.md, among the model's files.\n"
    cut = card.rfind("\n\n## ", 0, limit - len(rest) + 1)
    return card[:cut] + rest if cut > 0 else card[: limit - len(rest)] + rest


def _what_it_is(card_data: ModelCardData) -> list[str]:
    preprocessing, params = card_data.description.preprocessing, card_data.params
    weights = params.get("model.weights")
    start = f" from {code_span(str(weights))} weights" if weights else ""
    recipe = RECIPES.get(str(params.get("train.recipe")), "trained")
    size, classes = preprocessing.size, card_data.description.classes
    names = some(list(map(markdown, classes)), NAMED_CLASSES)
    return [
        f"- {code_span(card_data.description.architecture.name)} ({card_data.parameters:,} parameters), {recipe}{start}.",
        f"- Input: a photo; the model resizes and crops it to {size} x {size} pixels. Output: a probability for each "
        f"of {len(classes):,} classes: {names}.",
    ]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    test = metrics["test"]
    photos = test.get("n", 0)
    number = f"{photos:,} " if photos else ""
    lines = [f"On {number}test photos that it was not trained on:", "", "| | | 95% interval |", "|---|---|---|"]
    for metric in HEADLINES:
        if metric.name in test:
            interval = test.get(f"{metric.name}_ci95", {})
            span = " to ".join(metric.written(interval[end], photos) for end in interval)
            lines.append(f"| {metric.label} | {metric.written(test[metric.name], photos)} | {span} |")
    if "folds" in metrics:
        about = "This judges the recipe, trained anew for each fold."
        lines += ["", f"By cross-validation, {describe_folds(metrics)}. {about}"]
    if "tta" in test:
        lines += [
            "",
            f"Accuracy when averaged over each photo and its mirror image: {share(test['tta']['accuracy'], photos)}.",
        ]
    abstain = test.get("abstain")
    if abstain and abstain["coverage"]:
        but = "" if abstain["reached"] else ", which it reached on the val photos"
        lines += [
            "",
            f"If it abstains below a probability of {abstain['threshold']:.3f}, "
            f"it classifies {share(abstain['coverage'], photos)} of the photos, {share(abstain['accuracy'], photos)} of them "
            f"correctly{_span(abstain.get('accuracy_ci95'), photos)} (target: {abstain['target_accuracy']:.1%}{but}).",
        ]
    elif abstain:
        lines += ["", f"No threshold reaches the target accuracy of {abstain['target_accuracy']:.1%}."]
    return lines


def _span(interval: Mapping[str, float] | None, photos: int) -> str:
    return f", 95% interval {share(interval['low'], photos)} to {share(interval['high'], photos)}" if interval else ""


def _calibration(metrics: Mapping[str, Any]) -> list[str]:
    test = metrics["test"]
    before = test.get("uncalibrated", {})
    lines = []
    if "temperature" in metrics:
        temperature = f"{metrics['temperature']:.3f}"
        lines = [f"The logits are divided by a temperature of {temperature}, fitted on the val photos.", ""]
    photos = test.get("n", 0)
    known = [metric for metric in CALIBRATION if metric.name in test and (before or metric not in HEADLINES)]
    if not before:
        return lines + [f"- {metric.label}: {metric.written(test[metric.name], photos)}" for metric in known]
    rows = [
        f"| {metric.label} | {metric.written(before[metric.name], photos)} | {metric.written(test[metric.name], photos)} |"
        for metric in known
        if metric.name in before
    ]
    return [*lines, "| | before | now |", "|---|---|---|", *rows]


def _limits(card_data: ModelCardData) -> list[str]:
    classes, metrics = len(card_data.description.classes), card_data.metrics
    lines = [
        f"- It knows {classes:,} classes only: a photo of anything else gets one of their names, sometimes with a high "
        "probability.",
        "- A probability estimates how often such predictions are correct on photos like the test photos; on other photos it "
        "is less reliable.",
    ]
    if interval := metrics["test"].get("accuracy_ci95"):
        low, high = (share(interval[end], metrics["test"].get("n", 0)) for end in ("low", "high"))
        lines.append(
            f"- Its accuracy on such photos is known to be {low} to {high}. If another model's interval overlaps this one, that "
            "says little: compare the two on the same photos."
        )
    if few := sum(int(row["support"]) < FEW_PHOTOS for row in card_data.per_class):
        have = f"{few:,} of {classes:,} classes {'has' if few == 1 else 'have'} under {FEW_PHOTOS} test photos"
        lines.append(f"- {have}, too few for reliable metrics per class.")
    return lines


def _data(card_data: ModelCardData) -> list[str]:
    data, sizes = card_data.data, card_data.split_sizes
    source = data.get("source", "unknown")
    details = [f"{key} {data[key]}" for key in ("dataset", "revision", "version") if data.get(key)]
    if source == "url":
        details.append(str(card_data.params.get("data.url")))
    counts = ", ".join(f"{sizes.get(split, 0):,} {split}" for split in ("train", "val", "test"))
    licence = f"Licence, as stated by the source: {markdown(data.get('licence') or 'none; ask the source')}"
    if source == "sample":
        licence = "Licence: drawn by Plumage itself; the birds and their names are invented"
    lines = [
        f"- Source: {markdown(source)}{' (' + ', '.join(map(markdown, details)) + ')' if details else ''}.",
        f"- {licence}.",
        f"- Photos: {counts} ({card_data.params.get('split.strategy', '')} split; near-duplicates stay together).",
    ]
    if per_class := (data.get("photos_per_class") or {}).values():
        fewest, most = min(per_class), max(per_class)
        each = f"{most:,}" if fewest == most else f"{fewest:,} to {most:,}"
        lines.append(f"- {each} photos per class; {len(data.get('refused', [])):,} refused.")
    return lines


def _worst_classes(per_class: Sequence[Mapping[str, str]]) -> list[str]:
    judged = [row for row in per_class if int(row["support"])]
    if not judged:
        return []
    lines = ["| class | recall | 95% interval | precision | F1 | test photos |", "|---|---|---|---|---|---|"]
    for row in sorted(judged, key=lambda row: float(row["f1"]))[:LISTED_CLASSES]:
        span = f"{float(row['recall_low']):.2f} to {float(row['recall_high']):.2f}" if row.get("recall_low") else ""
        lines.append(
            f"| {markdown(row['label'])} | {float(row['recall']):.2f} | {span} | {float(row['precision']):.2f} | "
            f"{float(row['f1']):.2f} | {int(row['support']):,} |"
        )
    return lines


def _slices(slices: Sequence[Mapping[str, str]]) -> list[str]:
    return [
        f"- {markdown(row['slice'])} {float(row['low']):.4g} to {float(row['high']):.4g}: "
        f"accuracy {share(float(row['accuracy']), int(row['n']))} "
        f"({share(float(row['accuracy_low']), int(row['n']))} to {share(float(row['accuracy_high']), int(row['n']))}, "
        f"{int(row['n']):,} photos) against {share(float(row['rest_accuracy']), int(row['n']))} on the rest."
        for row in slices
        if row["worse"] == "1"
    ]


def _lineage(card_data: ModelCardData) -> list[str]:
    lineage, lines = card_data.lineage, [f"- MLflow run: {card_data.lineage['run']}"]
    if tags.GIT_COMMIT in lineage:
        dirty = f", with uncommitted changes ({DIFF_FILE})" if lineage.get(tags.GIT_DIRTY) == "true" else ""
        lines.append(f"- Commit: {lineage[tags.GIT_COMMIT]}{dirty}")
    elif tags.GIT_UNKNOWN in lineage:
        lines.append(f"- Commit: unknown ({markdown(lineage[tags.GIT_UNKNOWN])})")
    for what, path in {
        "Data": paths.DATASET,
        "Labels": paths.LABELS,
        "Split": paths.SPLITS,
        "Weights": paths.WEIGHTS,
    }.items():
        if digest := lineage.get(f"{tags.DVC}{path.as_posix()}"):
            lines.append(f"- {what}: `{path.as_posix()}`, DVC hash {digest}")
    parts = (card_data.machine.get(key, "") for key in ("processor", "gpu", "system"))
    machine = ", ".join(part for part in parts if part != "none")
    return [*lines, f"- Made by Plumage {lineage[tags.VERSION]} on {markdown(machine)}"]
