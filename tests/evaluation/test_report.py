"""The HTML report is self-contained, and shows metrics, photos, and what to try next."""

import json
import re
import shlex
from html import unescape
from html.parser import HTMLParser

import numpy as np
import pytest
from report_pages import CLASSES, make_result, some_webp, written

from plumage.evaluation.metric_table import HEADLINES
from plumage.evaluation.report_data import MAX_LABEL_ERRORS, report_data
from plumage.evaluation.result import LabelError
from plumage.evaluation.sample import Sample
from plumage.evaluation.selective import selective_metrics


class Elements(HTMLParser):
    """The page's tags, and the targets of its links and sources."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.targets += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]


def test_the_page_is_self_contained_and_reproducible(result, page, tmp_path):
    html = page.read_text(encoding="utf-8")
    targets = Elements(html).targets
    assert targets
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert not re.search(r"https?://|@import|url\(", html)
    before = page.read_bytes()
    assert written(make_result(result.sample, CLASSES), tmp_path).read_bytes() == before


def test_class_names_keys_and_title_are_escaped(page):
    tags = Elements(page.read_text(encoding="utf-8")).tags
    assert tags.count("script") == 2, "the page's code and its data"
    assert "u" not in tags
    assert tags.count("b") == len(HEADLINES) + 2, "the headline metrics, ECE and val accuracy"
    assert tags.count("i") == 6, "the interval bars of six classes"


def test_the_page_shows_metrics_photos_model_and_parameters(page):
    text = page.read_text(encoding="utf-8")
    for expected in (
        "43%", "1234", "null", "0.002", "true", "efficientnet_b0", "90 test photos in 6 classes", "temperature of 1.25",
        "with a confidence threshold of 0.500 it answers", "<strong>worse</strong>",
    ):  # fmt: skip
        assert expected in text


def test_a_perfect_model_of_two_photos_has_a_page(tmp_path):
    page = written(make_result(Sample(np.array([0, 1]), np.eye(2)), ["a", "b"]), tmp_path)
    assert "No test photo is misclassified" in page.read_text(encoding="utf-8")


def test_a_model_that_is_always_wrong_and_classes_without_photos_have_a_page(tmp_path):
    probabilities = np.array([[0.1, 0.6, 0.3], [0.7, 0.2, 0.1]])
    page = written(make_result(Sample(np.array([0, 1]), probabilities), ["a", "b", "c"]), tmp_path)
    text = page.read_text(encoding="utf-8")
    assert "No test photo is correct" in text and "no photo of it is correct" in text


@pytest.mark.parametrize(
    ("threshold", "target", "told"),
    [
        (0.5, 0.1, "With a confidence threshold of 0.500"),
        (0.5, 1.0, "miss the target"),
        (None, 0.9, "No threshold reaches"),
    ],
)
def test_the_page_says_whether_selective_prediction_reaches_the_target(make_sample, tmp_path, threshold, target, told):
    result = make_result(make_sample(90, 6, skill=1.5), CLASSES)
    result.metrics["test"]["abstain"] = selective_metrics(result.sample, threshold, target)
    text = written(result, tmp_path).read_text(encoding="utf-8")
    assert [what in text for what in ("With a confidence threshold", "miss the target", "No threshold reaches")].count(
        True
    ) == 1
    assert told in text


def test_mistakes_come_first_then_confusion_classes_slices_and_calibration(page):
    html = page.read_text(encoding="utf-8")
    sections = re.findall(r'<h2 id="([\w-]+)"', html)
    assert sections[:7] == ["next", "mistakes", "confused", "matrix", "by-class", "slices", "calibration"]
    linked = re.findall(r'href="#([\w-]+)"', html)
    assert set(linked) <= {*re.findall(r'id="([\w-]+)"', html)}


def test_the_head_says_the_commit_its_date_the_run_and_the_data(page):
    head = page.read_text(encoding="utf-8").split("<nav")[0]
    for expected in (
        ">c0ffeec0ff</code> of 2026-11-27 01:45 UTC", "uncommitted changes",
        "tags.`plumage.training_key` = '885135d64b136c0e'", "1,234 train, 65 val, 90 test", ">da7ada7ada</code>",
    ):  # fmt: skip
        assert expected in head


def test_photos_with_a_suspicious_label_have_commands_that_a_shell_takes(result, page, tmp_path):
    assert "plumage data relabel" not in page.read_text(encoding="utf-8")
    errors = [
        LabelError("a b/it's <b>.jpg", "Owl", 'Say "Tui" & <b>', 0.97, some_webp(1)),
        LabelError("-rf.jpg", "Owl", "Wren", 0.8),
        *(LabelError(f"{number}.jpg", "Owl", "Wren", 0.7) for number in range(60)),
    ]
    made = make_result(result.sample, CLASSES, label_errors=errors)
    html = written(made, tmp_path).read_text(encoding="utf-8")
    commands = [unescape(found) for found in re.findall(r'<code class="copy">(plumage data.+?)</code>', html)]
    assert shlex.split(commands[0]) == ["plumage", "data", "relabel", errors[0].key, errors[0].suggested]
    assert shlex.split(commands[1])[3:] == [errors[0].key, "refuse"]
    assert shlex.split(commands[2])[3:] == ["--", "-rf.jpg", "Wren"]
    assert len(commands) == 2 * MAX_LABEL_ERRORS and "62 photos of any split" in html
    assert Elements(html).tags.count("b") == len(HEADLINES) + 2
    assert re.findall(r'<h2 id="([\w-]+)"', html)[:3] == ["next", "labels", "mistakes"]


def test_an_outlier_does_not_squash_the_map(result):
    features = result.features.copy()
    features[7] = 1e4
    points = json.loads(report_data(make_result(result.sample, CLASSES, features=features)))["points"]
    plain = json.loads(report_data(result))["points"]
    for axis in ("x", "y"):
        others = np.delete(points[axis], 7)
        assert np.ptp(others) > 0.9 * np.ptp(np.delete(plain[axis], 7)), "as wide as without the outlier"
        assert min(points[axis]) >= 0 and max(points[axis]) <= points["grid"]
