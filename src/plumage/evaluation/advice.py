"""What to try next, computed from the evaluation: each piece of advice states the figures it follows from, or it isn't given.

Classes and pairs are tested by the hundred, so their p-values are corrected: at most a tenth of those named are false alarms, on
average (Benjamini & Hochberg 1995).
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, false_discovery_control, hypergeom

from plumage.architectures import WITH_IMAGENET_WEIGHTS
from plumage.common.figures import share
from plumage.common.text import plural
from plumage.evaluation.intervals import exact
from plumage.evaluation.result import EvaluationResult
from plumage.evaluation.sample_size import POWER, photos_for_difference, photos_for_interval

FALSE_ALARMS = 0.1  # share of the classes and pairs named that may be chance
MOST = 3  # classes or pairs in one piece of advice
FEW_PHOTOS = 500  # training photos per class below which pretrained weights are known to help (docs/training.md)
ENOUGH_TO_FINETUNE = 20  # training photos per class; docs/experiments.md measured it on 27
SURE_GAIN = 5  # more val photos right at the end: by chance, all of five changes are gains in 1 of 32 trainings
REACHES = (0.05, 0.02)  # half-widths of an interval worth aiming at
DIFFERENCE = 0.05  # accuracy a better model gains, at most half of the errors


class Advice(NamedTuple):
    """One thing to try."""

    title: str
    figures: str  # what it follows from
    command: str = ""
    section: str = ""  # id of the report's section that shows more


def advise(result: EvaluationResult) -> list[Advice]:
    """What to try next, the most specific first."""
    rules: Sequence[Callable[[EvaluationResult], Iterator[Advice]]] = (
        _check_labels, _confused_pairs, _hard_classes, _hard_photos, _pretrained_weights, _finetune, _longer, _test_photos,
    )  # fmt: skip
    return [advice for rule in rules for advice in rule(result)]


def cannot_tell(result: EvaluationResult) -> list[str]:
    """Questions that the test photos are too few to answer."""
    errors, photos = int((~result.sample.correct).sum()), len(result.sample)
    told = []
    if not errors:
        return [f"No photo of {photos:,} is misclassified, so nothing says what is hard for the model."]
    if len(result.classes) > 1 and not len(hard_classes(result)):
        told.append(
            f"Whether a class is harder than the others: {plural(errors, 'mistake')} could be spread like this by chance."
        )
    if len(result.classes) > 2 and not len(beyond_chance(result)):
        told.append(
            f"Whether two classes are confused beyond chance: {plural(errors, 'mistake')} could be spread like this by chance."
        )
    return told


def hard_classes(result: EvaluationResult) -> NDArray[np.int64]:
    """Classes with more errors than their number of test photos explains, the lowest recall first (exact test, Fisher 1922)."""
    support = result.confusion.sum(axis=1)
    errors = support - result.confusion.diagonal()
    tested = np.flatnonzero(support)
    p_values = hypergeom.sf(errors[tested] - 1, support.sum(), errors.sum(), support[tested])
    found = tested[_surprising(p_values)]
    return found[np.argsort(-errors[found] / support[found], kind="stable")]


def beyond_chance(result: EvaluationResult) -> list[tuple[int, int]]:
    """Pairs of classes confused more often than if each class's errors fell on all others alike, the most frequent first.

    A binomial test of both directions together, for each pair with at least two errors.
    """
    count = len(result.classes)
    errors = result.confusion - np.diag(result.confusion.diagonal())
    first, second = np.triu_indices(count, 1)
    if count < 3:
        return []
    between = errors[first, second] + errors[second, first]
    trials = errors.sum(axis=1)[first] + errors.sum(axis=1)[second]
    found = np.flatnonzero(_surprising(binom.sf(between - 1, trials, 1 / (count - 1))) & (between > 1))
    order = found[np.argsort(-between[found], kind="stable")]
    return list(zip(first[order].tolist(), second[order].tolist(), strict=True))


def _surprising(p_values: NDArray[np.float64]) -> NDArray[np.bool_]:
    if not len(p_values):
        return np.zeros(0, bool)
    return np.asarray(false_discovery_control(np.clip(p_values, 0, 1)) <= FALSE_ALARMS)


def _check_labels(result: EvaluationResult) -> Iterator[Advice]:
    if count := len(result.label_errors):
        yield Advice(
            f"Check {plural(count, 'label')}",
            f"A model that was not trained on {'it' if count == 1 else 'them'} is sure of another class.",
            section="labels",
        )  # fmt: skip


def _confused_pairs(result: EvaluationResult) -> Iterator[Advice]:
    pairs = beyond_chance(result)[:MOST]
    if not pairs:
        return
    errors = result.confusion - np.diag(result.confusion.diagonal())
    totals = errors.sum(axis=1)

    def figures(a: int, b: int) -> str:
        both, all_of_both = errors[a, b] + errors[b, a], totals[a] + totals[b]
        expected = all_of_both / (len(result.classes) - 1)
        return (
            f"{both:,} of the {plural(all_of_both, 'mistake')} on {result.classes[a]} and {result.classes[b]} are between the two, "
            f"{expected:.1f} by chance; they have {result.train_counts[a]:,} and {result.train_counts[b]:,} training photos."
        )

    names = "; ".join(f"{result.classes[a]} and {result.classes[b]}" for a, b in pairs)
    yield Advice(f"More photos that tell apart {names}", " ".join(figures(*pair) for pair in pairs), section="confused")


def _hard_classes(result: EvaluationResult) -> Iterator[Advice]:
    paired = {number for pair in beyond_chance(result)[:MOST] for number in pair}
    hard = [number for number in hard_classes(result).tolist() if number not in paired]
    typical = int(np.median(result.train_counts))
    few = [number for number in hard if result.train_counts[number] <= typical][:MOST]
    many = [number for number in hard if result.train_counts[number] > typical][:MOST]

    def figures(number: int) -> str:
        right, photos = result.confusion[number, number], result.confusion[number].sum()
        return f"{result.classes[number]}: {right:,} of {photos:,} test photos right, {result.train_counts[number]:,} training photos."

    for numbers, title in ((few, "More photos of "), (many, "Look at the photos of ")):
        if numbers:
            names = ", ".join(result.classes[number] for number in numbers)
            told = " ".join(map(figures, numbers))
            yield Advice(title + names, f"{told} The median class has {typical:,}.", section="by-class")


def _hard_photos(result: EvaluationResult) -> Iterator[Advice]:
    slices = result.slices[result.slices["worse"] == 1]
    for row in slices.to_dict("records"):
        name, size = row["slice"], result.model.get("size", 0)
        figures = (
            f"Accuracy {share(row['accuracy'], row['n'])} on the {row['n']:,} test photos with {name} {row['low']:.4g} to "
            f"{row['high']:.4g}, {share(row['rest_accuracy'], len(result.sample) - row['n'])} on the others "
            f"(p = {row['p_value']:.2g})."
        )
        lowest = row["low"] <= result.slices.loc[result.slices["slice"] == name, "low"].min()
        if name in ("shorter side", "sharpness") and lowest and 0 < size < result.typical_side:
            larger = min(result.typical_side, size * 9 / 7)
            larger = max(32, int(larger / 32 + 0.5) * 32)
            if larger > size:
                yield Advice(
                    f"A larger input, {larger} pixels",
                    f"{figures} The model sees {size} pixels of a side that is {result.typical_side:,} in the median photo.",
                    f"dvc exp run -S model.image_size={larger}", "slices",
                )  # fmt: skip
                continue
        with_few = "of the classes that have few"
        what = with_few if name.startswith("training photos") else f"with {name} {row['low']:.4g} to {row['high']:.4g}"
        yield Advice(f"More training photos {what}", figures, section="slices")


def _pretrained_weights(result: EvaluationResult) -> Iterator[Advice]:
    params, photos = result.params, int(np.median(result.train_counts))
    from_scratch = params.get("train.recipe") == "scratch" and params.get("model.weights") is None
    if not from_scratch or params.get("data.source") == "sample" or photos >= FEW_PHOTOS or result.sample.correct.all():
        return
    name = "" if params.get("model.name") in WITH_IMAGENET_WEIGHTS else " -S model.name=efficientnet_b0"
    yield Advice(
        "Start from ImageNet's weights",
        f"The network learned from random weights, from {plural(int(result.train_counts.sum()), 'photo')} "
        f"(median {photos:,} per class); test accuracy {share(result.sample.correct.mean(), len(result.sample))}. A probe takes minutes.",
        f"dvc exp run -S model.weights=imagenet -S train.recipe=probe{name}", "training",
    )  # fmt: skip


def _finetune(result: EvaluationResult) -> Iterator[Advice]:
    photos, errors = int(np.median(result.train_counts)), int((~result.sample.correct).sum())
    if result.params.get("train.recipe") == "probe" and photos >= ENOUGH_TO_FINETUNE and errors:
        yield Advice(
            "Fine-tune the network",
            f"A probe leaves the network as it is; {plural(errors, 'mistake')} remain, and a class has {photos:,} training photos "
            "(median). On 100 bird species with 27 each, fine-tuning raised the accuracy from 92.9% to 94.7%.",
            "dvc exp run -S train.recipe=finetune", "training",
        )  # fmt: skip


def _longer(result: EvaluationResult) -> Iterator[Advice]:
    history, val = result.history, result.split_sizes.get("val", 0)
    if result.params.get("train.recipe") != "scratch" or "val/accuracy" not in history or len(history) < 4:
        return
    accuracy = history["val/accuracy"].to_numpy(float)
    epochs, before = len(accuracy), int(np.ceil(0.75 * len(accuracy))) - 1
    gained = round((accuracy[-1] - accuracy[before]) * val)
    if np.nanargmax(accuracy) == epochs - 1 and gained >= SURE_GAIN:
        yield Advice(
            f"Train longer, {2 * epochs} epochs",
            f"The best of {epochs} epochs is the last: {gained:,} more of {val:,} val photos are right than after epoch "
            f"{int(history['epoch'].iloc[before])}.",
            f"dvc exp run -S train.epochs={2 * epochs}", "training",
        )  # fmt: skip


def _test_photos(result: EvaluationResult) -> Iterator[Advice]:
    photos, right = len(result.sample), int(result.sample.correct.sum())
    accuracy = right / photos
    low, high = (float(end[0]) for end in exact(np.array([right]), np.array([photos])))
    reach = next((each for each in REACHES if high - low > 2 * each), None)
    if reach is None:
        return
    wanted = photos_for_interval(accuracy, reach)
    figures = [
        f"{right:,} of {plural(photos, 'test photo')} are right: the accuracy lies between {share(low, photos)} and {share(high, photos)}.",
        f"{wanted:,} photos would tell it to ±{100 * reach:.0f} points.",
    ]
    difference = min(DIFFERENCE, (1 - accuracy) / 2)
    if difference and (needed := photos_for_difference(accuracy, difference)) > photos:
        figures.append(
            f"Up to {needed:,} would show, {POWER:.0%} of the time, that a model better by {100 * difference:.1f} points is better."
        )
        wanted = max(wanted, needed)
    yield Advice(f"{wanted - photos:,} more test photos to decide", " ".join(figures))
